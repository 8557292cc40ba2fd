"""Backbones, the modules that turn samples into features, and augmentations."""

from ._augment import (
    Augmentation,
    RandomAffine,
    RandomColor,
    RandomFlip,
    RandomShift,
    build_augmentation,
)
from ._checks import positive_int, positive_ints
from ._conv4 import Conv4
from ._drop_block import DropBlock
from ._factory import build_backbone, n_features_out
from ._layout import differentiated_twice
from ._mlp import MLP
from ._prepared_backbone import PreparedBackbone, prepare_backbone
from ._resnet12 import ResNet12

__all__ = [
    "MLP",
    "Augmentation",
    "Conv4",
    "DropBlock",
    "PreparedBackbone",
    "RandomAffine",
    "RandomColor",
    "RandomFlip",
    "RandomShift",
    "ResNet12",
    "build_augmentation",
    "build_backbone",
    "differentiated_twice",
    "n_features_out",
    "positive_int",
    "positive_ints",
    "prepare_backbone",
]
