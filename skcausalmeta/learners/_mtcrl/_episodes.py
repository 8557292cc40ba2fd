"""Many new tasks of a multi-task learner, solved and answered in chunks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._task_batches import chunk_of, in_task_chunks, task_cost, tasks_at_once
from ._targets import TargetKind


def predict_new_tasks(
    learner: Any,
    support: NDArray[Any],
    targets: NDArray[Any],
    query: NDArray[Any],
    max_memory: int | None,
) -> NDArray[Any]:
    """Solve checked tasks and return the answers (n_tasks, n_query, ...) of `learner`.

    Parameters
    ----------
    learner : estimator
        Fitted.
    support, query : array of shape (n_tasks, n_rows, ...)
        Rows; those on disk are read by chunk.
    targets : ndarray of shape (n_tasks, n_support, ...)
        Targets of the support rows.
    max_memory : int or None
        Bytes that a chunk may take; None: a thousand tasks.
    """
    read = [learner._read_new(values, k) for k, values in enumerate(targets)]
    kinds = [kind for kind, _ in read]
    encoded = np.stack([values for _, values in read])

    def solve(part: slice) -> NDArray[Any]:
        features = learner._task_features(chunk_of(support, part))
        features = features.reshape(len(features), -1, features.shape[-1])
        solved = learner._solve(features, encoded[part], kinds[part])
        asked = learner._task_features(chunk_of(query, part))
        found = [
            task.kind.decode(task.outputs(rows))  # rows (n_query, n_pixels, d)
            for task, rows in zip(solved, asked, strict=True)
        ]
        return np.stack(found)

    size = _tasks_within(learner, support, query, kinds, max_memory)
    answers = in_task_chunks(solve, len(kinds), size)
    return answers.reshape(*query.shape[:2], *learner.targets_.pixels)


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
