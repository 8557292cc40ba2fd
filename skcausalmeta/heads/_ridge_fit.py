"""Ridge regressions of a batch of tasks, for any targets."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..solvers import (
    RidgeCertificate,
    positive_per_task,
    ridge_certificate,
    solve_ridge,
)


class RidgeRegression(NamedTuple):
    """Solved regressions of a batch of tasks, and the problems they solve."""

    features: Tensor
    targets: Tensor
    weights: Tensor
    lambda2: Tensor
    coef: Tensor
    intercept: Tensor

    def certificate(self) -> RidgeCertificate:
        """Dual point, gap and residual of the weights."""
        return ridge_certificate(*self[:5])


def fit_ridge(
    features: Tensor,
    targets: Tensor,
    weights: Tensor,
    ridge_reg: float | Tensor,
    *,
    relative: bool,
    fit_intercept: bool,
) -> RidgeRegression:
    """Ridge regression as `RidgeHead` describes it, for any targets.

    Parameters
    ----------
    features : Tensor of shape (n_tasks, n_samples, n_features)
        Rows of the tasks.
    targets : Tensor of shape (n_tasks, n_samples, n_outputs)
        Targets.
    weights : Tensor of shape (n_tasks, n_samples)
        Row weights.
    ridge_reg : float or Tensor of shape () or (n_tasks,)
        Strength of the ridge.
    relative : bool
        Whether the strength is in units of the mean squared row norm.
    fit_intercept : bool
        Whether to centre rows and targets and return an intercept.

    Returns
    -------
    RidgeRegression
        Centred features and targets, weights, lambda2, W and b.
    """
    shares = weights / weights.sum(-1, keepdim=True)
    outputs = torch.zeros_like(targets[:, :1])
    middle = torch.zeros_like(features[:, :1])
    if fit_intercept:
        middle = shares[:, None] @ features  # (n_tasks, 1, n_features)
        outputs = shares[:, None] @ targets
        features, targets = features - middle, targets - outputs
    lambda2 = positive_per_task(ridge_reg, "ridge_reg", features)
    if relative:
        squares = (shares * features.square().sum(-1)).sum(-1)
        lambda2 = lambda2 * torch.where(squares > 0, squares, 1.0)
    coef = solve_ridge(features, targets, weights, lambda2)
    intercept = (outputs - middle @ coef)[:, 0]
    return RidgeRegression(features, targets, weights, lambda2, coef, intercept)
