"""Common scores of the rows of many tasks, as of one task after the other."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from .._task_rows import ask_by_task
from ._common import CommonPredictor, PooledEstimator

_MOST_OF_BLOCK = 24


def scores_by_task(
    common: CommonPredictor, rows: NDArray[Any], begins: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return common scores, to the bit those of the rows of a task alone.

    Logistic regression, whose product alone depends on the number of rows, is asked
    for that product by task and for all else in a block.

    Parameters
    ----------
    common : CommonPredictor
    rows : ndarray of shape (n_rows, ...)
        Checked rows, one task after the other.
    begins : ndarray of shape (n_tasks + 1,)
    """
    by_product = _in_products(common, begins)
    if by_product is not None and len(begins) > _MOST_OF_BLOCK:
        found = by_product.scores(rows)
        last = slice(begins[-2], begins[-1])
        if np.array_equal(found[last], common.scores(rows[last])):
            return found
    return ask_by_task(common.scores, rows, begins)


def _in_products(
    common: CommonPredictor, begins: NDArray[np.int64]
) -> PooledEstimator | None:
    """Return the predictor with a product a task, None where it has another form."""
    if not isinstance(common, PooledEstimator):
        return None
    steps = getattr(common.estimator, "steps", None)
    last = common.estimator if steps is None else steps[-1][1]
    if type(last) is not LogisticRegression:
        return None
    twin = copy.copy(last)

    def decisions(X: NDArray[Any]) -> NDArray[Any]:
        X = np.asarray(X)
        weights, bounds = last.coef_.T, begins.tolist()
        found = np.empty((len(X), weights.shape[1]), dtype=X.dtype)
        for begin, end in itertools.pairwise(bounds):
            found[begin:end] = X[begin:end] @ weights
        found = found + last.intercept_
        return found[:, 0] if found.shape[1] == 1 else found

    twin.decision_function = decisions
    estimator = twin
    if steps is not None:
        estimator = copy.copy(common.estimator)
        estimator.steps = [*steps[:-1], (steps[-1][0], twin)]
    return PooledEstimator(estimator, common.view, common.n_classes)
