"""Penalties of the base-predictors: value, conjugate, prox and its Jacobian."""

from ._elastic_net import ElasticNet
from ._group_lasso import GroupLasso
from ._lasso import Lasso
from ._ridge import Ridge

__all__ = ["ElasticNet", "GroupLasso", "Lasso", "Ridge"]
