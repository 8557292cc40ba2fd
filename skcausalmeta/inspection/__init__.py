"""Pictures of fitted learners, in the manner of scikit-learn's Displays."""

from ._environment_score import EnvironmentScoreDisplay
from ._routing import RoutingDisplay

__all__ = ["EnvironmentScoreDisplay", "RoutingDisplay"]
