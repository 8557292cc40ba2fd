"""Parameters of the parts of a learner, by nested names."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import StandardScaler
from torch import nn

from skcausalmeta.backbones import MLP, Conv4
from skcausalmeta.compose import make_meta_pipeline
from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.heads import GroupLassoSVC, LassoHead
from skcausalmeta.learners import (
    MAMLClassifier,
    MAMLRegressor,
    MetaCRLClassifier,
    SparseMetaClassifier,
    SparseMetaRegressor,
)
from skcausalmeta.training import SGD, Adam, AdamW, Training, Validation

RNG = np.random.default_rng(0)
Y = np.repeat(np.arange(6), 12)
X = RNG.standard_normal((72, 64)) + Y[:, None]
SMALL = {
    "max_epochs": 1,
    "batches_per_epoch": 1,
    "tasks_per_batch": 1,
    "verbose": 0,
    "random_state": 0,
}


def make_learner(kind=SparseMetaClassifier, **params):
    return kind(**{**SMALL, "backbone": "mlp", **params})


def held_by(module, kind):
    return next(layer for layer in module.modules() if isinstance(layer, kind))


CASES = {
    "backbone__n_filters": (
        {"backbone": "conv4", "input_shape": (8, 8)},
        (2, 3),
        lambda fitted: held_by(fitted.net_.module_, nn.Conv2d).out_channels,
    ),
    "backbone__hidden": (
        {},
        ((4,), (5,)),
        lambda fitted: (held_by(fitted.net_.module_, nn.Linear).out_features,),
    ),
    "optimizer__weight_decay": (
        {},
        (0.1, 0.2),
        lambda fitted: fitted.net_.optimizer_.param_groups[0]["weight_decay"],
    ),
    "validation__n_episodes": (
        {"n_way": 2, "n_shot": 2, "n_query": 2},
        (3, 4),
        lambda fitted: len(fitted.net_.history[-1]["batches"]) - 1,
    ),
    "validation__patience": (
        {"n_way": 2, "n_shot": 2, "n_query": 2},
        (1, 2),
        lambda fitted: dict(fitted.net_.callbacks_)["best_weights"].patience,
    ),
    "net_params__warm_start": (
        {},
        (True, False),
        lambda fitted: fitted.net_params.warm_start,
    ),
    "augment__max_shift": (
        {"augment": "shift", "input_shape": (8, 8)},
        (1, 2),
        lambda fitted: fitted.augment.max_shift,
    ),
    "head__group_reg": ({}, (0.1, 0.2), lambda fitted: fitted.head_.group_reg),
}
NAMED = pytest.mark.parametrize("name", CASES)


@NAMED
def test_by_set_params_and_clone(name):
    params, values, _ = CASES[name]
    learner = make_learner(**params)
    assert name not in learner.get_params()
    assert learner.set_params(**{name: values[0]}) is learner
    assert learner.get_params()[name] == values[0]
    twin = clone(learner)
    assert twin.get_params()[name] == values[0]
    twin.set_params(**{name: values[1]})
    assert learner.get_params()[name] == values[0]
    # The other parameters of the part are those that the name stands for.
    part = name.partition("__")[0]
    fresh = type(getattr(learner, part))()
    others = getattr(learner, part).get_params() | {name.partition("__")[2]: None}
    wanted = fresh.get_params() | {name.partition("__")[2]: None}
    if part == "head":
        wanted |= {"solver": "auto"}
    if part == "net_params":
        wanted |= {"keywords": {}}
    assert others == wanted


@NAMED
def test_by_a_search(name):
    params, values, found = CASES[name]
    search = GridSearchCV(
        make_learner(**params), {name: values}, cv=2, error_score="raise"
    ).fit(X, Y)
    assert [row[name] for row in search.cv_results_["params"]] == list(values)
    best = search.best_params_[name]
    assert found(search.best_estimator_) == best


@NAMED
def test_by_a_pipeline(name):
    params, values, found = CASES[name]
    pipeline = make_meta_pipeline(StandardScaler(), make_learner(**params))
    pipeline.set_params(**{f"sparsemetaclassifier__{name}": values[1]}).fit(X, Y)
    assert found(pipeline[-1]) == values[1]


@pytest.mark.parametrize("kind", [MAMLClassifier, MAMLRegressor, SparseMetaRegressor])
def test_of_every_learner(kind):
    learner = make_learner(kind).set_params(
        backbone__hidden=(4,), optimizer__eps=1e-7, validation__held_out=0.4
    )
    assert learner.backbone.hidden == (4,)
    assert isinstance(learner.optimizer, Adam)
    assert learner.validation.get_params() == Validation(0.4).get_params()
    y = Y * 1.0 if kind.__name__.endswith("Regressor") else Y
    fitted = learner.fit(X, y)
    assert fitted.net_.optimizer_.param_groups[0]["eps"] == 1e-7


def test_values_that_stand_for_objects():
    learner = make_learner(validation=0.4, optimizer="sgd", net_params={"head_tol": 1})
    learner.set_params(validation__n_episodes=3, optimizer__momentum=0.5)
    learner.set_params(net_params__precision="bfloat16")
    assert learner.validation.get_params() == {
        "held_out": 0.4,
        "n_episodes": 3,
        "patience": 5,
    }
    assert isinstance(learner.optimizer, SGD)
    assert learner.net_params.keywords == {"head_tol": 1}
    learner.set_params(validation=[1, 2], validation__n_episodes=4)
    assert learner.validation.get_params() == {
        "held_out": [1, 2],
        "n_episodes": 4,
        "patience": None,
    }
    learner.set_params(optimizer="adamw", optimizer__eps=1e-6)
    assert isinstance(learner.optimizer, AdamW)
    learner.set_params(backbone="conv4", backbone__n_filters=8)
    assert isinstance(learner.backbone, Conv4)


def test_given_objects_are_set_themselves():
    parts = {
        "head": GroupLassoSVC(),
        "backbone": MLP(),
        "optimizer": AdamW(),
        "validation": Validation(),
        "net_params": Training(),
    }
    learner = make_learner(**parts)
    learner.set_params(head__tol=1e-3, backbone__dropout=0.5, optimizer__eps=1e-7)
    assert all(getattr(learner, name) is part for name, part in parts.items())
    assert (parts["head"].tol, parts["backbone"].dropout) == (1e-3, 0.5)


# -- all or nothing --------------------------------------------------------------------


def snapshot(learner):
    """Its parameters, and those of its parts."""
    return {k: v if np.isscalar(v) else id(v) for k, v in learner.get_params().items()}


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"head__nope": 1}, r"Invalid parameter 'nope' for estimator Group"),
        ({"backbone__hiden": (8,)}, r"'hiden' for estimator MLP.*Valid .*'hidden'"),
        ({"optimizer__decay": 1}, r"'decay' for .*Adam.* are: .*'weight_decay'"),
        ({"validation__epochs": 1}, "'epochs' for estimator Validation"),
        ({"net_params__head_tol": 1}, r"'head_tol' for estimator Training.*'keywords'"),
        (
            {"hook__every": 1},
            r"'hook' parameter of .* Got None; set 'hook' itself",
        ),
        ({"nope": 1}, r"(?s)'nope' for estimator SparseMeta.*'backbone'"),
        ({"nope__x": 1}, "Invalid parameter 'nope' for estimator SparseMeta"),
        ({"backbone": "auto", "backbone__hidden": (8,)}, "Got backbone='auto'"),
        ({"backbone": "conv5", "backbone__hidden": (8,)}, "Did you mean 'conv4'"),
        ({"backbone": nn.Linear(64, 2), "backbone__hidden": (8,)}, "Got Linear, which"),
        ({"backbone": MLP, "backbone__hidden": (8,)}, "has none of its own"),
        ({"optimizer": torch.optim.SGD, "optimizer__momentum": 0.5}, "Got <class"),
        ({"validation": 2.0, "validation__patience": 3}, "'held_out' parameter of Val"),
        ({"net_params": 3, "net_params__warm_start": True}, "a dictionary, a Training"),
    ],
    ids=lambda one: "" if isinstance(one, str) else "-".join(one),
)
@pytest.mark.parametrize("whole", [False, True], ids=["names", "objects"])
def test_a_wrong_name_sets_nothing(params, match, whole):
    parts = {
        "head": GroupLassoSVC(),
        "backbone": MLP(),
        "optimizer": Adam(),
        "validation": Validation(),
        "net_params": Training(),
    }
    learner = make_learner(**(parts if whole else {}))
    before = snapshot(learner)
    good = {"lr": 0.5, "head__tol": 1e-3, "optimizer__eps": 1e-7}
    if "optimizer" in params:
        del good["optimizer__eps"]
    for given in (params, {**good, **params}, {**params, **good}):
        with pytest.raises(ValueError, match=match):
            learner.set_params(**given)
        assert snapshot(learner) == before
    if not whole:
        assert learner.head is None


def test_a_wrong_name_sets_nothing_of_what_is_wrapped():
    model = MetaCRLClassifier()
    with pytest.raises(InvalidInputError, match="'nope' for estimator LassoHead"):
        MetaCRLClassifier(SparseMetaRegressor(LassoHead())).set_params(
            estimator__head__nope=1
        )
    with pytest.raises(ValueError, match="Invalid parameter 'nope'"):
        model.set_params(estimator__head__nope=1)
    assert model.estimator is None
    learner = make_learner()
    model = MetaCRLClassifier(learner)
    with pytest.raises(ValueError, match="Invalid parameter 'nope'"):
        model.set_params(n_factors=2, estimator__lr=0.5, estimator__head__nope=1)
    assert (model.n_factors, learner.lr, learner.head) == (None, 1e-3, None)
    model.set_params(estimator__head__group_reg=0.3, estimator__backbone__hidden=(4,))
    assert model.estimator is learner
    assert (learner.head.group_reg, learner.backbone.hidden) == (0.3, (4,))
