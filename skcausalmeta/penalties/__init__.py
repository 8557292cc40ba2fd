"""Penalties of the base-predictors: value, conjugate, prox and its Jacobian."""

from ._group_lasso import GroupLasso

__all__ = ["GroupLasso"]
