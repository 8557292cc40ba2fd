"""Targets of many tasks: types, codes and what predictions turn back into."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from ...exceptions import InvalidInputError
from ...utils import saying_where_text_is
from .._checks import check_sortable

TASK_TYPES = ("classification", "binary", "multiclass", "regression")


class Task(NamedTuple):
    """What the column of one task holds."""

    kind: str  # "binary", "multiclass" or "regression"
    classes: NDArray[Any] | None
    center: float
    spread: float

    @property
    def n_classes(self) -> int:
        """Number of classes; 0 for regression."""
        return 0 if self.classes is None else len(self.classes)

    def encode(self, values: NDArray[Any], known: NDArray[Any]) -> NDArray[Any]:
        """Codes or standardised values as float32, NaN where nothing is known."""
        codes = np.full(values.shape, np.nan, dtype=np.float32)
        if self.classes is None:
            codes[known] = (values[known].astype(float) - self.center) / self.spread
        else:
            codes[known] = np.searchsorted(self.classes, values[known])
        return codes

    def decode(self, outputs: NDArray[Any]) -> NDArray[Any]:
        """Labels or values of outputs (..., n_outputs)."""
        if self.classes is None:
            return outputs[..., 0] * self.spread + self.center
        if self.kind == "binary":
            return self.classes[(outputs[..., 0] > 0).astype(int)]
        return self.classes[outputs[..., : self.n_classes].argmax(axis=-1)]


class TaskTargets(NamedTuple):
    """Targets of all tasks."""

    tasks: list[Task]
    codes: NDArray[np.float32]  # (n_tasks, n, n_pixels)
    ids: NDArray[Any]  # (n_tasks,)
    layout: str  # "single", "columns", "ids" or "pixels"
    pixels: tuple[int, ...]

    @property
    def n_outputs(self) -> int:
        """Outputs of the widest head."""
        widths = [t.n_classes if t.kind == "multiclass" else 1 for t in self.tasks]
        return max(widths)


def read_targets(
    y: ArrayLike,
    n_rows: int,
    tasks: NDArray[Any] | None,
    task_types: Sequence[str] | str,
) -> TaskTargets:
    """Targets as codes.

    Parameters
    ----------
    y : array-like of shape (n,), (n, n_tasks) or (n, n_tasks, height, width)
        One label column, one column per task with NaN (or None) where a label is
        missing, or targets per pixel.
    n_rows : int
        Rows of X.
    tasks : ndarray of shape (n,) or None
        Task id of every row, with one label column.
    task_types : str or sequence of str
        Type of all tasks, or of every task.

    Raises
    ------
    InvalidInputError
        If shapes, types or the number of classes do not agree.
    """
    columns, ids, layout, pixels = to_columns(y, n_rows, tasks)
    types = _types(task_types, len(columns))
    known = np.stack([known_labels(column) for column in columns])
    read = [
        read_task(column, good, kind, name)
        for column, good, kind, name in zip(
            columns, known, types, ids.tolist(), strict=True
        )
    ]
    codes = [t.encode(c, k) for t, c, k in zip(read, columns, known, strict=True)]
    return TaskTargets(read, np.stack(codes), ids, layout, pixels)


def to_columns(
    y: ArrayLike, n_rows: int, tasks: NDArray[Any] | None
) -> tuple[NDArray[Any], NDArray[Any], str, tuple[int, ...]]:
    """Targets as (n_tasks, n, n_pixels), task ids, layout, shape of the pixels."""
    values = as_targets(y)
    if tasks is not None:
        column = column_or_1d(values, warn=True)
        _same_length(n_rows, column)
        ids, position = np.unique(tasks, return_inverse=True)
        empty: Any = None if column.dtype.kind in "OUS" else np.nan
        kind = object if empty is None else float
        columns = np.full((len(ids), n_rows, 1), empty, dtype=kind)
        columns[position, np.arange(n_rows), 0] = column
        return columns, ids, "ids", ()
    _same_length(n_rows, values)
    if values.ndim == 1:
        if not known_labels(values).all():
            raise InvalidInputError(
                "Input y contains NaN. A single task needs a label in every row; drop "
                "the rows without one."
            )
        return values[None, :, None], np.arange(1), "single", ()
    if values.ndim == 2:
        return values.T[:, :, None], np.arange(values.shape[1]), "columns", ()
    if values.ndim == 4:
        pixels = values.shape[2:]
        flat = values.reshape(*values.shape[:2], -1).transpose(1, 0, 2)
        return flat, np.arange(values.shape[1]), "pixels", pixels
    raise InvalidInputError(
        "Targets must have shape (n,), (n, n_tasks) or (n, n_tasks, height, width). "
        f"Got {values.shape}."
    )


def as_targets(y: ArrayLike) -> NDArray[Any]:
    """Targets as an array of any type and shape, NaN allowed, infinity refused."""
    values: NDArray[Any] = check_array(
        y,
        dtype=None,
        ensure_2d=False,
        allow_nd=True,
        ensure_all_finite=False,
        ensure_min_samples=0,
        input_name="y",
    )
    if values.dtype.kind == "f" and np.isinf(values).any():
        raise InvalidInputError(
            "Input y contains infinity. Use NaN for a missing label."
        )
    return values


def _same_length(n_rows: int, values: NDArray[Any]) -> None:
    check_consistent_length(np.empty(n_rows), values)


def known_labels(values: NDArray[Any]) -> NDArray[Any]:
    """Where a label is known: not NaN, not None."""
    if values.dtype.kind == "f":
        return ~np.isnan(values)
    if values.dtype.kind == "O":
        return np.array([v is not None and v == v for v in values.ravel()]).reshape(
            values.shape
        )
    return np.ones(values.shape, dtype=bool)


def _types(task_types: Sequence[str] | str, n_tasks: int) -> list[str]:
    one = isinstance(task_types, str)
    types = [str(task_types)] * n_tasks if one else list(task_types)
    unknown = [name for name in types if name not in TASK_TYPES]
    if unknown:
        raise InvalidInputError(
            f"task_types must be among {TASK_TYPES}. Got {unknown[0]!r}."
        )
    if len(types) != n_tasks:
        raise InvalidInputError(
            f"task_types must name one type per task. Got {len(types)} types for "
            f"{n_tasks} tasks."
        )
    return types


def _are_whole(values: NDArray[Any]) -> bool:
    return values.dtype.kind == "f" and bool((values == np.round(values)).all())


def read_task(values: NDArray[Any], known: NDArray[Any], kind: str, name: Any) -> Task:
    """Kind, classes and units of the targets of one task.

    Raises
    ------
    InvalidInputError
        If nothing is known, the classes do not fit the kind, or a regression has text.
    """
    found = values[known]
    if len(found) == 0:
        raise InvalidInputError(
            f"Every task needs labels. Got none for task {name!r}; drop its column or "
            "add labels."
        )
    if kind == "regression":
        with saying_where_text_is(found, f"y of the regression task {name!r}"):
            numbers = found.astype(float)
        spread = float(numbers.std())
        return Task(kind, None, float(numbers.mean()), spread if spread > 0 else 1.0)
    check_sortable(found, "y")
    check_classification_targets(found)
    classes = np.unique(found)
    if not known.all() and _are_whole(classes):
        classes = classes.astype(int)  # floats only because of NaN for missing
    if len(classes) < 2:
        raise InvalidInputError(
            "Every classification task needs at least 2 classes. Got 1 class in task "
            f"{name!r}: {classes.tolist()[0]!r}; add rows of another class."
        )
    if kind == "binary" and len(classes) != 2:
        raise InvalidInputError(
            f"A binary task needs 2 classes. Got {len(classes)} in task {name!r}; use "
            "the type 'multiclass'."
        )
    if kind == "classification":
        kind = "binary" if len(classes) == 2 else "multiclass"
    return Task(kind, classes, 0.0, 1.0)
