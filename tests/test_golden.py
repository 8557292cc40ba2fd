"""Every learner and head computes on small problems what it always did, bitwise.

`golden.json` holds a digest of every array. ``python tests/test_golden.py --write``
writes it anew, which is right only where a change of the numbers is meant.
"""

import contextlib
import copy
import hashlib
import json
import platform
import sys
import tempfile
import warnings
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from torch import nn

from skcausalmeta.backbones import MLP, Backbone, Conv4, ResNet12
from skcausalmeta.compose import make_meta_pipeline
from skcausalmeta.heads import (
    GroupLassoLogistic,
    GroupLassoSVC,
    GroupLassoSVCCV,
    LassoHead,
    PrototypeHead,
    RelaxedHead,
    RidgeHead,
    RidgeRegressionHead,
    group_lasso_path,
)
from skcausalmeta.learners import (
    ConvExpert,
    KFOUpdate,
    MAMLClassifier,
    MAMLRegressor,
    MetaCRLClassifier,
    MetaCRLRegressor,
    MetaSGDUpdate,
    MLPExpert,
    MTCRLClassifier,
    MTCRLRegressor,
    SGDUpdate,
    SparseMetaClassifier,
    SparseMetaRegressor,
)
from skcausalmeta.persistence import load, save
from skcausalmeta.training import Validation
from skcausalmeta.utils import named_seeds

GOLDEN = Path(__file__).with_name("golden.json")

# -- constructors: the one place that knows the names of most parameters ---------------

TINY_MLP = {"backbone_params": {"hidden": (6,), "out_features": 5}}
TINY_CONV = {
    "backbone": "conv4",
    "backbone_params": {"n_blocks": 2, "n_filters": 4},
    "input_shape": (8, 8),
}
TINY_RESNET = {
    "backbone": "resnet12",
    "backbone_params": {"n_filters": (4, 6), "drop_block_size": 2},
    "input_shape": (8, 8),
}
SMALL = {
    "max_epochs": 1,
    "batches_per_epoch": 3,
    "tasks_per_batch": 2,
    "verbose": 0,
    "random_state": 0,
}
TWO_EPOCHS = {"max_epochs": 2, "validation_episodes": 5}
STOPPED = {**TWO_EPOCHS, "early_stopping": True, "validation_fraction": 0.4}


NET = {
    "precision", "compile", "checkpoint_path", "warm_start", "head_tol", "micro_batch",
    "logit_scale", "outer", "multi_step_epochs", "task_chunk_size", "linear_layers",
    "warmup", "routing_lr",
}  # fmt: skip
SPECS = {"auto": MLP, "mlp": MLP, "conv4": Conv4, "resnet12": ResNet12}
RULES = {"sgd": SGDUpdate, "meta-sgd": MetaSGDUpdate, "kfo": KFOUpdate}


def translated(first, **params):
    """The parameters of today for those that the cases are written in."""
    net = {k: params.pop(k) for k in sorted(NET & params.keys())}
    if "checkpoint" in params:
        net["recompute"] = params.pop("checkpoint")
    if net:
        params["net_params"] = {**(params.get("net_params") or {}), **net}
    own = params.pop("backbone_params", None)
    if own is not None:
        params["backbone"] = SPECS[params.get("backbone", "auto")](**own)
    if params.pop("freeze_backbone", False):
        backbone = params["backbone"]
        if isinstance(backbone, Backbone):
            spec = backbone

            def backbone(input_shape):
                return spec.build(input_shape).requires_grad_(False)

        elif isinstance(backbone, nn.Module):
            backbone = backbone.requires_grad_(False)
        params["backbone"] = backbone
    if params.pop("uncertainty_weighting", False):
        params["task_weights"] = "uncertainty"
    stopped = params.pop("early_stopping", False)
    share = params.pop("validation_fraction", None)
    n_episodes = params.pop("validation_episodes", 100)
    patience = params.pop("n_iter_no_change", None)
    held_out = params.pop("validation_classes", params.pop("validation_tasks", None))
    if stopped or held_out is not None:
        many = "modules" in params or params.pop("many", False)
        default = (0.1, 10) if many else (0.2, 5)
        params["validation"] = Validation(
            held_out if held_out is not None else share or default[0],
            n_episodes=n_episodes,
            patience=(patience or default[1]) if stopped else None,
        )
    params.pop("many", None)
    rule = params.pop("update_params", None)
    if params.pop("learn_inner_lr", False):
        first = (SGDUpdate(learn_lr=True),)
    if rule:
        first = (RULES[first[0]](**rule),)
    return first, params


def small(cls, first=(), **params):
    """A learner with a tiny net, `first` by position."""
    net = {} if "backbone" in params else TINY_MLP
    first, params = translated(first, **{**SMALL, **net, **params})
    return cls(*first, **params)


def sparse_classifier(head=None, **params):
    return small(SparseMetaClassifier, (head,), **params)


def sparse_regressor(head=None, **params):
    return small(SparseMetaRegressor, (head,), **params)


