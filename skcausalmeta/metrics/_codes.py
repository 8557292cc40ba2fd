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
    """Return both as finite float64 matrices of the same rows; factors must vary."""
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


def correlation(
    factors: NDArray[np.float64], codes: NDArray[np.float64], method: str
) -> NDArray[np.float64]:
    """Correlations (n_factors, n_codes); 0 where a code is constant."""
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
    """One-to-one pairs (rows, columns) of the largest total score."""
    rows, columns = linear_sum_assignment(scores, maximize=True)
    return rows, columns


def top_two_gap(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Largest minus second largest entry of every row; a missing second is 0."""
    padded = np.column_stack([scores, np.zeros(len(scores))])
    ranked = np.sort(padded if scores.shape[1] == 1 else scores, axis=1)
    return ranked[:, -1] - ranked[:, -2]
