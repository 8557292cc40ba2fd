"""The skorch nets that train on episodes, and what they are made of."""

from ._batch_norm import batch_norm_mode, still_statistics
from ._checkpoint import TrainingCheckpoint
from ._episode_hook import EpisodeHook, EpisodeOutcome
from ._episodic_net import EpisodicModule, EpisodicNet
from ._head_warmup import HeadWarmup
from ._hook_steps import FACT_PREFIX
from ._locks import module_lock
from ._logit_scale import first_scale
from ._optimizers import (
    OPTIMIZERS,
    SGD,
    Adam,
    AdamW,
    named_optimizer,
    optimizer_keywords,
)
from ._options import Training, TrainingSettings, Validation
from ._progress import TaskProgress
from ._read_rows import ReadRows
from ._regression_net import CodeModule, RegressionNet
from ._rows import RowReader
from ._step_guard import check_finite_loss, check_finite_weights
from ._stream import EpisodeStream, EpisodeTensors, MetaBatch

__all__ = [
    "FACT_PREFIX",
    "OPTIMIZERS",
    "SGD",
    "Adam",
    "AdamW",
    "CodeModule",
    "EpisodeHook",
    "EpisodeOutcome",
    "EpisodeStream",
    "EpisodeTensors",
    "EpisodicModule",
    "EpisodicNet",
    "HeadWarmup",
    "MetaBatch",
    "ReadRows",
    "RegressionNet",
    "RowReader",
    "TaskProgress",
    "Training",
    "TrainingCheckpoint",
    "TrainingSettings",
    "Validation",
    "batch_norm_mode",
    "check_finite_loss",
    "check_finite_weights",
    "first_scale",
    "module_lock",
    "named_optimizer",
    "optimizer_keywords",
    "still_statistics",
]
