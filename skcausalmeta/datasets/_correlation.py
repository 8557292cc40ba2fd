"""Correlation matrices of latents."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..exceptions import InvalidInputError


def check_correlation(
    correlation: float | ArrayLike, n_factors: int
) -> NDArray[np.float64]:
    """Correlation matrix, positive definite, from one value for all pairs or itself."""
    given = np.asarray(correlation, dtype=np.float64)
    matrix = given
    if given.ndim == 0:
        matrix = np.full((n_factors, n_factors), float(given))
        np.fill_diagonal(matrix, 1.0)
    if (
        matrix.shape != (n_factors, n_factors)
        or not np.isfinite(matrix).all()
        or not np.allclose(matrix, matrix.T)
        or not np.allclose(np.diag(matrix), 1)
    ):
        raise InvalidInputError(
            "correlation must be one number or a symmetric matrix with ones on the "
            f"diagonal, of shape ({n_factors}, {n_factors}). Got {_short(given)}."
        )
    smallest = np.linalg.eigvalsh(matrix).min()
    if smallest <= 1e-12:
        raise InvalidInputError(
            "correlation must be positive definite. Got a matrix with the eigenvalue "
            f"{smallest:.3g} from {_short(given)}; a single number must lie between "
            f"{-1 / max(n_factors - 1, 1):.3g} and 1, both excluded."
        )
    return matrix


def _short(given: NDArray[np.float64]) -> str:
    return f"{given}" if given.ndim == 0 else f"an array of shape {given.shape}"
