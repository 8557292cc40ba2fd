"""A learned backbone under sparse, certified heads (Synergies)."""

from ._classifier import SparseMetaClassifier
from ._regressor import SparseMetaRegressor

__all__ = [
    "SparseMetaClassifier",
    "SparseMetaRegressor",
]
