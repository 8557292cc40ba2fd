"""Gradient-based meta-learning and learned update rules (MAML-KFO)."""

from ._check_update_rule import check_update_rule
from ._classifier import MAMLClassifier
from ._regressor import MAMLRegressor
from ._rules import KFOUpdate, MetaCurvatureUpdate, MetaSGDUpdate, SGDUpdate
from ._update_rule import UpdateRule

__all__ = [
    "KFOUpdate",
    "MAMLClassifier",
    "MAMLRegressor",
    "MetaCurvatureUpdate",
    "MetaSGDUpdate",
    "SGDUpdate",
    "UpdateRule",
    "check_update_rule",
]
