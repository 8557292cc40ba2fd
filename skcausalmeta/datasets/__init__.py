"""Generators with known ground truth and loaders of public data."""

from ._confounded_images import make_confounded_images
from ._confounded_tasks import make_confounded_tasks
from ._data_home import get_data_home
from ._dense_scenes import make_dense_scenes
from ._fetch_3dshapes import fetch_3dshapes
from ._fetch_assays import fetch_tox21, fetch_toxcast
from ._fetch_cifar_fs import fetch_cifar_fs
from ._fetch_mini_imagenet import fetch_mini_imagenet, fetch_tiered_imagenet
from ._fetch_mnist import fetch_mnist
from ._fetch_movielens import fetch_movielens
from ._fetch_omniglot import fetch_omniglot
from ._fetch_school import fetch_school
from ._fetch_tiny_imagenet import fetch_tiny_imagenet
from ._fetch_wisdm import fetch_wisdm
from ._load_digits_few_shot import load_digits_few_shot
from ._load_image_folder import load_image_folder
from ._load_task_frame import load_task_frame
from ._multi_mnist import make_multi_mnist
from ._multi_sem import make_multi_sem
from ._rotations import add_rotated_classes
from ._shapes3d import make_shapes3d, render_shapes3d
from ._shared_tasks import make_shared_tasks
from ._sparse_classes import make_sparse_classes
from ._sparse_tasks import make_sparse_tasks
from ._wave_tasks import make_harmonic_tasks, make_sinusoid_tasks

__all__ = [
    "add_rotated_classes",
    "fetch_3dshapes",
    "fetch_cifar_fs",
    "fetch_mini_imagenet",
    "fetch_mnist",
    "fetch_movielens",
    "fetch_omniglot",
    "fetch_school",
    "fetch_tiered_imagenet",
    "fetch_tiny_imagenet",
    "fetch_tox21",
    "fetch_toxcast",
    "fetch_wisdm",
    "get_data_home",
    "load_digits_few_shot",
    "load_image_folder",
    "load_task_frame",
    "make_confounded_images",
    "make_confounded_tasks",
    "make_dense_scenes",
    "make_harmonic_tasks",
    "make_multi_mnist",
    "make_multi_sem",
    "make_shapes3d",
    "make_shared_tasks",
    "make_sinusoid_tasks",
    "make_sparse_classes",
    "make_sparse_tasks",
    "render_shapes3d",
]
