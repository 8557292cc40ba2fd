"""Numbers that judge learners: intervals over episodes, sparsity of predictors."""

from ._interval import mean_confidence_interval, paired_difference
from ._sparsity import feature_sparsity

__all__ = ["feature_sparsity", "mean_confidence_interval", "paired_difference"]
