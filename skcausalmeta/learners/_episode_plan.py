"""Plan of the episodes that a learner trains and validates on."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..episodes import Episode, EpisodeSampler, TaskSampler
from ..exceptions import InvalidInputError
from ..training import Validation
from ._episode_sizes import (
    MOST_PER_CLASS,
    MOST_PER_TASK,
    MOST_WAYS,
    EpisodeSizes,
    Serving,
    ValueSizes,
    count_rows,
    fewest_rows,
    in_environments,
    serving_classes,
    serving_tasks,
    serving_whole_tasks,
    shot_and_query,
    typical,
)

_FEWEST_ROWS = 2  # one to learn from and one to be predicted


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
    alike : bool, default=True
        Whether the episodes of a call, a step of training, have sizes that are drawn
        once for all of them. False: each has its own.
    """

    def __init__(
        self,
        sampler: EpisodeSampler | TaskSampler,
        index: NDArray[Any],
        disjoint: bool = True,
        alike: bool = True,
    ) -> None:
        self._sampler, self._index, self._disjoint = sampler, index, disjoint
        self._alike = alike

    def __call__(self, n_episodes: int) -> list[Episode]:
        episodes = self._sampler.draw(n_episodes, alike=self._alike)
        return [self._of_all(episode) for episode in episodes]

    def varied(self) -> EpisodeSource:
        """Return the same source with sizes drawn anew for every episode."""
        return EpisodeSource(self._sampler, self._index, self._disjoint, alike=False)

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

    `n_way` is the most classes of an episode, 0 in regression. `note` tells what is
    too small for the episodes and left out of them, None if nothing is.
    """

    train: EpisodeSource
    valid: EpisodeSource | None
    n_way: int = 0
    note: str | None = None


def plan_episodes(
    y: NDArray[Any],
    tasks: NDArray[Any] | None,
    sizes: EpisodeSizes,
    validation: Validation | None,
    seeds: dict[str, int],
    envs: NDArray[Any] | None = None,
    *,
    shared_labels: bool = False,
    natural: float = 0.5,
    weights: NDArray[Any] | None = None,
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
    shared_labels : bool, default=False
        Whether labels mean the same in all tasks and are kept; needs `tasks`.
    natural : float, default=0.5
        Probability of supports with the class shares of their task, with
        `shared_labels`.
    weights : ndarray of shape (n_samples,) or None, default=None
        Weights of the rows, > 0, by which they are drawn.

    Raises
    ------
    EpisodeError
        If the classes or tasks have too few rows for the sizes.
    """
    if tasks is None:
        units, serving = y, serving_classes(y, sizes)
    elif shared_labels:
        units, serving = tasks, serving_whole_tasks(tasks, _FEWEST_ROWS)
    else:
        units, serving = tasks, serving_tasks(y, tasks, sizes)
    valid_rows = np.zeros(len(y), dtype=bool)
    if validation is not None:
        held_out = choose_held_out(
            units[serving.rows],
            validation,
            at_least=2 if tasks is None else 1,
            seed=seeds["held-out"],
            units_are="classes of y" if tasks is None else "ids of tasks",
            left_out=units[~serving.rows],
        )
        valid_rows = np.isin(units, held_out)

    def source(rows: NDArray[np.bool_], seed: str) -> tuple[EpisodeSource, int]:
        index = np.flatnonzero(rows & serving.rows)
        drawn: dict[str, Any] = {
            "envs": _at(envs, index),
            "sample_weight": _at(weights, index),
            "random_state": seeds[seed],
        }
        if tasks is None:
            return _class_source(y, index, sizes, drawn)
        if shared_labels:
            drawn["natural"] = natural
            return _shared_source(y, tasks, index, sizes, drawn)
        return _task_source(y, tasks, index, sizes, drawn)

    train, way = source(~valid_rows, "episodes")
    if validation is None:
        return EpisodePlan(train, None, way, serving.note)
    valid, valid_way = source(valid_rows, "validation")
    return EpisodePlan(train, valid.varied(), max(way, valid_way), serving.note)


def _class_source(
    y: NDArray[Any], index: NDArray[Any], sizes: EpisodeSizes, drawn: dict[str, Any]
) -> tuple[EpisodeSource, int]:
    """Return a source of episodes of the classes of some rows, and their way."""
    y, envs = y[index], drawn["envs"]
    counts = np.unique(y, return_counts=True)[1]
    auto = sizes.n_way == "auto"
    way = min(MOST_WAYS, len(counts)) if auto else int(sizes.n_way)
    cells = None if envs is None else count_rows(y, envs)[1]
    shot, query = _chosen(sizes, counts, cells, MOST_PER_CLASS)
    sampler = EpisodeSampler(
        y,
        n_way=way,
        n_shot=shot,
        n_query=query,
        unequal=sizes.unequal,
        fewest=fewest_rows(sizes),
        **drawn,
    )
    return EpisodeSource(sampler, index), way


def _task_source(
    y: NDArray[Any],
    tasks: NDArray[Any],
    index: NDArray[Any],
    sizes: EpisodeSizes,
    drawn: dict[str, Any],
) -> tuple[EpisodeSource, int]:
    """Return a source of episodes of the tasks of some rows, and their most classes."""
    y, tasks, envs = y[index], tasks[index], drawn["envs"]
    (of_task, _), counts = count_rows(tasks, y)
    cells = None if envs is None else count_rows(tasks, y, envs)[1]
    shot, query = _chosen(sizes, counts, cells, MOST_PER_CLASS)
    sampler = TaskSampler(
        tasks,
        y,
        n_shot=shot,
        n_query=query,
        unequal=sizes.unequal,
        fewest=fewest_rows(sizes),
        **drawn,
    )
    return EpisodeSource(sampler, index), int(np.bincount(of_task).max())


