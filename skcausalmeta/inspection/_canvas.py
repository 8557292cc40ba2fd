"""What the Displays share: matplotlib on demand, names, checks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..exceptions import InvalidInputError

MAX_TICKS = 30


def new_axes(owner: Any, ax: Any, figsize: tuple[float, float]) -> tuple[Any, Any]:
    """Figure and axes to draw on; new ones, of a size in inches, if ax is None."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            f"{type(owner).__name__}.plot needs matplotlib. Install it with 'pip "
            "install matplotlib' or 'pip install skcausalmeta[plot]'."
        ) from error
    if ax is not None:
        return ax.figure, ax
    return plt.subplots(figsize=figsize, layout="constrained")


def call_method(estimator: Any, method: str, *args: Any) -> Any:
    """Result of a method that an estimator must have."""
    function = getattr(estimator, method, None)
    if function is None:
        raise InvalidInputError(
            f"The estimator must have a method {method!r}. Got a "
            f"{type(estimator).__name__} without; use from_arrays with what it gives."
        )
    return function(*args)


def names_of(
    names: Sequence[str] | None, n_names: int, kind: str, what: str
) -> list[str]:
    """Given names, or the kind with a number each."""
    if names is None:
        return [f"{kind} {i}" for i in range(n_names)]
    if len(names) != n_names:
        raise InvalidInputError(
            f"{what} must hold one name for each of the {n_names}. Got {len(names)}."
        )
    return [str(name) for name in names]


def set_ticks(axis: Any, names: Sequence[str], rotation: float = 0) -> None:
    """Name the cells along an axis, unless there are too many to read."""
    if len(names) <= MAX_TICKS:
        axis.set_ticks(np.arange(len(names)), names, rotation=rotation)


def finite_array(values: ArrayLike, name: str, ndim: int) -> NDArray[Any]:
    """Return a numeric array of that many axes without NaN."""
    array = np.asarray(values)
    if array.ndim != ndim or array.size == 0 or array.dtype.kind not in "biuf":
        raise InvalidInputError(
            f"{name} must be an array of numbers with {ndim} axes. Got shape "
            f"{array.shape} and dtype {array.dtype}."
        )
    if not np.isfinite(array).all():
        raise InvalidInputError(f"{name} must be finite. Got NaN or infinite values.")
    return array
