"""Offsets of the scores in problems and solvers."""

import pytest
import torch

from skcausalmeta.losses import CrammerSinger, Logistic, Squared
from skcausalmeta.penalties import ElasticNet, GroupLasso, Lasso
from skcausalmeta.solvers import (
    Problem,
    narrow,
    solve_cvxpy,
    solve_fista,
    solve_lasso,
    solve_newton,
    solve_proximal_gradient,
    solve_softmax_newton,
    solve_working_set,
)

LOSSES = {
    CrammerSinger: (solve_newton, solve_fista, solve_cvxpy, solve_working_set),
    Logistic: (solve_softmax_newton, solve_proximal_gradient),
    Squared: (solve_fista, solve_proximal_gradient),
}
PAIRS = [(loss, solver) for loss, solvers in LOSSES.items() for solver in solvers]


def make_problem(loss, lambda1=0.5, n_features=6):
    torch.manual_seed(0)
    n_tasks, n_rows, n_classes = 3, 14, 3
    labels = torch.arange(n_rows).expand(n_tasks, -1) % n_classes
    return Problem(
        torch.randn(n_tasks, n_rows, n_features).double(),
        torch.nn.functional.one_hot(labels, n_classes).double(),
        torch.rand(n_tasks, n_rows).double() + 0.5,
        loss(),
        GroupLasso(
            torch.full((n_tasks,), lambda1).double(),
            torch.full((n_tasks,), 0.7).double(),
        ),
        2 * torch.randn(n_tasks, n_rows, n_classes).double(),
    )


def feasible(problem):
    if isinstance(problem.loss, Squared):
        return torch.randn_like(problem.targets)
    return torch.rand_like(problem.targets).softmax(-1)


@pytest.mark.parametrize("loss", LOSSES)
def test_gap_and_gradient_are_those_of_primal_and_dual(loss):
    problem = make_problem(loss)
    dual = feasible(problem)
    point = problem.evaluate(dual)
    gap = problem.primal(point.coef) - problem.dual(dual)
    torch.testing.assert_close(point.gap, gap)
    assert bool((gap > 0.1).all())
    moved = dual.requires_grad_()
    (slope,) = torch.autograd.grad(problem.dual(moved).sum(), moved)
    for found in (problem.dual_gradient(dual), problem.gradient_at(dual, point)):
        difference = found - slope
        if not isinstance(problem.loss, Squared):  # rows of a simplex sum to 1
            difference = difference - difference.mean(-1, keepdim=True)
        torch.testing.assert_close(difference, torch.zeros_like(slope))
    several = torch.stack([dual, problem.start()], dim=1)
    expected = [problem.dual(part) for part in several.unbind(1)]
    torch.testing.assert_close(problem.dual_of_many(several), torch.stack(expected, 1))


@pytest.mark.parametrize("loss", LOSSES)
def test_the_start_is_the_solution_without_features(loss):
    problem = make_problem(loss, lambda1=1e4)
    point = problem.evaluate(problem.start())
    assert not bool(point.coef.any())
    assert bool((point.relative_gap <= 1e-14).all())


@pytest.mark.parametrize(("loss", "solver"), PAIRS)
def test_solvers_reach_their_gap(loss, solver):
    problem = make_problem(loss)
    solution = solver(problem, tol=1e-8)
    assert bool((solution.relative_gap <= 1e-8).all())
    gap = problem.primal(solution.coef) - problem.dual(solution.dual)
    torch.testing.assert_close(solution.gap, gap, rtol=0, atol=1e-9)
    worse = problem.primal(solution.coef + 0.05 * torch.randn_like(solution.coef))
    assert bool((worse > problem.primal(solution.coef)).all())


@pytest.mark.parametrize("loss", [CrammerSinger, Logistic])
def test_wide_problems_and_pure_ridges(loss):
    solver = {CrammerSinger: solve_newton, Logistic: solve_softmax_newton}[loss]
    for lambda1 in (0.0, 8.0):
        problem = make_problem(loss, lambda1, n_features=300)
        solution = solver(problem, tol=1e-9)
        assert bool((solution.relative_gap <= 1e-9).all())


def test_tasks_precision_and_columns_keep_their_offsets():
    problem = make_problem(Logistic)
    part = problem.select(torch.tensor([2])).to(torch.float32)
    torch.testing.assert_close(part.offset, problem.offset[2:].float())
    mask = torch.ones(3, 6, dtype=torch.bool)
    torch.testing.assert_close(narrow(problem, mask)[0].offset, problem.offset)


@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_a_lasso_with_offset_is_one_on_other_targets(ridge):
    strength = torch.full((3,), 1.0).double()
    penalty = ElasticNet(strength, ridge * strength) if ridge else Lasso(strength)
    problem = make_problem(Squared)
    problem = Problem(*tuple(vars(problem).values())[:4], penalty, problem.offset)
    less = Problem(
        problem.features,
        problem.targets - problem.offset,
        problem.weights,
        problem.loss,
        penalty,
    )
    expected = solve_lasso(less)
    for solver in (solve_lasso, solve_proximal_gradient):
        found = solver(problem, tol=1e-12)
        torch.testing.assert_close(found.coef, expected.coef, rtol=0, atol=1e-5)
        gap = problem.primal(found.coef) - problem.dual(found.dual)
        torch.testing.assert_close(found.gap, gap, rtol=0, atol=1e-9)
    torch.testing.assert_close(solve_lasso(problem).coef, expected.coef)
