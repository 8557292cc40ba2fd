"""Logistic regression by the compiled kernel: certificates in numpy, gradients."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from scipy.special import log_softmax, xlogy

from skcausalmeta.heads._group_lasso_logistic import logistic_adjoint
from skcausalmeta.heads._group_lasso_problem import Solved
from skcausalmeta.losses import Logistic, Squared
from skcausalmeta.solvers import (
    _auto,
    _compiled_solver,
    compiled_applies,
    compiled_gradients,
    has_compiled_solver,
    solve_auto,
    solve_compiled,
    solve_softmax_newton,
)
from skcausalmeta.solvers._compiled import kernel
from tests.solvers.test_compiled_solver import (
    N_EXAMPLES,
    PROBLEMS,
    any_threads,  # noqa: F401
    draw_problem,
    fields,
    instructions,
)

TOL = 1e-6


def draw_logistic(seed, *shape, level=0.2, **options):
    """The problem of `draw_problem` with the logistic loss; `level` as there."""
    problem = replace(draw_problem(seed, *shape, level=1.0, **options), loss=Logistic())
    norms = problem.penalty.group_norms(problem.correlation(problem.start()))
    if problem.penalty.group_weights is not None:
        norms = norms * problem.penalty.group_weights
    penalty = replace(problem.penalty, lambda1=level * norms.amax(-1))
    return replace(problem, penalty=penalty)


def numpy_objectives(problem, coef, dual, task=0):
    """P(W) and D(B), written down from the formulas, and W(B)."""
    rows, targets = problem.features[task].numpy(), problem.targets[task].numpy()
    weights, penalty = problem.weights[task].numpy(), problem.penalty
    offset = 0.0 if problem.offset is None else problem.offset[task].numpy()
    lambda1, lambda2 = float(penalty.lambda1[task]), float(penalty.lambda2[task])
    groups = np.arange(rows.shape[1])
    if penalty.groups is not None:
        groups = penalty.groups.numpy()
    thresholds = np.full(groups.max() + 1, lambda1)
    if penalty.group_weights is not None:
        thresholds = lambda1 * penalty.group_weights.numpy()

    def norms(matrix):
        return np.sqrt(np.bincount(groups, (matrix**2).sum(1), len(thresholds)))

    losses = -(targets * log_softmax(rows @ coef + offset, axis=1)).sum(1)
    primal = weights @ losses + lambda2 / 2 * (coef**2).sum() + thresholds @ norms(coef)
    correlation = rows.T @ (weights[:, None] * (targets - dual))
    size = norms(correlation)
    excess = np.maximum(size - thresholds, 0.0)
    share = (-xlogy(dual, dual) + (dual - targets) * offset).sum(1)
    value = weights @ share - (excess**2).sum() / (2 * lambda2)
    factor = excess / np.where(size > 0, size, 1.0) / lambda2
    return primal, value, factor[groups][:, None] * correlation


def assert_certified(problem, solution, tol=TOL):
    for task in range(problem.n_tasks):
        coef, dual = solution.coef[task].numpy(), solution.dual[task].numpy()
        assert np.isfinite(coef).all()
        assert dual.min() >= 0.0
        np.testing.assert_allclose(dual.sum(1), 1.0, rtol=1e-12)
        primal, value, expected = numpy_objectives(problem, coef, dual, task)
        terms = np.abs(problem.features[task].numpy()).T @ problem.weights[task].numpy()
        terms = terms.max() / float(problem.penalty.lambda2[task])
        np.testing.assert_allclose(coef, expected, rtol=1e-9, atol=1e-12 * terms)
        weight = float(problem.weights[task].sum())
        # P and D are sums of many rows of scores: 1e-12 of them is rounding.
        scores = np.abs(problem.features[task].numpy() @ coef).max()
        rounding = 1e-12 * (abs(primal) + weight * (1.0 + scores))
        assert primal - value <= tol * abs(primal) + rounding
        assert float(solution.gap[task]) == pytest.approx(
            primal - value, rel=1e-6, abs=rounding
        )
        assert float(solution.relative_gap[task]) * abs(primal) == pytest.approx(
            float(solution.gap[task]), rel=1e-6, abs=1e-300
        )


@settings(max_examples=N_EXAMPLES, deadline=None, derandomize=True)
@given(PROBLEMS)
def test_random_problems_have_a_true_certificate(drawn):
    problem = draw_logistic(**drawn)
    assert_certified(problem, solve_compiled(problem, tol=TOL))


SHAPES = {
    "more entries than coefficients": (60, 4, 3),
    "more coefficients than entries": (12, 64, 5),
    "narrowed": (25, 300, 4),
    "two classes": (30, 10, 2),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("level", [0.0, 0.2])
@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_the_solution_is_that_of_the_tensor_solver(shape, level, offset):
    options = {"level": level, "offset": offset, "n_tasks": 3, "free": True}
    problem = draw_logistic(0, *SHAPES[shape], weights="uneven", **options)
    found = solve_compiled(problem, tol=1e-12)
    expected = solve_softmax_newton(problem, tol=1e-12)
    assert_certified(problem, found, 1e-12)
    assert float(found.relative_gap.max()) <= 1e-12
    torch.testing.assert_close(found.coef, expected.coef, atol=1e-6, rtol=1e-6)
    # Newton: a few steps whatever the precision of its systems.
    assert int(found.n_iter.max()) <= 15


@pytest.mark.parametrize("tol", [1e-3, 1e-9, 1e-14])
def test_any_tolerance_is_reached(tol):
    problem = draw_logistic(1, 25, 64, 5, n_tasks=4)
    solution = solve_compiled(problem, tol=tol)
    assert_certified(problem, solution, tol)
    assert float(solution.relative_gap.max()) <= tol


@pytest.mark.parametrize("ridge", [1e-4, 1e-6])
@pytest.mark.parametrize("level", [0.0, 0.1])
def test_a_weak_ridge(ridge, level):
    for shape in [(10, 30, 2), (25, 8, 5), (25, 64, 5)]:
        problem = draw_logistic(2, *shape, level=level, ridge=ridge, n_tasks=2)
        assert_certified(problem, solve_compiled(problem))


def test_extreme_row_weights():
    problem = draw_logistic(3, 25, 20, 4, n_tasks=2, level=0.1)
    rng = np.random.RandomState(3)
    weights = torch.from_numpy(10 ** rng.uniform(-3, 3, size=(2, 25)))
    problem = replace(problem, weights=weights)
    assert_certified(problem, solve_compiled(problem))


def test_rows_of_weight_0_answer_by_the_softmax_of_their_scores():
    problem = draw_logistic(4, 20, 8, 3, weights="zeros", offset=0.5)
    solution = solve_compiled(problem, tol=1e-12)
    absent = problem.weights == 0
    assert bool(absent.any())
    expected = problem.scores(solution.coef).softmax(-1)
    torch.testing.assert_close(solution.dual[absent], expected[absent])


def test_a_system_that_is_too_large_is_left_to_tensors():
    problem = draw_logistic(5, 200, 200, 12, level=0.0, ridge=1.0)
    assert 200 * 11 > 1500  # LARGEST_SYSTEM of the kernel
    assert_certified(problem, solve_compiled(problem))


def test_single_precision_agrees_with_double():
    problem = draw_logistic(6, 25, 64, 5, n_tasks=3, offset=0.3, free=True)
    single = problem.to(torch.float32)
    found = solve_compiled(single, tol=1e-5)
    assert found.coef.dtype == found.dual.dtype == torch.float32
    assert float(found.relative_gap.max()) <= 1e-5
    exact = solve_compiled(single.to(torch.float64), tol=1e-10)
    torch.testing.assert_close(found.coef.double(), exact.coef, atol=1e-3, rtol=1e-2)


def test_a_start_is_taken():
    problem = draw_logistic(7, 25, 64, 5, n_tasks=2)
    first = solve_compiled(problem, tol=1e-10)
    again = solve_compiled(problem, tol=1e-9, start=first.dual)
    assert again.n_iter.tolist() == [0, 0]
    torch.testing.assert_close(again.coef, first.coef)


GRADIENTS = {
    "plain": {},
    "many features": {"n_features": 200},
    "no lasso": {"level": 0.0},
    "no lasso, many features": {"level": 0.0, "n_features": 200},
    "groups": {"grouped": True},
    "free": {"free": True, "grouped": True},
    "weights": {"weights": "uneven"},
    "no weight": {"weights": "zeros"},
    "offset": {"offset": 0.5},
    "spoilt": {"spoil": 6},
    "more rows": {"n_rows": 60, "n_features": 4},
    "more rows, groups": {"n_rows": 60, "n_features": 8, "grouped": True},
    "all off": {"level": 2.0},
}


@pytest.mark.skipif(kernel is None, reason="the kernel was not built")
@pytest.mark.parametrize("case", GRADIENTS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_gradients_are_those_of_the_tensor_derivative(case, dtype):
    problem = draw_logistic(0, **({"n_tasks": 4} | GRADIENTS[case])).to(dtype)
    dual = solve_compiled(problem, tol=1e-9).dual
    generator = torch.Generator().manual_seed(0)
    shape = problem.features.shape[0], problem.features.shape[2], 3
    gradient = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    exact = problem.to(torch.float64)
    solved = Solved(dual.double(), exact.coef(dual.double()))
    expected = logistic_adjoint(gradient.double(), solved, exact)
    found = compiled_gradients(problem, dual, gradient)
    tolerance = 1e-9 if dtype == torch.float64 else 1e-4
    for one, other in zip(found, expected, strict=True):
        size = float(other.abs().max())
        assert one.dtype == dtype
        torch.testing.assert_close(
            one.double(), other, atol=tolerance * (1.0 + size), rtol=tolerance
        )


def test_results_do_not_depend_on_the_number_of_threads(any_threads):  # noqa: F811
    problem = draw_logistic(8, 25, 150, 5, n_tasks=9)
    found = []
    for n_threads in (1, 2, 5):
        any_threads(n_threads)
        found.append(fields(solve_compiled(problem)))
    for parts in found[1:]:
        assert all(map(torch.equal, parts, found[0]))


@pytest.mark.parametrize("isa", instructions())
def test_every_set_of_instructions_solves(isa):
    widest = kernel.get_isa()
    narrow = draw_logistic(9, 25, 150, 7, n_tasks=3, spoil=4, weights="uneven")
    tall = draw_logistic(10, 150, 9, 3, n_tasks=2, grouped=True)
    try:
        kernel.set_isa(isa)
        for problem in (narrow, tall):
            assert_certified(problem, solve_compiled(problem))
    finally:
        kernel.set_isa(widest)


def test_auto_takes_the_kernel_where_it_applies(monkeypatch):
    problem = draw_logistic(11)
    assert compiled_applies(problem) == has_compiled_solver()
    expected = solve_compiled if has_compiled_solver() else solve_softmax_newton
    assert _auto._choose(problem, 1e-6) is expected
    assert not compiled_applies(replace(problem, loss=Squared()))
    assert _auto._choose(problem.to(torch.bfloat16), 1e-6) is solve_softmax_newton
    by_tensors = solve_softmax_newton(problem)
    monkeypatch.setattr(_compiled_solver, "kernel", None)
    assert torch.equal(solve_auto(problem).coef, by_tensors.coef)
