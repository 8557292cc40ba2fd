"""Few-shot and multi-task learning as scikit-learn estimators."""

from ._version import __version__
from .heads import (
    GroupLassoLogistic,
    GroupLassoSVC,
    GroupLassoSVCCV,
    LassoHead,
    PrototypeHead,
    RelaxedHead,
    RidgeHead,
    RidgeRegressionHead,
)
from .learners import (
    MAMLClassifier,
    MAMLRegressor,
    MTCRLClassifier,
    MTCRLRegressor,
    SparseMetaClassifier,
    SparseMetaRegressor,
)

__all__ = [
    "GroupLassoLogistic",
    "GroupLassoSVC",
    "GroupLassoSVCCV",
    "LassoHead",
    "MAMLClassifier",
    "MAMLRegressor",
    "MTCRLClassifier",
    "MTCRLRegressor",
    "PrototypeHead",
    "RelaxedHead",
    "RidgeHead",
    "RidgeRegressionHead",
    "SparseMetaClassifier",
    "SparseMetaRegressor",
    "__version__",
]
