"""Base-predictors: scikit-learn estimators and differentiable layers in one."""

from ._base import HeadSolution
from ._group_lasso_svc import GroupLassoSVC

__all__ = ["GroupLassoSVC", "HeadSolution"]
