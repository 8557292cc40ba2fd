"""Multi-task learning with an invariant routing graph (MT-CRL)."""

from ._estimators import MTCRLClassifier, MTCRLRegressor
from ._experts import ConvExpert, MLPExpert

__all__ = [
    "ConvExpert",
    "MLPExpert",
    "MTCRLClassifier",
    "MTCRLRegressor",
]
