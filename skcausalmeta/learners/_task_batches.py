"""Many tasks in one call: arrays with a leading task axis, cut into batches."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterator
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.utils.multiclass import check_classification_targets
from torch import nn

from ..backbones import run_on_zeros
from ..exceptions import InvalidInputError, OutOfMemoryError
from ..utils import (
    SparseTasks,
    StoredRows,
    are_sparse_tasks,
    check_sortable,
    forget,
    is_memory_map,
    is_out_of_memory,
    is_stored,
    release_pages,
)

_DOUBLE, _SINGLE = 8, 4
# Copies of the features that are alive at once: as the backbone gives them, in double
# precision, after the hook, centred, and one in the head.
_FEATURE_COPIES = 5
# Matrices of the size of the dual variables squared that a solver keeps per task.
_SYSTEM_COPIES = 3
# Tasks that a solver takes at once.
TASKS_PER_SOLVE = 64
_ROWS_PER_PASS = 512
# Tasks at once without max_memory: more of them no longer fit the caches of a
# processor, and cost a fifth more each.
TASKS_AT_ONCE = 1000
_BYTES_OF_SPARSE = 1 << 28

Solve = Callable[[slice], NDArray[Any]]


class TaskCost(NamedTuple):
    """Bytes that solving tasks takes beside the arguments and the answer."""

    fixed: int
    each: int

    def tasks_within(self, max_memory: int, n_tasks: int) -> int:
        """Count the most tasks at a time that stay within a bound.

        Parameters
        ----------
        max_memory : int
            Bytes.
        n_tasks : int
            All tasks.

        Raises
        ------
        InvalidInputError
            If the bound is no number of bytes, or less than one task takes.
        """
        if not isinstance(max_memory, Integral) or isinstance(max_memory, bool):
            raise InvalidInputError(
                "max_memory must be a whole number of bytes or None. Got "
                f"{max_memory!r}; pass 2**30 for a gigabyte."
            )
        least = self.fixed + self.each
        if max_memory < least:
            raise InvalidInputError(
                f"max_memory must be at least what one task takes, {least} bytes. Got "
                f"{max_memory}; raise it, or pass None for no bound."
            )
        return min(n_tasks, (int(max_memory) - self.fixed) // self.each)


def task_cost(
    module: nn.Module,
    sample_shape: tuple[int, ...],
    support: Any,
    query: Any,
    n_features: int,
    n_outputs: int,
    *,
    adapted: int = 0,
    n_points: int = 0,
) -> TaskCost:
    """Estimate the bytes that a task takes, from shapes alone.

    Parameters
    ----------
    module : torch.nn.Module
        Maps samples to features.
    sample_shape : tuple of int
        Shape of a sample.
    support, query : array of shape (n_tasks, n, ...)
        Rows of the tasks.
    n_features, n_outputs : int
        Width of the features; classes, or 1.
    adapted : int, default=0
        Number of parameters of which every task has its own; 0: heads are solved.
    n_points : int, default=0
        How many values of these are kept at once.
    """
    n_support, n_query = support.shape[1], query.shape[1]
    n_rows = n_support + n_query
    values = math.prod(support.shape[2:])
    # The rows as given, checked, and in the precision of the net.
    rows = n_rows * values * (support.dtype.itemsize + _DOUBLE + 2 * _SINGLE)
    kept, widest = _activations(module, sample_shape)
    scores = n_query * n_outputs * _DOUBLE * max(2, n_points)
    if adapted:
        steps = adapted * _SINGLE * (n_points + 4)
        # What a step keeps for its gradient, twice for the gradient itself.
        each = rows + scores + steps + 2 * _SINGLE * kept * max(n_support, n_query)
        return TaskCost(0, each)
    features = n_rows * n_features * _DOUBLE * _FEATURE_COPIES
    duals = n_support * n_outputs
    system = _SYSTEM_COPIES * duals**2 + 4 * n_features * n_outputs
    # A pass of the backbone, and the tasks that a solver takes at once.
    at_once = min(len(support), TASKS_PER_SOLVE)
    fixed = _SINGLE * 2 * widest * min(_ROWS_PER_PASS, n_rows * len(support))
    each = rows + features + scores
    return TaskCost(fixed + at_once * system * _DOUBLE, each)


def in_task_chunks(solve: Solve, n_tasks: int, size: int) -> NDArray[Any]:
    """Answer for all tasks, some at a time.

    Where memory runs out, on a GPU or at the host, chunks are halved and the chunk is
    tried again.

    Parameters
    ----------
    solve : callable
        ``solve(slice) -> ndarray`` with the answers of these tasks, on the first axis.
    n_tasks : int
        Number of tasks.
    size : int
        Tasks of a chunk at first.

    Raises
    ------
    OutOfMemoryError
        If a single task does not fit.
    """
    parts: list[NDArray[Any]] = []
    begin = 0
    while begin < n_tasks or not parts:
        try:
            parts.append(solve(slice(begin, min(begin + size, n_tasks))))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            taken = min(size, n_tasks - begin)
            size = _smaller(taken, begin, error)
            continue
        begin += size
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def chunk_of(X: Any, part: slice) -> NDArray[Any]:
    """Read some tasks of an array that may be on disk."""
    rows = np.asarray(X[part])
    if isinstance(X, np.memmap):
        rows = np.array(rows)
        release_pages(X)
    return rows


def _smaller(size: int, begin: int, error: BaseException) -> int:
    if size <= 1:
        raise OutOfMemoryError(
            f"Memory must hold one task at a time. Got task {begin}, which does not "
            f"fit ({error}); give it fewer rows, use a smaller backbone, or another "
            "device."
        ) from error
    forget(error)
    return size // 2


def _activations(module: nn.Module, shape: tuple[int, ...]) -> tuple[int, int]:
    """Count the values of all layers for a row, and the most of two neighbours."""
    counts: list[int] = [math.prod(shape)]

    def count(layer: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor):
            counts.append(output.numel() // 2)

    twin = copy.deepcopy(module).eval()  # other threads run the module itself
    for layer in twin.modules():
        if not list(layer.children()):
            layer.register_forward_hook(count)
    with torch.no_grad():
        run_on_zeros(twin, shape)
    pairs = [a + b for a, b in itertools.pairwise(counts)]
    return sum(counts), max(pairs, default=counts[0])


def check_tasks(
    X_support: ArrayLike,
    y_support: ArrayLike,
    X_query: ArrayLike,
    pixels: tuple[int, ...] = (),
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return support rows, targets and query rows as arrays that agree in shape.

    Parameters
    ----------
    X_support, y_support, X_query : array-like
        Arrays with a leading task axis. Sparse rows: a sequence of matrices, one a
        task, or one matrix with the rows of the first task, then of the second...
    pixels : tuple of int, default=()
        Height and width of the targets of a row, if they are per pixel.
    """
    targets = np.asarray(y_support)
    n_tasks = len(targets) if targets.ndim else 0
    support, query = (_as_tasks(X, n_tasks) for X in (X_support, X_query))
    shapes = f"Got {support.shape}, {targets.shape} and {query.shape}."
    if support.ndim < 3 or query.ndim != support.ndim:
        raise InvalidInputError(
            "predict_episodes takes X_support (n_tasks, n_support, ...), y_support "
            f"(n_tasks, n_support) and X_query (n_tasks, n_query, ...). {shapes}"
        )
    if not len(support) or 0 in support.shape[2:]:
        raise InvalidInputError(
            f"predict_episodes takes at least one task, of rows with values. {shapes}"
        )
    agree = targets.shape == (*support.shape[:2], *pixels)
    if not agree or len(query) != len(support):
        per_pixel = f", with targets of shape {pixels} for every row" if pixels else ""
        raise InvalidInputError(
            "X_support, y_support and X_query must agree in the number of tasks, and "
            f"X_support and y_support in the number of rows{per_pixel}. {shapes}"
        )
    return support, targets, query


