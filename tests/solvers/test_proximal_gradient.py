"""Proximal gradient against scikit-learn, cvxpy and its own certificate."""

from dataclasses import replace

import cvxpy as cp
import numpy as np
import pytest
import torch
from sklearn.linear_model import ElasticNet as SkElasticNet
from sklearn.linear_model import Lasso as SkLasso

from skcausalmeta.losses import CrammerSinger, Squared
from skcausalmeta.penalties import ElasticNet, GroupLasso, Lasso, Ridge
from skcausalmeta.solvers import Problem, solve_proximal_gradient


def make_problem(n_tasks=3, n_samples=20, n_features=8, n_outputs=1, level=0.2, seed=0):
    """Random sparse regressions; row weights sum to 1, as scikit-learn's do."""
    rng = np.random.RandomState(seed)
    features = torch.from_numpy(rng.randn(n_tasks, n_samples, n_features))
    truth = torch.from_numpy(rng.randn(n_tasks, n_features, n_outputs))
    truth[:, 3:] = 0.0
    noise = torch.from_numpy(rng.randn(n_tasks, n_samples, n_outputs))
    targets = features @ truth + 0.3 * noise
    weights = torch.from_numpy(rng.uniform(0.2, 3.0, size=(n_tasks, n_samples)))
    weights[:, ::5] = 0.0
    weights = weights / weights.sum(-1, keepdim=True)
    problem = Problem(features, targets, weights, Squared(), None)
    largest = problem.correlation(torch.zeros_like(targets)).abs().amax((1, 2))
    return replace(problem, penalty=Lasso(level * largest))


def with_ridge(problem, lambda2=0.3):
    lambda1 = problem.penalty.lambda1
    penalty = ElasticNet(lambda1, torch.full((problem.n_tasks,), lambda2).double())
    return replace(problem, penalty=penalty)


def peer_coef(problem, task, output=0):
    """scikit-learn's weights for one output of one task."""
    penalty = problem.penalty
    lambda1 = penalty.lambda1.reshape(problem.n_tasks, -1)[task]
    strong = float(lambda1[output if len(lambda1) > 1 else 0])
    keywords = {"fit_intercept": False, "tol": 1e-13, "max_iter": 10**6}
    if isinstance(penalty, Lasso):
        peer = SkLasso(strong, **keywords)
    else:
        ridge = float(penalty.lambda2[task])
        total = strong + ridge
        peer = SkElasticNet(total, l1_ratio=strong / total, **keywords)
    peer.fit(
        problem.features[task].numpy(),
        problem.targets[task, :, output].numpy(),
        sample_weight=problem.weights[task].numpy(),
    )
    return peer.coef_


@pytest.mark.parametrize("n_features", [8, 40])
@pytest.mark.parametrize("ridge", [False, True])
def test_weights_are_those_of_scikit_learn(n_features, ridge):
    problem = make_problem(n_features=n_features)
    problem = with_ridge(problem) if ridge else problem
    solution = solve_proximal_gradient(problem, tol=1e-14, max_iter=20_000)
    assert float(solution.relative_gap.max()) <= 1e-14
    for task in range(3):
        expected = peer_coef(problem, task)
        np.testing.assert_allclose(solution.coef[task, :, 0], expected, atol=1e-6)


def test_ridge_is_a_linear_system():
    problem = make_problem(n_outputs=2)
    lambda2 = torch.full((3,), 0.4).double()
    problem = replace(problem, penalty=Ridge(lambda2))
    solution = solve_proximal_gradient(problem, tol=1e-14)
    weighted = problem.weights[..., None] * problem.features
    system = weighted.mT @ problem.features + 0.4 * torch.eye(8).double()
    expected = torch.linalg.solve(system, weighted.mT @ problem.targets)
    torch.testing.assert_close(solution.coef, expected, atol=1e-6, rtol=1e-6)


