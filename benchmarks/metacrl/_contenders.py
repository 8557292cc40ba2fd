"""Learners and training sets of the MetaCRL benchmark."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.kernel_approximation import RBFSampler
from skorch.callbacks import GradientNormClipping

from skcausalmeta.backbones import MLP, Conv4
from skcausalmeta.datasets import (
    fetch_omniglot,
    fetch_tiny_imagenet,
    make_confounded_images,
    make_confounded_tasks,
    make_harmonic_tasks,
    make_sinusoid_tasks,
)
from skcausalmeta.heads import LassoHead, PrototypeHead, RidgeHead
from skcausalmeta.learners import (
    MAMLClassifier,
    MAMLRegressor,
    MetaCRLClassifier,
    MetaCRLRegressor,
    SparseMetaClassifier,
    SparseMetaRegressor,
)
from skcausalmeta.model_selection import evaluate_few_shot

LEARNERS = ("MAML", "ANIL", "Meta-SGD", "KFO", "prototype", "SparseMeta")
GRADIENT: dict[str, dict[str, Any]] = {
    "MAML": {},
    "ANIL": {"adapt_layers": "head"},
    "Meta-SGD": {"update": "meta-sgd"},
    "KFO": {"update": "kfo"},
}
BACKBONES = {"mlp": MLP, "conv4": Conv4}
# Of every family the settings that all its learners share, as the lines name them;
# `learner_params` makes parameters of a learner of them.
MLP = {"backbone": "mlp"}
_NEW_CLASSES: dict[str, Any] = {
    "kind": "classes",
    "common": {
        "backbone": "conv4",
        "backbone_params": {"n_filters": 16, "n_blocks": 2},
        "batch_norm": "episode",
        "n_way": 5,
        "n_shot": 1,
        "n_query": 5,
        "tasks_per_batch": 4,
        "lr": 3e-3,
    },
    "gradient": {"inner_lr": 0.1},
    "steps": 100,
}

FAMILIES: dict[str, dict[str, Any]] = {
    "vectors": {
        "kind": "tasks",
        "common": {
            **MLP,
            "backbone_params": {
                "hidden": (32,),
                "out_features": 16,
                "standardize": False,
            },
            "n_shot": 10,
            "n_query": 10,
            "tasks_per_batch": 8,
            "lr": 3e-3,
        },
        "gradient": {"inner_lr": 0.5},
        "steps": 500,
    },
    "images": {
        "kind": "tasks",
        "common": {
            "backbone": "conv4",
            "backbone_params": {"n_filters": 16, "n_blocks": 2},
            "batch_norm": "episode",
            "n_shot": 5,
            "n_query": 5,
            "tasks_per_batch": 4,
            "lr": 3e-3,
        },
        "gradient": {"inner_lr": 0.1},
        "steps": 150,
    },
    "omniglot": _NEW_CLASSES,
    "tiny": _NEW_CLASSES,
    "sinusoid": {
        "kind": "values",
        "common": {
            **MLP,
            "backbone_params": {"hidden": (40, 40), "out_features": 40},
            "n_shot": 10,
            "n_query": 10,
            "tasks_per_batch": 16,
            "lr": 3e-3,
        },
        "gradient": {"inner_lr": 0.02},
        # Without it one step in some hundreds throws the inner loop off.
        "clip": 1.0,
        "steps": 400,
    },
}
FAMILIES["harmonic"] = {
    **FAMILIES["sinusoid"],
    "common": {
        **FAMILIES["sinusoid"]["common"],
        "backbone_params": {"hidden": (128,), "out_features": 64},
    },
    # Nets of x alone do not learn waves of 5 to 14 radians per unit: they get random
    # ones of such frequencies, cos(w x + b) with w normal, of variance 2 gamma.
    "waves": {"gamma": 30.0, "n_components": 128, "random_state": 0},
    "gradient": {"inner_lr": 0.01},
    "n_tasks": 2000,
    "steps": 600,
    # At 0.003 their inner loops diverge before the end, in MetaCRL or alone.
    "of_learner": {"Meta-SGD": {"lr": 1e-3}, "KFO": {"lr": 1e-3}},
}
# Of MetaCRL, where it is not the default; chosen on other seeds or validation classes.
CRL: dict[str, dict[str, Any]] = {
    # Tells factors apart more sharply than the default, 0.1.
    "vectors": {"lambda_group": 0.5},
}
# What is left out of MetaCRL, by name.
ABLATIONS: dict[str, dict[str, Any]] = {
    "MetaCRL": {},
    "- orthogonality": {"lambda_orth": 0.0},
    "- grouping regulariser": {"lambda_group": 0.0},
    "- causal step": {"lambda_inv": 0.0, "lambda_swap": 0.0, "across_envs": False},
    "published mean embedding": {"task_embedding": "mean"},
}


class Data(NamedTuple):
    """Training rows of a family, and what it is tested on."""

    X: NDArray[Any]
    y: NDArray[Any]
    tasks: NDArray[Any] | None
    envs: NDArray[Any] | None
    test: Any
    bunch: Any = None


def load(family: str, seed: int, args: Any) -> Data:
    """Data of a family; generated ones differ by seed."""
    if family in ("vectors", "images"):
        if family == "vectors":
            bunch = make_confounded_tasks(
                40 if args.smoke else 400,
                n_test_tasks=8 if args.smoke else 200,
                random_state=seed,
            )
        else:
            bunch = coloured(seed, args)
        return Data(
            bunch.data, bunch.target, bunch.tasks, bunch.envs, bunch.test, bunch
        )
    if family in ("sinusoid", "harmonic"):
        bunch, new = waves(family, seed, args)
        return Data(bunch.data, bunch.target, bunch.tasks, None, new)
    X, y = pictures(family, "train", args)
    return Data(X, y, None, None, pictures(family, args.split, args))


def waves(family: str, seed: int, args: Any) -> tuple[Any, Any]:
    """Tasks that are waves, for training and for the test."""
    settings = FAMILIES[family]
    make = {"sinusoid": make_sinusoid_tasks, "harmonic": make_harmonic_tasks}[family]
    n_tasks, n_test = settings.get("n_tasks", 1000), 300
    if args.smoke:
        n_tasks, n_test = 40, 10
    bunch = make(n_tasks, random_state=seed)
    new = make(n_test, 60, random_state=10_000)
    if "waves" in settings:
        features = RBFSampler(**settings["waves"]).fit(bunch.data)
        for part in (bunch, new):
            part.data = features.transform(part.data)
    return bunch, new


def coloured(seed: int, args: Any) -> Any:
    """Coloured characters of 14 x 14 pixels."""
    if args.smoke:
        shapes, labels = load_digits(return_X_y=True)
        shapes, n_tasks, n_test = shapes.reshape(-1, 8, 8)[:300] / 16.0, 10, 8
        labels = labels[:300]
    else:
        parts = [
            fetch_omniglot(data_home=args.data_dir, split=split)
            for split in ("train", "test")
        ]
        shapes = np.concatenate([smaller(part.data[..., None], 14) for part in parts])
        shapes, labels = shapes[:, 0], np.concatenate([part.target for part in parts])
        n_tasks, n_test = 200, 100
    bunch = make_confounded_images(
        shapes,
        labels,
        n_tasks,
        n_test_tasks=n_test,
        test_classes=0.4 if args.smoke else np.unique(parts[1].target),
        random_state=seed,
    )
    bunch.data = bunch.data.transpose(0, 3, 1, 2)
    for name in ("X_support", "X_query"):
        bunch.test[name] = bunch.test[name].transpose(0, 1, 4, 2, 3)
    return bunch


def pictures(family: str, split: str, args: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Images (n, channels, side, side) in 0..1 and their classes."""
    if args.smoke:
        rng, y = np.random.RandomState(0), np.repeat(np.arange(6), 25)
        return rng.random_sample((len(y), 1, 8, 8)), y
    fetch = {"omniglot": fetch_omniglot, "tiny": fetch_tiny_imagenet}[family]
    bunch = fetch(data_home=args.data_dir, split=split)
    images = bunch.data if bunch.data.ndim == 4 else bunch.data[..., None]
    return smaller(images, 14 if family == "omniglot" else 16), bunch.target


