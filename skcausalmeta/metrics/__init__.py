"""Numbers that judge learners: intervals, sparsity, environments, spurious features."""

from ._environments import environment_scores, relative_gain, worst_environment_score
from ._interval import mean_confidence_interval, paired_difference
from ._sparsity import feature_sparsity
from ._spurious import routing_f1, spurious_gradient_share

__all__ = [
    "environment_scores",
    "feature_sparsity",
    "mean_confidence_interval",
    "paired_difference",
    "relative_gain",
    "routing_f1",
    "spurious_gradient_share",
    "worst_environment_score",
]
