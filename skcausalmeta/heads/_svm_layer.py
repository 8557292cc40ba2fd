"""Derivative of the group-Lasso SVM."""

from __future__ import annotations

import torch
from torch import Tensor

from ..implicit import solve_psd
from ..solvers import Problem, ReducedSystem, narrow
from ._implicit_layer import Gradients, Solved, apply_jacobian, gradients_of_inputs


def svm_adjoint(gradient: Tensor, solved: Solved, problem: Problem) -> Gradients:
    """Gradients of a loss in F, lambda1, lambda2 and s, given the one in W.

    At the optimum the free entries of every row of B share one value of the
    dual gradient. With M the Jacobian of V -> W(V) at V = F'R and E, H as in
    `ReducedSystem`, the change of B solves a linear system, whose adjoint is ::

        H u = E' S F M G,           U = S E u

    and `gradients_of_inputs` has what follows from U. Features that are off have
    no curvature and no gradient: they are left out.

    Where strict complementarity fails, H may be singular and W is not
    differentiable; the least-norm solution picks one of the limits.

    Parameters
    ----------
    gradient : Tensor of shape (n_tasks, n_features, n_classes)
        Gradient G in W.
    solved : Solved
        Solution B and the features in use.
    problem : Problem
        The problem that B solves.

    Returns
    -------
    tuple of Tensor
        Gradients in features, lambda1, lambda2 and weights.
    """
    penalty = problem.penalty
    if penalty.groups is not None or not bool((penalty.lambda1 > 0).any()):
        return _adjoint(gradient, solved.dual, problem)
    part, positions, valid = narrow(problem, solved.support)
    rows = positions[..., None].expand(-1, -1, gradient.shape[-1])
    kept = gradient.gather(1, rows) * valid[..., None]
    d_part, *d_others = _adjoint(kept, solved.dual, part)
    columns = positions[:, None, :].expand_as(d_part)
    d_features = torch.zeros_like(problem.features).scatter_add_(2, columns, d_part)
    return d_features, d_others[0], d_others[1], d_others[2]


def _adjoint(gradient: Tensor, dual: Tensor, problem: Problem) -> Gradients:
    weights = problem.weights[..., None]
    correlation = problem.correlation(dual)
    system = ReducedSystem(problem, dual, correlation)
    through = apply_jacobian(problem.penalty, correlation, gradient)
    right = system.restrict(weights * (problem.features @ through))
    moved = weights * system.extend(solve_psd(system.matrix(), right))
    return gradients_of_inputs(gradient, dual, problem, moved)
