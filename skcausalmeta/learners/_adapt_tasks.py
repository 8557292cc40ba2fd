"""All tasks of a table, adapted to at once."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import is_classifier
from sklearn.utils.validation import check_is_fitted

from ..utils import few_of, refuse_other_index
from ._checks import check_columns
from ._solved_tasks import SolvedTasks
from ._state_block import pack_states
from ._task_blocks import TaskBlock, solve_singly
from ._task_rows import TaskRows, rows_by_task

BATCH_SIZE = 8192
# A worker of a client gets this many batches ahead, so that it never waits.
_AHEAD = 4
Found = tuple[list[TaskBlock], dict[Any, str]]


def adapt_tasks(
    self: Any,
    X: ArrayLike,
    y: ArrayLike,
    tasks: ArrayLike,
    *,
    batch_size: int = BATCH_SIZE,
    client: Any = None,
) -> SolvedTasks:
    """Solve all tasks of a table, and keep them by their ids.

    Every task is solved as `adapt` solves it; the learner stays as it is. Heads of
    `GroupLassoLogistic` are solved in batches, about ten times faster than one
    by one and to the last bit the same; all others one after the other.

    Parameters
    ----------
    X : array-like of shape (n_samples, ...)
        Support rows of all tasks, of the kind seen in `fit`.
    y : array-like of shape (n_samples,)
        Their labels or targets.
    tasks : array-like of shape (n_samples,)
        Task of every row, in any order; of any sizes and classes.
    batch_size : int, default=8192
        Tasks of a batch, whose rows are in memory as features.
    client : dask.distributed.Client, default=None
        Where the batches are solved. None: here.

    Returns
    -------
    SolvedTasks
        Asked by id, updated and stored.

    Raises
    ------
    NotFittedError
        Before `fit`.
    InvalidInputError
        If y or the ids do not fit the rows, or the columns are not those of `fit`.

    Warns
    -----
    UserWarning
        If tasks cannot be solved, such as one with a missing value, or of a single
        class without a common predictor: named in `failed_`. All others are.

    Examples
    --------
    >>> from skcausalmeta.datasets import make_shared_tasks
    >>> from skcausalmeta.learners import SparseMetaClassifier
    >>> data = make_shared_tasks(n_tasks=12, random_state=0)
    >>> learner = SparseMetaClassifier(
    ...     backbone="identity", max_epochs=1, verbose=0, random_state=0
    ... )
    >>> learner = learner.fit(data.data, data.target, tasks=data.tasks)
    >>> solved = learner.adapt_tasks(data.data, data.target, data.tasks)
    >>> len(solved), solved.predict(data.data[:3], data.tasks[:3]).shape
    (12, (3,))
    """
    # A method of every learner that adapts.
    return solve_tasks(self, X, y, tasks, batch_size=batch_size, client=client)


def solve_tasks(
    learner: Any,
    X: ArrayLike,
    y: ArrayLike,
    tasks: ArrayLike,
    *,
    batch_size: int = BATCH_SIZE,
    client: Any = None,
) -> SolvedTasks:
    """Solve all tasks of a table, which is what ``learner.adapt_tasks`` does.

    Parameters
    ----------
    learner : estimator
        Fitted, with `adapt`; of a class of any package.
    X : array-like of shape (n_samples, ...)
        Support rows of all tasks.
    y : array-like of shape (n_samples,)
        Their labels or targets.
    tasks : array-like of shape (n_samples,)
        Task of every row.
    batch_size : int, default=8192
        Tasks of a batch.
    client : dask.distributed.Client, default=None
        Where the batches are solved. None: here.

    Returns
    -------
    SolvedTasks
        Asked by id, updated and stored.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import RidgeClassifier
    >>> from skcausalmeta.learners import solve_tasks
    >>> class Refit(RidgeClassifier):
    ...     def adapt(self, X, y):
    ...         return self.fit(X, y)
    >>> X, y, tasks = np.eye(4), np.array(["a", "b", "a", "c"]), [0, 0, 1, 1]
    >>> solved = solve_tasks(Refit().fit(X, y), X, y, tasks)
    >>> solved.predict(X, tasks).tolist()
    ['a', 'b', 'a', 'c']
    """
    check_is_fitted(learner)
    refuse_other_index(X=X, y=y, tasks=tasks)
    check_columns(learner, X)
    blocks: list[TaskBlock] = []
    failed: dict[Any, str] = {}
    batches = rows_by_task(X, y, tasks, batch_size)
    for found, reasons in _solve_all(learner, batches, client):
        blocks += found
        failed.update(reasons)
    tell_failed(learner, failed, sum(map(len, blocks)))
    return SolvedTasks(learner, blocks, failed)


def tell_failed(learner: Any, failed: dict[Any, str], n_solved: int) -> None:
    """Warn once of tasks that could not be solved.

    Parameters
    ----------
    learner : estimator
        Named in the message.
    failed : dict
        Reasons by ids; nothing is said of none.
    n_solved : int
        Tasks that were solved.

    Warns
    -----
    UserWarning

    Examples
    --------
    >>> import warnings
    >>> from skcausalmeta.learners import tell_failed
    >>> with warnings.catch_warnings(record=True) as said:
    ...     warnings.simplefilter("always")
    ...     tell_failed(None, {7: "It has NaN."}, 5)
    >>> print(str(said[0].message)[:42])
    NoneType solved 5 tasks and left out 1 (7)
    """
    if not failed:
        return
    name, reason = next(iter(failed.items()))
    warnings.warn(
        f"{type(learner).__name__} solved {n_solved} tasks and left out "
        f"{few_of(list(failed))}. Task {name!r}: {reason} The "
        "attribute failed_ tells all reasons.",
        UserWarning,
        stacklevel=4,
    )


def _solve_all(
    learner: Any, batches: Iterator[TaskRows], client: Any
) -> Iterator[Found]:
    if client is None:
        yield from (solve_batch(learner, batch) for batch in batches)
        return
    (held,) = client.scatter([learner], broadcast=True, hash=False)
    waiting: list[Any] = []
    most = _AHEAD * max(1, sum(client.ncores().values()))
    for batch in batches:
        waiting.append(client.submit(solve_batch, held, batch, pure=False))
        if len(waiting) >= most:
            yield waiting.pop(0).result()
    while waiting:
        yield waiting.pop(0).result()


def solve_batch(learner: Any, tasks: TaskRows) -> Found:
    """Solve the tasks of a batch; name those that cannot be, and why.

    Parameters
    ----------
    learner : estimator
        Fitted; stays as it is.
    tasks : TaskRows
        Rows of the tasks.

    Returns
    -------
    list of TaskBlock
    dict
        Reasons by ids.

    Examples
    --------
    >>> from skcausalmeta.datasets import make_shared_tasks
    >>> from skcausalmeta.learners import SparseMetaClassifier
    >>> from skcausalmeta.learners import rows_by_task, solve_batch
    >>> data = make_shared_tasks(n_tasks=12, random_state=0)
    >>> learner = SparseMetaClassifier(
    ...     backbone="identity", max_epochs=1, verbose=0, random_state=0
    ... )
    >>> learner = learner.fit(data.data, data.target, tasks=data.tasks)
    >>> rows = rows_by_task(data.data, data.target, data.tasks, 20)
    >>> blocks, failed = solve_batch(learner, next(rows))
    >>> len(blocks[0]), failed
    (12, {})
    """
    change = getattr(learner, "_task_rows", None)
    if change is not None:  # a pipeline
        tasks = replace(tasks, X=change(tasks.X))
    learner = getattr(learner, "_task_learner", learner)
    solve_many = getattr(learner, "_solve_many", None)
    if solve_many is None:
        return solve_singly(learner, tasks, pack_states)
    odd = _odd_tasks(learner, tasks)
    rest, singly = np.flatnonzero(~odd), np.flatnonzero(odd)
    blocks: list[TaskBlock] = []
    failed: dict[Any, str] = {}
    if len(rest):
        good = tasks if not len(singly) else tasks.select(rest)
        try:
            blocks, failed = solve_many(good)
        except (ValueError, ArithmeticError, RuntimeError):
            singly = np.arange(len(tasks.ids))  # one of them; each tells for itself
    if len(singly):
        others = tasks.select(singly)
        found, reasons = solve_singly(learner, others, learner._pack_tasks)
        blocks, failed = [*blocks, *found], {**failed, **reasons}
    return blocks, failed


def _odd_tasks(learner: Any, tasks: TaskRows) -> NDArray[np.bool_]:
    """Mark tasks that `adapt` may refuse, so that others are solved in a batch."""
    number = np.repeat(np.arange(len(tasks.ids)), tasks.sizes)
    odd = _odd_rows(tasks.X, len(number)) | _odd_targets(learner, tasks.y)
    found = np.bincount(number, odd, minlength=len(tasks.ids)) > 0
    if is_classifier(learner) and not getattr(learner, "shared_labels_", False):
        for k in np.flatnonzero(~found):
            own = tasks.y[tasks.begins[k] : tasks.begins[k + 1]]
            found[k] = (own == own[0]).all()
    return found


def _odd_rows(X: Any, n_rows: int) -> NDArray[np.bool_]:
    try:
        rows = np.asarray(X)
        if rows.dtype.kind in "iub":
            return np.zeros(n_rows, dtype=bool)
        if rows.dtype.kind != "f":
            rows = rows.astype(np.float64)
        sums = rows.reshape(n_rows, -1).sum(axis=1, dtype=np.float64)
    except (TypeError, ValueError):  # sparse rows, or text: the learner says what
        return np.zeros(n_rows, dtype=bool)
    return ~np.isfinite(sums)


def _odd_targets(learner: Any, y: NDArray[Any]) -> NDArray[np.bool_]:
    if y.dtype.kind == "f":
        odd = ~np.isfinite(y)
    elif y.dtype.kind == "O":
        odd = np.array([label is None or label != label for label in y.tolist()])
    else:
        odd = np.zeros(len(y), dtype=bool)
    if is_classifier(learner) and getattr(learner, "shared_labels_", False):
        known = set(learner.training_classes_.tolist())
        names, places = np.unique(y[~odd], return_inverse=True)
        unknown = np.array([name not in known for name in names.tolist()], dtype=bool)
        odd[~odd] = unknown[places]
    return odd
