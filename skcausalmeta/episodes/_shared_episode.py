"""Episodes of a task whose labels mean the same as in all other tasks."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._episode import Episode
from ._row_counts import RowCounts
from ._rows import draw_rows


def draw_shared_episode(
    rng: np.random.Generator,
    classes: np.ndarray,
    numbers: np.ndarray,
    rows: np.ndarray,
    *,
    counts: RowCounts,
    shot: int,
    natural: bool,
    task: Any,
    query_rows: np.ndarray | None = None,
    weights: np.ndarray | None = None,
) -> Episode:
    """Draw query rows as they come, then support rows from the rest.

    Parameters
    ----------
    rng : Generator
        Source of the draws.
    classes : ndarray of shape (n_classes,)
        All labels of the data.
    numbers : ndarray of shape (n_samples,)
        Number of every row's label among them.
    rows : ndarray of shape (n_rows,)
        Rows of the task, two at least without `query_rows`.
    counts : RowCounts
        Query rows of the task.
    shot : int
        Support rows of every class of the task.
    natural : bool
        Whether the support has the task's class shares, instead of as many rows of
        every class.
    task : object
        Id of the task.
    query_rows : ndarray of shape (n_query_rows,), default=None
        Rows that the query comes from, none of them in `rows`. None: `rows`.
    weights : ndarray of shape (n_samples,), default=None
        Weights of all rows of the data; rows of greater weight come more often.
    """
    of_row = numbers[rows]
    present = np.flatnonzero(np.bincount(of_row))
    if query_rows is None:
        n_support, n_query = counts.divide(len(rows), shot * len(present))
        query = draw_rows(rng, rows, n_query, weights)
    else:
        n_support = min(shot * len(present), len(rows))
        query = draw_rows(rng, query_rows, counts.query, weights)
    wanted = [(rows, n_support)]
    if not natural:
        wanted = [(rows[of_row == number], shot) for number in present]
    asked = np.zeros(len(numbers), dtype=bool)
    asked[query] = True
    support = np.concatenate(
        [_draw_others(rng, own, n, len(query), asked, weights) for own, n in wanted]
    )
    return Episode(
        support=support,
        query=query,
        support_targets=numbers[support],
        query_targets=numbers[query],
        classes=classes,
        task=task,
    )


def _draw_others(
    rng: np.random.Generator,
    rows: np.ndarray,
    n_rows: int,
    n_asked: int,
    asked: np.ndarray,
    weights: np.ndarray | None,
) -> np.ndarray:
    """Draw up to `n_rows` rows that are not among the `n_asked` of the query."""
    drawn = draw_rows(rng, rows, min(len(rows), n_rows + n_asked), weights)
    return drawn[~asked[drawn]][:n_rows]
