"""Base-predictors: scikit-learn estimators and differentiable layers in one."""

from ._base import HeadSolution
from ._group_lasso_logistic import GroupLassoLogistic
from ._group_lasso_path import GroupLassoPath, group_lasso_path
from ._group_lasso_problem import GroupLassoSettings, build_group_lasso_problem
from ._group_lasso_svc import GroupLassoSVC
from ._group_lasso_svc_cv import GroupLassoSVCCV
from ._lasso_head import LassoHead
from ._prototype_head import PrototypeHead
from ._relaxed_head import RelaxedHead
from ._ridge_head import RidgeHead
from ._ridge_regression_head import RidgeRegressionHead

__all__ = [
    "GroupLassoLogistic",
    "GroupLassoPath",
    "GroupLassoSVC",
    "GroupLassoSVCCV",
    "GroupLassoSettings",
    "HeadSolution",
    "LassoHead",
    "PrototypeHead",
    "RelaxedHead",
    "RidgeHead",
    "RidgeRegressionHead",
    "build_group_lasso_problem",
    "group_lasso_path",
]