def _shared_source(
    y: NDArray[Any],
    tasks: NDArray[Any],
    index: NDArray[Any],
    sizes: EpisodeSizes,
    drawn: dict[str, Any],
) -> tuple[EpisodeSource, int]:
    """Return a source of episodes that keep their labels, and the number of labels."""
    classes = np.unique(y)
    y, tasks = y[index], tasks[index]
    shot, _ = shot_and_query(sizes, typical(count_rows(tasks, y)[1]), MOST_PER_CLASS)
    query: Any = sizes.n_query
    if query == "auto":  # of a task
        half = typical(np.unique(tasks, return_counts=True)[1]) // 2
        query = max(1, min(MOST_PER_CLASS[1] * len(classes), half))
    sampler = TaskSampler(
        tasks,
        y,
        n_shot=shot,
        n_query=query,
        unequal=sizes.unequal,
        shared_labels=True,
        classes=classes,
        **drawn,
    )
    return EpisodeSource(sampler, index), len(classes)


def _at(ids: NDArray[Any] | None, index: NDArray[Any]) -> NDArray[Any] | None:
    return None if ids is None else ids[index]


def _chosen(
    sizes: EpisodeSizes | ValueSizes,
    counts: NDArray[Any],
    cells: NDArray[Any] | None,
    most: tuple[int, int],
) -> tuple[Any, int]:
    """Choose the sizes by the rows of classes or tasks, and of their environments."""
    shot, query = shot_and_query(sizes, typical(counts), most)
    if cells is None:
        return shot, query
    return in_environments(sizes, typical(cells), shot, query)


def plan_value_episodes(
    y: NDArray[Any],
    tasks: NDArray[Any] | None,
    sizes: ValueSizes,
    seeds: dict[str, int],
    *,
    validation: Validation | None = None,
    envs: NDArray[Any] | None = None,
    weights: NDArray[Any] | None = None,
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
    weights : ndarray of shape (n_samples,) or None, default=None
        Weights of the rows, > 0, by which they are drawn.

    Raises
    ------
    EpisodeError
        If a task has fewer rows than an episode.
    InvalidInputError
        If too few tasks or rows remain on either side.
    """
    ids = np.zeros(len(y), dtype=np.int64) if tasks is None else tasks
    serving = serving_whole_tasks(ids, sum(fewest_rows(sizes)))
    valid_rows = np.zeros(len(y), dtype=bool)
    if validation is not None:
        valid_rows = _held_out_rows(tasks, serving, validation, seeds["held-out"])

    def source(rows: NDArray[np.bool_], seed: str) -> EpisodeSource:
        index = np.flatnonzero(rows & serving.rows)
        drawn = {
            "envs": _at(envs, index),
            "sample_weight": _at(weights, index),
            "random_state": seeds[seed],
        }
        return _value_source(y, ids, index, sizes, drawn)

    train = source(~valid_rows, "episodes")
    if validation is None:
        return EpisodePlan(train, None, note=serving.note)
    valid = source(valid_rows, "validation").varied()
    return EpisodePlan(train, valid, note=serving.note)


def _held_out_rows(
    tasks: NDArray[Any] | None,
    serving: Serving,
    validation: Validation,
    seed: int,
) -> NDArray[np.bool_]:
    if tasks is None and validation.share is None:
        raise InvalidInputError(
            "validation must name ids of tasks, or be a share. Got ids for a fit "
            "without tasks; pass tasks=..., or validation=0.2 to hold out rows."
        )
    units = np.arange(len(serving.rows)) if tasks is None else tasks
    held_out = choose_held_out(
        units[serving.rows],
        validation,
        at_least=_FEWEST_ROWS if tasks is None else 1,
        seed=seed,
        units_are="ids of tasks" if tasks is not None else "rows",
        left_out=units[~serving.rows],
    )
    return np.isin(units, held_out)


def _value_source(
    y: NDArray[Any],
    ids: NDArray[Any],
    index: NDArray[Any],
    sizes: ValueSizes,
    drawn: dict[str, Any],
) -> EpisodeSource:
    """Return a source of episodes of real targets of some rows."""
    y, ids, envs = y[index], ids[index], drawn["envs"]
    counts = np.unique(ids, return_counts=True)[1]
    cells = None if envs is None else count_rows(ids, envs)[1]
    shot, query = _chosen(sizes, counts, cells, MOST_PER_TASK)
    sampler = TaskSampler(
        ids,
        y,
        n_shot=shot,
        n_query=query,
        target_type="value",
        fewest=fewest_rows(sizes),
        **drawn,
    )
    return EpisodeSource(sampler, index, sizes.disjoint)


def choose_held_out(
    units: NDArray[Any],
    validation: Validation,
    *,
    at_least: int,
    seed: int,
    units_are: str,
    left_out: NDArray[Any],
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
    left_out : ndarray of shape (n_others,)
        Units of rows that no episode is drawn from; they may be named.

    Raises
    ------
    InvalidInputError
        If a named one is not there or too few remain on either side.
    """
    present = np.unique(units)
    if validation.share is None:
        chosen = np.unique(validation.named)
        unknown = np.setdiff1d(chosen, np.concatenate([present, left_out]))
        if len(unknown):
            raise InvalidInputError(
                f"validation must name {units_are}. Got {unknown[:5].tolist()}, which "
                "are not there."
            )
        chosen = np.intersect1d(chosen, present)
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
