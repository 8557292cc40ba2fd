"""Meta-learners: scikit-learn estimators that learn from many tasks."""

from ._maml import (
    KFOUpdate,
    MAMLClassifier,
    MAMLRegressor,
    MetaCurvatureUpdate,
    MetaSGDUpdate,
    SGDUpdate,
    UpdateRule,
    check_update_rule,
)
from ._metacrl import MetaCRLClassifier, MetaCRLRegressor
from ._mtcrl import ConvExpert, MLPExpert, MTCRLClassifier, MTCRLRegressor
from ._synergies import SparseMetaClassifier, SparseMetaRegressor

__all__ = [
    "ConvExpert",
    "KFOUpdate",
    "MAMLClassifier",
    "MAMLRegressor",
    "MLPExpert",
    "MTCRLClassifier",
    "MTCRLRegressor",
    "MetaCRLClassifier",
    "MetaCRLRegressor",
    "MetaCurvatureUpdate",
    "MetaSGDUpdate",
    "SGDUpdate",
    "SparseMetaClassifier",
    "SparseMetaRegressor",
    "UpdateRule",
    "check_update_rule",
]
