"""Newton on the scores: certificates on hard problems, dense linear algebra."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.autograd.functional import jacobian

from skcausalmeta.losses import CrammerSinger, Logistic
from skcausalmeta.penalties import GroupLasso, Lasso
from skcausalmeta.solvers import (
    Problem,
    SoftmaxSystem,
    solve_proximal_gradient,
    solve_softmax_newton,
)

MODULE = sys.modules[solve_softmax_newton.__module__]


def draw(way, shot, d, *, n_tasks=2, reg=0.1, ridge=1.0, spread=1.0, seed=0, **extra):
    """Gaussian classes; lambda1 as share of its largest value, lambda2 of row norms."""
    rng = np.random.RandomState(seed)
    labels = np.tile(np.arange(way), shot)
    middles = spread * rng.randn(n_tasks, way, d)
    features = torch.from_numpy(rng.randn(n_tasks, way * shot, d) + middles[:, labels])
    targets = torch.eye(way).double()[labels].expand(n_tasks, -1, -1)
    weights = extra.pop("weights", torch.ones(n_tasks, way * shot).double())
    ones = torch.ones(n_tasks).double()
    problem = Problem(features, targets, weights, Logistic(), GroupLasso(ones, ones))
    penalty = replace(problem.penalty, **extra)
    norms = penalty.group_norms(problem.correlation(problem.loss.start(targets)))
    squares = (weights * features.square().sum(-1)).sum(-1) / weights.sum(-1)
    penalty = replace(penalty, lambda1=reg * norms.amax(-1), lambda2=ridge * squares)
    return replace(problem, penalty=penalty)


def solved(problem, n_steps, tol=1e-10):
    solution = solve_softmax_newton(problem, tol=tol)
    assert bool((solution.relative_gap <= tol).all())
    gap, relative, coef = problem.certificate(solution.dual)
    assert torch.equal(gap, solution.gap)
    assert torch.equal(relative, solution.relative_gap)
    assert torch.equal(coef, solution.coef)
    np.testing.assert_allclose(solution.dual.sum(-1), 1.0, rtol=1e-14)
    assert bool((solution.dual >= 0).all())
    assert int(solution.n_iter.max()) <= n_steps
    return solution


FEW_SHOT = [(5, 1, 64), (5, 5, 512), (5, 5, 1600), (20, 1, 64)]


@pytest.mark.parametrize("size", FEW_SHOT)
@pytest.mark.parametrize("reg", [0.0, 0.1, 0.5, 0.9])
def test_few_shot_problems_take_a_few_steps(size, reg):
    solved(draw(*size, reg=reg), n_steps=5)


@pytest.mark.parametrize("size", FEW_SHOT)
def test_weak_ridge_and_separable_rows(size):
    solved(draw(*size, ridge=1e-2), n_steps=15)
    solved(draw(*size, ridge=1e-4), n_steps=25)
    solved(draw(*size, ridge=1e-6, reg=0.0), n_steps=15)
    solved(draw(*size, ridge=1e-3, spread=10.0), n_steps=15)


def test_ridge_so_weak_that_the_dual_is_nearly_constrained():
    solved(draw(2, 5, 30, ridge=1e-6), n_steps=60)
    solved(draw(2, 100, 5, ridge=1e-4), n_steps=60)


@pytest.mark.parametrize("size", [(5, 1, 64), (2, 100, 5)])
def test_extreme_row_weights(size):
    rng = np.random.RandomState(1)
    weights = torch.from_numpy(10 ** rng.uniform(-3, 3, size=(2, size[0] * size[1])))
    solved(draw(*size, weights=weights), n_steps=15)
    solved(draw(*size, weights=weights, ridge=1e-3), n_steps=60)


def test_repeated_rows_are_weights():
    once = draw(5, 2, 20, ridge=1e-2)
    twice = replace(
        once,
        features=once.features.repeat(1, 2, 1),
        targets=once.targets.repeat(1, 2, 1),
        weights=once.weights.repeat(1, 2) / 2,
    )
    one, two = solved(once, 15, tol=1e-13), solved(twice, 15, tol=1e-13)
    torch.testing.assert_close(one.coef, two.coef, rtol=1e-6, atol=1e-8)


def test_groups_and_a_group_without_penalty():
    groups = torch.arange(30) // 3
    weights = torch.ones(10).double()
    weights[4] = 0.0
    problem = draw(3, 5, 30, reg=0.5, groups=groups, group_weights=weights)
    solution = solved(problem, n_steps=10)
    used = (solution.coef != 0).any(-1).view(2, 10, 3)
    assert torch.equal(used.any(-1), used.all(-1))
    assert bool(used[:, 4].all())
    assert not bool(used.all())


def test_tasks_do_not_meet():
    problem = draw(3, 3, 10, n_tasks=3, reg=0.3)
    features = problem.features.clone()
    features[1] *= 100.0
    problem = replace(problem, features=features)
    together = solved(problem, 60)
    for task in range(3):
        alone = solved(problem.select(torch.tensor([task])), 60)
        torch.testing.assert_close(together.coef[[task]], alone.coef)
        assert int(alone.n_iter) == int(together.n_iter[task])


def test_proximal_gradient_agrees():
    problem = draw(3, 5, 12, reg=0.2)
    one = solved(problem, 10, tol=1e-12)
    two = solve_proximal_gradient(problem, tol=1e-12)
    torch.testing.assert_close(one.coef, two.coef, rtol=1e-4, atol=1e-6)


def test_all_off_takes_no_step_and_below_that_a_feature_is_on():
    problem = draw(4, 3, 10, reg=1.0)
    solution = solve_softmax_newton(problem)
    assert not solution.coef.any()
    assert solution.n_iter.tolist() == [0, 0]
    assert solution.gap.tolist() == [0.0, 0.0]
    on = (solve_softmax_newton(draw(4, 3, 10, reg=0.999), tol=1e-10).coef != 0).any(-1)
    assert on.sum(-1).tolist() == [1, 1]


def test_features_without_signal():
    problem = draw(3, 4, 8)
    nothing = replace(problem, features=torch.zeros_like(problem.features))
    assert not solve_softmax_newton(nothing).coef.any()
    features = problem.features.clone()
    features[..., 2] = 0.0
    coef = solved(replace(problem, features=features), 10).coef
    assert not coef[:, 2].any()
    assert coef.any()


def test_warm_start():
    problem = draw(5, 5, 64, ridge=1e-2)
    first = solved(problem, 15, tol=1e-8)
    again = solve_softmax_newton(problem, tol=1e-8, start=first.dual)
    assert again.n_iter.tolist() == [0, 0]
    assert torch.equal(again.dual, first.dual)
    corner = solve_softmax_newton(problem, tol=1e-8, start=problem.targets)
    assert bool((corner.relative_gap <= 1e-8).all())
    nearby = replace(problem.penalty, lambda1=1.05 * problem.penalty.lambda1)
    nearby = replace(problem, penalty=nearby)
    warm = solve_softmax_newton(nearby, tol=1e-8, start=first.dual)
    assert bool((warm.n_iter < solve_softmax_newton(nearby, tol=1e-8).n_iter).all())


def test_single_precision():
    problem = draw(5, 5, 64)
    single = Problem(
        problem.features.float(),
        problem.targets.float(),
        problem.weights.float(),
        problem.loss,
        GroupLasso(problem.penalty.lambda1.float(), problem.penalty.lambda2.float()),
    )
    solution = solve_softmax_newton(single, tol=1e-5)
    assert solution.coef.dtype == torch.float32
    assert bool((solution.relative_gap <= 1e-5).all())
    double = solved(problem, 10).coef.float()
    torch.testing.assert_close(solution.coef, double, rtol=0.0, atol=5e-3)


def test_large_systems_are_left_to_proximal_gradient(monkeypatch):
    problem = draw(3, 4, 10)
    monkeypatch.setattr(MODULE, "_LARGEST_SYSTEM", 10)
    solution = solve_softmax_newton(problem, tol=1e-8)
    assert bool((solution.relative_gap <= 1e-8).all())
    assert int(solution.n_iter.min()) >= 10


def test_what_newton_cannot_solve_is_left_to_proximal_gradient(monkeypatch):
    problem = draw(2, 40, 5, ridge=1e-3)
    monkeypatch.setattr(MODULE, "_MOST_NEWTON_STEPS", 1)
    solution = solve_softmax_newton(problem, tol=1e-7)
    assert bool((solution.relative_gap <= 1e-7).all())
    stopped = solve_softmax_newton(problem, tol=1e-7, max_iter=1)
    assert bool((stopped.relative_gap > 1e-7).all())
    assert stopped.n_iter.tolist() == [1, 1]


def test_inputs_are_left_alone():
    problem = draw(3, 3, 6)
    start = problem.loss.start(problem.targets)
    copies = [t.clone() for t in (problem.features, problem.weights, start)]
    solve_softmax_newton(problem, start=start)
    for tensor, copy in zip(
        (problem.features, problem.weights, start), copies, strict=True
    ):
        assert torch.equal(tensor, copy)


def test_other_losses_and_penalties_are_refused():
    problem = draw(3, 2, 5)
    with pytest.raises(TypeError, match="CrammerSinger, which has no dual_point"):
        solve_softmax_newton(replace(problem, loss=CrammerSinger()))
    lasso = Lasso(torch.ones(2).double())
    with pytest.raises(TypeError, match=r"needs a penalty with .* Got Lasso"):
        solve_softmax_newton(replace(problem, penalty=lasso))


@pytest.mark.parametrize("groups", [None, torch.arange(12) % 4])
@pytest.mark.parametrize("shot", [1, 20])
def test_system_against_dense_matrices(groups, shot):
    weights = torch.from_numpy(np.random.RandomState(2).uniform(0, 2, (2, 3 * shot)))
    reg = 0.4 if groups is None else 1.0
    problem = draw(3, shot, 12, reg=reg, groups=groups, weights=weights)
    rng = np.random.RandomState(3)
    scores = torch.from_numpy(rng.randn(2, 3 * shot, 3))
    right = torch.from_numpy(rng.randn(2, 3 * shot, 3))
    dual = scores.softmax(-1)
    correlation = problem.correlation(dual)
    system = SoftmaxSystem(problem, scores, correlation)
    n_on = int(problem.penalty.support(correlation).sum(-1).max())
    assert 0 < n_on < 12
    assert system.size == min(3 * shot * 2, n_on * 3)
    eye = torch.eye(9 * shot).double()
    for task in range(2):
        one = problem.select(torch.tensor([task]))
        slope = jacobian(one.penalty.conjugate_gradient, correlation[[task]])
        features = torch.kron(problem.features[task], torch.eye(3).double())
        coupling = features @ slope.reshape(36, 36) @ features.T
        blocks = [
            s * (torch.diag(b) - torch.outer(b, b))
            for s, b in zip(weights[task], dual[task], strict=True)
        ]
        softening = torch.block_diag(*blocks)
        vector = right[task].flatten()
        expected = torch.linalg.solve(eye + softening @ coupling, softening @ vector)
        close = {"rtol": 1e-9, "atol": 1e-11}
        np.testing.assert_allclose(
            system.couple(right)[task].flatten(), coupling @ vector, **close
        )
        np.testing.assert_allclose(
            system.soften(right)[task].flatten(), softening @ vector, **close
        )
        np.testing.assert_allclose(
            system.solve(right)[task].flatten(), expected, **close
        )
