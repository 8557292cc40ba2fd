"""Rows of a table by task."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import _safe_indexing

from ..exceptions import InvalidInputError
from ._task_ids import checked_ids

# Tasks on which blocks of rows are compared with rows by task.
_TRIED = 24


@dataclass(frozen=True, eq=False)
class TaskRows:
    """The rows of some tasks, one task after the other.

    Parameters
    ----------
    ids : ndarray of shape (n_tasks,)
        Ids of the tasks.
    X : array-like of shape (n_rows, ...)
        Rows as they were given, in the order of the tasks.
    y : ndarray of shape (n_rows, ...)
        Labels or targets.
    begins : ndarray of shape (n_tasks + 1,)
        Where the rows of a task begin, and the number of all rows.

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.learners import TaskRows
    >>> rows = TaskRows(
    ...     np.array(["a", "b"]), np.eye(3), np.array([0, 1, 1]), np.array([0, 2, 3])
    ... )
    >>> rows.sizes.tolist(), rows.select(np.array([1])).y.tolist()
    ([2, 1], [1])
    """

    ids: NDArray[Any]
    X: Any
    y: NDArray[Any]
    begins: NDArray[np.int64]

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Number of rows of every task."""
        return np.diff(self.begins)

    def select(self, numbers: NDArray[Any]) -> TaskRows:
        """Keep the tasks with these numbers, in this order."""
        index = spans(self.begins[numbers], self.sizes[numbers])
        begins = np.concatenate([[0], np.cumsum(self.sizes[numbers])])
        return TaskRows(
            self.ids[numbers], take_rows(self.X, index), self.y[index], begins
        )

    def one(self, number: int) -> tuple[Any, NDArray[Any]]:
        """Return the rows and targets of a task."""
        index = np.arange(self.begins[number], self.begins[number + 1])
        return take_rows(self.X, index), self.y[index]


def spans(begins: NDArray[Any], sizes: NDArray[Any]) -> NDArray[np.int64]:
    """Return the numbers ``begin, begin + 1, ...`` of spans, one after the other.

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.learners._task_rows import spans
    >>> spans(np.array([5, 0]), np.array([2, 3])).tolist()
    [5, 6, 0, 1, 2]
    """
    ends = np.cumsum(sizes)
    total = int(ends[-1]) if len(ends) else 0
    moves = np.repeat(np.asarray(begins) - (ends - sizes), sizes)
    found: NDArray[np.int64] = np.arange(total) + moves
    return found


def take_rows(X: Any, index: NDArray[Any]) -> Any:
    """Return some rows of an array, a sparse matrix or a data frame."""
    if isinstance(X, np.ndarray):
        begin, end = (int(index[0]), int(index[-1]) + 1) if len(index) else (0, 0)
        if end - begin == len(index) and (np.diff(index) == 1).all():
            return X[begin:end]
        return X[index]
    if isinstance(X, list | tuple):
        return np.asarray(X)[index]
    return _safe_indexing(X, index)


def n_rows_of(X: Any) -> int:
    """Return the number of rows of an array, a sparse matrix or a data frame."""
    return int(X.shape[0]) if hasattr(X, "shape") else len(X)


def rows_by_task(
    X: Any, y: ArrayLike, tasks: ArrayLike, batch_size: int
) -> Iterator[TaskRows]:
    """Yield batches of whole tasks, sorted by their ids.

    Parameters
    ----------
    X : array-like of shape (n_rows, ...)
        Rows in any order.
    y : array-like of shape (n_rows, ...)
        Their labels or targets.
    tasks : array-like of shape (n_rows,)
        Their ids.
    batch_size : int
        Most tasks of a batch.

    Yields
    ------
    TaskRows

    Raises
    ------
    InvalidInputError
        If y or the ids do not fit the rows.

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.learners import rows_by_task
    >>> ids = np.array(["b", "a", "b"])
    >>> (rows,) = rows_by_task(np.eye(3), [0, 1, 2], ids, 10)
    >>> rows.ids.tolist(), rows.begins.tolist(), rows.y.tolist()
    (['a', 'b'], [0, 1, 3], [1, 0, 2])
    """
    ids = checked_ids(tasks, X)
    targets = np.asarray(y)
    if targets.ndim == 0 or len(targets) != len(ids):
        raise InvalidInputError(
            "y must hold one target a row. Got "
            f"{len(targets) if targets.ndim else 'none'} for {len(ids)} rows."
        )
    names, numbers = np.unique(ids, return_inverse=True)
    order = np.argsort(numbers, kind="stable")
    begins = np.concatenate([[0], np.cumsum(np.bincount(numbers))])
    for first in range(0, len(names), batch_size):
        last = min(first + batch_size, len(names))
        index = order[begins[first] : begins[last]]
        own = begins[first : last + 1] - begins[first]
        yield TaskRows(names[first:last], take_rows(X, index), targets[index], own)


def ask_by_task(
    ask: Callable[[NDArray[Any]], NDArray[Any]],
    rows: NDArray[Any],
    begins: NDArray[np.int64],
) -> NDArray[Any]:
    """Return what `ask` says of the rows of every task, asked by itself.

    A product of matrices may round a row by how many rows there are. Where some tasks
    have the same answers in a block as alone, blocks are asked.
    """
    n_tasks = len(begins) - 1
    whole = ask(rows)
    tried = np.unique(np.linspace(0, n_tasks - 1, min(n_tasks, _TRIED)).astype(int))
    for k in tried:
        own = slice(begins[k], begins[k + 1])
        if not np.array_equal(ask(rows[own]), whole[own]):
            break
    else:
        return whole
    found = np.empty_like(whole)
    for k in range(n_tasks):
        own = slice(begins[k], begins[k + 1])
        found[own] = ask(rows[own])
    return found
