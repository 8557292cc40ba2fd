"""New tasks of a multi-task learner: from rows and targets to solved tasks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_consistent_length

from ...exceptions import InvalidInputError
from .._checks import check_task_rows
from .._task_batches import (
    check_tasks,
    chunk_of,
    in_task_chunks,
    task_cost,
    tasks_at_once,
)
from ._invariant_modules import solve_invariant
from ._new_task import RoutedTask, read_new, solve_tasks
from ._targets import TargetKind, as_targets


def solve_new_task(
    learner: Any,
    rows: NDArray[Any],
    targets: NDArray[Any],
    env_ids: NDArray[Any] | None,
    weights: NDArray[Any] | None = None,
) -> RoutedTask:
    """Solve one task on the frozen modules of a fitted learner.

    Parameters
    ----------
    learner : estimator
        A fitted learner.
    rows : ndarray of shape (n, ...)
        Checked support rows.
    targets : ndarray of shape (n,) or (n, height, width)
        Their labels or values.
    env_ids : ndarray of shape (n,) or None
        Environment of every row.
    weights : ndarray of shape (n,), default=None
        Weights of the rows. None: 1.

    Raises
    ------
    InvalidInputError
        If the targets are no task of the learner.
    """
    pixels = learner.targets_.pixels
    check_consistent_length(rows, targets)
    if targets.shape[1:] != pixels:
        raise InvalidInputError(
            "adapt solves one task: y must have the shape of the rows and pixels, "
            f"{(len(rows), *pixels)}. Got {targets.shape}."
        )
    if weights is not None:
        kept = np.flatnonzero(weights)
        rows, targets, weights = rows[kept], targets[kept], weights[kept]
        env_ids = None if env_ids is None else env_ids[kept]
        weights = weights.repeat(targets[0].size)  # of a pixel
    kind, encoded = _read(learner, targets, 0, weights)
    features = learner._unit_features(rows)
    n_pixels = features.shape[1]
    features = features.reshape(-1, features.shape[-1])
    groups = learner.module_units_.groups
    if env_ids is not None and len(np.unique(env_ids)) > 1:
        numbers = np.unique(env_ids, return_inverse=True)[1].repeat(n_pixels)
        return solve_invariant(
            features, encoded, kind, groups, learner.adapt_reg, numbers, weights
        )
    own = None if weights is None else weights[None]
    (task,) = solve_tasks(
        features[None], encoded[None], [kind], groups, learner.adapt_reg, own
    )
    return task


def predict_episodes(
    learner: Any,
    X_support: ArrayLike,
    y_support: ArrayLike,
    X_query: ArrayLike,
    max_memory: int | None,
) -> NDArray[Any]:
    """Solve and predict many new tasks; see `BaseMultiTask.predict_episodes`."""
    pixels = learner.targets_.pixels
    support, targets, query = check_tasks(X_support, y_support, X_query, pixels)
    as_targets(targets.reshape(-1))
    read = [_read(learner, values, k) for k, values in enumerate(targets)]
    kinds = [kind for kind, _ in read]
    encoded = np.stack([values for _, values in read])
    groups = learner.module_units_.groups

    def solve(part: slice) -> NDArray[Any]:
        features = _task_features(learner, chunk_of(support, part))
        features = features.reshape(len(features), -1, features.shape[-1])
        solved = solve_tasks(
            features, encoded[part], kinds[part], groups, learner.adapt_reg
        )
        asked = _task_features(learner, chunk_of(query, part))
        found = [
            task.kind.decode(task.outputs(rows))  # rows (n_query, n_pixels, d)
            for task, rows in zip(solved, asked, strict=True)
        ]
        return np.stack(found)

    size = _tasks_within(learner, support, query, kinds, max_memory)
    answers = in_task_chunks(solve, len(kinds), size)
    return answers.reshape(*query.shape[:2], *pixels)


def _read(
    learner: Any,
    values: NDArray[Any],
    task: int,
    weights: NDArray[np.float64] | None = None,
) -> tuple[TargetKind, NDArray[np.float32]]:
    may_miss, name = bool(learner.targets_.pixels), learner._default_type
    return read_new(values, name, task, may_miss=may_miss, weights=weights)


def _task_features(learner: Any, X: NDArray[Any]) -> NDArray[np.float64]:
    """Return features (n_tasks, n, n_pixels, d), in units of a new task."""
    rows = check_task_rows(learner, X)
    features = learner._unit_features(rows.reshape(-1, *rows.shape[2:]))
    shaped: NDArray[np.float64] = features.reshape(*X.shape[:2], *features.shape[1:])
    return shaped


def _tasks_within(
    learner: Any,
    support: Any,
    query: Any,
    kinds: list[TargetKind],
    max_memory: int | None,
) -> int:
    """Count the tasks of a chunk."""
    if max_memory is None:
        return tasks_at_once(support, query)
    pixels = int(np.prod(learner.targets_.pixels))
    cost = task_cost(
        learner.net_.module_.experts,
        learner.reader_.sample_shape,
        support,
        query,
        len(learner.module_units_.center) * pixels,
        max(1, *(kind.n_classes for kind in kinds)) * pixels,
    )
    return cost.tasks_within(max_memory, len(kinds))
