"""Base-predictors: scikit-learn estimators and differentiable layers in one."""

from ._check_head import check_head
from ._contract import Head, HeadSolution, takes_offset
from ._group_lasso_logistic import GroupLassoLogistic
from ._group_lasso_path import GroupLassoPath, group_lasso_path
from ._group_lasso_problem import GroupLassoSettings, build_group_lasso_problem
from ._group_lasso_svc import GroupLassoSVC
from ._group_lasso_svc_cv import GroupLassoSVCCV
from ._lasso_head import LassoHead
from ._prototype_head import PrototypeHead
from ._regression_contract import RegressionHead
from ._relaxed_head import RelaxedHead
from ._ridge_heads import RidgeHead, RidgeRegressionHead

__all__ = [
    "GroupLassoLogistic",
    "GroupLassoPath",
    "GroupLassoSVC",
    "GroupLassoSVCCV",
    "GroupLassoSettings",
    "Head",
    "HeadSolution",
    "LassoHead",
    "PrototypeHead",
    "RegressionHead",
    "RelaxedHead",
    "RidgeHead",
    "RidgeRegressionHead",
    "build_group_lasso_problem",
    "check_head",
    "group_lasso_path",
    "takes_offset",
]
