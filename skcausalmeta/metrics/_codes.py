"""Checks and correlations that the metrics of codes against factors share."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from scipy.stats import rankdata

from ..exceptions import InvalidInputError


def check_factors_and_codes(
    factors: ArrayLike, codes: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both as finite float64 matrices of the same rows; factors must vary.

    Parameters
    ----------
    factors : array-like of shape (n_samples, n_factors)
        True factors.
    codes : array-like of shape (n_samples, n_codes)
        Learned codes of the same samples.

    Returns
    -------
    factors : ndarray of shape (n_samples, n_factors)
        The factors as float64.
    codes : ndarray of shape (n_samples, n_codes)
        The codes as float64.

    Raises
    ------
    InvalidInputError
        If one is no matrix, is empty or holds NaN or infinity, if the numbers of
        rows differ or are 1, or if a factor is constant.

    Examples
    --------
    >>> from skcausalmeta.metrics import check_factors_and_codes
    >>> factors, codes = check_factors_and_codes([[0], [1]], [[2, 0], [3, 0]])
    >>> factors.shape, codes.shape, str(codes.dtype)
    ((2, 1), (2, 2), 'float64')
    """
    true, learned = _matrix(factors, "factors"), _matrix(codes, "codes")
    if len(true) != len(learned):
        raise InvalidInputError(
            "factors and codes must describe the same samples. Got "
            f"{len(true)} and {len(learned)} rows; encode the samples whose factors "
            "are given."
        )
    if len(true) < 2:
        raise InvalidInputError(
            "factors and codes must hold at least 2 samples. Got 1; correlations of "
            "one sample do not exist."
        )
    fixed = np.flatnonzero(is_constant(true))
    if len(fixed):
        raise InvalidInputError(
            "Every factor must vary over the samples. Got a constant value in columns "
            f"{fixed.tolist()} of factors; drop these columns or add samples."
        )
    return true, learned


def _matrix(values: ArrayLike, name: str) -> NDArray[np.float64]:
    matrix = np.asarray(values, dtype=np.float64)
    if matrix.ndim != 2 or matrix.size == 0:
        raise InvalidInputError(
            f"{name} must be a matrix (n_samples, n_{name}) that is not empty. Got "
            f"shape {matrix.shape}; reshape a single column with reshape(-1, 1)."
        )
    if not np.isfinite(matrix).all():
        raise InvalidInputError(
            f"{name} must be finite. Got {np.count_nonzero(~np.isfinite(matrix))} NaN "
            "or infinite values; the encoder has diverged, or rows must be dropped."
        )
    return matrix


def is_constant(columns: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which columns vary by no more than the rounding of their values."""
    rounding = 8 * np.finfo(np.float64).eps * np.abs(columns).max(axis=0)
    return np.ptp(columns, axis=0) <= rounding


def standardize(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Columns of mean 0 and variance 1; constant ones become 0."""
    centered = columns - columns.mean(axis=0)
    scale = centered.std(axis=0)
    # The mean of equal values is rounded, so that a constant needs its own case.
    constant = is_constant(columns) | (scale == 0)
    return np.where(constant, 0.0, centered / np.where(constant, 1.0, scale))


def factor_code_correlations(
    factors: NDArray[np.float64], codes: NDArray[np.float64], method: str
) -> NDArray[np.float64]:
    """Signed correlations of every factor with every code.

    Parameters
    ----------
    factors : ndarray of shape (n_samples, n_factors)
        True factors, as `check_factors_and_codes` returns them.
    codes : ndarray of shape (n_samples, n_codes)
        Learned codes, likewise.
    method : {"pearson", "spearman"}
        Correlation of the values or of their ranks.

    Returns
    -------
    ndarray of shape (n_factors, n_codes)
        Between -1 and 1; 0 where a code is constant, and exactly 1 or -1 where a
        code is a scaled factor.

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.metrics import factor_code_correlations
    >>> factor = np.array([[0.0], [1.0], [2.0]])
    >>> codes = np.column_stack([-factor, factor**2])
    >>> factor_code_correlations(factor, codes, "pearson").round(2)
    array([[-1.  ,  0.96]])
    """
    if method == "spearman":
        factors, codes = rankdata(factors, axis=0), rankdata(codes, axis=0)
    true = standardize(factors) / np.sqrt(len(factors))
    learned = standardize(codes) / np.sqrt(len(codes))
    result = true.T @ learned
    # |u'v| = 1 - min ||u -+ v||^2 / 2 for unit vectors: a code that is a scaled
    # factor gets 1 exactly, where the product above would be off by its rounding.
    for i, j in zip(*np.nonzero(np.abs(result) > 0.5), strict=True):
        sign = np.sign(result[i, j])
        residual = true[:, i] - sign * learned[:, j]
        result[i, j] = sign * (1 - residual @ residual / 2)
    return result


def best_matching(scores: NDArray[np.float64]) -> tuple[NDArray, NDArray]:
    """One-to-one pairs of rows and columns that have the largest total score.

    Parameters
    ----------
    scores : ndarray of shape (n_rows, n_columns)
        How well each row and column go together.

    Returns
    -------
    rows : ndarray of shape (min(n_rows, n_columns),)
        Rows of the pairs, ascending.
    columns : ndarray of shape (min(n_rows, n_columns),)
        Their columns.

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.metrics import best_matching
    >>> rows, columns = best_matching(np.array([[0.9, 0.8], [0.7, 0.1]]))
    >>> rows.tolist(), columns.tolist()
    ([0, 1], [1, 0])
    """
    rows, columns = linear_sum_assignment(scores, maximize=True)
    return rows, columns


def top_two_gap(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Largest minus second largest entry of every row; a missing second is 0."""
    padded = np.column_stack([scores, np.zeros(len(scores))])
    ranked = np.sort(padded if scores.shape[1] == 1 else scores, axis=1)
    return ranked[:, -1] - ranked[:, -2]
