"""Episodes from data that is already divided into tasks."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils._param_validation import (
    Interval,
    StrOptions,
    validate_parameter_constraints,
)

from ..exceptions import EpisodeError, InvalidInputError
from ..utils import few_of, ids_of, named_seeds
from ._environments import WITHOUT_ENVS, check_envs, pairs_of_environments
from ._episode import Episode
from ._row_counts import FEWEST_CONSTRAINT, SHOT_CONSTRAINT, RowCounts
from ._rows import (
    check_labels,
    check_weights,
    draw_class_episode,
    draw_rows,
    group_rows,
)
from ._shared_episode import draw_shared_episode


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

    With `shared_labels` a label means the same in every task. Targets are then the
    numbers of the labels among all labels of the data, in every episode. The query
    is drawn from all rows of the task, so that it has the task's class shares; the
    support is drawn from the rest, and may lack classes. Small tasks and tasks of
    one class take part with what they have.

    Parameters
    ----------
    tasks : array-like of shape (n_samples,)
        Id of the task that each row belongs to.
    y : array-like of shape (n_samples,)
        Label of each row, or real target if `target_type` is "value".
    n_shot : int or pair of int, default=5
        Number of support rows: of each class of the task, or in total if
        `target_type` is "value". A pair (low, high): drawn anew, log-uniformly, one
        number for all episodes of a `draw`.
    n_query : int, default=15
        Number of query rows, counted likewise; with `shared_labels` in total.
    unequal : bool, default=False
        Draw the support rows of a pair `n_shot` anew for every class, so that the
        classes of an episode differ in them; for tasks of classes of their own.
    target_type : {"class", "value"}, default="class"
        "class" re-maps the labels of the task at random in every episode;
        "value" leaves the targets as floats.
    envs : array-like of shape (n_samples,), default=None
        Environment of each row. Given, support and query of an episode come from
        two different environments, in random roles. A task without two
        environments of enough rows is divided at random as without `envs`.
    fewest : pair of int, default=None
        Support and query rows that a class, or a task of real targets, must be able
        to give at the least. What has fewer rows than an episode asks for gives what
        it has. None: `n_shot` and `n_query`; one support row and `n_query` if `n_shot`
        is a pair. With `shared_labels` one and one of a task, whatever this says.
    shared_labels : bool, default=False
        Whether labels mean the same in every task and are kept.
    classes : array-like of shape (n_classes,), default=None
        All labels that the targets are numbered by, with `shared_labels`. None:
        those of `y`.
    natural : float, default=0.5
        With `shared_labels`, the probability that support rows are drawn with the
        task's class shares, ``n_shot`` times the number of its classes in all;
        otherwise `n_shot` rows of each of its classes. Decided once for all episodes
        of a `draw`.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows, > 0. Of the rows of a class, or of a task of real targets
        or shared labels, those of greater weight are drawn more often, for support and
        query alike. None: all as often.
    random_state : int, RandomState instance or None, default=None
        Decides the episodes. With an int, two samplers draw the same sequence.

    Attributes
    ----------
    task_ids : ndarray of shape (n_tasks,)
        Sorted ids of the tasks that episodes are drawn from.
    classes_ : ndarray of shape (n_classes,) or None
        Sorted labels of all tasks, with `shared_labels`; otherwise None.

    Warns
    -----
    UserWarning
        With `shared_labels`, if tasks of a single row are left out.

    Raises
    ------
    EpisodeError
        If a task has a single class, or it or one of its classes has fewer rows than
        `fewest` asks for, without it ``n_shot + n_query``; if with `shared_labels` all
        tasks have a single row, or `classes` lacks a label of `y`; or if with `envs`
        no task has two environments of enough rows.
    InvalidInputError
        If `tasks` or `y` is not one-dimensional, holds missing values, if the two
        differ in length, if a pair is none, if real targets share labels, or if
        `unequal` is asked of real targets or shared labels.

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

    A rare label that means the same to both is kept as number 1:

    >>> sampler = TaskSampler(
    ...     tasks,
    ...     np.where(np.arange(24) % 6, "ham", "spam"),
    ...     n_shot=(1, 4),
    ...     n_query=6,
    ...     shared_labels=True,
    ...     random_state=0,
    ... )
    >>> print(sampler.classes_, sampler.sample().query_targets)
    ['ham' 'spam'] [0 0 1 1 0 0]
    """

    _parameter_constraints: ClassVar[dict] = {
        "n_shot": SHOT_CONSTRAINT,
        "n_query": [Interval(Integral, 1, None, closed="left")],
        "unequal": ["boolean"],
        "target_type": [StrOptions({"class", "value"})],
        "fewest": FEWEST_CONSTRAINT,
        "shared_labels": ["boolean"],
        "classes": ["array-like", None],
        "sample_weight": ["array-like", None],
        "natural": [Interval(Real, 0, 1, closed="both")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        tasks: ArrayLike,
        y: ArrayLike,
        *,
        n_shot: int | tuple[int, int] = 5,
        n_query: int = 15,
        unequal: bool = False,
        target_type: str = "class",
        envs: ArrayLike | None = None,
        fewest: tuple[int, int] | None = None,
        shared_labels: bool = False,
        classes: ArrayLike | None = None,
        natural: float = 0.5,
        sample_weight: ArrayLike | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        validate_parameter_constraints(
            self._parameter_constraints,
            {
                "n_shot": n_shot,
                "n_query": n_query,
                "unequal": unequal,
                "target_type": target_type,
                "fewest": fewest,
                "shared_labels": shared_labels,
                "classes": classes,
                "natural": natural,
                "sample_weight": sample_weight,
                "random_state": random_state,
            },
            caller_name="TaskSampler",
        )
        self.n_shot = n_shot
        self.n_query = n_query
        self.unequal = unequal
        if unequal and (shared_labels or target_type == "value"):
            got = "shared_labels=True" if shared_labels else "target_type='value'"
            raise InvalidInputError(
                "unequal=True draws support rows for every class of a task that has "
                f"classes of its own. Got {got}; leave unequal out."
            )
        self.target_type = target_type
        self.shared_labels = shared_labels
        self.natural = natural
        self._counts = RowCounts(n_shot, n_query, (1, 1) if shared_labels else fewest)
        task_labels = check_labels(ids_of(tasks, "tasks"), "tasks")
        self._y = _check_values(y) if target_type == "value" else check_labels(y, "y")
        if len(task_labels) != len(self._y):
            raise InvalidInputError(
                "tasks and y must have one entry per row each. Got "
                f"{len(task_labels)} task ids and {len(self._y)} targets; take both "
                "from the same rows."
            )
        self._weights = check_weights(sample_weight, len(self._y))
        self._envs = None if envs is None else check_envs(envs, len(self._y))
        self.classes_: np.ndarray | None = None
        if shared_labels:
            self.classes_, self._numbers = self._number_labels(classes)
        ids, rows_of_tasks = group_rows(task_labels, "tasks")
        if shared_labels:
            ids, rows_of_tasks = _with_two_rows(ids, rows_of_tasks)
        self.task_ids = ids
        self._tasks = [
            self._make_task(task, rows)
            for task, rows in zip(ids.tolist(), rows_of_tasks, strict=True)
        ]
        if self._envs is not None and not any(task.pairs for task in self._tasks):
            raise EpisodeError(
                "Support and query from different environments need a task with two "
                f"environments of at least n_shot={n_shot} and n_query={n_query} rows "
                "(per class). Got none; lower n_shot or n_query, or draw "
                f"{WITHOUT_ENVS}."
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
            number = self._rng.integers(len(self._tasks))
            return self._sample(self._tasks[number], *self._draw_sizes())
        if task not in self._position:
            raise EpisodeError(
                f"task must be one of the {len(self._tasks)} ids in task_ids. Got "
                f"{task!r}; the first ids are {self.task_ids.tolist()[:5]!r}."
            )
        return self._sample(self._tasks[self._position[task]], *self._draw_sizes())

    def draw(self, n_episodes: int, *, alike: bool = True) -> list[Episode]:
        """Draw several episodes in shuffled passes over the tasks.

        Parameters
        ----------
        n_episodes : int
            Number of episodes. Up to n_tasks, no task occurs twice; beyond, every
            task occurs equally often, give or take one.
        alike : bool, default=True
            Draw the support rows of a pair `n_shot`, and what `natural` decides, once
            for all these episodes, which then are solved in one batch. False: anew for
            every episode.

        Returns
        -------
        episodes : list of Episode
            Fresh episodes at every call.
        """
        n_tasks = len(self._tasks)
        n_passes = -(-n_episodes // n_tasks)
        order = [k for _ in range(n_passes) for k in self._rng.permutation(n_tasks)]
        sizes = self._draw_sizes() if alike else None
        return [
            self._sample(self._tasks[k], *(sizes or self._draw_sizes()))
            for k in order[:n_episodes]
        ]

    def __iter__(self) -> Iterator[Episode]:
        """Yield fresh episodes without end, in shuffled passes over the tasks."""
        while True:
            for k in self._rng.permutation(len(self._tasks)):
                yield self._sample(self._tasks[k], *self._draw_sizes())

    def _draw_sizes(self) -> tuple[Any, bool]:
        """Draw the support rows, and whether they have the task's class shares.

        None where every class draws its own.
        """
        natural = self.shared_labels and self._rng.random() < self.natural
        if self.unequal:
            return None, natural
        return self._counts.draw_shot(self._rng), natural

    def _sample(self, task: _Task, shot: Any, natural: bool) -> Episode:
        pair = None
        if task.pairs:
            pair = task.pairs[self._rng.integers(len(task.pairs))]
        if self.classes_ is not None:
            return draw_shared_episode(
                self._rng,
                self.classes_,
                self._numbers,
                task.rows if pair is None else pair[0][0],
                counts=self._counts,
                shot=shot,
                natural=natural,
                task=task.id,
                query_rows=None if pair is None else pair[1][0],
                weights=self._weights,
            )
        if task.classes is not None:
            return draw_class_episode(
                self._rng,
                task.classes,
                task.class_rows if pair is None else pair[0],
                n_way=len(task.classes),
                counts=self._counts,
                shot=shot,
                task=task.id,
                query_rows=None if pair is None else pair[1],
                weights=self._weights,
            )
        return self._sample_values(task, shot, pair)

    def _sample_values(self, task: _Task, shot: int, pair: Any) -> Episode:
        if pair is None:
            n_support, n_query = self._counts.divide(len(task.rows), shot)
            rows = draw_rows(self._rng, task.rows, n_support + n_query, self._weights)
            support, query = rows[:n_support], rows[n_support:]
        else:
            support = draw_rows(self._rng, pair[0][0], shot, self._weights)
            query = draw_rows(self._rng, pair[1][0], self.n_query, self._weights)
        return Episode(
            support=support,
            query=query,
            support_targets=self._y[support],
            query_targets=self._y[query],
            classes=None,
            task=task.id,
        )

    def _number_labels(
        self, classes: ArrayLike | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return all labels, and the number of every row's label among them."""
        if self.target_type == "value":
            raise InvalidInputError(
                "shared_labels=True is for labels. Got target_type='value'; real "
                "targets are never re-mapped, so leave shared_labels out."
            )
        present, _ = group_rows(self._y, "y")
        if classes is not None:
            known, _ = group_rows(check_labels(classes, "classes"), "classes")
            unknown = present[~np.isin(present, known)]
            if len(unknown):
                raise EpisodeError(
                    "classes must hold all labels of y. Got rows of "
                    f"{unknown.tolist()[:5]!r}, which it lacks; add them."
                )
            present = known
        return present, np.searchsorted(present, self._y)

    def _make_task(self, task: Any, rows: np.ndarray) -> _Task:
        if self.shared_labels:
            return _Task(task, rows, pairs=self._pairs([rows]))
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
        found = pairs_of_environments(groups, self._envs, self._counts.fewest)
        return tuple(
            (support, query)
            for numbers, support, query in found
            if len(numbers) == len(groups)
        )

    def _check_size(self, n_rows: int, whose: str) -> None:
        if n_rows < self._counts.smallest:
            unit = "task" if self.target_type == "value" else "class of a task"
            raise EpisodeError(
                f"{self._counts.rule} must be at most the rows of every {unit}. Got "
                f"{whose} with {n_rows} rows for n_shot={self.n_shot}, "
                f"n_query={self.n_query}; {self._counts.remedy} drop the task."
            )


def _with_two_rows(
    ids: np.ndarray, rows: list[np.ndarray]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Leave out the tasks that have no row for a query beside the support."""
    small = np.array([len(members) < 2 for members in rows])
    if small.all():
        raise EpisodeError(
            "Episodes need a task with at least 2 rows. Got "
            f"{len(ids)} tasks of a single row; collect more rows per task."
        )
    if small.any():
        warnings.warn(
            "A task needs at least 2 rows to give an episode. Got a single row in "
            f"{few_of(ids[small].tolist())} of {len(ids)} tasks, which are left out; "
            "the others keep their size.",
            UserWarning,
            stacklevel=3,
        )
    return ids[~small], [rows[k] for k in np.flatnonzero(~small)]


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
