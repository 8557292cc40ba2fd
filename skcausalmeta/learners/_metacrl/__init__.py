"""Factors and weights that free a learner of task confounders (MetaCRL)."""

from ._classifier import MetaCRLClassifier
from ._regressor import MetaCRLRegressor

__all__ = [
    "MetaCRLClassifier",
    "MetaCRLRegressor",
]
