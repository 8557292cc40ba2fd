"""The sampler that data asks for."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..exceptions import InvalidInputError
from ._sampler import EpisodeSampler
from ._task_sampler import TaskSampler


def make_sampler(
    y: ArrayLike,
    tasks: ArrayLike | None,
    *,
    regression: bool,
    n_way: int,
    n_shot: int,
    n_query: int,
    random_state: int | np.random.RandomState | None,
    shared_labels: bool = False,
) -> EpisodeSampler | TaskSampler:
    """Episodes of tasks where they are given, of the classes of `y` where not.

    Real targets without tasks are those of a single task.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Classes, or real targets.
    tasks : array-like of shape (n_samples,) or None
        Task of every row. None: episodes are made of the classes of `y`.
    regression : bool
        Whether the targets are real.
    n_way : int
        Classes of an episode; without use where tasks are given or targets are
        real.
    n_shot : int
        Support rows of every class, or of every task for real targets.
    n_query : int
        Query rows, likewise.
    random_state : int, RandomState instance or None
        Source of the draws.
    shared_labels : bool, default=False
        Whether the labels of the tasks are kept: `n_query` query rows of a task in
        all, as it has them, and `n_shot` support rows of each of its classes.

    Returns
    -------
    EpisodeSampler or TaskSampler
        What draws the episodes.

    Raises
    ------
    EpisodeError
        If no class, or no task, has enough rows; see the samplers.
    InvalidInputError
        If the arrays or numbers are not of the kinds above, or labels shall be
        shared by tasks that are not given or have real targets.

    See Also
    --------
    EpisodeSampler : Episodes of classes.
    TaskSampler : Episodes of tasks.

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.episodes import make_sampler
    >>> sampler = make_sampler(
    ...     np.repeat(np.arange(4), 10),
    ...     None,
    ...     regression=False,
    ...     n_way=3,
    ...     n_shot=2,
    ...     n_query=5,
    ...     random_state=0,
    ... )
    >>> (episode,) = sampler.draw(1)
    >>> len(episode.support), len(episode.query)
    (6, 15)
    """
    if shared_labels and (tasks is None or regression):
        got = "real targets" if regression else "tasks=None"
        raise InvalidInputError(
            "shared_labels=True keeps the labels of tasks, so it needs tasks=... of "
            f"classes. Got {got}; leave shared_labels out."
        )
    if tasks is None and not regression:
        return EpisodeSampler(
            y, n_way=n_way, n_shot=n_shot, n_query=n_query, random_state=random_state
        )
    return TaskSampler(
        np.zeros(len(np.asarray(y)), dtype=int) if tasks is None else tasks,
        y,
        n_shot=n_shot,
        n_query=n_query,
        target_type="value" if regression else "class",
        shared_labels=shared_labels,
        natural=0.0,
        random_state=random_state,
    )
