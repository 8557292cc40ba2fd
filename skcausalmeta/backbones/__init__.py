"""Backbones, the modules that turn samples into features, and augmentations."""

from ._augment import (
    Augmentation,
    RandomAffine,
    RandomColor,
    RandomFlip,
    RandomShift,
    build_augmentation,
    named_augmentation,
)
from ._checks import positive_int, positive_ints
from ._contract import Backbone, check_backbone
from ._conv4 import Conv4, Conv4Module
from ._drop_block import DropBlock
from ._factory import (
    Identity,
    build_backbone,
    entry_of,
    is_frozen,
    n_features_out,
    named_backbone,
    run_on_zeros,
    zero_rows,
)
from ._inputs import input_statistics
from ._layout import differentiated_twice
from ._mlp import MLP, MLPModule
from ._prepared_backbone import PreparedBackbone, prepare_backbone
from ._resnet12 import ResNet12, ResNet12Module
from ._row_form import refuse_other_numbers, takes_images, wants_integers

__all__ = [
    "MLP",
    "Augmentation",
    "Backbone",
    "Conv4",
    "Conv4Module",
    "DropBlock",
    "Identity",
    "MLPModule",
    "PreparedBackbone",
    "RandomAffine",
    "RandomColor",
    "RandomFlip",
    "RandomShift",
    "ResNet12",
    "ResNet12Module",
    "build_augmentation",
    "build_backbone",
    "check_backbone",
    "differentiated_twice",
    "entry_of",
    "input_statistics",
    "is_frozen",
    "n_features_out",
    "named_augmentation",
    "named_backbone",
    "positive_int",
    "positive_ints",
    "prepare_backbone",
    "refuse_other_numbers",
    "run_on_zeros",
    "takes_images",
    "wants_integers",
    "zero_rows",
]
