"""Meta-learners: scikit-learn estimators that learn from many tasks."""

from ._classifier import BaseMetaClassifier
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
from ._regressor import BaseMetaRegressor
from ._solved_task import SolvedTask
from ._synergies import SparseMetaClassifier, SparseMetaRegressor

__all__ = [
    "BaseMetaClassifier",
    "BaseMetaRegressor",
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
    "SolvedTask",
    "SparseMetaClassifier",
    "SparseMetaRegressor",
    "UpdateRule",
    "check_update_rule",
]
