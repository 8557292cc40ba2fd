"""Pictures of learners and codes, in the manner of scikit-learn's Displays."""

from ._adaptation_curve import AdaptationCurveDisplay
from ._latent_correlation import LatentCorrelationDisplay
from ._latent_traversal import LatentTraversalDisplay
from ._loss_surface import LossSurfaceDisplay
from ._support import SupportDisplay

__all__ = [
    "AdaptationCurveDisplay",
    "LatentCorrelationDisplay",
    "LatentTraversalDisplay",
    "LossSurfaceDisplay",
    "SupportDisplay",
]
