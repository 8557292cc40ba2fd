"""Few-shot and multi-task learning as scikit-learn estimators."""

from ._version import __version__
from .heads import (
    GroupLassoLogistic,
    GroupLassoSVC,
    LassoHead,
    PrototypeHead,
    RidgeHead,
)
from .learners import SparseMetaClassifier

__all__ = [
    "GroupLassoLogistic",
    "GroupLassoSVC",
    "LassoHead",
    "PrototypeHead",
    "RidgeHead",
    "SparseMetaClassifier",
    "__version__",
]
