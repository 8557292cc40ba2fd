"""Generators with known ground truth and loaders of public data."""

from ._few_shot_npz import fetch_omniglot, fetch_tiny_imagenet
from ._multi_sem import make_multi_sem
from ._rotations import add_rotated_classes
from ._sparse_classes import make_sparse_classes

__all__ = [
    "add_rotated_classes",
    "fetch_omniglot",
    "fetch_tiny_imagenet",
    "make_multi_sem",
    "make_sparse_classes",
]
