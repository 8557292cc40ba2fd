"""Targets of many tasks: their kinds, and how they are encoded and decoded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, softmax
from sklearn.metrics import r2_score
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight

from ...exceptions import InvalidInputError
from ...utils import (
    check_sortable,
    refuse_masked,
    refuse_mixed,
    saying_where_text_is,
)
from .._task_state import of_states

TASK_TYPES = ("classification", "binary", "multiclass", "regression")


@of_states
class TargetKind(NamedTuple):
    """Kind of the targets of a task: name, classes, units of the values.

    Outputs have shape (..., n_outputs) and are those of the head of a task: one log
    odds of two classes, one score of each of more, or a standardised value.
    """

    name: str  # "binary", "multiclass" or "regression"
    classes: NDArray[Any] | None
    center: float
    spread: float

    @property
    def n_classes(self) -> int:
        """Number of classes; 0 for regression."""
        return 0 if self.classes is None else len(self.classes)

    @property
    def n_outputs(self) -> int:
        """Outputs that a task of this kind uses of a head."""
        return self.n_classes if self.name == "multiclass" else 1

    def encode(self, values: NDArray[Any], known: NDArray[Any]) -> NDArray[Any]:
        """Encode as class numbers or standardised values, NaN where unknown."""
        encoded = np.full(values.shape, np.nan, dtype=np.float32)
        if self.classes is None:
            encoded[known] = (values[known].astype(float) - self.center) / self.spread
        else:
            encoded[known] = np.searchsorted(self.classes, values[known])
        return encoded

    def decode(self, outputs: NDArray[Any]) -> NDArray[Any]:
        """Return the labels or values of outputs (..., n_outputs)."""
        if self.classes is None:
            return outputs[..., 0] * self.spread + self.center
        if self.name == "binary":
            return self.classes[(outputs[..., 0] > 0).astype(int)]
        return self.classes[outputs[..., : self.n_classes].argmax(axis=-1)]

    def scores(self, outputs: NDArray[Any]) -> NDArray[Any]:
        """Return scores (n, n_classes, n_pixels) for (n, n_pixels, n_outputs)."""
        if self.name == "binary":
            odds = outputs[..., 0]
            return np.stack([np.zeros_like(odds), odds], axis=1)
        return outputs[..., : self.n_classes].swapaxes(1, 2)

    def probabilities(self, outputs: NDArray[Any]) -> NDArray[Any]:
        """Return the probabilities of the classes, in the shape of `scores`."""
        if self.name == "binary":
            # Both from their own side: 1 - p would lose the digits of a small p.
            odds = outputs[..., 0]
            return np.stack([expit(-odds), expit(odds)], axis=1)
        found: NDArray[Any] = softmax(outputs[..., : self.n_classes], axis=-1)
        return found.swapaxes(1, 2)

    def score(
        self,
        targets: NDArray[Any],
        predicted: NDArray[Any],
        weights: NDArray[Any] | None = None,
    ) -> float:
        """Return the accuracy or R^2 where targets are known; NaN without any."""
        known = known_labels(targets)
        if not known.any():
            return float("nan")
        truth, found = targets[known], predicted[known]
        weights = None if weights is None else weights[known]
        if self.classes is not None:
            return float(np.average(truth == found, weights=weights))
        return float(r2_score(truth.astype(float), found, sample_weight=weights))

    def score_encoded(self, encoded: NDArray[Any], outputs: NDArray[Any]) -> float:
        """Return the `score` of encoded targets and outputs; NaN for a single value."""
        known = np.isfinite(encoded)
        if self.classes is None:
            values = np.full(encoded.shape, np.nan)
            values[known] = encoded[known] * self.spread + self.center
            if known.sum() < 2:
                return float("nan")
            return self.score(values, self.decode(outputs))
        labels = self.classes[encoded[known].astype(int)]
        found = self.decode(outputs)[known]
        return float((labels == found).mean()) if known.any() else float("nan")


class TaskTargets(NamedTuple):
    """Targets of all tasks."""

    kinds: list[TargetKind]
    encoded: NDArray[np.float32]  # (n_tasks, n, n_pixels)
    ids: NDArray[Any]  # (n_tasks,)
    layout: str  # "single", "columns", "ids" or "pixels"
    pixels: tuple[int, ...]

    @property
    def n_outputs(self) -> int:
        """Outputs of the widest head."""
        return max(kind.n_outputs for kind in self.kinds)

    def loss_weights(self, given: ArrayLike | str) -> NDArray[np.float64]:
        """Return the weights (n_tasks,) of the losses, as `task_weights` says.

        Raises
        ------
        InvalidInputError
            If there are not as many as tasks, or one is negative.
        """
        n_tasks = len(self.kinds)
        if isinstance(given, str):
            known = np.isfinite(self.encoded).sum(axis=(1, 2))
            return known / known.mean() if given == "size" else np.ones(n_tasks)
        weights = np.asarray(given, dtype=float)
        if weights.shape != (n_tasks,) or (weights < 0).any():
            raise InvalidInputError(
                "task_weights must hold one weight of at least 0 per task. Got "
                f"{given!r} for {n_tasks} tasks."
            )
        return weights


def read_targets(
    y: ArrayLike,
    n_rows: int,
    tasks: NDArray[Any] | None,
    task_types: Sequence[str] | str,
) -> TaskTargets:
    """Encode the targets of all tasks.

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
    kinds = [
        read_kind(column, good, name, task)
        for column, good, name, task in zip(
            columns, known, types, ids.tolist(), strict=True
        )
    ]
    encoded = [
        k.encode(c, good) for k, c, good in zip(kinds, columns, known, strict=True)
    ]
    return TaskTargets(kinds, np.stack(encoded), ids, layout, pixels)


