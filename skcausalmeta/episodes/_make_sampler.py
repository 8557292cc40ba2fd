"""The sampler that data asks for."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

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
) -> EpisodeSampler | TaskSampler:
    """Episodes of tasks where they are given, of the classes of `y` where not.

    Real targets without tasks are those of a single task.
    """
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
        random_state=random_state,
    )
