"""Which episodes a classifier trains and validates on."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..episodes import Episode, EpisodeSampler, TaskSampler
from ..exceptions import EpisodeError, InvalidInputError

_MOST_WAYS, _MOST_SHOTS, _MOST_QUERIES = 5, 5, 10


class EpisodeSizes(NamedTuple):
    """Way, shot and query of the episodes, "auto" where the data decide."""

    n_way: int | str
    n_shot: int | str
    n_query: int | str


class EpisodeSource:
    """Draws episodes of some rows, as episodes of all rows.

    Parameters
    ----------
    sampler : EpisodeSampler or TaskSampler
        Draws from the some.
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
        """What the draws come from."""
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
    held_out: NDArray[Any] | None,
    seeds: dict[str, int],
    envs: NDArray[Any] | None = None,
) -> EpisodePlan:
    """Samplers of training and validation episodes.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
        Class labels.
    tasks : ndarray of shape (n_samples,) or None
        Task ids; None: tasks are drawn from the classes of y.
    sizes : EpisodeSizes
        Way, shot and query.
    held_out : ndarray or None
        Classes (or task ids) for validation.
    seeds : dict
        Seeds named "episodes" and "validation".
    envs : ndarray of shape (n_samples,) or None, default=None
        Environments that support and query shall differ in.

    Raises
    ------
    EpisodeError
        If the classes or tasks have too few rows for the sizes.
    """
    units = y if tasks is None else tasks
    valid_rows = np.zeros(len(y), dtype=bool)
    if held_out is not None:
        valid_rows = np.isin(units, held_out)
    train, way = _source(y, tasks, sizes, ~valid_rows, seeds["episodes"], envs)
    if held_out is None:
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
    """Draws episodes from the marked rows, by indices of all rows; their most ways."""
    index = np.flatnonzero(rows)
    if tasks is None:
        index = index[_usable(y[index], sizes)]
        way, shot, query = _resolve(sizes, y[index], envs=_part(envs, index))
        sampler: Any = EpisodeSampler(
            y[index],
            n_way=way,
            n_shot=shot,
            n_query=query,
            envs=_part(envs, index),
            random_state=seed,
        )
    else:
        pairs = _count_rows(tasks[index], y[index])
        way = int(np.unique(pairs[0][0], return_counts=True)[1].max())
        shot, query = _shot_and_query(sizes, int(pairs[1].min()))
        if envs is not None:
            cells = _count_rows(tasks[index], y[index], envs[index])
            shot, query = _in_environments(sizes, int(cells[1].min()), shot, query)
        sampler = TaskSampler(
            tasks[index],
            y[index],
            n_shot=shot,
            n_query=query,
            envs=_part(envs, index),
            random_state=seed,
        )

    return EpisodeSource(sampler, index), way


def _codes(labels: NDArray[Any]) -> NDArray[Any]:
    return np.unique(labels, return_inverse=True)[1]


def _usable(y: NDArray[Any], sizes: EpisodeSizes) -> NDArray[Any]:
    """With sizes chosen by the data, classes of one row serve no episode."""
    if "auto" not in (sizes.n_shot, sizes.n_query):
        return np.ones(len(y), dtype=bool)
    classes, codes, counts = np.unique(y, return_inverse=True, return_counts=True)
    if (counts >= 2).sum() < 2:
        raise EpisodeError(
            "Episodes need at least 2 classes with 2 rows each. Got "
            f"{int((counts >= 2).sum())} such classes among {len(classes)}; "
            "collect more rows per class."
        )
    return counts[codes] >= 2


def _count_rows(*ids: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Combinations of ids that occur, as columns of codes, and their rows."""
    codes = np.stack([_codes(column) for column in ids])
    found, counts = np.unique(codes, axis=1, return_counts=True)
    return found, counts


def _part(envs: NDArray[Any] | None, index: NDArray[Any]) -> NDArray[Any] | None:
    return None if envs is None else envs[index]


def _resolve(
    sizes: EpisodeSizes, y: NDArray[Any], envs: NDArray[Any] | None
) -> tuple[int, int, int]:
    counts = np.unique(y, return_counts=True)[1]
    way = min(_MOST_WAYS, len(counts)) if sizes.n_way == "auto" else int(sizes.n_way)
    shot, query = _shot_and_query(sizes, int(counts.min()))
    if envs is not None:
        cells = _count_rows(y, envs)
        shot, query = _in_environments(sizes, int(cells[1].min()), shot, query)
    return way, shot, query


def _in_environments(
    sizes: EpisodeSizes, smallest: int, shot: int, query: int
) -> tuple[int, int]:
    """Sizes that are free, no larger than what every environment can give."""
    if sizes.n_shot == "auto":
        shot = min(shot, smallest)
    if sizes.n_query == "auto":
        query = min(query, smallest)
    return shot, query


def _shot_and_query(sizes: EpisodeSizes, smallest: int) -> tuple[int, int]:
    """Half of the smallest class for support, the rest for queries, both capped."""
    shot, query = sizes.n_shot, sizes.n_query
    if shot == "auto":
        rest = smallest // 2 if query == "auto" else smallest - int(query)
        shot = max(1, min(_MOST_SHOTS, rest))
    if query == "auto":
        query = max(1, min(_MOST_QUERIES, smallest - int(shot)))
    return int(shot), int(query)


def choose_held_out(
    units: NDArray[Any],
    *,
    given: ArrayLike | None,
    fraction: float,
    at_least: int,
    seed: int,
    parameter: str,
    units_are: str,
) -> NDArray[Any]:
    """Classes, task ids or rows to hold out for validation.

    Parameters
    ----------
    units : ndarray of shape (n_samples,)
        Class labels, task ids or row numbers.
    given : array-like or None
        The user's choice.
    fraction : float
        Share to draw otherwise.
    at_least : int
        Fewest to hold out and to keep: 2 classes or rows, or 1 task.
    seed : int
        Seed of the draw.
    parameter, units_are : str
        Name of the parameter that gives units, and what they are, for messages.

    Raises
    ------
    InvalidInputError
        If a given one is not there or too few remain on either side.
    """
    present = np.unique(units)
    if given is not None:
        chosen = np.unique(np.asarray(given))
        unknown = np.setdiff1d(chosen, present)
        if len(unknown):
            raise InvalidInputError(
                f"{parameter} must be {units_are}. Got {unknown[:5].tolist()}, which "
                "are not there."
            )
    else:
        count = max(at_least, round(fraction * len(present)))
        chosen = np.random.RandomState(seed).permutation(present)[:count]
    kept = len(present) - len(chosen)
    if len(chosen) < at_least or kept < at_least:
        raise InvalidInputError(
            f"Validation needs at least {at_least} of the {units_are} held out and as "
            f"many to train on. Got {len(chosen)} held out and {kept} to train on; set "
            "early_stopping=False or collect more."
        )
    return chosen
