"""Are the features that predictors use the right ones?"""

from __future__ import annotations

from numbers import Real

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from ..exceptions import InvalidInputError
from ._codes import best_matching


@validate_params(
    {
        "supports": ["array-like"],
        "recovered": ["array-like"],
        "average": [StrOptions({"micro", "tasks"})],
        "permute": ["boolean"],
        "threshold": [Interval(Real, 0, None, closed="left")],
    },
    prefer_skip_nested_validation=True,
)
def support_f1(
    supports: ArrayLike,
    recovered: ArrayLike,
    *,
    average: str = "micro",
    permute: bool = False,
    threshold: float = 0.0,
) -> float:
    r"""F1 score of recovered supports against the true ones.

    .. math:: F_1 = \frac{2 \sum_t |S_t \cap \hat S_t|}
                         {\sum_t |S_t| + |\hat S_t|}

    Parameters
    ----------
    supports : array-like of shape (n_tasks, n_factors) or (n_factors,)
        Factors that every task truly depends on; entries other than 0 belong to
        the support.
    recovered : array-like of shape (n_tasks, n_features) or (n_features,)
        Features that the predictor of every task uses; coefficients will do.
    average : {"micro", "tasks"}, default="micro"
        "micro": as above. "tasks": mean of the F1 scores of the tasks; a task
        where both supports are empty scores 1.
    permute : bool, default=False
        Match features to factors one to one so that the score is largest, for
        features that come without order. Features without a factor stay, and
        count as wrong where they are used.
    threshold : float, default=0.0
        A feature is used if its absolute value in `recovered` is above this: 0 for
        coefficients of sparse predictors, 0.5 for gates that are never 0.

    Returns
    -------
    float
        Between 0 and 1.

    Raises
    ------
    InvalidInputError
        If the two do not describe the same tasks, hold NaN or, without
        `permute`, differ in the number of columns.

    Examples
    --------
    >>> from skcausalmeta.metrics import support_f1
    >>> supports = [[1, 1, 0], [0, 1, 1]]
    >>> coef = [[0.3, 0.0, -2.0], [0.0, 0.1, 1.5]]
    >>> support_f1(supports, coef)
    0.75
    >>> support_f1(supports, coef, permute=True)
    1.0
    >>> support_f1(supports, [[0.9, 0.8, 0.1], [0.2, 0.7, 0.6]], threshold=0.5)
    1.0
    """
    true, found = _check_supports(supports, recovered, permute, threshold)
    sizes = true.sum(axis=1) + found.sum(axis=1)  # (n_tasks,)
    weights = np.ones(len(true)) if average == "micro" else 1 / np.maximum(sizes, 1)
    columns = (
        _matched(true, found, weights) if permute else np.diag_indices(len(true.T))
    )
    hits = (true[:, columns[0]] & found[:, columns[1]]).sum(axis=1)  # (n_tasks,)
    if average == "micro":
        hits, sizes = hits.sum(keepdims=True), sizes.sum(keepdims=True)
    return float(np.where(sizes == 0, 1.0, 2 * hits / np.maximum(sizes, 1)).mean())


def _matched(
    true: NDArray[np.bool_], found: NDArray[np.bool_], weights: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of columns of the best score, which is linear in the hits of the pairs."""
    # Moving columns changes no size, so that the denominators are fixed weights.
    return best_matching(true.T.astype(float) @ (weights[:, None] * found))


def _check_supports(
    supports: ArrayLike, recovered: ArrayLike, permute: bool, threshold: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    true, found = _mask(supports, "supports"), _mask(recovered, "recovered", threshold)
    if len(true) != len(found):
        raise InvalidInputError(
            "supports and recovered must describe the same tasks. Got "
            f"{len(true)} and {len(found)} rows."
        )
    if not permute and true.shape[1] != found.shape[1]:
        raise InvalidInputError(
            "supports and recovered must have the same columns. Got "
            f"{true.shape[1]} and {found.shape[1]}; use permute=True where features "
            "and factors need to be matched."
        )
    return true, found


def _mask(values: ArrayLike, name: str, threshold: float = 0) -> NDArray[np.bool_]:
    array = np.atleast_2d(np.asarray(values))
    if array.ndim != 2 or array.size == 0 or array.dtype.kind not in "biuf":
        raise InvalidInputError(
            f"{name} must be a matrix (n_tasks, n_features) of booleans or numbers. "
            f"Got shape {array.shape} and dtype {array.dtype}."
        )
    if np.isnan(array).any():
        raise InvalidInputError(
            f"{name} must not hold NaN. Got {np.count_nonzero(np.isnan(array))}; the "
            "predictors of these tasks were not solved."
        )
    return np.abs(array.astype(np.float64)) > threshold
