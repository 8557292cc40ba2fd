"""Few-shot and multi-task learning as scikit-learn estimators."""

from ._version import __version__
from .heads import GroupLassoSVC
from .learners import SparseMetaClassifier

__all__ = ["GroupLassoSVC", "SparseMetaClassifier", "__version__"]
