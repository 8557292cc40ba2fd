"""What the Displays share: matplotlib on demand, names, checks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_consistent_length

from ..exceptions import InvalidInputError
from ..utils import ids_of, refuse_other_index

MAX_TICKS = 30
_MOST_SOLVED = 10_000


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


def fitted_fact(estimator: Any, name: str) -> Any:
    """An attribute that an estimator must have."""
    if not hasattr(estimator, name):
        raise InvalidInputError(
            f"The estimator must have {name!r}. Got a {type(estimator).__name__} "
            "without; this picture is not for it."
        )
    return getattr(estimator, name)


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


def numbered_names(
    names: Sequence[str] | None, numbers: ArrayLike, kind: str
) -> list[str]:
    """Given names, or the numbers themselves."""
    numbers = np.asarray(numbers)
    given = [str(i) for i in numbers] if names is None else names
    return names_of(given, len(numbers), kind, f"{kind}_names")


def truth_mask(
    truth: ArrayLike, shape: tuple[int, ...], what: str, maker: str
) -> NDArray[np.bool_]:
    """Where the truth, of the shape of what is drawn, is other than 0."""
    mask: NDArray[np.bool_] = finite_array(truth, "truth", 2) != 0
    if mask.shape != shape:
        raise InvalidInputError(
            f"truth must have the shape of {what}, {shape}. Got {mask.shape}; "
            f"use {maker} to match the columns."
        )
    return mask


def by_task(
    tasks: ArrayLike, X: ArrayLike, y: ArrayLike | None
) -> Iterator[tuple[str, list[NDArray[Any]]]]:
    """Name of every task and its rows of X, and of y if it is given."""
    refuse_other_index(X=X, y=y, tasks=tasks)
    given = [np.asarray(array) for array in (X, y) if array is not None]
    check_consistent_length(*given)
    ids = ids_of(tasks, "tasks", len(given[0]))
    names, numbers = np.unique(ids, return_inverse=True)
    for k, task in enumerate(names.tolist()):
        yield str(task), [array[numbers == k] for array in given]


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


def drawn_ids(solved: Any, ids: Any) -> Any:
    """Return the ids of the solved tasks to draw.

    Raises
    ------
    InvalidInputError
        If all are asked for, and these are more than can be looked at.
    """
    if ids is None and len(solved) > _MOST_SOLVED:
        raise InvalidInputError(
            f"A picture is drawn of at most {_MOST_SOLVED} tasks. Got "
            f"{len(solved)}; choose some by ids=, such as solved.ids_[:100]."
        )
    return solved.ids_ if ids is None else list(ids)
