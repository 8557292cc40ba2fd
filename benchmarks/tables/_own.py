"""A model of the labels of a task alone, or of these and the pooled scores."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge

from ._data import Array
from ._jobs import Train
from ._pooled import Pooled, pooled_model
from ._search import best_on_grid, choose_by_shots, nearest, shots_of

_TREES, _TREES_OF_SEARCH = 100, 25


class Own:
    """A scikit-learn model that is fitted on the support of every job.

    Parameters
    ----------
    of : Form
        What all jobs have in common.
    value : float or dict of float
        Strength or size of a leaf, or these by number of labels.
    """

    uses_labels, zero_labels = True, False

    def __init__(self, of: Form, value: Any) -> None:
        self.of, self.value = of, value
        self.chosen = {"value": value, **of.chosen}

    def predict_job(self, support: Array, labels: Array, query: Array) -> Array:
        of, value = self.of, self.value
        if isinstance(value, dict):
            value = nearest(value, shots_of(labels, of.kind))
        rows, asked = of.columns(support), of.columns(query)
        if of.kind == "regression":
            return of.model(value).fit(rows, labels).predict(asked)
        classes = np.unique(labels)
        if len(classes) == 1:
            shares = np.ones((len(query), 1))
        else:
            shares = of.model(value).fit(rows, labels).predict_proba(asked)
        return of.scores(shares, classes)


class Form:
    """Columns and model of own models.

    Parameters
    ----------
    train : Train
    model : callable
        From a value to an estimator.
    pooled : Pooled or None
        Its scores become columns.
    weight : float
        What these columns, in standard units, are multiplied by.
    """

    def __init__(
        self,
        train: Train,
        model: Any,
        pooled: Pooled | None = None,
        weight: float = 1.0,
    ) -> None:
        self.model, self.pooled, self.kind = model, pooled, train.kind
        self.n_classes = train.table.n_classes
        self.chosen = {}
        if pooled is not None:
            self.chosen = {"pooled": pooled.chosen, "weight": weight}
        X = train.rows(inner=False)[0]
        self.mean, self.scale = 0.0, 1.0
        if train.table.X.dtype != np.uint8:
            self.mean, spread = X.mean(axis=0), X.std(axis=0)
            self.scale = np.where(spread > 0, spread, 1)
        if pooled is not None:
            scores = pooled.predict(X[:: max(1, len(X) // 2000)])
            self.center, self.size = scores.mean(axis=0), scores.std() / weight

    def columns(self, X: Array) -> Array:
        rows = ((X - self.mean) / self.scale).astype(float)
        if self.pooled is None:
            return rows
        scores = (self.pooled.predict(X) - self.center) / self.size
        return np.column_stack([rows, scores])

    def scores(self, shares: Array, classes: Array) -> Array:
        """Log odds, or log shares (n, n_classes), of classes that a support has."""
        full = np.full((len(shares), self.n_classes), 1e-6)
        full[:, classes] = np.clip(shares, 1e-6, 1)
        logs = np.log(full)
        return logs[:, 1] - logs[:, 0] if self.kind == "binary" else logs


def _linear(kind: str, strength: float) -> Any:
    if kind == "regression":
        return Ridge(strength)
    return LogisticRegression(C=1 / strength, max_iter=200)


def _forest(kind: str, n_trees: int, leaf: float) -> Any:
    make = RandomForestRegressor if kind == "regression" else RandomForestClassifier
    return make(n_trees, min_samples_leaf=round(leaf), random_state=0)


def fit_own_linear(train: Train) -> Own:
    """Logistic or ridge regression on the support."""
    form = Form(train, partial(_linear, train.kind))
    grid = (0.1, 1.0, 10.0, 100.0)
    return Own(form, choose_by_shots(train, partial(Own, form), grid)[0])


def fit_own_forest(train: Train) -> Own:
    """A random forest on the support."""
    forest = partial(_forest, train.kind)
    n_trees, n_search = (5, 5) if train.brief else (_TREES, _TREES_OF_SEARCH)
    search = partial(Own, Form(train, partial(forest, n_search)))
    how: dict[str, Any] = {"limits": (1, 16), "whole": True}
    leaves, _ = choose_by_shots(train, search, (1, 2, 4), **how)
    return Own(Form(train, partial(forest, n_trees)), leaves)


def fit_with_score(kind: str, train: Train) -> Own:
    """Logistic or ridge regression on the support, the pooled score as a column."""
    inner, pooled = (pooled_model(train, kind, inner=own) for own in (True, False))
    model, found = partial(_linear, train.kind), {}

    def judge(weight: float) -> float:
        search = partial(Own, Form(train, model, inner, weight))
        found[weight] = choose_by_shots(train, search, (0.1, 1.0, 10.0, 100.0))
        return found[weight][1]

    weight = best_on_grid(judge, (1.0, 3.0, 9.0), limits=(1.0, 100.0))
    return Own(Form(train, model, pooled, weight), found[weight][0])
