"""Maps from latents to what is observed, and the latents that they accept."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..exceptions import InvalidInputError
from ..utils import named_seeds
from ._correlation import check_correlation
from ._shapes3d import render_shapes3d
from ._shapes3d_factors import (
    FACTOR_NAMES,
    draw_levels,
    factors_of_latents,
    jitter,
    latents_of_factors,
    values_of_levels,
)

_HALF_WIDTH = np.sqrt(3.0)  # of a uniform variable of variance 1
_SLOPE = 0.2


class VectorMixing:
    """Linear maps with orthonormal columns, leaky ReLUs between them.

    Every layer is one-to-one, so that the latents can be recovered.

    Parameters
    ----------
    matrices : list of ndarray of shape (n_out, n_in)
        One matrix makes a linear mixing.
    """

    def __init__(self, matrices: list[NDArray[np.float64]]) -> None:
        self.matrices = matrices
        self.n_factors = matrices[0].shape[1]

    def __call__(self, latents: ArrayLike) -> NDArray[np.float64]:
        """Observations (n_samples, n_features) of latents (n_samples, n_factors)."""
        rows = check_latents(latents, self.n_factors) @ self.matrices[0].T
        for matrix in self.matrices[1:]:
            rows = np.where(rows > 0, rows, _SLOPE * rows) @ matrix.T
        return rows

    def draw_latents(
        self,
        n_samples: int,
        *,
        correlation: float | ArrayLike | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> NDArray[np.float64]:
        """Latents of variance 1: independent and uniform (None), or Gaussian."""
        return draw_vectors(n_samples, self.n_factors, correlation, random_state)


class RenderedMixing:
    """Scenes of `render_shapes3d` from factors in standard units.

    Parameters
    ----------
    size : int
        Height and width of the images in pixels.
    """

    n_factors = len(FACTOR_NAMES)

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, latents: ArrayLike) -> NDArray[np.uint8]:
        """Images (n_samples, size, size, 3) of latents (n_samples, 6)."""
        rows = check_latents(latents, self.n_factors)
        return render_shapes3d(factors_of_latents(rows), size=self.size)

    def draw_latents(
        self,
        n_samples: int,
        *,
        correlation: float | ArrayLike | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> NDArray[np.float64]:
        """Latents around the official grid, see `make_shapes3d`."""
        seeds = named_seeds(random_state, "levels", "jitter")
        rng = np.random.RandomState(seeds["levels"])
        factors = values_of_levels(draw_levels(rng, n_samples, correlation))
        moved = jitter(np.random.RandomState(seeds["jitter"]), factors)
        return latents_of_factors(moved)


def build_mixing(
    name: str, n_factors: int, n_features: int, n_layers: int, size: int, seed: int
) -> Any:
    """Mixing of a name: "identity", "linear", "mlp" or "shapes3d"."""
    if name == "shapes3d":
        if n_factors != RenderedMixing.n_factors:
            raise InvalidInputError(
                "mixing='shapes3d' draws scenes of 6 factors. Got "
                f"n_factors={n_factors}; leave n_factors out."
            )
        return RenderedMixing(size)
    if name == "identity":
        return VectorMixing([np.eye(n_factors)])
    if n_features < n_factors:
        raise InvalidInputError(
            "n_features must be at least n_factors, or the latents would be lost. Got "
            f"n_features={n_features} for n_factors={n_factors}."
        )
    rng = np.random.RandomState(seed)
    widths = [n_factors] + [n_features] * (n_layers if name == "mlp" else 0)
    return VectorMixing([_orthonormal(rng, n_features, width) for width in widths])


def draw_vectors(
    n_samples: int,
    n_factors: int,
    correlation: float | ArrayLike | None,
    random_state: int | np.random.RandomState | None,
) -> NDArray[np.float64]:
    """Vectors of variance 1: independent and uniform (None), or Gaussian."""
    rng = np.random.RandomState(named_seeds(random_state, "latents")["latents"])
    shape = (n_samples, n_factors)
    if correlation is None:
        return rng.uniform(-_HALF_WIDTH, _HALF_WIDTH, size=shape)
    root = np.linalg.cholesky(check_correlation(correlation, n_factors))
    return rng.standard_normal(shape) @ root.T


def check_latents(latents: ArrayLike, n_factors: int) -> NDArray[np.float64]:
    """Return latents as a float64 matrix of n_factors columns."""
    rows = np.asarray(latents, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] != n_factors:
        raise InvalidInputError(
            f"latents must have shape (n_samples, {n_factors}). Got {rows.shape}."
        )
    return rows


def mixed_rows(mixing: Any, latents: NDArray[np.float64]) -> NDArray[Any]:
    """Observations of latents, one per row."""
    rows = np.asarray(mixing(latents))
    if len(np.atleast_1d(rows)) != len(latents):
        raise InvalidInputError(
            "mixing must return one row per row of latents. Got shape "
            f"{rows.shape} for {len(latents)} rows."
        )
    return rows


def _orthonormal(
    rng: np.random.RandomState, n_rows: int, n_columns: int
) -> NDArray[np.float64]:
    matrix: NDArray[np.float64] = np.linalg.qr(
        rng.standard_normal((n_rows, n_columns))
    )[0]
    return matrix