def maml_classifier(update="sgd", **params):
    return small(MAMLClassifier, (update,), **{"inner_steps": 2, "n_way": 3, **params})


def maml_regressor(update="sgd", **params):
    return small(MAMLRegressor, (update,), **{"inner_steps": 2, **params})


def meta_crl_classifier(estimator=None, **params):
    if estimator is None:
        estimator = sparse_classifier(RidgeHead())
    return MetaCRLClassifier(estimator, **{"causal_every": 2, **params})


def meta_crl_regressor(estimator=None, **params):
    if estimator is None:
        estimator = sparse_regressor(RidgeHead(0.1))
    return MetaCRLRegressor(estimator, **{"causal_every": 2, **params})


def mtcrl(cls, modules="mtcrl", **params):
    small = {
        "n_modules": 3,
        "hidden": (6,),
        "out_features": 2,
        "max_epochs": 3,
        "batch_size": 30,
        "random_state": 0,
    }
    params = {**small, **params, "modules": modules}
    hidden, own = params.pop("hidden"), {"out_features": params.pop("out_features")}
    if "head_hidden" in params:
        own["head_hidden"] = params.pop("head_hidden")
    if params.pop("per_pixel", False):
        params["expert"] = ConvExpert(hidden[0], **own)
    else:
        params["expert"] = MLPExpert(hidden, **own)
    _, params = translated((), **params)
    return cls(**params)


def random_folds(n_folds, n_rows):
    """Folds that stand in for environments, by the seed that `fit` draws."""
    purposes = ("weights", "order", "held-out", "folds", "training")
    folds = np.arange(n_rows) % n_folds
    return np.random.RandomState(named_seeds(0, *purposes)["folds"]).permutation(folds)


# -- problems --------------------------------------------------------------------------


NO_IDS = MappingProxyType({})


class Problem(NamedTuple):
    """Training rows, and two new tasks with a leading axis."""

    X: Any
    y: Any
    X_new: Any
    y_new: Any
    ids: Any = NO_IDS  # tasks and envs of the training rows

    @property
    def episodes(self):
        return self.X_new[:, :12], self.y_new[:, :12], self.X_new[:, 12:]


def vectors():
    """Four classes of vectors, and three new ones."""
    rng = np.random.default_rng(0)
    y = np.concatenate([np.arange(48) % 4, np.arange(48) % 3 + 4])
    X = 1.5 * rng.standard_normal((7, 6))[y] + rng.standard_normal((96, 6))
    return Problem(X[:48], y[:48], X[48:].reshape(2, 24, 6), y[48:].reshape(2, 24))


def words():
    """The classes of `vectors` by name."""
    names = np.array(["oak", "elm", "ash", "fir", "yew", "box", "bay"])
    plain = vectors()
    return plain._replace(y=names[plain.y], y_new=names[plain.y_new])


def two_classes():
    """The tasks of `vectors` with two classes each."""
    plain = vectors()
    return plain._replace(y_new=(plain.y_new == 5).astype(int))


def digits():
    X, y = load_digits(return_X_y=True)
    old = np.concatenate([np.flatnonzero(y == c)[:8] for c in range(6)])
    new = np.stack([np.flatnonzero(y == c)[:16] for c in (6, 7, 8)], axis=1)
    new = new.reshape(2, 24)
    return Problem(X[old], y[old], X[new], y[new])


def of_tasks(values=False, envs=False):
    """Eight tasks of 24 rows that depend on one of three features each."""
    rng = np.random.default_rng(1)
    tasks = np.repeat(np.arange(10), 24)
    X = rng.standard_normal((240, 4))
    y = np.tile([0, 1], 120)
    informative = X[np.arange(240), tasks % 3] + 2 * y
    X[np.arange(240), tasks % 3] = informative
    y = informative + 0.1 * rng.standard_normal(240) if values else y
    ids = {"tasks": tasks[:192]}
    if envs:
        ids["envs"] = np.tile(np.repeat([0, 1], 12), 8)
    new = X[192:].reshape(2, 24, 4), y[192:].reshape(2, 24)
    return Problem(X[:192], y[:192], *new, ids)


def class_tasks():
    return of_tasks()


def class_tasks_in_envs():
    return of_tasks(envs=True)


def value_tasks():
    return of_tasks(values=True)


def value_tasks_in_envs():
    return of_tasks(values=True, envs=True)


def one_value_task():
    """Values without task ids."""
    return value_tasks()._replace(ids=NO_IDS)


def picture_values():
    """Values of digits."""
    plain = digits()
    return plain._replace(
        y=plain.X[:, 20:30].mean(axis=1), y_new=plain.X_new[..., 20:30].mean(axis=2)
    )


# -- what a fitted learner says --------------------------------------------------------

ANSWERS = ("predict", "predict_proba", "decision_function")
FACTS = (
    "classes_", "n_iter_", "n_features_in_", "n_features_out_", "dual_gap_",
    "sparsity_", "support_features_", "center_", "temperature_", "task_code_",
    "task_codes_", "task_ids_", "task_coef_", "task_intercept_", "task_dual_gap_",
    "target_mean_", "target_scale_", "support_rows_", "support_labels_", "factors_",
    "routing_", "module_correlation_", "task_scores_", "tasks_",
)  # fmt: skip


