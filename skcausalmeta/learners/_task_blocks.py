"""Blocks of solved tasks."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ._task_ids import names_of
from ._task_rows import TaskRows


class TaskBlock(ABC):
    """Some solved tasks of one learner.

    Attributes
    ----------
    kind : str
        Name of the class in a store; empty if a store cannot hold it.
    ids : ndarray of shape (n_tasks,)
    n_labels : ndarray of shape (n_tasks,)
        Support rows of every task.

    Examples
    --------
    >>> from skcausalmeta.learners import HeadBlock, StateBlock, TaskBlock
    >>> [kind.kind for kind in (HeadBlock, StateBlock) if issubclass(kind, TaskBlock)]
    ['heads', 'states']
    """

    kind: ClassVar[str] = ""
    ids: NDArray[Any]
    n_labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)

    def load(self) -> TaskBlock:
        """Return itself; a block in a store returns what it holds."""
        return self

    @property
    def n_bytes(self) -> int:
        """Bytes of the arrays of the block."""
        return sum(getattr(value, "nbytes", 0) for value in vars(self).values())

    @abstractmethod
    def adapted(self, learner: Any, position: int) -> Any:
        """Return a copy of the learner that speaks of a task."""

    @abstractmethod
    def select(self, positions: NDArray[Any]) -> TaskBlock:
        """Keep some tasks."""

    @abstractmethod
    def facts(self, learner: Any) -> dict[str, Any]:
        """Return columns: ``classes``, ``certificate``, ``features`` (tuples)."""

    def certificates(self, learner: Any) -> NDArray[np.float64]:
        """Return the gap of every task, NaN of no convex problem."""
        return np.asarray(self.facts(learner)["certificate"], dtype=np.float64)

    def scores(
        self, learner: Any, rows: NDArray[Any], positions: NDArray[Any]
    ) -> NDArray[Any] | None:
        """Return the scores of checked rows, each by its task; None: ask one by one."""
        return None


class CopiesBlock(TaskBlock):
    """Adapted copies of a learner, for tasks of any kind; they share what it learned.

    Parameters
    ----------
    ids : ndarray of shape (n_tasks,)
    n_labels : ndarray of shape (n_tasks,)
    copies : list of estimators
    """

    def __init__(
        self, ids: NDArray[Any], n_labels: NDArray[np.int64], copies: Sequence[Any]
    ) -> None:
        self.ids, self.n_labels, self.copies = ids, n_labels, list(copies)

    def adapted(self, learner: Any, position: int) -> Any:
        return copy.copy(self.copies[position])

    def select(self, positions: NDArray[Any]) -> CopiesBlock:
        return CopiesBlock(
            self.ids[positions],
            self.n_labels[positions],
            [self.copies[k] for k in positions],
        )

    def facts(self, learner: Any) -> dict[str, Any]:
        return copy_facts(self.copies)


def copy_facts(copies: Iterable[Any]) -> dict[str, Any]:
    """Return the columns of `TaskBlock.facts` of adapted learners."""
    found: dict[str, list[Any]] = {"classes": [], "certificate": [], "features": []}
    for one in copies:
        found["classes"].append(_classes_of(one))
        found["certificate"].append(_fact(one, "dual_gap_", np.nan))
        found["features"].append(_features_of(one))
    return dict(found)


def _fact(estimator: Any, name: str, otherwise: Any) -> Any:
    return getattr(estimator, name, otherwise)


def _classes_of(estimator: Any) -> tuple[Any, ...] | None:
    classes = getattr(estimator, "classes_", None)
    return None if classes is None else tuple(np.asarray(classes).tolist())


def _features_of(estimator: Any) -> tuple[int, ...] | None:
    try:
        found = getattr(estimator, "support_features_", None)
    except Exception:  # a fact of some heads only
        found = None
    return None if found is None else tuple(np.asarray(found).tolist())


def solve_singly(
    learner: Any,
    tasks: TaskRows,
    pack: Callable[[TaskRows, list[Any]], list[TaskBlock]],
) -> tuple[list[TaskBlock], dict[Any, str]]:
    """Adapt to one task after the other; return blocks, and why others failed.

    Parameters
    ----------
    learner : estimator
        Stays as it is.
    tasks : TaskRows
    pack : callable
        ``pack(tasks, copies)`` makes blocks of adapted copies.
    """
    copies, solved, failed = [], [], {}
    for k, name in enumerate(names_of(tasks.ids)):
        try:
            copies.append(copy.copy(learner).adapt(*tasks.one(k)))
        except (ValueError, ArithmeticError, RuntimeError) as error:
            failed[name] = " ".join(str(error).split())
            continue
        solved.append(k)
    if not copies:
        return [], failed
    return pack(tasks.select(np.array(solved)), copies), failed


def without_rows(estimator: Any) -> Any:
    """Return an adapted copy without the support rows that it may keep."""
    task = vars(estimator).get("task_")
    if getattr(task, "support_rows", None) is not None:
        names = [each.name for each in fields(task)]
        kept = {name: None for name in names if name.startswith("support_")}
        estimator.task_ = replace(task, **kept)
    return estimator
