"""The six factors of the 3D shapes scenes: names, official grid, distributions."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..exceptions import InvalidInputError
from ._correlation import check_correlation

FACTOR_NAMES = (
    "floor_hue",
    "wall_hue",
    "object_hue",
    "scale",
    "shape",
    "orientation",
)
SHAPE_NAMES = ("cube", "cylinder", "sphere", "capsule")
FACTOR_SIZES = (10, 10, 10, 8, 4, 15)
FACTOR_VALUES = (
    np.arange(10) / 10,
    np.arange(10) / 10,
    np.arange(10) / 10,
    np.linspace(0.75, 1.25, 8),
    np.arange(4.0),
    np.linspace(-30, 30, 15),
)
SHAPE = FACTOR_NAMES.index("shape")
_SCALE = FACTOR_NAMES.index("scale")
_MAX_SCALE = 2.0
_MEANS = np.array([values.mean() for values in FACTOR_VALUES])
_STDS = np.array([values.std() for values in FACTOR_VALUES])
_STEPS = np.array([values[1] - values[0] for values in FACTOR_VALUES])
_REACH = 0.5 * _STEPS
_REACH[:3] /= 2  # so that the ends of the colour circle keep apart
_REACH[SHAPE] = 0.0  # there is nothing between a cube and a cylinder


def check_factors(factors: ArrayLike) -> NDArray[np.float64]:
    """Return factors that can be drawn as float64 (n, 6)."""
    values = np.asarray(factors, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != len(FACTOR_NAMES):
        raise InvalidInputError(
            f"factors must have shape (n_samples, 6), in the order {FACTOR_NAMES}. Got "
            f"shape {values.shape}."
        )
    if not np.isfinite(values).all():
        raise InvalidInputError(
            "factors must be finite. Got "
            f"{np.count_nonzero(~np.isfinite(values))} NaN or infinite values."
        )
    scale, shape = values[:, _SCALE], values[:, SHAPE]
    if len(values) and (scale.min() <= 0 or scale.max() > _MAX_SCALE):
        raise InvalidInputError(
            f"The scale of an object must be in (0, {_MAX_SCALE:g}]. Got values from "
            f"{scale.min():g} to {scale.max():g}; the official ones are 0.75 to 1.25."
        )
    if len(values) and (shape.min() < -0.5 or shape.max() > 3.5):
        raise InvalidInputError(
            "The shape must round to 0 (cube), 1 (cylinder), 2 (sphere) or 3 (capsule)."
            f" Got values from {shape.min():g} to {shape.max():g}."
        )
    return values


def shape_numbers(factors: NDArray[np.float64]) -> NDArray[np.int64]:
    """Number of the nearest shape."""
    return np.clip(np.rint(factors[:, SHAPE]), 0, 3).astype(np.int64)


def values_of_levels(levels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Factors of level numbers (n, 6)."""
    columns = zip(FACTOR_VALUES, levels.T, strict=True)
    return np.column_stack([values[column] for values, column in columns])


def draw_levels(
    rng: np.random.RandomState,
    n_samples: int,
    correlation: float | ArrayLike | None,
) -> NDArray[np.int64]:
    """Level numbers (n, 6): uniform, or by a Gaussian density on the grid."""
    if correlation is None:
        return np.column_stack([rng.randint(k, size=n_samples) for k in FACTOR_SIZES])
    precision = np.linalg.inv(check_correlation(correlation, len(FACTOR_SIZES)))
    grid = np.indices(FACTOR_SIZES).reshape(len(FACTOR_SIZES), -1).T  # (480000, 6)
    latents = latents_of_factors(values_of_levels(grid))
    energy = 0.5 * np.einsum("ni,ni->n", latents @ precision, latents)
    shares = np.cumsum(np.exp(energy.min() - energy))
    return grid[np.searchsorted(shares, rng.uniform(0, shares[-1], size=n_samples))]


def jitter(
    rng: np.random.RandomState, factors: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Move hues by up to a quarter of a step of the grid, scale and turn by half."""
    return factors + _REACH * rng.uniform(-1, 1, size=factors.shape)


def latents_of_factors(factors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Factors in standard units: mean 0 and variance 1 on the uniform grid."""
    return (factors - _MEANS) / _STDS


def factors_of_latents(latents: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse of `latents_of_factors`."""
    return latents * _STDS + _MEANS
