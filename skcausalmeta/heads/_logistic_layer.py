"""Derivative of the group-Lasso logistic regression."""

from __future__ import annotations

import torch
from torch import Tensor

from ..solvers import Problem, SoftmaxSystem
from ._implicit_layer import Gradients, Solved, apply_jacobian, gradients_of_inputs


def logistic_adjoint(gradient: Tensor, solved: Solved, problem: Problem) -> Gradients:
    """Gradients of a loss in F, lambda1, lambda2 and s, given the one in W.

    The solution is the fixed point ``W = W(F'S(Y - softmax(F W)))``. With M the
    Jacobian of V -> W(V) and P, A as in `SoftmaxSystem`, a change of the inputs
    moves S B by ``P dZ``, ``dZ = dF W + F dW``, and the adjoint of that is ::

        U = (I + P A)^-1 P F M G

    the same system as Newton's, with no eigenvalue below 1: the solution is
    differentiable unless some ``||V_g||`` equals its threshold.

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
    dual = solved.dual
    correlation = problem.correlation(dual)
    scores = dual.clamp_min(torch.finfo(dual.dtype).tiny).log()
    system = SoftmaxSystem(problem, scores, correlation)
    through = apply_jacobian(problem.penalty, correlation, gradient)
    moved = system.solve(problem.features @ through)
    return gradients_of_inputs(gradient, dual, problem, moved)
