"""The group-Lasso classification problem in standard units."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..penalties import GroupLasso
from ..solvers import Problem


@dataclass(frozen=True)
class GroupLassoSettings:
    """Regularisation of a group-Lasso classifier, as its docstring describes it."""

    group_reg: float | Tensor
    ridge_reg: float | Tensor
    relative: bool
    intercept: float
    groups: Tensor | None


def build_problem(
    features: Tensor,
    targets: Tensor,
    weights: Tensor,
    loss: Any,
    settings: GroupLassoSettings,
) -> tuple[Problem, Tensor]:
    """The problem in standard units and the unit of the features.

    With the relative scale, features are divided by their root mean squared
    row norm, so that both regularisations are free of units. Differentiable.

    Parameters
    ----------
    features : Tensor of shape (n_tasks, n_samples, n_features)
        Rows of the tasks.
    targets : Tensor of shape (n_tasks, n_samples, n_classes)
        One-hot targets.
    weights : Tensor of shape (n_tasks, n_samples)
        Row weights.
    loss : object
        Loss of the problem.
    settings : GroupLassoSettings
        Regularisation.

    Returns
    -------
    problem : Problem
        The problem on ``features / unit`` with a constant column appended if
        there is an intercept.
    unit : Tensor of shape (n_tasks,)
        Root mean squared row norm, 1 with the absolute scale.
    """
    unit = features.new_ones(features.shape[0])
    if settings.relative:
        squares = (weights * features.square().sum(-1)).sum(-1) / weights.sum(-1)
        # sqrt has no gradient at 0: a task without any signal keeps its unit.
        unit = torch.where(squares > 0, squares, unit).sqrt()
        features = features / unit[:, None, None]
    group_weights = None
    groups = settings.groups
    if settings.intercept:
        column = features.new_full((*features.shape[:2], 1), settings.intercept)
        features = torch.cat([features, column], dim=-1)
        n_groups = features.shape[-1] - 1
        if groups is not None:
            n_groups = int(groups.max()) + 1
            groups = torch.cat([groups, groups.new_tensor([n_groups])])
        group_weights = features.new_ones(n_groups + 1)
        group_weights[-1] = 0.0
    ones = torch.ones_like(unit)
    penalty = GroupLasso(ones, settings.ridge_reg * ones, groups, group_weights)
    problem = Problem(features, targets, weights, loss, penalty)
    lambda1 = settings.group_reg * ones
    if settings.relative:
        lambda1 = lambda1 * lambda1_max(problem)
    return replace(problem, penalty=replace(penalty, lambda1=lambda1)), unit


def lambda1_max(problem: Problem) -> Tensor:
    """A value of lambda1 that switches every penalised feature off.

    W = 0 is optimal if and only if ``||(F'R)_g|| <= lambda1`` for every group at some
    B that is optimal without features. ``loss.start`` is one. For the logistic
    loss and for two classes it is the only one: there the bound is the smallest
    such value.

    Returns
    -------
    Tensor of shape (n_tasks,)
    """
    penalty = problem.penalty
    correlation = problem.correlation(problem.loss.start(problem.targets))
    norms = penalty.group_norms(correlation)
    if penalty.group_weights is not None:
        norms = norms * penalty.group_weights
    return norms.amax(-1)
