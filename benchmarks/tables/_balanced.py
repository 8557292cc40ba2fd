"""Contenders that weigh both classes alike, for natural class shares."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from skcausalmeta.heads import GroupLassoLogistic

from ._data import Array
from ._jobs import Train
from ._package import Package, default_learner
from ._pooled import Pooled, linear_model, make_lightgbm, pooled_model


def fit_default_balanced(train: Train, seed: int) -> Package:
    """The default, whose head has ``class_weight="balanced"``; training is the same."""
    learner = copy.copy(default_learner(train, seed)).set_params(
        head=GroupLassoLogistic(
            "learn",
            "learn",
            reg_scale="ridge-absolute",
            intercept_scaling=3.0,
            refit=True,
            class_weight="balanced",
        )
    )
    return Package(learner, train.kind, train.table.n_classes, True)


def fit_pooled_balanced(kind: str, train: Train) -> Pooled:
    """A pooled model whose classes weigh alike, with the strength of the plain one."""
    chosen = pooled_model(train, kind, inner=False).chosen
    X, y, weight = train.merged(inner=False)
    shares = np.bincount(y, weight) / weight.sum()
    weight = weight / (len(shares) * shares[y])
    if kind == "linear":
        model = linear_model(train, chosen)
        model.fit(X.astype(float), y, sample_weight=weight)
        return Pooled(model.decision_function, chosen)
    model = make_lightgbm(train, *chosen).fit(X, y, sample_weight=weight)
    return Pooled(lambda rows: model.booster_.predict(rows, raw_score=True), chosen)


class OnScore:
    """``LogisticRegression(class_weight="balanced")`` on the pooled linear score."""

    uses_labels, zero_labels, chosen = True, False, None

    def __init__(self, pooled: Pooled) -> None:
        self.pooled = pooled

    def predict_job(self, support: Array, labels: Array, query: Array) -> Array:
        classes = np.unique(labels)
        if len(classes) < 2:  # says that class
            return np.full(len(query), 1.0 if classes[0] else -1.0)
        column = self.pooled.predict(support)[:, None]
        model: Any = LogisticRegression(class_weight="balanced").fit(column, labels)
        return model.decision_function(self.pooled.predict(query)[:, None])


def fit_on_score(train: Train) -> OnScore:
    """Two parameters of a task, of its labels and the pooled score."""
    return OnScore(pooled_model(train, "linear", inner=False))
