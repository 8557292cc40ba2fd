"""Numbers that judge learners: intervals, calibration, sparsity, codes, shifts."""

from ._attribute_predictability import separated_attribute_predictability
from ._calibration import error_of_confidences, expected_calibration_error
from ._codes import best_matching, check_factors_and_codes, factor_code_correlations
from ._dci import dci_scores
from ._environments import environment_scores, relative_gain, worst_environment_score
from ._interval import mean_confidence_interval, paired_difference
from ._mean_corr_coef import mean_corr_coef
from ._mutual_info_gap import mutual_info_gap
from ._negative_transfer import NegativeTransfer, negative_transfer
from ._r_score import r_score
from ._sparsity import feature_sparsity
from ._spurious import routing_f1, spurious_gradient_share
from ._support_f1 import support_f1

__all__ = [
    "NegativeTransfer",
    "best_matching",
    "check_factors_and_codes",
    "dci_scores",
    "environment_scores",
    "error_of_confidences",
    "expected_calibration_error",
    "factor_code_correlations",
    "feature_sparsity",
    "mean_confidence_interval",
    "mean_corr_coef",
    "mutual_info_gap",
    "negative_transfer",
    "paired_difference",
    "r_score",
    "relative_gain",
    "routing_f1",
    "separated_attribute_predictability",
    "spurious_gradient_share",
    "support_f1",
    "worst_environment_score",
]
