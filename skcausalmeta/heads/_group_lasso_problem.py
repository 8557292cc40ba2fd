"""The group-Lasso classification problem, and a solution of it as a layer.

Joins the solvers, which know no autograd, with the implicit function theorem,
which knows no loss.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..implicit import implicit_root
from ..penalties import GroupLasso
from ..solvers import Problem, Solution, compiled_applies, compiled_gradients

# Added to the share of a group, so that one that is left out may come back.
_LEAST_SHARE = 0.1

Solver = Callable[[Problem], Solution]
Gradients = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


class Solved(NamedTuple):
    """What a backward pass needs of a solution."""

    dual: Tensor  # (n_tasks, n_samples, n_classes)
    coef: Tensor  # (n_tasks, n_features, n_classes), without a graph

    @property
    def support(self) -> Tensor:
        """Features with a weight, (n_tasks, n_features)."""
        return (self.coef != 0).any(-1)


Adjoint = Callable[[Tensor, Solved, Problem], Gradients]


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
        Whether `group_reg` is a share of the smallest strength that switches every
        feature off.
    intercept : float
        Value of the constant column that carries an intercept without a group
        penalty, in units of the root mean squared row norm if `relative_ridge`. 0:
        no intercept.
    groups : Tensor of shape (n_features,) or None
        Number of the group of every feature, from 0. None: every feature is a
        group.
    relative_ridge : bool, default=True
        Whether `ridge_reg` is in units of the mean squared row norm; counts where
        `relative` is true only.
    group_weights : Tensor of shape (n_groups,) or (n_tasks, n_groups), default=None
        Factors of `group_reg` for the groups, > 0. None: 1 for all.
    private : float, default=0.0
        Square of a feature that every row has for itself, without a group penalty, in
        units of the mean squared row norm if `relative_ridge`. 0: none.
    reg_gradient : bool, default=True
        Whether gradients pass through `lambda1_max` and the mean squared row norm.

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
    relative_ridge: bool = True
    group_weights: Tensor | None = None
    private: float = 0.0
    reg_gradient: bool = True


def build_group_lasso_problem(
    features: Tensor,
    targets: Tensor,
    weights: Tensor,
    loss: Any,
    settings: GroupLassoSettings,
    offset: Tensor | None = None,
) -> tuple[Problem, Tensor]:
    """The problem with lambda1 and lambda2 in the units of the features.

    With the relative scale both are free of units: lambda2 is in units of the
    mean squared row norm, lambda1 a share of `lambda1_max`. Differentiable, with
    these units as constants or not.

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
    offset : Tensor of shape (n_tasks, n_samples, n_classes), default=None
        What is added to the scores. None: 0.

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
    if settings.relative and settings.relative_ridge:
        norms = torch.linalg.vector_norm(features, dim=-1)
        mean = (weights * norms.square()).sum(-1) / weights.sum(-1)
        # A task without any signal has no unit; sqrt has no gradient at 0.
        square = torch.where(mean > 0, mean, ones)
        square = square if settings.reg_gradient else square.detach()
    constant = settings.intercept * square.sqrt()
    group_weights, groups = settings.group_weights, settings.groups
    if settings.private:
        own = torch.eye(features.shape[1]).to(features)
        more = (settings.private * square).sqrt()[:, None, None] * own
        features, groups, group_weights = _beside(features, more, groups, group_weights)
    if settings.intercept:
        column = constant[:, None, None].expand(-1, features.shape[1], 1)
        features, groups, group_weights = _beside(
            features, column, groups, group_weights
        )
    lambda1, lambda2 = settings.group_reg * ones, settings.ridge_reg * square
    none = not isinstance(settings.group_reg, Tensor) and settings.group_reg == 0
    if settings.relative and not none:
        penalty = GroupLasso(ones, lambda2, groups, group_weights)
        problem = Problem(features, targets, weights, loss, penalty, offset)
        with nullcontext() if settings.reg_gradient else torch.no_grad():
            largest = lambda1_max(problem)
        lambda1 = lambda1 * largest
    penalty = GroupLasso(lambda1, lambda2, groups, group_weights)
    return Problem(features, targets, weights, loss, penalty, offset), constant


