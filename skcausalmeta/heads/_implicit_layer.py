"""A solved head as a differentiable layer, whatever its loss.

Joins the solvers, which know no autograd, with the implicit function theorem,
which knows no loss.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from ..implicit import implicit_root
from ..penalties import GroupLasso
from ..solvers import Problem, Solution

Gradients = tuple[Tensor, Tensor, Tensor, Tensor]


class Solved(NamedTuple):
    """What a backward pass needs of a solution."""

    dual: Tensor  # (n_tasks, n_samples, n_classes)
    support: Tensor  # (n_tasks, n_features), features with a weight


Adjoint = Callable[[Tensor, Solved, Problem], Gradients]


def differentiable_coef(
    problem: Problem, solver: Callable[[Problem], Solution], adjoint: Adjoint
) -> Tensor:
    """W of every task, differentiable in features, lambda1, lambda2 and weights.

    Parameters
    ----------
    problem : Problem
        The batch of problems, with penalty `GroupLasso`.
    solver : callable
        ``solver(problem) -> Solution``.
    adjoint : callable
        ``adjoint(gradient, solved, problem)``: gradients in features, lambda1,
        lambda2 and weights, given the one in W.

    Returns
    -------
    Tensor of shape (n_tasks, n_features, n_classes)
    """

    def rebuild(*inputs: Tensor) -> Problem:
        features, lambda1, lambda2, weights = inputs
        penalty = replace(problem.penalty, lambda1=lambda1, lambda2=lambda2)
        return replace(problem, features=features, weights=weights, penalty=penalty)

    def solve(*inputs: Tensor) -> tuple[Tensor, Solved]:
        solution = solver(rebuild(*inputs))
        support = (solution.coef != 0).any(-1)
        return solution.coef, Solved(solution.dual, support)

    def backward(
        gradient: Tensor, solved: Solved, *inputs: Tensor
    ) -> tuple[Tensor, ...]:
        return adjoint(gradient, solved, rebuild(*inputs))

    penalty = problem.penalty
    inputs = problem.features, penalty.lambda1, penalty.lambda2, problem.weights
    return implicit_root(solve, backward, *inputs)


def gradients_of_inputs(
    gradient: Tensor, dual: Tensor, problem: Problem, moved: Tensor
) -> Gradients:
    """Gradients in F, lambda1, lambda2 and s, once the change of B is accounted for.

    With U the adjoint of the change of S B, M the Jacobian of V -> W(V) at
    V = F'R, and G the gradient in W ::

        N   = G - F'U,              Q = M N
        dF  = R Q' - U W',          ds_i = <y_i - b_i, (F Q)_i>
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
        Gradients in features, lambda1, lambda2 and weights.
    """
    penalty, residual = problem.penalty, problem.residual(dual)
    correlation = problem.correlation(dual)
    coef = penalty.conjugate_gradient(correlation)
    net = gradient - (moved.mT @ problem.features).mT
    through = apply_jacobian(penalty, correlation, net)
    d_features = residual @ through.mT - moved @ coef.mT
    d_weights = ((problem.targets - dual) * (problem.features @ through)).sum(-1)
    d_lambda2 = -(net * coef).sum((-2, -1)) / penalty.lambda2
    return d_features, _d_lambda1(penalty, correlation, net), d_lambda2, d_weights


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
