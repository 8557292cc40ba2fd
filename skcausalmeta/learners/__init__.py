"""Meta-learners: scikit-learn estimators that learn from many tasks."""

from ._maml import MAMLClassifier
from ._maml_regressor import MAMLRegressor
from ._meta_crl import MetaCRLClassifier
from ._meta_crl_regressor import MetaCRLRegressor
from ._mtcrl import MTCRLClassifier, MTCRLRegressor
from ._rules import KFOUpdate, MetaCurvatureUpdate, MetaSGDUpdate, SGDUpdate
from ._sparse_meta import SparseMetaClassifier
from ._sparse_meta_regressor import SparseMetaRegressor
from ._updates import UpdateRule

__all__ = [
    "KFOUpdate",
    "MAMLClassifier",
    "MAMLRegressor",
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
]
