"""Pictures of learners and codes, in the manner of scikit-learn's Displays."""

from ._adaptation_curve import AdaptationCurveDisplay
from ._deviation import DeviationDisplay
from ._environment_score import EnvironmentScoreDisplay
from ._factor import FactorDisplay
from ._latent_correlation import LatentCorrelationDisplay
from ._latent_traversal import LatentTraversalDisplay
from ._loss_surface import LossSurfaceDisplay
from ._negative_transfer import NegativeTransferDisplay
from ._routing import RoutingDisplay
from ._support import SupportDisplay

__all__ = [
    "AdaptationCurveDisplay",
    "DeviationDisplay",
    "EnvironmentScoreDisplay",
    "FactorDisplay",
    "LatentCorrelationDisplay",
    "LatentTraversalDisplay",
    "LossSurfaceDisplay",
    "NegativeTransferDisplay",
    "RoutingDisplay",
    "SupportDisplay",
]