def to_columns(
    y: ArrayLike, n_rows: int, tasks: NDArray[Any] | None
) -> tuple[NDArray[Any], NDArray[Any], str, tuple[int, ...]]:
    """Return targets (n_tasks, n, n_pixels), task ids, layout, shape of the pixels."""
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
    """Return targets as an array of any type and shape; refuse infinity, not NaN."""
    refuse_masked(y, "y")
    refuse_mixed(y, "y")
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
    """Tell where a label is known: not NaN, not None."""
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


def read_kind(
    values: NDArray[Any],
    known: NDArray[Any],
    name: str,
    task: Any,
    weights: NDArray[Any] | None = None,
) -> TargetKind:
    """Read the kind, the classes and the units of the targets of a task.

    Parameters
    ----------
    values : ndarray
        Its targets.
    known : ndarray of bool
        Where there is one.
    name : str
        Type of the task, of `TASK_TYPES`.
    task : object
        Its id, for errors.
    weights : ndarray, default=None
        Weights of the targets, which decide the units of values. None: 1.

    Raises
    ------
    InvalidInputError
        If nothing is known, the classes do not fit the kind, or a regression has text.
    """
    found = values[known]
    if len(found) == 0:
        raise InvalidInputError(
            f"Every task needs labels. Got none for task {task!r}; drop its column or "
            "add labels."
        )
    if name == "regression":
        with saying_where_text_is(found, f"y of the regression task {task!r}"):
            numbers = found.astype(float)
        center, spread = float(numbers.mean()), float(numbers.std())
        if weights is not None:
            own = weights[known]
            center = float(np.average(numbers, weights=own))
            spread = float(np.sqrt(np.average((numbers - center) ** 2, weights=own)))
        return TargetKind(name, None, center, spread if spread > 0 else 1.0)
    check_sortable(found, "y")
    check_classification_targets(found)
    classes = np.unique(found)
    if not known.all() and _are_whole(classes):
        classes = classes.astype(int)  # floats only because of NaN for missing
    if len(classes) < 2:
        raise InvalidInputError(
            "Every classification task needs at least 2 classes. Got 1 class in task "
            f"{task!r}: {classes.tolist()[0]!r}; add rows of another class."
        )
    if name == "binary" and len(classes) != 2:
        raise InvalidInputError(
            f"A binary task needs 2 classes. Got {len(classes)} in task {task!r}; use "
            "the type 'multiclass'."
        )
    if name == "classification":
        name = "binary" if len(classes) == 2 else "multiclass"
    return TargetKind(name, classes, 0.0, 1.0)


def pixel_weights(
    sample_weight: ArrayLike | None, rows: NDArray[Any], shape: tuple[int, ...]
) -> NDArray[np.float64] | None:
    """Return the weights of rows spread over their pixels, (n, n_pixels)."""
    if sample_weight is None:
        return None
    weights: NDArray[np.float64] = _check_sample_weight(sample_weight, rows)
    return np.broadcast_to(weights[:, None], shape)
