"""Generators with known ground truth and loaders of public data."""

from ._confounded_images import make_confounded_images
from ._confounded_tasks import make_confounded_tasks
from ._dense_scenes import make_dense_scenes
from ._fetch_3dshapes import fetch_3dshapes
from ._few_shot_npz import fetch_omniglot, fetch_tiny_imagenet
from ._multi_mnist import make_multi_mnist
from ._multi_sem import make_multi_sem
from ._public_npz import fetch_mnist, fetch_movielens
from ._rotations import add_rotated_classes
from ._shapes3d import make_shapes3d, render_shapes3d
from ._sparse_classes import make_sparse_classes
from ._sparse_tasks import make_sparse_tasks
from ._wave_tasks import make_harmonic_tasks, make_sinusoid_tasks

__all__ = [
    "add_rotated_classes",
    "fetch_3dshapes",
    "fetch_mnist",
    "fetch_movielens",
    "fetch_omniglot",
    "fetch_tiny_imagenet",
    "make_confounded_images",
    "make_confounded_tasks",
    "make_dense_scenes",
    "make_harmonic_tasks",
    "make_multi_mnist",
    "make_multi_sem",
    "make_shapes3d",
    "make_sinusoid_tasks",
    "make_sparse_classes",
    "make_sparse_tasks",
    "render_shapes3d",
]
