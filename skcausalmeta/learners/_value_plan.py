"""Which episodes a regressor trains and validates on."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..episodes import TaskSampler
from ..exceptions import InvalidInputError
from ._episode_plan import EpisodePlan, EpisodeSource, choose_held_out

_MOST_ROWS = 25
_FEWEST_ROWS = 2  # of an episode: one to learn from and one to be predicted


class ValueSizes(NamedTuple):
    """Support and query rows of an episode, "auto" where the data decide.

    With `disjoint` False both together are support and query at once.
    """

    n_shot: int | str
    n_query: int | str
    disjoint: bool = True


def plan_value_episodes(
    y: NDArray[Any],
    tasks: NDArray[Any] | None,
    sizes: ValueSizes,
    seeds: dict[str, int],
    *,
    validated: bool = False,
    given: ArrayLike | None = None,
    fraction: float = 0.2,
    envs: NDArray[Any] | None = None,
) -> EpisodePlan:
    """Samplers of training and validation episodes of regression tasks.

    An episode draws rows of one task at random and divides them into support and
    query. Without tasks all rows are one, and validation holds out rows of it.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
        Real targets.
    tasks : ndarray of shape (n_samples,) or None
        Task ids; None: all rows are one task.
    sizes : ValueSizes
        Support and query rows.
    seeds : dict
        Seeds named "episodes", "validation" and "held-out".
    validated : bool, default=False
        Whether to hold tasks out.
    given : array-like or None, default=None
        Task ids to hold out. None: a share of the tasks (rows without tasks).
    fraction : float, default=0.2
        That share.
    envs : ndarray of shape (n_samples,) or None, default=None
        Environments that support and query shall differ in.

    Raises
    ------
    EpisodeError
        If a task has fewer rows than an episode.
    InvalidInputError
        If too few tasks or rows remain on either side.
    """
    ids = np.zeros(len(y), dtype=np.int64) if tasks is None else tasks
    valid_rows = np.zeros(len(y), dtype=bool)
    if validated:
        valid_rows = _held_out_rows(y, tasks, given, fraction, seeds["held-out"])
    train = _draw(y, ids, sizes, ~valid_rows, seeds["episodes"], envs)
    if not validated:
        return EpisodePlan(train, None)
    valid = _draw(y, ids, sizes, valid_rows, seeds["validation"], envs)
    return EpisodePlan(train, valid)


def _held_out_rows(
    y: NDArray[Any],
    tasks: NDArray[Any] | None,
    given: ArrayLike | None,
    fraction: float,
    seed: int,
) -> NDArray[np.bool_]:
    if tasks is None and given is not None:
        raise InvalidInputError(
            "validation_tasks must be ids of tasks. Got a fit without tasks; pass "
            "tasks=..., or validation_tasks=None and early_stopping=True to hold "
            "out rows."
        )
    units = np.arange(len(y)) if tasks is None else tasks
    held_out = choose_held_out(
        units,
        given=given,
        fraction=fraction,
        at_least=_FEWEST_ROWS if tasks is None else 1,
        seed=seed,
        parameter="validation_tasks",
        units_are="ids of tasks" if tasks is not None else "rows",
    )
    return np.isin(units, held_out)


def _draw(
    y: NDArray[Any],
    ids: NDArray[Any],
    sizes: ValueSizes,
    rows: NDArray[np.bool_],
    seed: int,
    envs: NDArray[Any] | None,
) -> EpisodeSource:
    """Draw episodes from the marked rows; indices refer to all rows."""
    index = np.flatnonzero(rows)
    smallest = int(np.unique(ids[index], return_counts=True)[1].min())
    shot, query = _resolve(sizes, smallest)
    if envs is not None:
        cells = np.stack([_codes(ids[index]), _codes(envs[index])])
        fewest = int(np.unique(cells, axis=1, return_counts=True)[1].min())
        shot = min(shot, fewest) if sizes.n_shot == "auto" else shot
        query = min(query, fewest) if sizes.n_query == "auto" else query
    sampler = TaskSampler(
        ids[index],
        y[index],
        n_shot=shot,
        n_query=query,
        target_type="value",
        envs=None if envs is None else envs[index],
        random_state=seed,
    )

    return EpisodeSource(sampler, index, sizes.disjoint)


def _codes(ids: NDArray[Any]) -> NDArray[np.intp]:
    return np.unique(ids, return_inverse=True)[1]


def _resolve(sizes: ValueSizes, smallest: int) -> tuple[int, int]:
    """Half of the smallest task for support, the rest for queries, both capped."""
    shot, query = sizes.n_shot, sizes.n_query
    if shot == "auto":
        rest = smallest // 2 if query == "auto" else smallest - int(query)
        shot = max(1, min(_MOST_ROWS, rest))
    if query == "auto":
        query = max(1, min(_MOST_ROWS, smallest - int(shot)))
    return int(shot), int(query)
