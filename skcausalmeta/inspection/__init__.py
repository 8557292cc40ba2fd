"""Pictures of learners, in the manner of scikit-learn's Displays."""

from ._adaptation_curve import AdaptationCurveDisplay
from ._loss_surface import LossSurfaceDisplay

__all__ = ["AdaptationCurveDisplay", "LossSurfaceDisplay"]
