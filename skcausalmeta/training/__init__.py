"""Skorch nets that train on episodes, and their parts."""

from ._apart import apart
from ._base_net import (
    BaseEpisodicNet,
    check_finite_loss,
    check_finite_weights,
    has_batch_norm,
    refuse_infinite_rows,
)
from ._batch_norm import batch_norm_mode, still_statistics
from ._checkpoint import TrainingCheckpoint, WarmStart
from ._class_middle import class_middle
from ._deviation_net import DeviationModule, DeviationNet, deviating_scores, padded
from ._episode_hook import (
    FACT_PREFIX,
    HOOK_SEED,
    EpisodeHook,
    EpisodeOutcome,
    HookedFeatures,
    hooked_features,
)
from ._episodic_net import EpisodicModule, EpisodicNet, first_scale
from ._head_warmup import HeadWarmup
from ._interruption import fitting
from ._options import (
    OPTIMIZERS,
    SGD,
    Adam,
    AdamW,
    Training,
    TrainingSettings,
    Validation,
    named_optimizer,
    optimizer_keywords,
)
from ._pooled import PooledData, PooledModel, PooledModels, fit_pooled, scores_of
from ._portable_net import PortableNet
from ._progress import TaskProgress
from ._regression_net import CodeModule, RegressionNet
from ._stream import (
    EpisodeStream,
    EpisodeTensors,
    MetaBatch,
    ReadRows,
    RowReader,
    in_blocks,
    in_parts,
    in_passes,
)
from ._strengths import Strengths

__all__ = [
    "FACT_PREFIX",
    "HOOK_SEED",
    "OPTIMIZERS",
    "SGD",
    "Adam",
    "AdamW",
    "BaseEpisodicNet",
    "CodeModule",
    "DeviationModule",
    "DeviationNet",
    "EpisodeHook",
    "EpisodeOutcome",
    "EpisodeStream",
    "EpisodeTensors",
    "EpisodicModule",
    "EpisodicNet",
    "HeadWarmup",
    "HookedFeatures",
    "MetaBatch",
    "PooledData",
    "PooledModel",
    "PooledModels",
    "PortableNet",
    "ReadRows",
    "RegressionNet",
    "RowReader",
    "Strengths",
    "TaskProgress",
    "Training",
    "TrainingCheckpoint",
    "TrainingSettings",
    "Validation",
    "WarmStart",
    "apart",
    "batch_norm_mode",
    "check_finite_loss",
    "check_finite_weights",
    "class_middle",
    "deviating_scores",
    "first_scale",
    "fit_pooled",
    "fitting",
    "has_batch_norm",
    "hooked_features",
    "in_blocks",
    "in_parts",
    "in_passes",
    "named_optimizer",
    "optimizer_keywords",
    "padded",
    "refuse_infinite_rows",
    "scores_of",
    "still_statistics",
]
