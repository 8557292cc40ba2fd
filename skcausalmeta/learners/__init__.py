"""Meta-learners: scikit-learn estimators that learn from many tasks."""

from ._sparse_meta import SparseMetaClassifier

__all__ = ["SparseMetaClassifier"]
