"""Gradient-based meta-learning and learned update rules (MAML-KFO)."""

from ._check_update_rule import check_update_rule
from ._classifier import MAMLClassifier
from ._kfo import KFOUpdate
from ._regressor import MAMLRegressor
from ._rules import MetaCurvatureUpdate, MetaSGDUpdate
from ._update_rule import SGDUpdate, UpdateRule

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
