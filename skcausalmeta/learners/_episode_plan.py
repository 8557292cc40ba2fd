"""Plan of the episodes that a learner trains and validates on."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..episodes import Episode, EpisodeSampler, TaskSampler
from ..exceptions import EpisodeError, InvalidInputError
from ..training import Validation

# Caps of "auto" sizes: support and query rows of a class, or of a regression task.
_MOST_WAYS, _MOST_PER_CLASS, _MOST_PER_TASK = 5, (5, 10), (25, 25)
_FEWEST_ROWS = 2  # one to learn from and one to be predicted


class EpisodeSizes(NamedTuple):
    """Way, shot and query of the episodes, "auto" where the data decide."""

    n_way: int | str
    n_shot: int | str
    n_query: int | str


class ValueSizes(NamedTuple):
    """Support and query rows of an episode, "auto" where the data decide.

    With `disjoint` False both together are support and query at once.
    """

    n_shot: int | str
    n_query: int | str
    disjoint: bool = True


class EpisodeSource:
    """Draws episodes of some rows, with their numbers among all rows.

    Parameters
    ----------
    sampler : EpisodeSampler or TaskSampler
        Draws from some of the rows.
    index : ndarray of shape (n_some,)
        Their numbers among all rows.
    disjoint : bool, default=True
        False: all rows of an episode, as the same arrays, are its support and query.
    """

    def __init__(
        self,
        sampler: EpisodeSampler | TaskSampler,
        index: NDArray[Any],
        disjoint: bool = True,
    ) -> None:
        self._sampler, self._index, self._disjoint = sampler, index, disjoint

    def __call__(self, n_episodes: int) -> list[Episode]:
        return [self._of_all(episode) for episode in self._sampler.draw(n_episodes)]

    @property
    def generator(self) -> np.random.Generator:
        """Random generator of the draws."""
        return self._sampler.generator

    def _of_all(self, episode: Episode) -> Episode:
        support, query = self._index[episode.support], self._index[episode.query]
        targets = episode.support_targets, episode.query_targets
        if not self._disjoint:
            support = query = np.concatenate([support, query])
            targets = (np.concatenate(targets),) * 2
        return Episode(support, query, *targets, episode.classes, episode.task)


class EpisodePlan(NamedTuple):
    """Sources of episodes; `valid` is None without validation.

    `n_way` is the most classes of an episode, 0 in regression.
    """

    train: EpisodeSource
    valid: EpisodeSource | None
    n_way: int = 0


def plan_episodes(
    y: NDArray[Any],
    tasks: NDArray[Any] | None,
    sizes: EpisodeSizes,
    validation: Validation | None,
    seeds: dict[str, int],
    envs: NDArray[Any] | None = None,
) -> EpisodePlan:
    """Plan the training and validation episodes of a classifier.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
        Class labels.
    tasks : ndarray of shape (n_samples,) or None
        Task ids; None: tasks are drawn from the classes of y.
    sizes : EpisodeSizes
        Way, shot and query.
    validation : Validation or None
        What to hold out: classes, or tasks where they are given.
    seeds : dict
        Seeds named "episodes", "validation" and "held-out".
    envs : ndarray of shape (n_samples,) or None, default=None
        Environments that support and query shall differ in.

    Raises
    ------
    EpisodeError
        If the classes or tasks have too few rows for the sizes.
    """
    units = y if tasks is None else tasks
    valid_rows = np.zeros(len(y), dtype=bool)
    if validation is not None:
        held_out = choose_held_out(
            units,
            validation,
            at_least=2 if tasks is None else 1,
            seed=seeds["held-out"],
            units_are="classes of y" if tasks is None else "ids of tasks",
        )
        valid_rows = np.isin(units, held_out)
    train, way = _source(y, tasks, sizes, ~valid_rows, seeds["episodes"], envs)
    if validation is None:
        return EpisodePlan(train, None, way)
    valid, valid_way = _source(y, tasks, sizes, valid_rows, seeds["validation"], envs)
    return EpisodePlan(train, valid, max(way, valid_way))


def _source(
    y: NDArray[Any],
    tasks: NDArray[Any] | None,
    sizes: EpisodeSizes,
    rows: NDArray[Any],
    seed: int,
    envs: NDArray[Any] | None,
) -> tuple[EpisodeSource, int]:
    """Return a source of episodes of the marked rows, and their most classes."""
    index = np.flatnonzero(rows)
    if tasks is None:
        index = index[_usable(y[index], sizes)]
        counts = np.unique(y[index], return_counts=True)[1]
        auto = sizes.n_way == "auto"
        way = min(_MOST_WAYS, len(counts)) if auto else int(sizes.n_way)
    else:
        pairs, counts = _count_rows(tasks[index], y[index])
        way = int(np.unique(pairs[0], return_counts=True)[1].max())
    shot, query = _shot_and_query(sizes, int(counts.min()), _MOST_PER_CLASS)
    own_envs = None if envs is None else envs[index]
    if own_envs is not None:
        units = (y[index],) if tasks is None else (tasks[index], y[index])
        cells = _count_rows(*units, own_envs)[1]
        shot, query = _in_environments(sizes, int(cells.min()), shot, query)
    drawn: dict[str, Any] = {
        "n_shot": shot,
        "n_query": query,
        "envs": own_envs,
        "random_state": seed,
    }
    sampler: Any
    if tasks is None:
        sampler = EpisodeSampler(y[index], n_way=way, **drawn)
    else:
        sampler = TaskSampler(tasks[index], y[index], **drawn)
    return EpisodeSource(sampler, index), way


def _numbers(labels: NDArray[Any]) -> NDArray[Any]:
    return np.unique(labels, return_inverse=True)[1]


def _usable(y: NDArray[Any], sizes: EpisodeSizes) -> NDArray[Any]:
    """Tell which rows serve: with "auto" sizes not the only one of a class."""
    if "auto" not in (sizes.n_shot, sizes.n_query):
        return np.ones(len(y), dtype=bool)
    classes, numbers, counts = np.unique(y, return_inverse=True, return_counts=True)
    if (counts >= 2).sum() < 2:
        raise EpisodeError(
            "Episodes need at least 2 classes with 2 rows each. Got "
            f"{int((counts >= 2).sum())} such classes among {len(classes)}; "
            "collect more rows per class."
        )
    return counts[numbers] >= 2


def _count_rows(*ids: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the combinations of ids that occur, as columns, and their row counts."""
    numbers = np.stack([_numbers(column) for column in ids])
    found, counts = np.unique(numbers, axis=1, return_counts=True)
    return found, counts


