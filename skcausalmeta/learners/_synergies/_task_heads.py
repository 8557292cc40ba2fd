"""Regression heads of many tasks, in batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

_TASKS_PER_SOLVE = 64
_ENTRIES_PER_SOLVE = 2**22


class SolvedTasks(NamedTuple):
    """Solved heads of the training tasks, in the order of their ids."""

    ids: NDArray[Any]
    coef: NDArray[Any]  # (n_tasks, n_features)
    intercept: NDArray[Any]  # (n_tasks,)
    dual_gap: NDArray[Any]  # (n_tasks,)


def solve_training_tasks(
    head: Any, codes: NDArray[Any], y: NDArray[Any], tasks: NDArray[Any]
) -> SolvedTasks:
    """Solve the head of every task on all its rows.

    Tasks of similar size are solved together; rows of weight 0 fill the gaps.

    Parameters
    ----------
    head : estimator
        Offers ``solve_episodes`` with ``sample_weight``.
    codes : ndarray of shape (n_samples, n_features)
        Features of all rows.
    y : ndarray of shape (n_samples,)
        Targets.
    tasks : ndarray of shape (n_samples,)
        Task ids.

    Returns
    -------
    SolvedTasks
    """
    ids, numbers, sizes = np.unique(tasks, return_inverse=True, return_counts=True)
    rows_of_tasks = np.split(np.argsort(numbers, kind="stable"), np.cumsum(sizes)[:-1])
    coef = np.empty((len(ids), codes.shape[1]))
    intercept, gap = np.empty(len(ids)), np.empty(len(ids))
    for part in _parts(sizes, codes.shape[1]):
        features = np.zeros((len(part), sizes[part].max(), codes.shape[1]))
        targets, weights = np.zeros(features.shape[:2]), np.zeros(features.shape[:2])
        for k, task in enumerate(part):
            rows = rows_of_tasks[task]
            features[k, : len(rows)] = codes[rows]
            targets[k, : len(rows)] = y[rows]
            weights[k, : len(rows)] = 1.0
        solution = head.solve_episodes(
            torch.from_numpy(features),
            torch.from_numpy(targets),
            sample_weight=torch.from_numpy(weights),
        )
        coef[part] = solution.coef[..., 0].numpy()
        intercept[part] = solution.intercept[:, 0].numpy()
        gap[part] = solution.gap.numpy()
    return SolvedTasks(ids, coef, intercept, gap)


def _parts(sizes: NDArray[Any], n_features: int) -> Iterator[NDArray[Any]]:
    """Positions of tasks of similar size, bounded in memory."""
    order = np.argsort(sizes, kind="stable")
    begin = 0
    while begin < len(order):
        part = order[begin : begin + _TASKS_PER_SOLVE]
        most = max(1, _ENTRIES_PER_SOLVE // int(sizes[part[-1]] * n_features))
        yield part[:most]
        begin += min(most, len(part))


def predict_tasks(
    head: Any,
    support: NDArray[Any],
    targets: NDArray[Any],
    query: NDArray[Any],
) -> NDArray[Any]:
    """Predictions (n_tasks, n_query) of heads solved on support features."""
    found = np.empty(query.shape[:2])
    for begin in range(0, len(support), _TASKS_PER_SOLVE):
        part = slice(begin, begin + _TASKS_PER_SOLVE)
        with torch.no_grad():
            found[part] = head.episode_predictions(
                torch.from_numpy(support[part]),
                torch.from_numpy(targets[part]),
                torch.from_numpy(query[part]),
            ).numpy()
    return found
