"""Episodes from data that is already divided into tasks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils._param_validation import (
    Interval,
    StrOptions,
    validate_parameter_constraints,
)

from ..exceptions import EpisodeError, InvalidInputError
from ..utils import named_seeds
from ._environments import check_envs, pairs_of_environments
from ._episode import Episode
from ._rows import check_labels, draw_class_episode, draw_rows, group_rows


@dataclass(frozen=True, eq=False)
class _Task:
    """Rows of one task, divided by class where it has classes."""

    id: Any
    rows: np.ndarray
    classes: np.ndarray | None = None
    class_rows: tuple[np.ndarray, ...] = ()
    # Rows for support and for query, by group, of every ordered pair of environments.
    pairs: tuple[tuple[list[np.ndarray], list[np.ndarray]], ...] = ()


class TaskSampler:
    """Draw few-shot episodes from tasks given by one id per row.

    Every task is a problem of its own, with its own classes or its own real
    target. An episode divides rows of a single task into support and query.
    Tasks may differ in size and in their number of classes.

    Parameters
    ----------
    tasks : array-like of shape (n_samples,)
        Id of the task that each row belongs to.
    y : array-like of shape (n_samples,)
        Label of each row, or real target if `target_type` is "value".
    n_shot : int, default=5
        Number of support rows: of each class of the task, or in total if
        `target_type` is "value".
    n_query : int, default=15
        Number of query rows, counted likewise.
    target_type : {"class", "value"}, default="class"
        "class" re-maps the labels of the task at random in every episode;
        "value" leaves the targets as floats.
    envs : array-like of shape (n_samples,), default=None
        Environment of each row. Given, support and query of an episode come from
        two different environments, in random roles. A task without two
        environments of enough rows is divided at random as without `envs`.
    random_state : int, RandomState instance or None, default=None
        Decides the episodes. With an int, two samplers draw the same sequence.

    Attributes
    ----------
    task_ids : ndarray of shape (n_tasks,)
        Sorted ids of the tasks.

    Raises
    ------
    EpisodeError
        If a task has a single class, or it or one of its classes has fewer than
        ``n_shot + n_query`` rows, or if with `envs` no task has two environments
        of enough rows.
    InvalidInputError
        If `tasks` or `y` is not one-dimensional, holds missing values, or if the
        two differ in length.

    See Also
    --------
    EpisodeSampler : Episodes from the classes of one label vector.

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.episodes import TaskSampler
    >>> tasks = np.repeat(["ann", "bob"], 12)
    >>> y = np.tile(["ham", "spam"], 12)
    >>> sampler = TaskSampler(tasks, y, n_shot=2, n_query=4, random_state=0)
    >>> episode = sampler.sample(task="bob")
    >>> print(episode.task, episode.n_way, episode.n_support, episode.n_query)
    bob 2 4 8
    """

    _parameter_constraints: ClassVar[dict] = {
        "n_shot": [Interval(Integral, 1, None, closed="left")],
        "n_query": [Interval(Integral, 1, None, closed="left")],
        "target_type": [StrOptions({"class", "value"})],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        tasks: ArrayLike,
        y: ArrayLike,
        *,
        n_shot: int = 5,
        n_query: int = 15,
        target_type: str = "class",
        envs: ArrayLike | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        validate_parameter_constraints(
            self._parameter_constraints,
            {
                "n_shot": n_shot,
                "n_query": n_query,
                "target_type": target_type,
                "random_state": random_state,
            },
            caller_name="TaskSampler",
        )
        self.n_shot = n_shot
        self.n_query = n_query
        self.target_type = target_type
        task_labels = check_labels(tasks, "tasks")
        self._y = _check_values(y) if target_type == "value" else check_labels(y, "y")
        if len(task_labels) != len(self._y):
            raise InvalidInputError(
                "tasks and y must have one entry per row each. Got "
                f"{len(task_labels)} task ids and {len(self._y)} targets; take both "
                "from the same rows."
            )
        self._envs = None if envs is None else check_envs(envs, len(self._y))
        self.task_ids, rows_of_tasks = group_rows(task_labels, "tasks")
        self._tasks = [
            self._make_task(task, rows)
            for task, rows in zip(self.task_ids.tolist(), rows_of_tasks, strict=True)
        ]
        if self._envs is not None and not any(task.pairs for task in self._tasks):
            raise EpisodeError(
                "Support and query from different environments need a task with two "
                f"environments of at least n_shot={n_shot} and n_query={n_query} rows "
                "(per class). Got none; lower n_shot or n_query, or leave envs out."
            )
        self._position = {task.id: k for k, task in enumerate(self._tasks)}
        seed = named_seeds(random_state, "episodes")["episodes"]
        self._rng = np.random.default_rng(seed)

    @property
    def generator(self) -> np.random.Generator:
        """Source of all draws: with its state, the episodes go on as before."""
        return self._rng

    def sample(self, task: Any = None) -> Episode:
        """Draw one episode.

        Parameters
        ----------
        task : object, default=None
            Id of the task. None draws one at random.

        Returns
        -------
        episode : Episode
            A fresh episode at every call.

        Raises
        ------
        EpisodeError
            If there is no such task.
        """
        if task is None:
            return self._sample(self._tasks[self._rng.integers(len(self._tasks))])
        if task not in self._position:
            raise EpisodeError(
                f"task must be one of the {len(self._tasks)} ids in task_ids. Got "
                f"{task!r}; the first ids are {self.task_ids.tolist()[:5]!r}."
            )
        return self._sample(self._tasks[self._position[task]])

    def draw(self, n_episodes: int) -> list[Episode]:
        """Draw several episodes in shuffled passes over the tasks.

        Parameters
        ----------
        n_episodes : int
            Number of episodes. Up to n_tasks, no task occurs twice; beyond, every
            task occurs equally often, give or take one.

        Returns
        -------
        episodes : list of Episode
            Fresh episodes at every call.
        """
        n_tasks = len(self._tasks)
        n_passes = -(-n_episodes // n_tasks)
        order = [k for _ in range(n_passes) for k in self._rng.permutation(n_tasks)]
        return [self._sample(self._tasks[k]) for k in order[:n_episodes]]

    def __iter__(self) -> Iterator[Episode]:
        """Yield fresh episodes without end, in shuffled passes over the tasks."""
        while True:
            for k in self._rng.permutation(len(self._tasks)):
                yield self._sample(self._tasks[k])

    def _sample(self, task: _Task) -> Episode:
        pair = None
        if task.pairs:
            pair = task.pairs[self._rng.integers(len(task.pairs))]
        if task.classes is not None:
            return draw_class_episode(
                self._rng,
                task.classes,
                task.class_rows if pair is None else pair[0],
                n_way=len(task.classes),
                n_shot=self.n_shot,
                n_query=self.n_query,
                task=task.id,
                query_rows=None if pair is None else pair[1],
            )
        if pair is None:
            rows = draw_rows(self._rng, task.rows, self.n_shot + self.n_query)
            support, query = rows[: self.n_shot], rows[self.n_shot :]
        else:
            support = draw_rows(self._rng, pair[0][0], self.n_shot)
            query = draw_rows(self._rng, pair[1][0], self.n_query)
        return Episode(
            support=support,
            query=query,
            support_targets=self._y[support],
            query_targets=self._y[query],
            classes=None,
            task=task.id,
        )

    def _make_task(self, task: Any, rows: np.ndarray) -> _Task:
        if self.target_type == "value":
            self._check_size(len(rows), f"task {task!r}")
            return _Task(task, rows, pairs=self._pairs([rows]))
        classes, within = group_rows(self._y[rows], "y")
        if len(classes) < 2:
            raise EpisodeError(
                "Every task must have at least two classes. Got task "
                f"{task!r} with the single class {classes.tolist()[0]!r}; drop the "
                "task."
            )
        for label, members in zip(classes.tolist(), within, strict=True):
            self._check_size(len(members), f"task {task!r}, class {label!r}")
        class_rows = tuple(rows[members] for members in within)
        return _Task(task, rows, classes, class_rows, self._pairs(class_rows))

    def _pairs(
        self, groups: Sequence[np.ndarray]
    ) -> tuple[tuple[list[np.ndarray], list[np.ndarray]], ...]:
        if self._envs is None:
            return ()
        found = pairs_of_environments(groups, self._envs, self.n_shot, self.n_query)
        return tuple(
            (support, query)
            for numbers, support, query in found
            if len(numbers) == len(groups)
        )

    def _check_size(self, n_rows: int, whose: str) -> None:
        if n_rows < self.n_shot + self.n_query:
            unit = "task" if self.target_type == "value" else "class of a task"
            raise EpisodeError(
                f"n_shot + n_query must be at most the rows of every {unit}. Got "
                f"{whose} with {n_rows} rows for n_shot={self.n_shot}, "
                f"n_query={self.n_query}; lower n_shot or n_query, or drop the task."
            )


def _check_values(y: ArrayLike) -> np.ndarray:
    """Return real targets as a float array."""
    try:
        values = np.asarray(y, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            "y must hold numbers when target_type='value'. Got values that do not "
            "convert to float; for labels use target_type='class'."
        ) from error
    if values.ndim != 1:
        raise InvalidInputError(
            "y must be one-dimensional, one target per row. Got shape "
            f"{values.shape}; pass one column."
        )
    if not np.isfinite(values).all():
        raise InvalidInputError(
            "y must be finite. Got "
            f"{np.count_nonzero(~np.isfinite(values))} rows with NaN or infinity; "
            "drop them."
        )
    return values