def tasks_at_once(*rows: Any) -> int:
    """Count the tasks of a chunk without a bound on memory: fewer of sparse rows."""
    wanted = min(TASKS_AT_ONCE, len(rows[0]))
    values = sum(math.prod(X.shape[1:]) for X in rows if isinstance(X, SparseTasks))
    if not values:
        return wanted
    return max(1, min(wanted, _BYTES_OF_SPARSE // (values * (_DOUBLE + _SINGLE))))


def _as_tasks(X: Any, n_tasks: int) -> NDArray[Any]:
    """Return an array; memory maps and stored arrays stay on disk, sparse ones so."""
    if are_sparse_tasks(X):
        return SparseTasks(X)  # type: ignore[return-value]
    if sparse.issparse(X):
        return _cut_into_tasks(X, n_tasks)  # type: ignore[no-any-return]
    if is_stored(X):
        stored: Any = StoredRows(X)
        return stored  # type: ignore[no-any-return]
    return np.asanyarray(X) if is_memory_map(X) else np.asarray(X)


def _cut_into_tasks(X: Any, n_tasks: int) -> Any:
    """Return the rows of a sparse matrix by task, or of an array with a task axis."""
    if X.ndim == 3:
        n_tasks, X = X.shape[0], X.reshape(-1, X.shape[-1])
    n_rows = X.shape[0]
    if X.ndim != 2 or n_tasks < 1 or n_rows % n_tasks:
        raise InvalidInputError(
            "A sparse matrix of many tasks holds the rows of the first task, then of "
            "the second and so on, and y_support (n_tasks, n_support) says how many "
            f"tasks. Got {n_rows} rows for {n_tasks} tasks; pass a list of matrices, "
            "one a task."
        )
    matrix, size = X.tocsr(), n_rows // n_tasks
    return SparseTasks([matrix[k * size : (k + 1) * size] for k in range(n_tasks)])


def encode_tasks(
    labels: NDArray[Any],
) -> tuple[NDArray[Any], list[NDArray[Any]]]:
    """Return class numbers (n_tasks, n_support) and the classes of every task."""
    check_sortable(labels.ravel(), "y_support")
    check_classification_targets(labels.ravel())
    if not labels.shape[1] and len(labels):
        raise InvalidInputError(
            "Every task needs at least 2 classes among its support rows. Got no rows "
            "in task 0; leave the task out, or give it rows."
        )
    # `np.unique` of every task, in one go.
    order = labels.argsort(axis=1)
    ascending = np.take_along_axis(labels, order, axis=1)
    first = np.ones(labels.shape, dtype=bool)  # of its class
    first[:, 1:] = ascending[:, 1:] != ascending[:, :-1]
    single = np.flatnonzero(first.sum(axis=1) < 2)
    if len(single):
        k = int(single[0])
        raise InvalidInputError(
            f"Every task needs at least 2 classes. Got 1 class in task {k}: "
            f"{ascending[k, 0]!r}."
        )
    numbers = np.empty(labels.shape, dtype=np.int64)
    np.put_along_axis(numbers, order, first.cumsum(axis=1) - 1, axis=1)
    return numbers, [row[new] for row, new in zip(ascending, first, strict=True)]


def by_way(ways: NDArray[Any], size: int = TASKS_PER_SOLVE) -> Iterator[NDArray[Any]]:
    """Cut tasks into batches of as many classes, as even as they come.

    Parameters
    ----------
    ways : ndarray of shape (n_tasks,)
        Classes of every task, 0 in regression.
    size : int, default=64
        Most tasks of a batch.

    Yields
    ------
    ndarray
        Positions of the tasks of a batch.
    """
    for way in np.unique(ways):
        positions = np.flatnonzero(ways == way)
        yield from np.array_split(positions, -(-len(positions) // size))