def answers_of(learner, rows):
    methods = (name for name in ANSWERS if hasattr(learner, name))
    return {name: getattr(learner, name)(rows) for name in methods}


def facts_of(learner):
    found = {name: getattr(learner, name, None) for name in FACTS}
    return {name: value for name, value in found.items() if value is not None}


def history_of(learner):
    """Every figure of the epochs but the seconds."""
    keys = sorted({key for row in learner.history_ for key in row} - {"dur"})
    rows = learner.history_
    return {f"history.{key}": [row.get(key, np.nan) for row in rows] for key in keys}


def below(name, found):
    return {f"{name}.{key}": value for key, value in found.items()}


def meta_case(make, problem, *, then=None, **params):
    """Fit, ask, solve episodes, adapt and ask again."""
    data = problem()
    learner = make(**params).fit(data.X, data.y, **data.ids)
    support, wanted, query = data.episodes
    found = {
        "transform": learner.transform(query[0]),
        "predict_episodes": learner.predict_episodes(support, wanted, query),
        **history_of(learner),
        **below("fit", facts_of(learner)),
    }
    if params.get("fit_head", True):
        found |= below("fit", answers_of(learner, data.X[::5]))
    if hasattr(getattr(learner, "estimator_", learner), "task_ids_"):
        tasks = data.ids["tasks"]
        found["fit.predict_by_task"] = learner.predict(data.X, tasks=tasks)
    if hasattr(learner, "staged_predict_episodes"):
        staged = learner.staged_predict_episodes(support, wanted, query)
        found["staged_predict_episodes"] = staged
    if hasattr(learner, "task_weights"):
        found["task_weights"] = learner.task_weights(support[0], wanted[0])
    adapted = copy.copy(learner).adapt(support[1], wanted[1])
    found |= below("adapted", answers_of(adapted, query[1]) | facts_of(adapted))
    return found | (then(adapted, data) if then else {})


def keeping_classes(adapted, data):
    more = data.X_new[0][:9]
    adapted.adapt(more, data.y_new[0][:9] + 10, keep_classes=True)
    return below("kept", answers_of(adapted, data.X_new[1]) | facts_of(adapted))


def in_little_memory(adapted, data):
    found = adapted.predict_episodes(*data.episodes, max_memory=1_000_000)
    return {"bounded_predict_episodes": found}


def saved_and_loaded(adapted, data):
    with tempfile.TemporaryDirectory() as folder:
        save(adapted, Path(folder) / "learner")
        again = load(Path(folder) / "learner")
    found = below("loaded", answers_of(again, data.X_new[1]) | facts_of(again))
    again.adapt(data.X_new[0][:12], data.y_new[0][:12])
    return found | below("loaded_adapted", answers_of(again, data.X_new[0]))


def warm_again(adapted, data):
    learner = adapted.fit(data.X, data.y, **data.ids)
    return below("warm", history_of(learner) | {"codes": learner.transform(data.X)})


def checkpoint_case(make, problem, **params):
    """Training with a file of its epochs, and the same continued from that file."""
    with tempfile.TemporaryDirectory() as folder:
        params["checkpoint_path"] = str(Path(folder) / "training")
        found = meta_case(make, problem, **params)
        return found | below("again", meta_case(make, problem, **params))


def pipeline_of(make, **params):
    return make_meta_pipeline(StandardScaler(), make(**params))


