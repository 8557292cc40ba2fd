"""The solved task that `adapt` makes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ..exceptions import InvalidInputError
from ..utils import SparseRows, check_sortable
from ._novelty import ClassMeans
from ._task_state import of_states

_NUMBERS = "iuf"


@dataclass(frozen=True, eq=False, kw_only=True)
class SolvedTask(ABC):
    """A task that a learner has solved and can answer for.

    `adapt` rebinds ``learner.task_`` to one, `predict` asks it, `predict_episodes`
    makes many, and the public attributes of a learner that speak of the task in use
    are views of it. It holds what is particular to the task and shares nothing that
    a learner may change.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,) or None, default=None
        Labels of its classes, sorted; None in regression.
    support_rows, support_labels : ndarray or None, default=None
        The rows given to `adapt`, where classes may be added to them.
    class_means : ClassMeans or None, default=None
        Means of its classes in features, where rows of none of them are refused.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> import numpy as np
    >>> from skcausalmeta.learners import SolvedTask
    >>> @dataclass(frozen=True, eq=False, kw_only=True)
    ... class MeanTask(SolvedTask):
    ...     mean: float
    ...
    ...     def scores(self, learner, rows):
    ...         return np.full(len(rows), self.mean)
    >>> MeanTask(mean=2.0).scores(None, np.zeros((3, 1)))
    array([2., 2., 2.])
    """

    classes: NDArray[Any] | None = None
    support_rows: NDArray[Any] | None = None
    support_labels: NDArray[Any] | None = None
    class_means: ClassMeans | None = None

    def __init_subclass__(cls) -> None:
        of_states(cls)

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


def join_rows(old: NDArray[Any], new: NDArray[Any]) -> NDArray[Any]:
    """Join old and new rows, in that order.

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
    if isinstance(old, SparseRows) or isinstance(new, SparseRows):
        parts = [r.matrix() if isinstance(r, SparseRows) else r for r in (old, new)]
        joined: Any = SparseRows(sparse.vstack([sparse.csr_array(r) for r in parts]))
        return joined  # type: ignore[no-any-return]
    return np.concatenate([old, new])


def join_labels(old: NDArray[Any], new: NDArray[Any]) -> NDArray[Any]:
    """Join old and new labels, in that order.

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
