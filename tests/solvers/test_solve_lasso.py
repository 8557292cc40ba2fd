"""The exact Lasso solver against scikit-learn and the optimality conditions."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import ElasticNet as SkElasticNet
from sklearn.linear_model import Lasso as SkLasso

from skcausalmeta.losses import Squared
from skcausalmeta.penalties import ElasticNet, GroupLasso, Lasso
from skcausalmeta.solvers import Problem, _lasso, solve_lasso
from skcausalmeta.solvers._active_set import minimise_gram


def make_problem(
    n_samples=25,
    n_features=6,
    level=0.3,
    *,
    n_tasks=3,
    n_outputs=1,
    correlation=0.0,
    n_copies=0,
    lambda2=0.0,
    weighted=False,
    seed=0,
):
    """Random sparse regressions; `level` is lambda1 over the one that is all off."""
    rng = np.random.RandomState(seed)
    features = rng.randn(n_tasks, n_samples, n_features)
    common = rng.randn(n_tasks, n_samples, 1)
    features = np.sqrt(1 - correlation) * features + np.sqrt(correlation) * common
    features[..., n_features - n_copies :] = features[..., :n_copies]
    truth = rng.randn(n_tasks, n_features, n_outputs)
    truth[:, 4:] = 0.0
    noise = rng.randn(n_tasks, n_samples, n_outputs)
    features = torch.from_numpy(features)
    targets = features @ torch.from_numpy(truth) + 0.3 * torch.from_numpy(noise)
    weights = np.ones((n_tasks, n_samples))
    if weighted:
        weights = rng.uniform(0.2, 3.0, size=weights.shape)
        weights[:, ::4] = 0.0
    weights = torch.from_numpy(weights / weights.sum(-1, keepdims=True))
    problem = Problem(features, targets, weights, Squared(), None)
    largest = problem.correlation(torch.zeros_like(targets)).abs().amax(1)
    penalty = Lasso(level * largest)
    if lambda2:
        penalty = ElasticNet(level * largest, torch.full((n_tasks,), lambda2).double())
    return replace(problem, penalty=penalty)


def peer_coef(problem, task, output):
    strong = float(problem.penalty.lambda1[task, output])
    ridge = 0.0
    keywords = {"fit_intercept": False, "tol": 1e-14, "max_iter": 10**6}
    peer = SkLasso(strong, **keywords)
    if isinstance(problem.penalty, ElasticNet):
        ridge = float(problem.penalty.lambda2[task])
        peer = SkElasticNet(
            strong + ridge, l1_ratio=strong / (strong + ridge), **keywords
        )
    peer.fit(
        problem.features[task].numpy(),
        problem.targets[task, :, output].numpy(),
        sample_weight=problem.weights[task].numpy(),
    )
    return peer.coef_


def check_optimality(problem, solution, atol=1e-9):
    """Subgradient conditions, written down from the formula."""
    scores = problem.features @ solution.coef
    slope = problem.correlation(scores)
    if isinstance(problem.penalty, ElasticNet):
        slope = slope - problem.penalty.lambda2[:, None, None] * solution.coef
    lambda1 = problem.penalty.lambda1[:, None, :].expand_as(slope)
    used = solution.coef != 0
    signs = solution.coef.sign()
    np.testing.assert_allclose(slope[used], (lambda1 * signs)[used], atol=atol)
    assert bool((slope.abs() <= lambda1 + atol).all())


CASES = {
    "small": {},
    "outputs": {"n_outputs": 5},
    "weights": {"weighted": True, "n_outputs": 2},
    "weak": {"level": 0.005},
    "correlated": {"correlation": 0.95, "level": 0.05},
    "elastic net": {"lambda2": 0.5, "n_outputs": 2},
    "more features": {"n_features": 60, "level": 0.1},
    "working set": {"n_features": 300, "n_samples": 40, "level": 0.1, "n_outputs": 2},
    "working set grows": {"n_features": 200, "n_samples": 90, "level": 0.02},
}


@pytest.mark.parametrize("case", CASES)
def test_weights_are_those_of_scikit_learn(case):
    problem = make_problem(**CASES[case])
    solution = solve_lasso(problem)
    assert float(solution.relative_gap.max()) <= 1e-10
    check_optimality(problem, solution)
    for task in range(2):
        for output in range(problem.targets.shape[-1]):
            expected = peer_coef(problem, task, output)
            found = solution.coef[task, :, output]
            np.testing.assert_allclose(found, expected, atol=1e-8)


@pytest.mark.parametrize(
    "keywords",
    [
        {"n_copies": 3},
        {"n_copies": 3, "level": 0.01, "n_outputs": 2},
        {"n_features": 30, "n_copies": 15, "n_samples": 10, "level": 0.01},
        {"n_features": 250, "n_copies": 100, "n_samples": 20, "level": 0.05},
        {"n_features": 120, "n_samples": 15, "level": 0.001, "correlation": 0.9},
    ],
    ids=str,
)
def test_dependent_columns(keywords, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("gradient steps should not be needed")

    monkeypatch.setattr(_lasso, "solve_proximal_gradient", refuse)
    problem = make_problem(**keywords)
    solution = solve_lasso(problem)
    assert float(solution.relative_gap.max()) <= 1e-10
    check_optimality(problem, solution, atol=1e-7)


@pytest.mark.parametrize("lambda2", [0.0, 0.2])
def test_certificate_is_that_of_the_returned_points(lambda2):
    problem = make_problem(n_outputs=2, lambda2=lambda2)
    solution = solve_lasso(problem)
    gap = problem.primal(solution.coef) - problem.dual(solution.dual)
    assert bool(torch.isfinite(gap).all())
    torch.testing.assert_close(solution.gap, gap, rtol=0, atol=1e-13)


def test_all_off_is_exact():
    solution = solve_lasso(make_problem(level=1.0, n_outputs=2))
    assert not bool(solution.coef.any())
    assert solution.n_iter.tolist() == [0, 0, 0]


def test_batch_equals_one_by_one():
    problem = make_problem(n_tasks=5, n_outputs=2, level=0.05, weighted=True)
    together = solve_lasso(problem)
    for task in range(5):
        alone = solve_lasso(problem.select(torch.tensor([task])))
        torch.testing.assert_close(alone.coef[0], together.coef[task])
        assert int(alone.n_iter) == int(together.n_iter[task])


def test_a_shared_strength_serves_all_outputs():
    problem = make_problem(n_outputs=2)
    shared = problem.penalty.lambda1.amax(-1)
    both = replace(problem, penalty=Lasso(shared[:, None].expand(-1, 2)))
    one = replace(problem, penalty=Lasso(shared))
    torch.testing.assert_close(solve_lasso(one).coef, solve_lasso(both).coef)


def test_warm_start_at_the_solution_takes_no_step():
    problem = make_problem(n_outputs=2)
    solution = solve_lasso(problem)
    again = solve_lasso(problem, start=solution.coef)
    assert again.n_iter.tolist() == [0, 0, 0]
    assert torch.equal(again.coef, solution.coef)


def test_a_far_start_ends_at_the_same_point():
    problem = make_problem(n_outputs=2)
    start = torch.from_numpy(np.random.RandomState(1).randn(3, 6, 2))
    torch.testing.assert_close(
        solve_lasso(problem, start=start).coef, solve_lasso(problem).coef
    )


def test_stalled_problems_are_handed_to_gradient_steps(monkeypatch):
    def no_steps(hessian, linear, lambda1, point, max_iter, share):
        return point, torch.zeros(len(point), dtype=torch.int64)

    problem = make_problem(n_outputs=2)
    expected = solve_lasso(problem).coef
    monkeypatch.setattr(_lasso, "minimise_gram", no_steps)
    monkeypatch.setattr(_lasso, "compiled_lasso", lambda columns: None)
    solution = solve_lasso(problem, tol=1e-13)
    assert float(solution.relative_gap.max()) <= 1e-13
    assert int(solution.n_iter.min()) > 0
    torch.testing.assert_close(solution.coef, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("seed", range(3))
def test_every_active_set_step_lowers_the_objective(seed):
    problem = make_problem(
        n_features=30, n_samples=12, level=0.01, correlation=0.8, seed=seed
    )
    weighted = problem.weights[..., None] * problem.features
    gram = weighted.mT @ problem.features + 1e-6 * torch.eye(30).double()
    linear = (weighted.mT @ problem.targets)[..., 0]
    lambda1 = problem.penalty.lambda1
    values = []
    for n_steps in range(1, 26):
        start = torch.zeros_like(linear)
        w, _ = minimise_gram(gram, linear, lambda1, start, n_steps, share=0.5)
        quadratic = (w * ((gram @ w[..., None])[..., 0] / 2 - linear)).sum(-1)
        values.append(quadratic + lambda1[:, 0] * w.abs().sum(-1))
    values = torch.stack(values)
    assert bool((values[1:] <= values[:-1] + 1e-13 * values.abs().amax()).all())
    assert bool((values[-1] < values[0]).all())


def test_a_weight_that_rounding_left_near_zero_is_in_nobodys_way():
    gram = torch.tensor([[[1.0, 0.5], [0.5, 1.0]]], dtype=torch.float64)
    linear = torch.ones(1, 2, dtype=torch.float64)
    lambda1 = torch.full((1, 1), 0.1, dtype=torch.float64)
    # Best without the first weight, which has the wrong sign.
    start = torch.tensor([[-1e-18, 0.9]], dtype=torch.float64)
    found, _ = minimise_gram(gram, linear, lambda1, start, 100, share=0.5)
    np.testing.assert_allclose(found[0], [0.6, 0.6], rtol=1e-12)


def test_a_limit_on_the_steps_is_kept():
    problem = make_problem(n_features=60, level=0.01, n_samples=20)
    solution = solve_lasso(problem, max_iter=1, tol=1e-12)
    assert float(solution.relative_gap.max()) > 1e-12
    assert float(solution.gap.max()) > 0


def test_no_signal_at_all():
    problem = make_problem()
    empty = replace(problem, features=torch.zeros_like(problem.features))
    solution = solve_lasso(empty)
    assert not bool(solution.coef.any())
    assert solution.relative_gap.tolist() == [0.0] * 3


def test_single_precision():
    problem = make_problem()
    single = Problem(
        problem.features.float(),
        problem.targets.float(),
        problem.weights.float(),
        Squared(),
        Lasso(problem.penalty.lambda1.float()),
    )
    solution = solve_lasso(single)
    assert solution.coef.dtype == torch.float32
    assert float(solution.relative_gap.max()) <= 1e-5
    torch.testing.assert_close(
        solution.coef.double(), solve_lasso(problem).coef, atol=1e-5, rtol=0
    )


def test_inputs_stay_as_they_are():
    problem = make_problem(lambda2=0.2)
    copies = [problem.features.clone(), problem.targets.clone()]
    solve_lasso(problem)
    assert torch.equal(problem.features, copies[0])
    assert torch.equal(problem.targets, copies[1])


def test_another_penalty_is_refused():
    one = torch.ones(3).double()
    problem = replace(make_problem(), penalty=GroupLasso(one, one))
    with pytest.raises(TypeError, match="GroupLasso, which has no per_output"):
        solve_lasso(problem)
