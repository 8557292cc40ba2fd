"""Pictures of codes and supports, in the manner of scikit-learn's Displays."""

from ._latent_correlation import LatentCorrelationDisplay
from ._latent_traversal import LatentTraversalDisplay
from ._support import SupportDisplay

__all__ = ["LatentCorrelationDisplay", "LatentTraversalDisplay", "SupportDisplay"]
