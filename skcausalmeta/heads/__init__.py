"""Base-predictors: scikit-learn estimators and differentiable layers in one."""

from ._base import HeadSolution
from ._group_lasso_logistic import GroupLassoLogistic
from ._group_lasso_svc import GroupLassoSVC
from ._lasso_head import LassoHead
from ._prototype_head import PrototypeHead
from ._ridge_head import RidgeHead

__all__ = [
    "GroupLassoLogistic",
    "GroupLassoSVC",
    "HeadSolution",
    "LassoHead",
    "PrototypeHead",
    "RidgeHead",
]