def _in_environments(
    sizes: EpisodeSizes | ValueSizes, smallest: int, shot: int, query: int
) -> tuple[int, int]:
    """Lower "auto" sizes to the rows that every environment has."""
    if sizes.n_shot == "auto":
        shot = min(shot, smallest)
    if sizes.n_query == "auto":
        query = min(query, smallest)
    return shot, query


def _shot_and_query(
    sizes: EpisodeSizes | ValueSizes, smallest: int, most: tuple[int, int]
) -> tuple[int, int]:
    """Choose "auto" sizes: half of the smallest class or task, and the rest, capped."""
    shot, query = sizes.n_shot, sizes.n_query
    if shot == "auto":
        rest = smallest // 2 if query == "auto" else smallest - int(query)
        shot = max(1, min(most[0], rest))
    if query == "auto":
        query = max(1, min(most[1], smallest - int(shot)))
    return int(shot), int(query)


def plan_value_episodes(
    y: NDArray[Any],
    tasks: NDArray[Any] | None,
    sizes: ValueSizes,
    seeds: dict[str, int],
    *,
    validation: Validation | None = None,
    envs: NDArray[Any] | None = None,
) -> EpisodePlan:
    """Plan the training and validation episodes of a regressor.

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
    validation : Validation or None, default=None
        What to hold out: tasks, or rows without tasks.
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
    if validation is not None:
        valid_rows = _held_out_rows(y, tasks, validation, seeds["held-out"])
    train = _draw(y, ids, sizes, ~valid_rows, seeds["episodes"], envs)
    if validation is None:
        return EpisodePlan(train, None)
    valid = _draw(y, ids, sizes, valid_rows, seeds["validation"], envs)
    return EpisodePlan(train, valid)


def _held_out_rows(
    y: NDArray[Any],
    tasks: NDArray[Any] | None,
    validation: Validation,
    seed: int,
) -> NDArray[np.bool_]:
    if tasks is None and validation.share is None:
        raise InvalidInputError(
            "validation must name ids of tasks, or be a share. Got ids for a fit "
            "without tasks; pass tasks=..., or validation=0.2 to hold out rows."
        )
    units = np.arange(len(y)) if tasks is None else tasks
    held_out = choose_held_out(
        units,
        validation,
        at_least=_FEWEST_ROWS if tasks is None else 1,
        seed=seed,
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
    """Return a source of episodes of the marked rows."""
    index = np.flatnonzero(rows)
    smallest = int(np.unique(ids[index], return_counts=True)[1].min())
    shot, query = _shot_and_query(sizes, smallest, _MOST_PER_TASK)
    own_envs = None if envs is None else envs[index]
    if own_envs is not None:
        cells = _count_rows(ids[index], own_envs)[1]
        shot, query = _in_environments(sizes, int(cells.min()), shot, query)
    sampler = TaskSampler(
        ids[index],
        y[index],
        n_shot=shot,
        n_query=query,
        target_type="value",
        envs=own_envs,
        random_state=seed,
    )

    return EpisodeSource(sampler, index, sizes.disjoint)


def choose_held_out(
    units: NDArray[Any],
    validation: Validation,
    *,
    at_least: int,
    seed: int,
    units_are: str,
) -> NDArray[Any]:
    """Choose the classes, task ids or rows to hold out for validation.

    Parameters
    ----------
    units : ndarray of shape (n_samples,)
        Class labels, task ids or row numbers.
    validation : Validation
        A share of them, or the names.
    at_least : int
        Fewest to hold out and to keep: 2 classes or rows, or 1 task.
    seed : int
        Seed of the draw.
    units_are : str
        What the units are, for messages.

    Raises
    ------
    InvalidInputError
        If a named one is not there or too few remain on either side.
    """
    present = np.unique(units)
    if validation.share is None:
        chosen = np.unique(validation.named)
        unknown = np.setdiff1d(chosen, present)
        if len(unknown):
            raise InvalidInputError(
                f"validation must name {units_are}. Got {unknown[:5].tolist()}, which "
                "are not there."
            )
    else:
        count = max(at_least, round(validation.share * len(present)))
        chosen = np.random.RandomState(seed).permutation(present)[:count]
    kept = len(present) - len(chosen)
    if len(chosen) < at_least or kept < at_least:
        raise InvalidInputError(
            f"Validation needs at least {at_least} of the {units_are} held out and as "
            f"many to train on. Got {len(chosen)} held out and {kept} to train on; set "
            "validation=None or collect more."
        )
    return chosen
