"""Few-shot episodes: which rows of the data are support, which are query.

Samplers know labels and task ids only. They return row numbers, so the data
may be an array, a memory map, or a data frame, and is never copied here.
"""

from ._episode import Episode
from ._make_sampler import make_sampler
from ._sampler import EpisodeSampler
from ._task_sampler import TaskSampler

__all__ = [
    "Episode",
    "EpisodeSampler",
    "TaskSampler",
    "make_sampler",
]
