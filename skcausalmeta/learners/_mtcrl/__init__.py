"""Multi-task learning with an invariant routing graph (MT-CRL)."""

from ._estimators import MTCRLClassifier, MTCRLRegressor

__all__ = [
    "MTCRLClassifier",
    "MTCRLRegressor",
]