def smaller(images: NDArray[Any], side: int) -> NDArray[Any]:
    """Averages of square blocks of pixels, channels first."""
    n, height, _, channels = images.shape
    block = height // side
    parts = images[:, : side * block, : side * block].reshape(
        n, side, block, side, block, channels
    )
    return (parts.mean(axis=(2, 4)).transpose(0, 3, 1, 2) / 255.0).astype(np.float32)


def learner_params(common: dict[str, Any]) -> dict[str, Any]:
    """Parameters of a learner from the settings that a family shares."""
    params = dict(common)
    backbone = BACKBONES[params["backbone"]]
    params["backbone"] = backbone(**params.pop("backbone_params"))
    return params


def make_learner(family: str, name: str, seed: int, steps: int, **more: Any) -> Any:
    """A plain learner with the settings of the family."""
    settings = FAMILIES[family]
    params = {
        **learner_params(settings["common"]),
        "batches_per_epoch": min(50, steps),
        "max_epochs": max(1, steps // 50),
        "fit_head": False,
        "verbose": 0,
        "random_state": seed,
    }
    if "clip" in settings:
        params["callbacks"] = [GradientNormClipping(settings["clip"])]
    params.update(settings.get("of_learner", {}).get(name, {}))
    params.update(more)
    values = settings["kind"] == "values"
    if name in GRADIENT:
        kind: Any = MAMLRegressor if values else MAMLClassifier
        return kind(**{**params, **settings["gradient"], **GRADIENT[name]})
    if values:
        head: Any = RidgeHead(0.1) if name == "prototype" else LassoHead()
        return SparseMetaRegressor(head, common=None, **params)
    # Tasks by themselves: confounders are what a pooled model would learn.
    alone = {"common": None, "shared_labels": False, **params}
    if name == "prototype":
        return SparseMetaClassifier(
            PrototypeHead(), net_params={"logit_scale": 0.1}, **alone
        )
    return SparseMetaClassifier(net_params={"logit_scale": 10.0}, **alone)


def wrapped(family: str, learner: Any, **params: Any) -> Any:
    """MetaCRL around a learner, with the settings of the family."""
    params = {**CRL.get(family, {}), **params}
    if FAMILIES[family]["kind"] == "values":
        return MetaCRLRegressor(learner, **params)
    return MetaCRLClassifier(learner, **params)


def test_scores(family: str, learner: Any, data: Data, args: Any) -> NDArray[Any]:
    """Accuracy of every test episode or task, or minus its mean squared error."""
    kind, test = FAMILIES[family]["kind"], data.test
    if kind == "tasks":
        found = learner.predict_episodes(test.X_support, test.y_support, test.X_query)
        return (found == test.y_query).mean(axis=1)
    if kind == "values":
        y = test.target.reshape(len(test.phases), -1)
        X = test.data.reshape(*y.shape, -1)
        found = learner.predict_episodes(X[:, :10], y[:, :10], X[:, 10:])
        return -((found - y[:, 10:]) ** 2).mean(axis=1)
    result = evaluate_few_shot(
        learner,
        *test,
        n_way=5,
        n_shot=FAMILIES[family]["common"]["n_shot"],
        n_query=15,
        n_episodes=5 if args.smoke else 400,
        random_state=0,
    )
    return result.scores
