"""The training tasks, each solved around what all share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...utils import read_rows
from .._solved_task import SolvedTask

# More rows of a task tell little more, and its system grows with them.
_MOST_ROWS = 500


@dataclass(frozen=True, eq=False)
class KnownTasks:
    """Solved training tasks, by their ids.

    Attributes
    ----------
    ids : ndarray of shape (n_tasks,)
        Sorted.
    solved : list of SolvedTask
        In the order of `ids`.
    """

    ids: NDArray[Any]
    solved: list[SolvedTask]

    def scores(
        self,
        learner: Any,
        rows: NDArray[Any],
        ids: NDArray[Any],
        otherwise: SolvedTask,
    ) -> NDArray[Any]:
        """Return the scores of rows by their tasks; of unknown ones by another."""
        positions = {task: k for k, task in enumerate(self.ids.tolist())}
        asked, numbers = np.unique(ids, return_inverse=True)
        found: NDArray[Any] | None = None
        for number, task in enumerate(asked.tolist()):
            where = np.flatnonzero(numbers == number)
            at = positions.get(task)
            solved = otherwise if at is None else self.solved[at]
            part = solved.scores(learner, read_rows(rows, where))
            if found is None:
                found = np.empty((len(rows), *part.shape[1:]))
            found[where] = part
        assert found is not None
        return found


def solve_known_tasks(
    solve: Callable[[NDArray[Any]], SolvedTask], tasks: NDArray[Any]
) -> KnownTasks:
    """Solve every task on its rows, on evenly chosen ones where there are many.

    Parameters
    ----------
    solve : callable
        ``solve(index) -> SolvedTask`` on the rows of these numbers.
    tasks : ndarray of shape (n_samples,)
        Task ids.
    """
    ids, numbers = np.unique(tasks, return_inverse=True)
    order = np.argsort(numbers, kind="stable")
    groups = np.split(order, np.cumsum(np.bincount(numbers))[:-1])
    solved = []
    for rows in groups:
        if len(rows) > _MOST_ROWS:
            rows = rows[np.linspace(0, len(rows) - 1, _MOST_ROWS).astype(np.int64)]
        solved.append(solve(rows))
    return KnownTasks(ids, solved)
