"""The group-Lasso classification problem with its regularisation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..penalties import GroupLasso
from ..solvers import Problem


@dataclass(frozen=True)
class GroupLassoSettings:
    """Regularisation of a group-Lasso classifier.

    Parameters
    ----------
    group_reg : float or Tensor of shape () or (n_tasks,)
        Strength of the group Lasso, >= 0.
    ridge_reg : float or Tensor of shape () or (n_tasks,)
        Strength of the ridge, > 0.
    relative : bool
        Whether the strengths are free of units: `ridge_reg` in units of the mean
        squared row norm, `group_reg` as a share of the smallest strength that
        switches every feature off.
    intercept : float
        Value of the constant column that carries an intercept without a group
        penalty, in units of the root mean squared row norm if `relative`. 0: no
        intercept.
    groups : Tensor of shape (n_features,) or None
        Number of the group of every feature, from 0. None: every feature is a
        group.

    Examples
    --------
    >>> from skcausalmeta.heads import GroupLassoSettings
    >>> settings = GroupLassoSettings(0.1, 1.0, True, 0.0, None)
    >>> settings.group_reg, settings.relative
    (0.1, True)
    """

    group_reg: float | Tensor
    ridge_reg: float | Tensor
    relative: bool
    intercept: float
    groups: Tensor | None


def build_group_lasso_problem(
    features: Tensor,
    targets: Tensor,
    weights: Tensor,
    loss: Any,
    settings: GroupLassoSettings,
) -> tuple[Problem, Tensor]:
    """The problem with lambda1 and lambda2 in the units of the features.

    With the relative scale both are free of units: lambda2 is in units of the
    mean squared row norm, lambda1 a share of `lambda1_max`. Differentiable.

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
        The problem, a constant column appended if there is an intercept.
    constant : Tensor of shape (n_tasks,)
        Value of the constant column, 0 without one.

    Examples
    --------
    One task with two rows. Both features are off from lambda1 = sqrt(2) on; half
    of it is asked for:

    >>> import torch
    >>> from skcausalmeta.heads import GroupLassoSettings, build_group_lasso_problem
    >>> from skcausalmeta.losses import CrammerSinger
    >>> rows = torch.eye(2)[None]
    >>> settings = GroupLassoSettings(0.5, 1.0, True, 0.0, None)
    >>> problem, constant = build_group_lasso_problem(
    ...     rows, rows, torch.ones(1, 2), CrammerSinger(), settings
    ... )
    >>> print([f"{value:.3f}" for value in problem.penalty.lambda1.tolist()])
    ['0.707']
    """
    ones = features.new_ones(features.shape[0])
    square = ones
    if settings.relative:
        norms = torch.linalg.vector_norm(features, dim=-1)
        mean = (weights * norms.square()).sum(-1) / weights.sum(-1)
        # A task without any signal has no unit; sqrt has no gradient at 0.
        square = torch.where(mean > 0, mean, ones)
    constant = settings.intercept * square.sqrt()
    group_weights, groups = None, settings.groups
    if settings.intercept:
        column = constant[:, None, None].expand(-1, features.shape[1], 1)
        features = torch.cat([features, column], dim=-1)
        n_groups = features.shape[-1] - 1
        if groups is not None:
            n_groups = int(groups.max()) + 1
            groups = torch.cat([groups, groups.new_tensor([n_groups])])
        group_weights = features.new_ones(n_groups + 1)
        group_weights[-1] = 0.0
    penalty = GroupLasso(ones, settings.ridge_reg * square, groups, group_weights)
    problem = Problem(features, targets, weights, loss, penalty)
    lambda1 = settings.group_reg * ones
    if settings.relative:
        lambda1 = lambda1 * lambda1_max(problem)
    return replace(problem, penalty=replace(penalty, lambda1=lambda1)), constant


def standardised(problem: Problem) -> tuple[Problem, Tensor]:
    """The problem on rows of a norm near 1, and the unit they had.

    It has the same dual points and objective; its weights are those of the
    problem times the unit. Conic solvers ask for data of moderate size. The unit
    is a power of 2, so that nothing is rounded.
    """
    weights = problem.weights
    squares = (weights * problem.features.square().sum(-1)).sum(-1) / weights.sum(-1)
    squares = torch.where(squares > 0, squares, 1.0)
    unit = torch.ldexp(torch.ones_like(squares), squares.log2().div(2).round())
    penalty = replace(
        problem.penalty,
        lambda1=problem.penalty.lambda1 / unit,
        lambda2=problem.penalty.lambda2 / unit.square(),
    )
    features = problem.features / unit[:, None, None]
    return replace(problem, features=features, penalty=penalty), unit


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
