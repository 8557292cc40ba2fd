"""The skorch nets that train on episodes, and what they are made of."""

from ._base_net import BaseEpisodicNet
from ._batch_norm import batch_norm_mode, module_lock, still_statistics
from ._checkpoint import TrainingCheckpoint, WarmStart
from ._episode_hook import (
    FACT_PREFIX,
    EpisodeHook,
    EpisodeOutcome,
    HookedFeatures,
    hooked_features,
)
from ._episodic_net import EpisodicModule, EpisodicNet, first_scale
from ._head_warmup import HeadWarmup
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
from ._regression_net import CodeModule, RegressionNet
from ._rows import ReadRows, RowReader
from ._step_guard import check_finite_loss, check_finite_weights
from ._stream import EpisodeStream, EpisodeTensors, MetaBatch

__all__ = [
    "FACT_PREFIX",
    "OPTIMIZERS",
    "SGD",
    "Adam",
    "AdamW",
    "BaseEpisodicNet",
    "CodeModule",
    "EpisodeHook",
    "EpisodeOutcome",
    "EpisodeStream",
    "EpisodeTensors",
    "EpisodicModule",
    "EpisodicNet",
    "HeadWarmup",
    "HookedFeatures",
    "MetaBatch",
    "ReadRows",
    "RegressionNet",
    "RowReader",
    "TaskProgress",
    "Training",
    "TrainingCheckpoint",
    "TrainingSettings",
    "Validation",
    "WarmStart",
    "batch_norm_mode",
    "check_finite_loss",
    "check_finite_weights",
    "first_scale",
    "hooked_features",
    "module_lock",
    "named_optimizer",
    "optimizer_keywords",
    "still_statistics",
]
