"""A learned backbone under sparse, certified heads (Synergies)."""

from ._classifier import SparseMetaClassifier
from ._head_task import HeadTask
from ._regressor import SparseMetaRegressor

__all__ = [
    "HeadTask",
    "SparseMetaClassifier",
    "SparseMetaRegressor",
]
