"""A solved group-Lasso classifier as one differentiable operation.

Its small systems are solved in less time than it takes to record, and go back
through, the dozens of small operations that lead from features to a problem and from
its solution to coefficients. These are differentiated by hand here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..implicit import implicit_root
from ..solvers import Problem
from ._group_lasso_problem import Adjoint, Solved, Solver


class Strength(NamedTuple):
    """Numbers that a problem has been built with; see `GroupLassoSettings`."""

    group_reg: float
    ridge_reg: float
    relative: bool
    relative_ridge: bool
    intercept: float


class _State(NamedTuple):
    """What the way back needs of the way forth."""

    problem: Problem
    solved: Solved
    weights_of_columns: Tensor  # (n_tasks, n_columns, n_classes)
    constant: Tensor  # (n_tasks,), value of the last column, 0 without intercept
    middle: Tensor | None  # (n_tasks, 1, n_features), what was taken off


def coefficients(
    build: Callable[..., tuple[Problem, Any]],
    split: Callable[[Tensor, Any], tuple[Tensor, Tensor]],
    solver: Solver,
    adjoint: Adjoint,
    strength: Strength,
    features: Tensor,
    weights: Tensor,
    *offset: Tensor,
) -> tuple[Tensor, Tensor]:
    """Coefficients and intercepts of tasks, differentiable in the tensors given.

    Parameters
    ----------
    build : callable
        ``build(features, weights, *offset) -> (problem, columns)``, by
        `build_group_lasso_problem` on centred features if there is an intercept.
    split : callable
        ``split(weights of columns, columns) -> (coef, intercept)``.
    solver : callable
        ``solver(problem) -> Solution``.
    adjoint : callable
        As for `differentiable_coef`.
    strength : Strength
        Numbers that `build` goes by.
    features : Tensor of shape (n_tasks, n_samples, n_features)
        Rows of the tasks.
    weights : Tensor of shape (n_tasks, n_samples)
        Row weights.
    *offset : Tensor of shape (n_tasks, n_samples, n_classes)
        What is added to the scores, if anything. lambda1 must not depend on it: its
        group_reg is 0.

    Returns
    -------
    tuple of Tensor
        (n_tasks, n_features, n_classes) and (n_tasks, n_classes).
    """

    def solve(*inputs: Tensor) -> tuple[Tensor, _State]:
        problem, columns = build(*inputs)
        solution = solver(problem)
        coef, intercept = split(solution.coef, columns)
        solved = Solved(solution.dual, (solution.coef != 0).any(-1))
        state = _State(problem, solved, solution.coef, columns.constant, columns.middle)
        return torch.cat([coef, intercept[:, None]], dim=1), state

    def backward(
        gradient: Tensor, state: _State, *inputs: Tensor
    ) -> tuple[Tensor | None, ...]:
        return _back(gradient, state, adjoint, strength, *inputs)

    both = implicit_root(solve, backward, features, weights, *offset)
    return both[:, :-1], both[:, -1]


def _back(
    gradient: Tensor,
    state: _State,
    adjoint: Adjoint,
    strength: Strength,
    features: Tensor,
    weights: Tensor,
    *offset: Tensor,
) -> tuple[Tensor | None, ...]:
    """Gradients in features, weights and offset, given the one in the root."""
    problem, n_features = state.problem, features.shape[-1]
    d_coef, d_intercept = gradient[:, :-1], gradient[:, -1:]
    d_middle, d_constant = None, None
    if state.middle is not None:
        # intercept = constant * last weights - middle @ coef
        own = state.weights_of_columns
        d_middle = -d_intercept @ own[:, :n_features].mT
        d_constant = (d_intercept * own[:, -1:]).sum((-2, -1))
        d_coef = torch.cat(
            [
                d_coef - state.middle.mT @ d_intercept,
                state.constant[:, None, None] * d_intercept,
            ],
            dim=1,
        )
    d_columns, d_lambda1, d_lambda2, d_weights, d_offset = adjoint(
        d_coef, state.solved, problem
    )
    if strength.relative and strength.group_reg:
        d_columns, d_weights = _through_largest(
            problem, strength.group_reg * d_lambda1, d_columns, d_weights
        )
    d_rows = d_columns[..., :n_features]
    if d_constant is not None:
        d_constant = d_constant + d_columns[..., -1].sum(-1)
    if strength.relative and strength.relative_ridge:
        d_square = strength.ridge_reg * d_lambda2
        if d_constant is not None:
            # constant = intercept * sqrt(square)
            square = problem.penalty.lambda2 / strength.ridge_reg
            d_square = d_square + d_constant * strength.intercept / (2 * square.sqrt())
        rows = problem.features[..., :n_features]
        d_rows, d_weights = _through_square(rows, weights, d_square, d_rows, d_weights)
    if state.middle is not None:
        d_rows, d_weights = _through_centre(
            features, problem, weights, d_middle, d_rows, d_weights
        )
    return d_rows, d_weights, *((d_offset,) if offset else ())


def _through_largest(
    problem: Problem, d_largest: Tensor, d_columns: Tensor, d_weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Add what comes by ``max_g ||(F'R)_g|| / w_g`` at the start; ties share it."""
    penalty = problem.penalty
    gap = problem.targets - problem.start()
    residual = problem.weights[..., None] * gap
    correlation = (residual.mT @ problem.features).mT
    norms = penalty.group_norms(correlation)
    factors = torch.ones_like(norms)
    if penalty.group_weights is not None:
        given = penalty.group_weights.expand_as(norms)
        held = given > 0
        factors = torch.where(held, 1.0 / torch.where(held, given, 1.0), 0.0)
    sizes = norms * factors
    first = (sizes == sizes.amax(-1, keepdim=True)) & (sizes > 0)
    count = first.sum(-1, keepdim=True).clamp_min(1)
    slope = torch.where(first, factors / norms / count, 0.0) * d_largest[:, None]
    turned = penalty.per_feature(slope)[..., None] * correlation
    through = problem.features @ turned
    return d_columns + residual @ turned.mT, d_weights + (gap * through).sum(-1)


def _through_square(
    rows: Tensor, weights: Tensor, d_square: Tensor, d_rows: Tensor, d_weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Add what comes by the mean squared row norm; a task without signal has none."""
    total = weights.sum(-1, keepdim=True)
    squares = rows.square().sum(-1)
    mean = (weights * squares).sum(-1, keepdim=True) / total
    share = torch.where(mean > 0, d_square[:, None] / total, 0.0)
    d_rows = d_rows + (2.0 * share * weights)[..., None] * rows
    return d_rows, d_weights + share * (squares - mean)


def _through_centre(
    features: Tensor,
    problem: Problem,
    weights: Tensor,
    d_middle: Tensor | None,
    d_rows: Tensor,
    d_weights: Tensor,
) -> tuple[Tensor, Tensor]:
    """From centred to given features; constant columns were set to 0."""
    n_features = features.shape[-1]
    moving = (problem.features[..., :n_features] != 0).any(1, keepdim=True)
    d_rows = torch.where(moving, d_rows, 0.0)
    d_mean = -d_rows.sum(1, keepdim=True)
    if d_middle is not None:
        d_mean = d_mean + d_middle
    total = weights.sum(-1, keepdim=True)
    shares = weights / total
    d_shares = (features @ d_mean.mT)[..., 0]
    centre = (shares * d_shares).sum(-1, keepdim=True)
    d_weights = d_weights + (d_shares - centre) / total
    return d_rows + shares[..., None] * d_mean, d_weights
