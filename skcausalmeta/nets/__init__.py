"""Backbones, the modules that turn samples into features, and augmentations."""

from ._augment import (
    RandomAffine,
    RandomColor,
    RandomFlip,
    RandomShift,
    build_augmentation,
)
from ._checkpoint import TrainingCheckpoint
from ._conv4 import Conv4
from ._drop_block import DropBlock
from ._episode_hook import EpisodeHook, EpisodeOutcome
from ._episodic_net import EpisodicModule, EpisodicNet
from ._experts import ConvExperts, MLPExperts
from ._factory import build_backbone
from ._head_warmup import HeadWarmup
from ._mlp import MLP
from ._multi_task_net import MultiTaskNet, RowStream
from ._progress import TaskProgress
from ._regression_net import CodeModule, RegressionNet
from ._resnet12 import ResNet12
from ._routed_experts import RoutedExperts
from ._rows import RowReader
from ._stream import EpisodeStream

__all__ = [
    "MLP",
    "CodeModule",
    "Conv4",
    "ConvExperts",
    "DropBlock",
    "EpisodeHook",
    "EpisodeOutcome",
    "EpisodeStream",
    "EpisodicModule",
    "EpisodicNet",
    "HeadWarmup",
    "MLPExperts",
    "MultiTaskNet",
    "RandomAffine",
    "RandomColor",
    "RandomFlip",
    "RandomShift",
    "RegressionNet",
    "ResNet12",
    "RoutedExperts",
    "RowReader",
    "RowStream",
    "TaskProgress",
    "TrainingCheckpoint",
    "build_augmentation",
    "build_backbone",
]
