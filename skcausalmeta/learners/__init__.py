"""Meta-learners: scikit-learn estimators that learn from many tasks."""

from ._mtcrl import MTCRLClassifier, MTCRLRegressor
from ._rules import KFOUpdate, MetaCurvatureUpdate, MetaSGDUpdate, SGDUpdate
from ._sparse_meta import SparseMetaClassifier
from ._updates import UpdateRule

__all__ = [
    "KFOUpdate",
    "MTCRLClassifier",
    "MTCRLRegressor",
    "MetaCurvatureUpdate",
    "MetaSGDUpdate",
    "SGDUpdate",
    "SparseMetaClassifier",
    "UpdateRule",
]