def own_net():
    """A ready module with batch norm."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Tanh())


def with_own_net(make, **params):
    return make(backbone=own_net(), **params)


# -- few-shot learners -----------------------------------------------------------------

CASES = {}


def register(group, make, cases):
    for name, (problem, params) in cases.items():
        CASES[f"{group}/{name}"] = partial(meta_case, make, problem, **params)


SVC = GroupLassoSVC(solver="newton")
CLASSIFIER_HEADS = {
    "ridge": RidgeHead(),
    "ridge-plain": RidgeHead(0.5, reg_scale="absolute", fit_intercept=False),
    "prototype": PrototypeHead(),
    "prototype-cosine": PrototypeHead("cosine", temperature=0.1),
    "relaxed": RelaxedHead(),
    "logistic": GroupLassoLogistic(),
    "svc-intercept": GroupLassoSVC(0.05, fit_intercept=True, solver="newton"),
    "svc-fista": GroupLassoSVC(solver="fista"),
}
register(
    "sparse_classifier",
    sparse_classifier,
    {
        "default": (vectors, {}),
        **{k: (vectors, {"head": head}) for k, head in CLASSIFIER_HEADS.items()},
        "two-classes": (two_classes, {}),
        "words": (words, {}),
        "conv4": (digits, {**TINY_CONV, "augment": "flip-shift"}),
        "conv4-ridge": (digits, {**TINY_CONV, "head": RidgeHead(), "augment": "color"}),
        "conv4-affine": (digits, {**TINY_CONV, "augment": "affine", "max_epochs": 2}),
        "conv4-episode": (digits, {**TINY_CONV, "batch_norm": "episode"}),
        "conv4-micro-batch": (digits, {**TINY_CONV, "micro_batch": 1}),
        "conv4-frozen": (digits, {**TINY_CONV, "freeze_backbone": True}),
        "resnet12": (digits, TINY_RESNET),
        "identity": (vectors, {"backbone": "identity"}),
        "frozen": (vectors, {"freeze_backbone": True}),
        "tasks": (class_tasks, {}),
        "tasks-stopped": (class_tasks, STOPPED),
        "envs": (class_tasks_in_envs, {"across_envs": True}),
        "stopped": (vectors, {**STOPPED, "n_iter_no_change": 1}),
        "validated": (vectors, {**TWO_EPOCHS, "validation_classes": [1, 3]}),
        "calibrated": (vectors, {"calibrate": 6}),
        "calibrated-held-out": (vectors, {**STOPPED, "calibrate": 6}),
        "scale": (vectors, {"logit_scale": 3.0}),
        "scale-ridge": (vectors, {"head": RidgeHead(), "logit_scale": 3.0}),
        "uncentred": (vectors, {"center": False}),
        "episode": (vectors, {"batch_norm": "episode", "center": False}),
        "sizes": (vectors, {"n_way": 3, "n_shot": 2, "n_query": 3}),
        "head-tol": (vectors, {"head_tol": 1e-6, "lr": 0.01}),
        "sgd": (vectors, {"optimizer": "sgd", "lr": 0.1}),
        "adamw": (vectors, {"net_params": {"optimizer__weight_decay": 0.1}}),
        "bfloat16": (vectors, {"precision": "bfloat16"}),
        "headless": (vectors, {"fit_head": False}),
        "kept-classes": (vectors, {"then": keeping_classes}),
        "memory": (vectors, {"then": in_little_memory}),
        "saved": (vectors, {"then": saved_and_loaded}),
        "saved-conv4": (digits, {**TINY_CONV, "then": saved_and_loaded}),
        "warm": (vectors, {"warm_start": True, "then": warm_again}),
    },
)
register(
    "sparse_regressor",
    sparse_regressor,
    {
        "default": (value_tasks, {}),
        "ridge": (value_tasks, {"head": RidgeHead(0.1)}),
        "ridge-regression": (value_tasks, {"head": RidgeRegressionHead(0.1)}),
        "elastic": (value_tasks, {"head": LassoHead(0.1, 0.1, reg_gradient=True)}),
        "undivided": (value_tasks, {"split": "none"}),
        "undivided-ridge": (value_tasks, {"split": "none", "head": RidgeHead()}),
        "one-task": (one_value_task, {}),
        "raw-codes": (value_tasks, {"normalize_codes": False}),
        "stopped": (value_tasks, STOPPED),
        "validated": (value_tasks, {**TWO_EPOCHS, "validation_tasks": [2, 5]}),
        "stopped-rows": (one_value_task, STOPPED),
        "envs": (value_tasks_in_envs, {"across_envs": True}),
        "frozen": (value_tasks, {"freeze_backbone": True}),
        "micro-batch": (value_tasks, {"micro_batch": 1}),
        "head-tol": (value_tasks, {"head_tol": 1e-3, "lr": 0.01}),
        "sizes": (value_tasks, {"n_shot": 5, "n_query": 4}),
        "bfloat16": (value_tasks, {"precision": "bfloat16"}),
        "conv4": (picture_values, {**TINY_CONV, "augment": "shift"}),
        "conv4-episode": (picture_values, {**TINY_CONV, "batch_norm": "episode"}),
        "memory": (value_tasks, {"then": in_little_memory}),
        "saved": (value_tasks, {"then": saved_and_loaded}),
        "warm": (value_tasks, {"warm_start": True, "then": warm_again}),
    },
)
UPDATES = {
    "sgd": {},
    "learned-rate": {"learn_inner_lr": True, "lr": 0.01},
    "meta-sgd": {"update": "meta-sgd", "lr": 0.01},
    "meta-curvature": {"update": "meta-curvature", "lr": 0.01},
    "kfo": {"update": "kfo", "lr": 0.01},
    "kfo-psd": {"update": "kfo", "update_params": {"psd": True, "bias": True}},
    "kfo-deep": {"update": "kfo", "update_params": {"n_hidden": 1}},
    "kfo-moving": {"update": "kfo", "update_params": {"adapt_transform": True}},
    "head": {"adapt_layers": "head"},
    "head-kfo": {"adapt_layers": "head", "update": "kfo"},
    "body": {"adapt_layers": "body"},
    "first-order": {"first_order": True},
    "linear-layers": {"linear_layers": 2},
    "reptile": {"outer": "reptile", "lr": 0.1, "optimizer": "sgd"},
    "multi-step": {"multi_step_epochs": 1, "max_epochs": 2},
    "checkpoint": {"checkpoint": True},
    "adapt-steps": {"adapt_steps": 4, "inner_lr": 0.02},
    "one-by-one": {"task_chunk_size": 1},
    "frozen": {"freeze_backbone": True},
    "episode": {"batch_norm": "episode"},
    "head-episode": {"adapt_layers": "head", "batch_norm": "episode"},
    "head-bfloat16": {"adapt_layers": "head", "precision": "bfloat16"},
    "headless": {"fit_head": False},
    "stopped": STOPPED,
    "memory": {"then": in_little_memory},
    "saved": {"then": saved_and_loaded},
    "saved-kfo": {"update": "kfo", "then": saved_and_loaded},
    "warm": {"warm_start": True, "then": warm_again},
}
register(
    "maml_classifier",
    maml_classifier,
    {
        **{name: (vectors, params) for name, params in UPDATES.items()},
        "two-classes": (two_classes, {}),
        "words": (words, {}),
        "conv4": (digits, {**TINY_CONV, "augment": "flip-shift"}),
        "conv4-episode": (digits, {**TINY_CONV, "batch_norm": "episode"}),
        "conv4-head": (digits, {**TINY_CONV, "adapt_layers": "head"}),
        "conv4-checkpoint": (digits, {**TINY_CONV, "checkpoint": True}),
        "tasks": (class_tasks, {"n_way": 2}),
        "tasks-stopped": (class_tasks, {"n_way": 2, **STOPPED}),
        "envs": (class_tasks_in_envs, {"n_way": 2, "across_envs": True}),
        "stopped": (two_classes, {**STOPPED, "n_way": 2}),
        "validated": (
            two_classes,
            {**TWO_EPOCHS, "n_way": 2, "validation_classes": [1, 3]},
        ),
        "calibrated": (vectors, {"calibrate": 6}),
        "kept-classes": (two_classes, {"n_way": 4, "then": keeping_classes}),
    },
)
register(
    "maml_regressor",
    maml_regressor,
    {
        **{name: (value_tasks, params) for name, params in UPDATES.items()},
        "raw-targets": (value_tasks, {"normalize_targets": False}),
        "one-task": (one_value_task, {}),
        "envs": (value_tasks_in_envs, {"across_envs": True}),
        "validated": (value_tasks, {**TWO_EPOCHS, "validation_tasks": [2, 5]}),
        "conv4": (picture_values, {**TINY_CONV, "augment": "shift"}),
    },
)
LEVELS = {
    "never": {"level2_every": None},
    "seldom": {"level2_every": 2, "causal_every": None},
    "factors": {"n_factors": 3},
    "strengths": {"lambda_orth": 2.0, "lambda_group": 0.5, "lambda_swap": 0.5},
    "mean": {"task_embedding": "mean"},
    "labels": {"task_embedding": "labels", "group_hidden": 4},
    "same-env": {"across_envs": False, "xi_lr": 0.01, "group_lr": 0.1},
}
register(
    "meta_crl_classifier",
    meta_crl_classifier,
    {
        "default": (class_tasks, {}),
        "envs": (class_tasks_in_envs, {}),
        **{name: (class_tasks_in_envs, params) for name, params in LEVELS.items()},
        "classes": (vectors, {}),
        "kept-classes": (vectors, {"then": keeping_classes}),
        "svc": (class_tasks_in_envs, {"estimator": sparse_classifier()}),
        "prototype": (vectors, {"estimator": sparse_classifier(PrototypeHead())}),
        "maml": (class_tasks_in_envs, {"estimator": maml_classifier()}),
        "maml-head": (
            class_tasks_in_envs,
            {"estimator": maml_classifier(adapt_layers="head")},
        ),
        "maml-kfo": (class_tasks_in_envs, {"estimator": maml_classifier("kfo")}),
        "maml-first-order": (
            class_tasks_in_envs,
            {"estimator": maml_classifier(first_order=True)},
        ),
        "stopped": (class_tasks, {"estimator": sparse_classifier(**STOPPED)}),
        "calibrated": (vectors, {"estimator": sparse_classifier(calibrate=6)}),
        "conv4": (digits, {"estimator": sparse_classifier(RidgeHead(), **TINY_CONV)}),
        "saved": (class_tasks_in_envs, {"then": saved_and_loaded}),
    },
)
register(
    "meta_crl_regressor",
    meta_crl_regressor,
    {
        "default": (value_tasks, {}),
        "envs": (value_tasks_in_envs, {}),
        **{name: (value_tasks_in_envs, params) for name, params in LEVELS.items()},
        "lasso": (value_tasks_in_envs, {"estimator": sparse_regressor()}),
        "undivided": (value_tasks, {"estimator": sparse_regressor(split="none")}),
        "maml": (value_tasks_in_envs, {"estimator": maml_regressor()}),
        "maml-head": (value_tasks, {"estimator": maml_regressor(adapt_layers="head")}),
        "maml-kfo": (value_tasks, {"estimator": maml_regressor("kfo")}),
        "saved": (value_tasks_in_envs, {"then": saved_and_loaded}),
    },
)
register("own_net", partial(with_own_net, sparse_classifier), {"svc": (vectors, {})})
register("own_net", partial(with_own_net, maml_classifier), {"maml": (vectors, {})})
for name, make in {"svc": sparse_classifier, "maml": maml_classifier}.items():
    register("pipeline", partial(pipeline_of, make), {name: (vectors, {})})
    CASES[f"checkpoint/{name}"] = partial(
        checkpoint_case, make, vectors, max_epochs=2, batches_per_epoch=2
    )
register("pipeline", partial(pipeline_of, sparse_regressor), {"lasso": (vectors, {})})

# -- MTCRL -----------------------------------------------------------------------------


class Tables(NamedTuple):
    """Rows and targets of many tasks, and two new tasks."""

    X: Any
    Y: Any
    X_new: Any
    y_new: Any
    ids: Any = NO_IDS


def table(values=False, *, missing=False, envs=False, mixed=False):
    """Three tasks, each on a feature of its own."""
    rng = np.random.default_rng(2)
    X = rng.standard_normal((120, 4))
    Z = X + 0.1 * rng.standard_normal((120, 4))
    Y = Z[:, :3] if values else (Z[:, :3] > 0).astype(float)
    if mixed:
        levels = np.digitize(Z[:, 1], [-0.5, 0.5]) + 4
        Y = np.column_stack([Z[:, 0] > 0, levels, 10 * Z[:, 2]])
    if missing:
        Y = Y.copy()
        Y[10:30, 1] = Y[::7, 0] = np.nan
    new = Z[60:, 3] if values else np.digitize(Z[60:, 3], [-0.5, 0.5])
    ids = {"envs": np.arange(60) % 3} if envs else {}
    return Tables(X[:60], Y[:60], X[60:].reshape(2, 30, 4), new.reshape(2, 30), ids)


def with_ids(values=False):
    """One column, and the task of every row."""
    plain, tasks = table(values), np.arange(60) % 3
    own = plain.Y[np.arange(60), tasks]
    return plain._replace(Y=own, ids={"tasks": np.array(["a", "b", "c"])[tasks]})


def one_column(values=False):
    plain = table(values)
    return plain._replace(Y=plain.Y[:, 0])


def pixels():
    """Two tasks per pixel."""
    images = np.random.default_rng(3).standard_normal((12, 8, 8)).astype(np.float32)
    Y = np.stack([images > 0, 3 * images], axis=1)[:6].astype(float)
    Y[0, 0, 2, 3] = np.nan
    new = images[6:].reshape(2, 3, 8, 8)
    return Tables(images[:6], Y, new, np.digitize(new, [-0.7, 0.7]).astype(float))


def named(found):
    """A list by task as entries of their own, without the tasks that have none."""
    if not isinstance(found, list):
        return {"all": found}
    return {str(k): part for k, part in enumerate(found) if part is not None}


def lists_of(learner, rows):
    methods = ("predict_proba", "decision_by_task", "decision_function")
    found = {}
    for method in (name for name in methods if hasattr(learner, name)):
        found |= below(method, named(getattr(learner, method)(rows)))
    return found


def mtcrl_case(cls, data, *, lists=True, saved=False, **params):
    """Fit, ask by task, adapt to a new one, solve episodes."""
    data = data()
    n_folds = params.pop("env_folds", None)
    if n_folds is not None:
        data = data._replace(ids={"envs": random_folds(n_folds, len(data.X))})
    learner = mtcrl(cls, **params).fit(data.X, data.Y, **data.ids)
    facts = {k: v for k, v in facts_of(learner).items() if not isinstance(v, list)}
    half = data.X_new.shape[1] // 2
    found = {
        "predict": learner.predict(data.X),
        "transform": learner.transform(data.X_new[0]),
        "score_tasks": learner.score_tasks(
            data.X, data.Y, **{k: v for k, v in data.ids.items() if k == "tasks"}
        ),
        "predict_episodes": learner.predict_episodes(
            data.X_new[:, :half], data.y_new[:, :half], data.X_new[:, half:]
        ),
        **history_of(learner),
        **below("fit", facts),
    }
    if "tasks" in data.ids:
        found["predict_by_task"] = learner.predict(data.X, tasks=data.ids["tasks"])
    if data.X.ndim == 2:
        found["input_gradients"] = learner.input_gradients(data.X[:7])
    if lists:
        found |= below("fit", lists_of(learner, data.X[:9]))
    adapted = copy.copy(learner).adapt(data.X_new[0], data.y_new[0])
    found |= below("adapted", answers_of(adapted, data.X_new[1]) | facts_of(adapted))
    found |= below("new_task", facts_of_new(adapted.task_))
    if saved:
        with tempfile.TemporaryDirectory() as folder:
            save(adapted, Path(folder) / "learner")
            again = load(Path(folder) / "learner")
        found |= below("loaded", answers_of(again, data.X) | facts_of(again))
    return found


def facts_of_new(task):
    names = ("coef", "intercept", "routing", "dual_gap")
    return {name: getattr(task, name) for name in names}


MIXED = ["binary", "multiclass", "regression"]
GROUPS = [0, 0, 1, 2]
WHICH = np.array([[True, True, False, False], [False, False, True, True]])
EVERY_MTCRL = {
    **{kind: {"modules": kind} for kind in ("mtcrl", "mmoe", "shared", "single")},
    "groups": {"module_inputs": GROUPS},
    "which": {"module_inputs": WHICH},
    "each": {"module_inputs": "each"},
    "mmoe-each": {"modules": "mmoe", "module_inputs": "each"},
    "head-hidden": {"head_hidden": 3},
    "deep": {"hidden": (6, 5), "out_features": 3},
    "uncertainty": {"uncertainty_weighting": True},
    "stopped": {"early_stopping": True, "validation_fraction": 0.3},
    "variance": {"irm_form": "variance", "lambda_irm": 3.0},
    "unbiased": {"irm_form": "unbiased"},
    "absolute": {"irm_scale": "absolute"},
    "strengths": {"lambda_dec": 0.5, "lambda_sps": 0.5, "lambda_bal": 0.5},
    "warmup": {"warmup": (0.0, 0.1), "env_folds": 3},
    "routing-rate": {"routing_lr": 0.1, "optimizer": "sgd", "lr": 0.05},
    "weighted": {"task_weights": [1.0, 2.0, 0.5]},
    "adapt-reg": {"adapt_reg": 0.5},
    "saved": {"saved": True},
}
for kind, cls in {"classifier": MTCRLClassifier, "regressor": MTCRLRegressor}.items():
    values = cls is MTCRLRegressor
    plain, missing = partial(table, values), partial(table, values, missing=True)
    for name, (data, params) in {
        **{name: (plain, params) for name, params in EVERY_MTCRL.items()},
        "missing": (missing, {}),
        "missing-sized": (missing, {"task_weights": "size"}),
        "tasks": (partial(with_ids, values), {}),
        "tasks-mmoe": (partial(with_ids, values), {"modules": "mmoe"}),
        "one": (partial(one_column, values), {}),
        "envs": (partial(table, values, envs=True), {}),
        "envs-variance": (
            partial(table, values, envs=True),
            {"irm_form": "variance"},
        ),
    }.items():
        CASES[f"mtcrl_{kind}/{name}"] = partial(mtcrl_case, cls, data, **params)
CASES["mtcrl_classifier/mixed"] = partial(
    mtcrl_case, MTCRLClassifier, partial(table, mixed=True), task_types=MIXED
)
CASES["mtcrl_classifier/mixed-missing"] = partial(
    mtcrl_case,
    MTCRLClassifier,
    partial(table, mixed=True, missing=True),
    task_types=MIXED,
    uncertainty_weighting=True,
)
PER_PIXEL = {
    "per_pixel": True,
    "task_types": ["binary", "regression"],
    "hidden": (3,),
    "out_features": 2,
    "n_modules": 2,
    "batch_size": 3,
}
for name in ("mtcrl", "mmoe"):
    CASES[f"mtcrl_classifier/pixels-{name}"] = partial(
        mtcrl_case, MTCRLClassifier, pixels, modules=name, **PER_PIXEL
    )

# -- heads by themselves ---------------------------------------------------------------

HEAD_FACTS = (
    "coef_", "intercept_", "dual_gap_", "objective_", "sparsity_", "n_iter_",
    "support_features_", "lambda1_", "lambda2_", "prototypes_", "group_reg_",
    "ridge_reg_", "group_regs_", "scores_",
)  # fmt: skip


def rows_of_a_head(values):
    rng = np.random.default_rng(4)
    y = np.arange(36) % 3
    X = rng.standard_normal((36, 6))
    X[:, :2] += 1.5 * rng.standard_normal((3, 2))[y]
    y = X[:, 0] - 2 * X[:, 1] + 0.1 * rng.standard_normal(36) if values else y
    return X, y


def head_case(head, *, values=False, episodes=True):
    """The head as an estimator, and as a layer with its gradients."""
    X, y = rows_of_a_head(values)
    head = copy.deepcopy(head)
    found = {}
    for name, weights in {"fit": None, "weighted": np.linspace(0.5, 1.5, 36)}.items():
        head.fit(X, y, sample_weight=weights)
        facts = {k: getattr(head, k, None) for k in HEAD_FACTS}
        found |= below(name, {k: v for k, v in facts.items() if v is not None})
        found |= below(name, answers_of(head, X[:7]))
    if not episodes:
        return found
    rows = torch.from_numpy(X.reshape(2, 18, 6))
    targets = torch.from_numpy(y.reshape(2, 18))
    support = rows[:, :12].clone().requires_grad_()
    query = rows[:, 12:].clone().requires_grad_()
    classes = () if values else (3,)
    solved = head.solve_episodes(support.detach(), targets[:, :12], *classes)
    found |= below("solved", solved._asdict())
    layer = head.episode_predictions if values else head.episode_logits
    scores = layer(support, targets[:, :12], query, *classes)
    scores = scores if torch.is_tensor(scores) else scores[0]
    gradients = torch.autograd.grad(scores.square().sum(), (support, query))
    return found | {
        "layer": scores,
        "layer.support_gradient": gradients[0],
        "layer.query_gradient": gradients[1],
    }


HEADS = {
    **CLASSIFIER_HEADS,
    "svc": GroupLassoSVC(),
    "svc-newton": SVC,
    "svc-cvxpy": GroupLassoSVC(solver="cvxpy", fit_intercept=True),
    "svc-balanced": GroupLassoSVC(0.2, class_weight="balanced", solver="newton"),
    "svc-groups": GroupLassoSVC(0.2, groups=[0, 0, 1, 1, 2, 2], solver="newton"),
    "logistic-groups": GroupLassoLogistic(0.2, groups=[0, 0, 1, 1, 2, 2]),
    "logistic-intercept": GroupLassoLogistic(fit_intercept=True),
    "relaxed-prototype": RelaxedHead(GroupLassoLogistic(0.3), PrototypeHead()),
}
for name, head in HEADS.items():
    CASES[f"head/{name}"] = partial(head_case, head)
for name, head in {
    "lasso": LassoHead(),
    "lasso-elastic": LassoHead(0.1, 0.2),
    "lasso-plain": LassoHead(1.0, reg_scale="absolute", fit_intercept=False),
    "lasso-gradient": LassoHead(reg_gradient=True),
    "ridge-regression": RidgeRegressionHead(),
    "ridge-regression-plain": RidgeRegressionHead(0.2, fit_intercept=False),
    "ridge-as-regressor": RidgeHead(0.3).as_regressor(),
}.items():
    CASES[f"head/{name}"] = partial(head_case, head, values=True)
for name, head in {
    "svc-cv": GroupLassoSVCCV(4, cv=3, fit_intercept=True),
    "svc-cv-sparse": GroupLassoSVCCV(
        4, (0.5, 2.0), cv=3, selection="one-standard-error"
    ),
}.items():
    CASES[f"head/{name}"] = partial(head_case, head, episodes=False)


def path_case(loss):
    X, y = rows_of_a_head(values=False)
    path = group_lasso_path(X, y, n_regs=5, loss=loss, fit_intercept=True)
    return path._asdict()


for loss in ("hinge", "logistic"):
    CASES[f"head/path-{loss}"] = partial(path_case, loss)

# -- digests ---------------------------------------------------------------------------


@contextlib.contextmanager
def one_thread():
    """Sums run in one order; warnings about short trainings say nothing here."""
    before = torch.get_num_threads()
    with (
        threadpool_limits(1),
        torch.random.fork_rng(devices=[]),
        warnings.catch_warnings(),
    ):
        torch.set_num_threads(1)
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            torch.set_num_threads(before)


def digest(value):
    """Shape, type, hash and first values of an array."""
    if torch.is_tensor(value):
        value = value.detach().cpu().numpy()
    array = np.asarray(value)
    if array.dtype == object:
        array = array.astype(str)
    array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return {
        "shape": list(np.shape(value)),
        "dtype": array.dtype.str,
        "sha256": hashlib.sha256(array.tobytes()).hexdigest(),
        "first": [repr(item) for item in array.ravel()[:3].tolist()],
    }


def digests_of(name):
    with one_thread():
        return {key: digest(value) for key, value in sorted(CASES[name]().items())}


def machine():
    """What the last digits may depend on besides the code."""
    return {
        "numpy": np.__version__,
        "torch": torch.__version__,
        "processor": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
    }


def write():
    """One line per array, so that differences of two files can be read."""
    parts = [f'"machine": {json.dumps(machine())}']
    for name in sorted(CASES):
        lines = [
            f" {json.dumps(k)}: {json.dumps(v)}" for k, v in digests_of(name).items()
        ]
        parts.append(f"{json.dumps(name)}: {{\n" + ",\n".join(lines) + "}")
    GOLDEN.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


# -- tests -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def golden():
    return json.loads(GOLDEN.read_text(encoding="utf-8"))


def describe(name, before, now):
    if before is None or now is None:
        return f"{name}: {'new' if before is None else 'missing'}"
    figures = (
        f"{found['shape']} {found['dtype']} {', '.join(found['first'])}"
        for found in (before, now)
    )
    return f"{name}: was {' / is '.join(figures)}"


@pytest.mark.parametrize("name", CASES)
def test_the_numbers_are_the_golden_ones(golden, name):
    before, now = golden[name], digests_of(name)
    different = [
        describe(key, before.get(key), now.get(key))
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]
    if different and golden["machine"] != machine():
        different.append(f"(written on {golden['machine']}, this is {machine()})")
    assert not different, f"{name}:\n" + "\n".join(different)


def test_every_golden_case_is_there(golden):
    assert set(golden) - {"machine"} == set(CASES)


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("Usage: python tests/test_golden.py --write")
    write()