def _beside(
    features: Tensor, more: Tensor, groups: Tensor | None, weights: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Append columns that the group Lasso leaves alone."""
    n_groups = features.shape[-1] if groups is None else int(groups.max()) + 1
    n_more = more.shape[-1]
    if groups is not None:
        numbers = torch.arange(n_groups, n_groups + n_more, device=groups.device)
        groups = torch.cat([groups, numbers])
    if weights is None:
        weights = features.new_ones(n_groups)
    free = weights.new_zeros(*weights.shape[:-1], n_more)
    return torch.cat([features, more], dim=-1), groups, torch.cat([weights, free], -1)


def reweighted(problem: Problem, coef: Tensor) -> Problem:
    """The problem with weights of the groups by a solution, for an adaptive Lasso.

    With the norms of the groups relative to the largest, ``n_g``, group g gets the
    weight ``1.1 / (n_g + 0.1)``: 1 for the largest, 11 for one that is left out. What
    is not penalised stays so, and lambda1 is as it was.

    Parameters
    ----------
    problem : Problem
        The problem, with penalty `GroupLasso`.
    coef : Tensor of shape (n_tasks, n_features, n_classes)
        Its solution; a constant.

    Returns
    -------
    Problem
    """
    penalty = problem.penalty
    norms = penalty.group_norms(coef.detach())
    weights = penalty.group_weights
    given = torch.ones_like(norms) if weights is None else weights.expand_as(norms)
    largest = torch.where(given > 0, norms, 0.0).amax(-1, keepdim=True)
    shares = norms / torch.where(largest > 0, largest, 1.0)
    factors = torch.where(
        largest > 0, (1 + _LEAST_SHARE) / (shares + _LEAST_SHARE), 1.0
    )
    return replace(problem, penalty=replace(penalty, group_weights=given * factors))


def standardised(problem: Problem) -> tuple[Problem, Tensor]:
    """The problem on rows of a norm near 1, and the unit they had.

    It has the same dual points and objective; its weights are those of the
    problem times the unit. Conic solvers ask for data of moderate size. The unit
    is a power of 2, so that nothing is rounded.
    """
    features, weights = problem.features.detach(), problem.weights.detach()
    squares = (weights * features.square().sum(-1)).sum(-1) / weights.sum(-1)
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

    W = 0 is optimal if and only if ``||(F'R)_g|| <= lambda1 w_g`` for every group at
    some B that is optimal without features. ``problem.start()`` is one. For the
    logistic loss and for two classes it is the only one: there the bound is the
    smallest such value.

    Returns
    -------
    Tensor of shape (n_tasks,)
    """
    penalty = problem.penalty
    correlation = problem.correlation(problem.start())
    norms = penalty.group_norms(correlation)
    if penalty.group_weights is not None:
        held = penalty.group_weights > 0
        norms = norms * held / torch.where(held, penalty.group_weights, 1.0)
    return norms.amax(-1)


def differentiable_coef(problem: Problem, solver: Solver, adjoint: Adjoint) -> Tensor:
    """W of every task, differentiable in everything the problem holds.

    Parameters
    ----------
    problem : Problem
        The batch of problems, with penalty `GroupLasso`.
    solver : callable
        ``solver(problem) -> Solution``.
    adjoint : callable
        ``adjoint(gradient, solved, problem)``: gradients in features, lambda1,
        lambda2, weights and offset, given the one in W.

    Returns
    -------
    Tensor of shape (n_tasks, n_features, n_classes)
    """

    # Tensors of a graph come as inputs; the layer must not keep others of it alive.
    targets, loss = problem.targets, problem.loss
    groups, group_weights = problem.penalty.groups, problem.penalty.group_weights

    def rebuild(*inputs: Tensor) -> Problem:
        features, lambda1, lambda2, weights, *rest = inputs
        penalty = GroupLasso(lambda1, lambda2, groups, group_weights)
        offset = rest[0] if rest else None
        return Problem(features, targets, weights, loss, penalty, offset)

    def solve(*inputs: Tensor) -> tuple[Tensor, Solved]:
        solution = solver(rebuild(*inputs))
        return solution.coef, Solved(solution.dual, solution.coef.detach())

    def backward(
        gradient: Tensor, solved: Solved, *inputs: Tensor
    ) -> tuple[Tensor, ...]:
        return adjoint(gradient, solved, rebuild(*inputs))[: len(inputs)]

    penalty = problem.penalty
    offset = () if problem.offset is None else (problem.offset,)
    inputs = problem.features, penalty.lambda1, penalty.lambda2, problem.weights
    return implicit_root(solve, backward, *inputs, *offset)


def compiled_first(adjoint: Adjoint) -> Adjoint:
    """The compiled kernel where it applies, else the given derivative on tensors."""
    return partial(_compiled_or, adjoint)


def _compiled_or(
    adjoint: Adjoint, gradient: Tensor, solved: Solved, problem: Problem
) -> Gradients:
    if compiled_applies(problem):
        gradients = compiled_gradients(problem, solved.dual, gradient)
        if gradients is not None:
            return gradients
    return adjoint(gradient, solved, problem)


def gradients_of_inputs(
    gradient: Tensor, dual: Tensor, problem: Problem, moved: Tensor
) -> Gradients:
    """Gradients in F, lambda1, lambda2, s and O, once the change of B is known.

    With U the adjoint of the change of S B, M the Jacobian of V -> W(V) at
    V = F'R, and G the gradient in W ::

        N   = G - F'U,              Q = M N
        dF  = R Q' - U W',          ds_i = <y_i - b_i, (F Q)_i>,    dO = -U
        dlambda1 = - sum_{g on} w_g <N_g, V_g> / (lambda2 ||V_g||)
        dlambda2 = - <N, W> / lambda2

    Parameters
    ----------
    gradient : Tensor of shape (n_tasks, n_features, n_classes)
        Gradient G in W.
    dual : Tensor of shape (n_tasks, n_samples, n_classes)
        Solution B.
    problem : Problem
        The problem that B solves.
    moved : Tensor of shape (n_tasks, n_samples, n_classes)
        U.

    Returns
    -------
    tuple of Tensor
        Gradients in features, lambda1, lambda2, weights and offset.
    """
    penalty, residual = problem.penalty, problem.residual(dual)
    correlation = problem.correlation(dual)
    coef = penalty.conjugate_gradient(correlation)
    net = gradient - (moved.mT @ problem.features).mT
    through = apply_jacobian(penalty, correlation, net)
    d_features = residual @ through.mT - moved @ coef.mT
    d_weights = ((problem.targets - dual) * (problem.features @ through)).sum(-1)
    d_lambda2 = -(net * coef).sum((-2, -1)) / penalty.lambda2
    d_lambda1 = _d_lambda1(penalty, correlation, net)
    return d_features, d_lambda1, d_lambda2, d_weights, -moved


def apply_jacobian(penalty: GroupLasso, correlation: Tensor, matrix: Tensor) -> Tensor:
    """M X for X (n_tasks, n_features, n_classes), M the Jacobian of V -> W(V)."""
    scale, rank_one = penalty.jacobian(correlation)
    inner = penalty.sum_groups((correlation * matrix).sum(-1))
    along = penalty.per_feature(rank_one * inner)[..., None] * correlation
    return scale[..., None] * matrix + along


def _d_lambda1(penalty: GroupLasso, correlation: Tensor, net: Tensor) -> Tensor:
    norms, thresholds = penalty.group_norms(correlation), penalty.thresholds()
    inner = penalty.sum_groups((correlation * net).sum(-1))
    on = norms > thresholds
    slope = torch.where(on, inner / torch.where(on, norms, 1.0), 0.0)
    if penalty.group_weights is not None:
        slope = slope * penalty.group_weights
    return -slope.sum(-1) / penalty.lambda2
