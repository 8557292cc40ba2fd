"""The group-Lasso SVM as a batched, differentiable layer.

Joins the solvers, which know no autograd, with the implicit function theorem,
which knows no SVM.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..implicit import implicit_root, solve_psd
from ..losses import CrammerSinger
from ..penalties import GroupLasso
from ..solvers import Problem, ReducedSystem, Solution

Solver = Callable[[Problem], Solution]


@dataclass(frozen=True)
class SVMSettings:
    """Regularisation of a group-Lasso SVM, as `GroupLassoSVC` describes it."""

    group_reg: float | Tensor
    ridge_reg: float | Tensor
    relative: bool
    intercept: float
    groups: Tensor | None


def build_problem(
    features: Tensor, targets: Tensor, weights: Tensor, settings: SVMSettings
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
    settings : SVMSettings
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
    problem = Problem(features, targets, weights, CrammerSinger(), penalty)
    lambda1 = settings.group_reg * ones
    if settings.relative:
        lambda1 = lambda1 * lambda1_max(problem)
    return replace(problem, penalty=replace(penalty, lambda1=lambda1)), unit


def lambda1_max(problem: Problem) -> Tensor:
    """A value of lambda1 that switches every penalised feature off.

    W = 0 is optimal if and only if some B with rows in the simplex of the wrong
    classes has ``||(F'R)_g|| <= lambda1`` for every group. The uniform B is one,
    and the only one for two classes: there the bound is the smallest such value.

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


def solve_layer(problem: Problem, solver: Solver) -> Tensor:
    """W of every task, differentiable in features, lambda1, lambda2 and weights.

    Returns
    -------
    Tensor of shape (n_tasks, n_features, n_classes)
    """

    def rebuild(*inputs: Tensor) -> Problem:
        features, lambda1, lambda2, weights = inputs
        penalty = replace(problem.penalty, lambda1=lambda1, lambda2=lambda2)
        targets = problem.targets
        return Problem(features, targets, weights, problem.loss, penalty)

    def solve(*inputs: Tensor) -> tuple[Tensor, Tensor]:
        solution = solver(rebuild(*inputs))
        return solution.coef, solution.dual

    def adjoint(gradient: Tensor, dual: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        return svm_adjoint(gradient, dual, rebuild(*inputs))

    penalty = problem.penalty
    return implicit_root(
        solve,
        adjoint,
        problem.features,
        penalty.lambda1,
        penalty.lambda2,
        problem.weights,
    )


def svm_adjoint(
    gradient: Tensor, dual: Tensor, problem: Problem
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of a loss in F, lambda1, lambda2 and s, given the one in W.

    At the optimum the free entries of every row of B share one value of the
    dual gradient. With M the Jacobian of V -> W(V) at V = F'R and E, H as in
    `ReducedSystem`, the change of B solves a linear system, whose adjoint is ::

        H u = E' S F M G,           U = S E u
        Q   = M (G - F'U),          N = G - F'U
        dF  = R Q' - U W',          ds_i = <y_i - b_i, (F Q)_i>
        dlambda1 = - sum_{g on} w_g <N_g, V_g> / (lambda2 ||V_g||)
        dlambda2 = - <N, W> / lambda2

    Where strict complementarity fails, H may be singular and W is not
    differentiable; the least-norm solution picks one of the limits.

    Parameters
    ----------
    gradient : Tensor of shape (n_tasks, n_features, n_classes)
        Gradient G in W.
    dual : Tensor of shape (n_tasks, n_samples, n_classes)
        Solution B.
    problem : Problem
        The problem that B solves.

    Returns
    -------
    tuple of Tensor
        Gradients in features, lambda1, lambda2 and weights.
    """
    penalty, weights = problem.penalty, problem.weights[..., None]
    features, residual = problem.features, problem.residual(dual)
    correlation = features.mT @ residual
    coef = penalty.conjugate_gradient(correlation)
    # 1. adjoint of the change of B
    system = ReducedSystem(problem, dual, correlation)
    right = weights * (features @ _apply_jacobian(penalty, correlation, gradient))
    coordinates = solve_psd(system.matrix(), system.restrict(right))
    moved = weights * system.extend(coordinates)
    # 2. what reaches V, and from there everything else
    net = gradient - features.mT @ moved
    through = _apply_jacobian(penalty, correlation, net)
    d_features = residual @ through.mT - moved @ coef.mT
    d_weights = ((problem.targets - dual) * (features @ through)).sum(-1)
    d_lambda2 = -(net * coef).sum((-2, -1)) / penalty.lambda2
    return d_features, _d_lambda1(penalty, correlation, net), d_lambda2, d_weights


def _apply_jacobian(penalty: GroupLasso, correlation: Tensor, matrix: Tensor) -> Tensor:
    """M X for X (n_tasks, n_features, n_classes)."""
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
