"""What `adapt` makes: a solved task, as a value."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..exceptions import InvalidInputError
from ..utils import stays_on_disk
from ._checks import check_sortable
from ._hooked_features import hooked
from ._task_batches import in_blocks

_NUMBERS = "iuf"
_SCORES_PER_BLOCK = 8


@dataclass(frozen=True, eq=False, kw_only=True)
class SolvedTask(ABC):
    """A task that a learner has solved and can answer for.

    `adapt` rebinds ``learner.task_`` to one, `predict` asks it, `predict_episodes`
    makes many, and the public attributes of a learner that speak of the task in use
    are views of it. It holds what is particular to the task and shares nothing that
    a learner may change.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,) or None
        Labels of its classes, sorted; None in regression.
    support_rows, support_labels : ndarray or None
        The rows given to `adapt`, where classes may be added to them.
    """

    classes: NDArray[Any] | None = None
    support_rows: NDArray[Any] | None = None
    support_labels: NDArray[Any] | None = None

    @abstractmethod
    def scores(self, learner: Any, rows: NDArray[Any]) -> NDArray[Any]:
        """Answer for checked rows.

        Parameters
        ----------
        learner : estimator
            The learner that solved the task: its backbone and net are shared.
        rows : ndarray of shape (n, ...)
            Checked rows.

        Returns
        -------
        ndarray of shape (n, n_classes), or (n,) in regression
            Scores of the classes, or predicted targets.
        """

    @property
    def dual_gap(self) -> float:
        """Certificate: objective minus its lower bound; NaN of no convex problem."""
        return float("nan")

    def with_support(
        self, rows: NDArray[Any], labels: NDArray[Any], *, copy: bool = True
    ) -> Self:
        """Return the task with its support rows, which the caller cannot change."""
        if copy:
            rows = rows if stays_on_disk(rows) else rows.copy()
            labels = labels.copy()
        return replace(self, support_rows=rows, support_labels=labels)


@dataclass(frozen=True, eq=False, kw_only=True)
class HeadTask(SolvedTask):
    """A head solved on the support rows of a task.

    Attributes
    ----------
    head : estimator
        Fitted on the features of the support rows.
    code : ndarray of shape (n_code,) or None
        What the hook keeps of the task.
    center : ndarray of shape (n_features,) or None
        What is subtracted from the features before the head.
    """

    head: Any
    code: NDArray[Any] | None = None
    center: NDArray[Any] | None = None

    def scores(self, learner: Any, rows: NDArray[Any]) -> NDArray[Any]:
        """Scores of the classes (n, n_classes), or targets (n,)."""
        features = hooked(learner.net_, learner._features(rows), self.code)
        if self.center is not None:
            features = features - self.center
        if self.classes is None:
            return in_blocks(self.head.predict, features, _SCORES_PER_BLOCK)
        found = in_blocks(self.head.decision_function, features, _SCORES_PER_BLOCK)
        if found.ndim == 1:  # of the second class minus the first
            return np.stack([np.zeros_like(found), found], axis=1)
        return found

    @property
    def dual_gap(self) -> float:
        """Certificate of the head."""
        return self.head.dual_gap_


def join_rows(old: NDArray[Any], new: NDArray[Any]) -> NDArray[Any]:
    """Rows of both, in that order.

    Raises
    ------
    InvalidInputError
        If one of them holds bytes and the other does not, which images tell apart.
    """
    if (old.dtype == np.uint8) != (new.dtype == np.uint8):
        raise InvalidInputError(
            "keep_classes=True joins the new rows to those of the task, so both must "
            f"be bytes (uint8) or neither. Got {new.dtype} rows after {old.dtype} "
            "rows; convert them to one type."
        )
    return np.concatenate([old, new])


def join_labels(old: NDArray[Any], new: NDArray[Any]) -> NDArray[Any]:
    """Labels of both, in that order.

    Raises
    ------
    InvalidInputError
        If their types differ: one would be turned into the other in silence.
    """
    kinds = [_kind(labels) for labels in (old, new)]
    if "object" not in kinds and kinds[0] != kinds[1]:
        raise InvalidInputError(
            "keep_classes=True needs new labels of the same type as those of the "
            f"task. Got {kinds[1]} after {kinds[0]}; convert them, or adapt anew with "
            "keep_classes=False."
        )
    joined = np.concatenate([old, new])
    check_sortable(joined, "y")
    return joined


def _kind(labels: NDArray[Any]) -> str:
    if labels.dtype.kind in _NUMBERS:
        return "numbers"
    return {"b": "booleans", "U": "text", "S": "bytes"}.get(labels.dtype.kind, "object")
