"""The group-Lasso SVM as a batched, differentiable layer.

Joins the solvers, which know no autograd, with the implicit function theorem,
which knows no SVM.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ..implicit import implicit_root, solve_psd
from ..penalties import GroupLasso
from ..solvers import Problem, ReducedSystem, Solution

Solver = Callable[[Problem], Solution]


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
