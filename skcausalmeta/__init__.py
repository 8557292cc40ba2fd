"""Few-shot and multi-task learning as scikit-learn estimators."""

from ._version import __version__
from .heads import (
    GroupLassoLogistic,
    GroupLassoSVC,
    GroupLassoSVCCV,
    LassoHead,
    PrototypeHead,
    RidgeHead,
)
from .learners import MTCRLClassifier, MTCRLRegressor, SparseMetaClassifier

__all__ = [
    "GroupLassoLogistic",
    "GroupLassoSVC",
    "GroupLassoSVCCV",
    "LassoHead",
    "MTCRLClassifier",
    "MTCRLRegressor",
    "PrototypeHead",
    "RidgeHead",
    "SparseMetaClassifier",
    "__version__",
]
