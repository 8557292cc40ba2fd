"""Backbones, the modules that turn samples into features, and augmentations."""

from ._augment import (
    RandomAffine,
    RandomColor,
    RandomFlip,
    RandomShift,
    build_augmentation,
)
from ._conv4 import Conv4
from ._drop_block import DropBlock
from ._factory import build_backbone
from ._mlp import MLP
from ._resnet12 import ResNet12

__all__ = [
    "MLP",
    "Conv4",
    "DropBlock",
    "RandomAffine",
    "RandomColor",
    "RandomFlip",
    "RandomShift",
    "ResNet12",
    "build_augmentation",
    "build_backbone",
]
