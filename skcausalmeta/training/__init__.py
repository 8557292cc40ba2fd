"""The skorch nets that train on episodes, and what they are made of."""

from ._checkpoint import TrainingCheckpoint
from ._episode_hook import EpisodeHook, EpisodeOutcome
from ._episodic_net import EpisodicModule, EpisodicNet
from ._head_warmup import HeadWarmup
from ._progress import TaskProgress
from ._regression_net import CodeModule, RegressionNet
from ._rows import RowReader
from ._stream import EpisodeStream

__all__ = [
    "CodeModule",
    "EpisodeHook",
    "EpisodeOutcome",
    "EpisodeStream",
    "EpisodicModule",
    "EpisodicNet",
    "HeadWarmup",
    "RegressionNet",
    "RowReader",
    "TaskProgress",
    "TrainingCheckpoint",
]
