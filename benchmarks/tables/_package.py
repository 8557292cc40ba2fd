"""The package's learners, by their defaults unless a contender is named otherwise."""

from __future__ import annotations

import copy
import time
from typing import Any

import numpy as np
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)

from skcausalmeta.heads import (
    GroupLassoLogistic,
    LassoHead,
    PrototypeHead,
    RidgeHead,
    RidgeRegressionHead,
)
from skcausalmeta.learners import (
    MAMLClassifier,
    MAMLRegressor,
    SparseMetaClassifier,
    SparseMetaRegressor,
)

from ._data import Array
from ._jobs import Train
from ._pooled import make_lightgbm, pooled_model

# Share of the strength that switches every feature off, which the guide names.
_LIGHT = 0.6

# Whether learners can be built around a common predictor.
TAKES_COMMON = {"common", "shared_labels"} <= SparseMetaClassifier().get_params().keys()


class Package:
    """A fitted learner, whose copies adapt to the jobs."""

    uses_labels = True

    def __init__(
        self, learner: Any, kind: str, n_classes: int, zero: bool, chosen: Any = None
    ) -> None:
        self.learner, self.kind, self.n_classes = learner, kind, n_classes
        self.zero_labels, self.chosen = zero, chosen
        # Of the last job, the share of the features in which its task deviates.
        self.share_used = np.nan

    def predict_job(self, support: Array, labels: Array, query: Array) -> Array:
        learner = self.learner
        if len(labels):
            learner = copy.copy(learner).adapt(support, labels)
            if getattr(learner, "common_", None) is not None:
                n_features = learner.deviation_.shape[-1]
                self.share_used = len(learner.support_features_) / n_features
        if self.kind == "regression":
            return learner.predict(query)
        scores = np.asarray(learner.decision_function(query))
        if self.kind == "binary":
            return scores if scores.ndim == 1 else scores[:, 1] - scores[:, 0]
        if scores.ndim == 1:
            scores = np.column_stack([-scores, scores])
        full = np.full((len(query), self.n_classes), -np.inf)
        full[:, learner.classes_.astype(int)] = scores
        return full


def fit_package(learner: Any, train: Train, zero: bool) -> Package:
    """The learner on all training rows."""
    learner = _fitted(learner, train)
    return Package(learner, train.kind, train.table.n_classes, zero)


def _fitted(learner: Any, train: Train) -> Any:
    X, y, tasks = train.rows(inner=False)
    return learner.fit(X, y, tasks=tasks)


def _sparse(train: Train, seed: int, **params: Any) -> Any:
    regression = train.kind == "regression"
    make = SparseMetaRegressor if regression else SparseMetaClassifier
    return make(verbose=0, random_state=seed, **_length(train), **params)


def _length(train: Train) -> dict[str, int]:
    return {"max_epochs": 1, "batches_per_epoch": 1} if train.brief else {}


def _maml(train: Train, seed: int, **params: Any) -> Any:
    make = MAMLRegressor if train.kind == "regression" else MAMLClassifier
    return make(verbose=0, random_state=seed, **_length(train), **params)


def _dense_head(train: Train) -> Any:
    return RidgeRegressionHead() if train.kind == "regression" else RidgeHead()


# Without a common predictor; the first solve on all rows would be thrown away.


def _alone(train: Train) -> dict[str, Any]:
    """Parameters of a learner whose tasks share nothing but the backbone."""
    mapped = {} if train.kind == "regression" else {"shared_labels": False}
    return {"common": None, "fit_head": False, **mapped}


def fit_sparse(train: Train, seed: int) -> Package:
    return fit_package(_sparse(train, seed, **_alone(train)), train, zero=False)


def fit_prototypes(train: Train, seed: int) -> Package:
    learner = _sparse(train, seed, head=PrototypeHead(), **_alone(train))
    return fit_package(learner, train, zero=False)


def fit_ridge(train: Train, seed: int) -> Package:
    learner = _sparse(train, seed, head=_dense_head(train), **_alone(train))
    return fit_package(learner, train, zero=False)


def fit_maml(train: Train, seed: int) -> Package:
    mapped = {} if train.kind == "regression" else {"shared_labels": False}
    return fit_package(_maml(train, seed, fit_head=False, **mapped), train, zero=False)


# Around a common predictor.


def default_learner(train: Train, seed: int) -> Any:
    """The fitted default; it is kept, with its CPU seconds, for who builds on it."""
    key = ("default", seed)
    train.asked.add(key)
    if key not in train.kept:
        begin = time.process_time()
        learner = _fitted(_sparse(train, seed), train)
        train.kept[key] = (learner, time.process_time() - begin)
    return train.kept[key][0]


def fit_default(train: Train, seed: int) -> Package:
    learner = default_learner(train, seed)
    return Package(learner, train.kind, train.table.n_classes, True)


def light_head(share: float, regression: bool) -> Any:
    """The default head around a common predictor, its sparse share given."""
    params: dict[str, Any] = {"reg_scale": "ridge-absolute", "refit": True}
    if regression:
        return LassoHead(share, "learn", **params)
    return GroupLassoLogistic(share, "learn", intercept_scaling=3.0, **params)


def fit_light(train: Train, seed: int) -> Package:
    """The default, whose head is told to use fewer features of a new task."""
    head = light_head(_LIGHT, train.kind == "regression")
    learner = copy.copy(default_learner(train, seed)).set_params(head=head)
    return Package(learner, train.kind, train.table.n_classes, True)


def fit_dense_deviation(train: Train, seed: int) -> Package:
    """The default with a deviation that is shrunk and not sparse."""
    regression = train.kind == "regression"
    head: Any = RidgeRegressionHead("learn")
    if not regression:
        head = GroupLassoLogistic(
            0.0, "learn", reg_scale="ridge-absolute", intercept_scaling=3.0
        )
    return fit_package(_sparse(train, seed, head=head), train, zero=True)


def fit_around_lightgbm(train: Train, seed: int) -> Package:
    """Around the model that "pooled LightGBM" is."""
    chosen = pooled_model(train, "LightGBM", inner=False).chosen
    common = make_lightgbm(train, *chosen)
    learner = _fitted(_sparse(train, seed, common=common), train)
    return Package(learner, train.kind, train.table.n_classes, True, chosen)


def fit_around_hist(train: Train, seed: int) -> Package:
    regression = train.kind == "regression"
    make = HistGradientBoostingRegressor if regression else None
    common = (make or HistGradientBoostingClassifier)(random_state=seed)
    return fit_package(_sparse(train, seed, common=common), train, zero=True)


def fit_shared_maml(train: Train, seed: int) -> Package:
    shared = {} if train.kind == "regression" else {"shared_labels": True}
    return fit_package(_maml(train, seed, **shared), train, zero=True)
