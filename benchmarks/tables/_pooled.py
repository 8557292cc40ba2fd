"""One model on the rows of all training tasks, which needs no label of a new one."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks._harness import find_peer

from ._data import Array
from ._jobs import Train
from ._scores import better, score
from ._search import best_on_grid

LIGHTGBM = find_peer("lightgbm", "lightgbm")
_TREES, _MOST_TREES = 100, 800
# HistGradientBoosting takes ten times as long on bits, and keeps its default.
_LEAVES = (7, 15, 31)


class Pooled:
    """A fitted pooled model: log odds, scores of classes or predictions of rows.

    Parameters
    ----------
    predict : callable
        From rows to an array (n,), or (n, n_classes) for classes.
    chosen : dict
        Its parameters.
    """

    uses_labels, zero_labels = False, True

    def __init__(self, predict: Callable[[Array], Array], chosen: Any) -> None:
        self.predict, self.chosen = predict, chosen

    def predict_job(self, support: Array, labels: Array, query: Array) -> Array:
        return self.predict(query)


def judge_pooled(
    train: Train, predict: Callable[[Array], Sequence[Array]]
) -> list[float]:
    """Mean scores of some predictions over the inner jobs, more being better."""
    table = train.table
    values = [
        [score(table.kind, table.y[job.query], own) for own in predict(rows)]
        for job in train.inner_jobs
        for rows in [table.rows(job.query)]
    ]
    return [better(table.kind, value) for value in np.nanmean(values, axis=0)]


def pooled_model(train: Train, kind: str, inner: bool) -> Pooled:
    """The pooled model of all training rows, or of those of the inner split.

    It is kept, with its CPU seconds, since other contenders build on it. That of the
    inner split remembers what it has predicted: a search asks it again and again.
    """
    key = (kind, inner)
    train.asked.add(key)
    if key not in train.kept:
        begin = time.process_time()
        if kind not in train.kept:
            train.kept[kind] = FITS[kind](train, None)
        chosen = train.kept[kind]
        predict = FITS[kind](train, (chosen, inner))
        model = Pooled(_remembered(predict) if inner else predict, chosen)
        train.kept[key] = (model, time.process_time() - begin)
    return train.kept[key][0]


def _remembered(predict: Callable[[Array], Array]) -> Callable[[Array], Array]:
    found: dict[bytes, Array] = {}

    def remembered(X: Array) -> Array:
        key = hashlib.blake2b(np.ascontiguousarray(X)).digest()
        if key not in found:
            found[key] = predict(X)
        return found[key]

    return remembered


# Every fit has two uses: without a request it chooses parameters by the inner split,
# with one, (parameters, whether on the inner rows), it returns a prediction function.


def linear_model(train: Train, strength: float) -> Any:
    """Logistic or ridge regression on standardised columns, on bits as they are."""
    regression = train.kind == "regression"
    model = Ridge(strength) if regression else LogisticRegression(C=1 / strength)
    if not regression:
        model.set_params(max_iter=300)
    scaled = train.table.X.dtype != np.uint8
    return make_pipeline(StandardScaler(), model) if scaled else model


def _fit_linear(train: Train, request: Any) -> Any:
    def fitted(strength: float, inner: bool) -> Callable[[Array], Array]:
        X, y, weight = train.merged(inner)
        model = linear_model(train, strength)
        name = f"{model.steps[-1][0]}__" if hasattr(model, "steps") else ""
        model.fit(X.astype(float), y, **{f"{name}sample_weight": weight})
        if train.kind == "regression":
            return model.predict
        return model.decision_function

    if request is not None:
        return fitted(*request)

    def judge(strength: float) -> float:
        predict = fitted(strength, True)
        return judge_pooled(train, lambda X: [predict(X)])[0]

    return best_on_grid(judge, (1.0, 10.0, 100.0))


def _fit_trees(
    make: Callable[..., Any],
    staged: Callable[..., list[Array]],
    grid: Sequence[int],
    train: Train,
    request: Any,
) -> Any:
    """Boosted trees, by number of leaves and of trees."""

    def fitted(leaves: int, n_trees: int, inner: bool) -> Any:
        X, y, weight = train.merged(inner)
        return make(train, leaves, n_trees).fit(X, y, sample_weight=weight)

    if request is not None:
        (leaves, n_trees), inner = request
        model = fitted(leaves, n_trees, inner)
        return lambda X: staged(model, train.kind, X, [n_trees])[0]

    best: dict[float, tuple[float, int]] = {}

    def judge(leaves: float) -> float:
        n_trees = _TREES
        while True:
            model = fitted(round(leaves), n_trees, True)
            stages = [n_trees >> s for s in range(5)]
            values = judge_pooled(
                train,
                lambda X: staged(model, train.kind, X, stages),  # noqa: B023
            )
            first = int(np.argmax(values))
            if first > 0 or n_trees >= _MOST_TREES:
                best[leaves] = (values[first], stages[first])
                return values[first]
            n_trees *= 2

    leaves = best_on_grid(judge, grid, limits=(2, 127))
    return round(leaves), best[leaves][1]


def make_lightgbm(train: Train, leaves: int, n_trees: int) -> Any:
    """Boosted trees of LightGBM."""
    name = "LGBMRegressor" if train.kind == "regression" else "LGBMClassifier"
    return getattr(LIGHTGBM.module, name)(
        n_estimators=n_trees,
        num_leaves=leaves,
        n_jobs=train.threads,
        random_state=0,
        verbose=-1,
    )


def _lightgbm_stages(
    model: Any, kind: str, X: Array, stages: Sequence[int]
) -> list[Array]:
    booster = model.booster_
    return [booster.predict(X, num_iteration=n, raw_score=True) for n in stages]


def _make_hist(train: Train, leaves: int, n_trees: int) -> Any:
    regression = train.kind == "regression"
    make = HistGradientBoostingRegressor if regression else None
    return (make or HistGradientBoostingClassifier)(
        max_iter=n_trees, max_leaf_nodes=leaves, early_stopping=False, random_state=0
    )


def _hist_stages(model: Any, kind: str, X: Array, stages: Sequence[int]) -> list[Array]:
    regression = kind == "regression"
    if list(stages) == [model.n_iter_]:
        return [model.predict(X) if regression else model.decision_function(X)]
    staged = model.staged_predict if regression else model.staged_decision_function
    found = {k: scores for k, scores in enumerate(staged(X), 1) if k in stages}
    return [np.asarray(found[n]).squeeze() for n in stages]


FITS: dict[str, Callable[[Train, Any], Any]] = {
    "linear": _fit_linear,
    "LightGBM": partial(_fit_trees, make_lightgbm, _lightgbm_stages, _LEAVES),
    "HistGradientBoosting": partial(_fit_trees, _make_hist, _hist_stages, (31,)),
}


def fit_pooled(kind: str, train: Train) -> Pooled:
    """The pooled model of a kind."""
    return pooled_model(train, kind, inner=False)
