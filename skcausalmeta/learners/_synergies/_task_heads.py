"""Heads of many tasks, in batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ...exceptions import InvalidInputError
from ...training import class_middle, in_parts
from .._task_batches import (
    TASKS_PER_SOLVE,
    by_way,
    task_cost,
    tasks_at_once,
)

_ENTRIES_PER_SOLVE = 2**22


def middle_of(features: NDArray[Any], labels: NDArray[Any]) -> NDArray[Any]:
    """Mean of the class means (n_tasks, 1, n_features) of tasks with any labels."""
    numbers = np.unique(labels, return_inverse=True)[1].reshape(labels.shape)
    middle = class_middle(torch.from_numpy(features), torch.from_numpy(numbers))
    found: NDArray[Any] = middle.numpy()
    return found


def classify_tasks(
    head: Any,
    support: NDArray[Any],
    numbers: NDArray[Any],
    query: NDArray[Any],
    classes: list[NDArray[Any]],
) -> NDArray[Any]:
    """Return class numbers of query features; tasks with as many classes go together.

    Parameters
    ----------
    head : estimator
        Offers ``episode_logits``.
    support : ndarray of shape (n_tasks, n_support, n_features)
        Support features.
    numbers : ndarray of shape (n_tasks, n_support)
        Their class numbers.
    query : ndarray of shape (n_tasks, n_query, n_features)
        Query features.
    classes : list of ndarray
        Classes of every task.

    Returns
    -------
    ndarray of shape (n_tasks, n_query)
    """
    winners = np.empty(query.shape[:2], dtype=np.intp)
    ways = np.array([len(names) for names in classes])
    for part in by_way(ways):
        with torch.no_grad():
            logits = head.episode_logits(
                torch.from_numpy(support[part]),
                torch.from_numpy(numbers[part]),
                torch.from_numpy(query[part]),
                int(ways[part[0]]),
            )
        winners[part] = logits.argmax(-1).numpy()
    return winners


class TrainingHeads(NamedTuple):
    """Solved heads of the training tasks, in the order of their ids."""

    ids: NDArray[Any]
    coef: NDArray[Any]  # (n_tasks, n_features)
    intercept: NDArray[Any]  # (n_tasks,)
    dual_gap: NDArray[Any]  # (n_tasks,)
    codes: NDArray[Any] | None  # (n_tasks, n_code)

    def positions(self, ids: NDArray[Any]) -> NDArray[Any]:
        """Return the positions of the tasks of some ids.

        Raises
        ------
        InvalidInputError
            If an id is none of them.
        """
        unknown = np.setdiff1d(ids, self.ids)
        if len(unknown):
            raise InvalidInputError(
                "tasks must be ids seen in fit. Got "
                f"{unknown[:5].tolist()}, which were not there; use adapt or "
                "predict_episodes for new tasks."
            )
        return np.searchsorted(self.ids, ids)

    def predict(
        self, net: Any, features: NDArray[Any], positions: NDArray[Any]
    ) -> NDArray[Any]:
        """Predict the targets of rows, each by the head of its task."""
        if self.codes is not None:
            codes, hooked = self.codes[positions], net.module_.hooked
            features = hooked.features_of(features[:, None], codes)[:, 0]
        products = features * self.coef[positions]
        return products.sum(axis=1) + self.intercept[positions]


def solve_training_tasks(
    net: Any,
    head: Any,
    features: NDArray[Any],
    y: NDArray[Any],
    tasks: NDArray[Any],
    row_weights: NDArray[np.float64] | None = None,
) -> TrainingHeads:
    """Solve the head of every task on all its rows.

    Tasks of similar size are solved together; rows of weight 0 fill the gaps.

    Parameters
    ----------
    net : EpisodicNet
        Its hook transforms the features of every task.
    head : estimator
        Offers ``solve_episodes`` with ``sample_weight``.
    features : ndarray of shape (n_samples, n_features)
        Features of all rows.
    y : ndarray of shape (n_samples,)
        Targets.
    tasks : ndarray of shape (n_samples,)
        Task ids.
    row_weights : ndarray of shape (n_samples,), default=None
        Weights of the rows. None: 1.

    Returns
    -------
    TrainingHeads
    """
    ids, numbers, sizes = np.unique(tasks, return_inverse=True, return_counts=True)
    rows_of_tasks = np.split(np.argsort(numbers, kind="stable"), np.cumsum(sizes)[:-1])
    codes: NDArray[Any] | None = None
    hooked = net.module_.hooked
    if hooked.is_active:
        found = [
            hooked.codes_of(features[r][None], y[r][None], 0) for r in rows_of_tasks
        ]
        codes = np.concatenate(found)
        features = hooked.features_of(features[:, None], codes[numbers])[:, 0]
    coef = np.empty((len(ids), features.shape[1]))
    intercept, gap = np.empty(len(ids)), np.empty(len(ids))
    for part in _parts(sizes, features.shape[1]):
        padded = np.zeros((len(part), sizes[part].max(), features.shape[1]))
        targets, weights = np.zeros(padded.shape[:2]), np.zeros(padded.shape[:2])
        for k, task in enumerate(part):
            rows = rows_of_tasks[task]
            padded[k, : len(rows)] = features[rows]
            targets[k, : len(rows)] = y[rows]
            weights[k, : len(rows)] = 1.0 if row_weights is None else row_weights[rows]
        solution = head.solve_episodes(
            torch.from_numpy(padded),
            torch.from_numpy(targets),
            sample_weight=torch.from_numpy(weights),
        )
        coef[part] = solution.coef[..., 0].numpy()
        intercept[part] = solution.intercept[:, 0].numpy()
        gap[part] = solution.gap.numpy()
    return TrainingHeads(ids, coef, intercept, gap, codes)


def _parts(sizes: NDArray[Any], n_features: int) -> Iterator[NDArray[Any]]:
    """Yield positions of tasks of similar size, bounded in memory."""
    order = np.argsort(sizes, kind="stable")
    begin = 0
    while begin < len(order):
        part = order[begin : begin + TASKS_PER_SOLVE]
        most = max(1, _ENTRIES_PER_SOLVE // int(sizes[part[-1]] * n_features))
        yield part[:most]
        begin += min(most, len(part))


def predict_tasks(
    head: Any,
    support: NDArray[Any],
    targets: NDArray[Any],
    query: NDArray[Any],
) -> NDArray[Any]:
    """Return predictions (n_tasks, n_query) of heads solved on support features."""
    found = np.empty(query.shape[:2])
    for part in in_parts(len(support), TASKS_PER_SOLVE):
        with torch.no_grad():
            found[part] = head.episode_predictions(
                torch.from_numpy(support[part]),
                torch.from_numpy(targets[part]),
                torch.from_numpy(query[part]),
            ).numpy()
    return found


def tasks_within(
    learner: Any, support: Any, query: Any, n_outputs: int, max_memory: int | None
) -> int:
    """Count the tasks of a chunk of `predict_episodes`."""
    if max_memory is None:
        return tasks_at_once(support, query)
    cost = task_cost(
        learner.net_.module_.backbone,
        learner.reader_.sample_shape,
        support,
        query,
        learner.n_features_out_,
        n_outputs,
    )
    return cost.tasks_within(max_memory, len(support))