def test_group_lasso_regression_against_cvxpy():
    problem = make_problem(n_tasks=1, n_outputs=3)
    strength = torch.full((1,), 0.5).double()
    problem = replace(problem, penalty=GroupLasso(strength, 0.1 * strength))
    solution = solve_proximal_gradient(problem, tol=1e-9)
    coef = cp.Variable((8, 3))
    residual = problem.features[0].numpy() @ coef - problem.targets[0].numpy()
    rows = cp.sum(cp.square(residual), axis=1) / 2
    value = problem.weights[0].numpy() @ rows
    value += 0.5 * cp.sum(cp.norm(coef, 2, axis=1)) + 0.025 * cp.sum_squares(coef)
    program = cp.Problem(cp.Minimize(value))
    program.solve(solver=cp.CLARABEL)
    assert float(problem.primal(solution.coef)) == pytest.approx(
        program.value, rel=1e-6
    )


@pytest.mark.parametrize("ridge", [False, True])
def test_certificate_is_a_bound_at_any_number_of_steps(ridge):
    problem = make_problem(n_outputs=2)
    problem = with_ridge(problem) if ridge else problem
    exact = solve_proximal_gradient(problem, tol=1e-13, max_iter=20_000)
    best = problem.primal(exact.coef)
    for max_iter in (1, 3, 12):
        rough = solve_proximal_gradient(problem, tol=1e-13, max_iter=max_iter)
        excess = problem.primal(rough.coef) - best
        assert bool((excess > 0).all())
        assert bool((rough.gap >= excess - 1e-12).all())
        assert rough.n_iter.tolist() == [max_iter] * 3
        # the certificate is P(coef) - D(dual), with a feasible dual point
        lower = problem.dual(rough.dual)
        assert bool(torch.isfinite(lower).all())
        torch.testing.assert_close(problem.primal(rough.coef) - lower, rough.gap)


def test_easy_tasks_leave_the_batch_first():
    problem = make_problem()
    largest = problem.penalty.lambda1 / 0.2
    levels = torch.tensor([1.0, 0.5, 1e-3]).double()
    problem = replace(problem, penalty=Lasso(levels * largest))
    solution = solve_proximal_gradient(problem, tol=1e-9)
    first, second, third = solution.n_iter.tolist()
    assert first == 0 < second < third
    assert not bool(solution.coef[0].any())
    alone = solve_proximal_gradient(problem.select(torch.tensor([2])), tol=1e-9)
    torch.testing.assert_close(alone.coef[0], solution.coef[2], atol=1e-10, rtol=1e-8)


def test_warm_start_at_the_solution_takes_no_step():
    problem = make_problem()
    solution = solve_proximal_gradient(problem, tol=1e-8)
    start = solution.coef.clone()
    again = solve_proximal_gradient(problem, tol=1e-8, start=start)
    assert again.n_iter.tolist() == [0, 0, 0]
    assert torch.equal(again.coef, solution.coef)
    assert torch.equal(start, solution.coef)


def test_no_signal_at_all():
    problem = make_problem()
    empty = replace(problem, features=torch.zeros_like(problem.features))
    solution = solve_proximal_gradient(empty)
    assert solution.gap.tolist() == [0.0] * 3
    assert not bool(solution.coef.any())


def test_single_precision():
    problem = make_problem()
    single = Problem(
        problem.features.float(),
        problem.targets.float(),
        problem.weights.float(),
        Squared(),
        Lasso(problem.penalty.lambda1.float()),
    )
    solution = solve_proximal_gradient(single, tol=1e-5)
    assert solution.coef.dtype == torch.float32
    assert float(solution.relative_gap.max()) <= 1e-5


def test_a_loss_that_is_not_smooth_is_refused():
    problem = replace(make_problem(), loss=CrammerSinger())
    with pytest.raises(TypeError, match=r"CrammerSinger, which has no dual_point"):
        solve_proximal_gradient(problem)
