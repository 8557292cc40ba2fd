"""Lasso, elastic net and ridge against cvxpy, scipy and Fenchel's inequality."""

import cvxpy as cp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import minimize_scalar

from skcausalmeta.penalties import ElasticNet, Lasso, Ridge

N_TASKS, N_FEATURES, N_OUTPUTS = 2, 4, 3
LAMBDA1 = {
    "task": torch.tensor([0.8, 0.3], dtype=torch.float64),
    "output": torch.tensor([[0.8, 0.0, 1.5], [0.3, 0.6, 0.1]], dtype=torch.float64),
}
LAMBDA2 = torch.tensor([0.7, 2.5], dtype=torch.float64)
STEP = torch.tensor([0.4, 2.0], dtype=torch.float64)
PENALTIES = {
    "lasso": Lasso(LAMBDA1["task"]),
    "lasso per output": Lasso(LAMBDA1["output"]),
    "elastic net": ElasticNet(LAMBDA1["task"], LAMBDA2),
    "elastic net per output": ElasticNet(LAMBDA1["output"], LAMBDA1["output"] + 0.2),
    "ridge": Ridge(LAMBDA2),
    "ridge per output": Ridge(LAMBDA1["output"] + 0.2),
}
SMOOTH = [name for name in PENALTIES if "lasso" not in name]
PAIRS = hnp.arrays(
    float, (2, N_TASKS, N_FEATURES, N_OUTPUTS), elements=st.floats(-9, 9, width=32)
)


@pytest.fixture(params=PENALTIES, name="penalty")
def choose_penalty(request):
    return PENALTIES[request.param]


@pytest.fixture(params=SMOOTH, name="smooth")
def choose_smooth(request):
    return PENALTIES[request.param]


def random_matrix(seed=0):
    rng = np.random.RandomState(seed)
    return torch.from_numpy(rng.randn(N_TASKS, N_FEATURES, N_OUTPUTS))


def strengths(penalty, name):
    """lambda1 or lambda2 of every entry, 0 if the penalty has none."""
    strength = getattr(penalty, name, torch.zeros(N_TASKS).double())
    spread = strength.numpy().reshape(N_TASKS, 1, -1)
    return np.broadcast_to(spread, (N_TASKS, N_FEATURES, N_OUTPUTS))


def entry_value(penalty, coef):
    """The penalty of every entry, written down from the formula."""
    lambda1, lambda2 = strengths(penalty, "lambda1"), strengths(penalty, "lambda2")
    return lambda1 * np.abs(coef) + lambda2 / 2 * coef**2


def feasible(penalty, correlation):
    scale = penalty.dual_scale(correlation)
    return correlation * scale.reshape(N_TASKS, 1, -1)


def test_value_is_the_sum_over_entries(penalty):
    coef = random_matrix()
    expected = entry_value(penalty, coef.numpy()).sum((1, 2))
    np.testing.assert_allclose(penalty.value(coef), expected, rtol=1e-14)


def test_prox_minimises_every_entry(penalty):
    point = random_matrix(1)
    found = penalty.prox(point, STEP).numpy()
    lambda1, lambda2 = strengths(penalty, "lambda1"), strengths(penalty, "lambda2")
    for index in np.ndindex(*point.shape):
        step, at = float(STEP[index[0]]), float(point[index])

        def objective(u, step=step, at=at, index=index):
            penalised = lambda1[index] * abs(u) + lambda2[index] / 2 * u**2
            return step * penalised + (u - at) ** 2 / 2

        best = minimize_scalar(objective, bounds=(-5, 5), options={"xatol": 1e-9})
        assert found[index] == pytest.approx(best.x, abs=1e-5)
        assert objective(found[index]) <= best.fun + 1e-14


@settings(max_examples=40, deadline=None)
@given(PAIRS)
@pytest.mark.parametrize("name", PENALTIES)
def test_fenchel_young(name, pair):
    penalty = PENALTIES[name]
    coef, correlation = torch.from_numpy(pair)
    correlation = feasible(penalty, correlation)
    bound = penalty.value(coef) + penalty.conjugate(correlation)
    assert bool(torch.isfinite(bound).all())
    inner = (coef * correlation).sum((-2, -1))
    assert bool((inner <= bound + 1e-9 * (1 + bound)).all())


@pytest.mark.parametrize("task", range(N_TASKS))
def test_conjugate_is_the_maximum_of_inner_product_minus_value(smooth, task):
    correlation = random_matrix(2)
    coef = cp.Variable((N_FEATURES, N_OUTPUTS))
    lambda1, lambda2 = strengths(smooth, "lambda1"), strengths(smooth, "lambda2")
    value = cp.sum(cp.multiply(lambda1[task], cp.abs(coef)))
    value += cp.sum(cp.multiply(lambda2[task] / 2, cp.square(coef)))
    inner = cp.sum(cp.multiply(coef, correlation[task].numpy()))
    program = cp.Problem(cp.Maximize(inner - value))
    program.solve(solver=cp.CLARABEL)
    conjugate = float(smooth.conjugate(correlation)[task])
    assert program.value == pytest.approx(conjugate, rel=1e-6, abs=1e-7)
    gradient = smooth.conjugate_gradient(correlation)[task]
    np.testing.assert_allclose(coef.value, gradient, atol=1e-4)


def test_conjugate_derivatives_against_autograd(smooth):
    correlation = random_matrix(3).requires_grad_()
    total = smooth.conjugate(correlation).sum()
    (gradient,) = torch.autograd.grad(total, correlation)
    found = smooth.conjugate_gradient(correlation)
    torch.testing.assert_close(found.detach(), gradient)
    used = (found != 0).any(-1)
    assert torch.equal(smooth.support(correlation), used)


@pytest.mark.parametrize("size", [0.01, 10.0])
@pytest.mark.parametrize("name", ["lasso", "lasso per output"])
def test_the_conjugate_of_the_lasso_is_the_indicator_of_a_box(name, size):
    penalty, correlation = PENALTIES[name], size * random_matrix(5)
    inside = np.abs(correlation.numpy()) <= strengths(penalty, "lambda1")
    expected = np.where(inside.all((1, 2)), 0.0, np.inf)
    np.testing.assert_array_equal(penalty.conjugate(correlation), expected)
    scaled = feasible(penalty, correlation)
    assert penalty.conjugate(scaled).tolist() == [0.0, 0.0]
    # the factor is the largest: it is 1, or some entry reaches the wall
    scale = penalty.dual_scale(correlation)
    assert scale.shape == penalty.lambda1.shape
    reach = scaled.abs().amax((1, 2) if scale.ndim == 1 else 1)
    touches = torch.isclose(reach, penalty.lambda1)
    assert bool(((scale == 1) | touches).all())


def test_nothing_to_scale_is_feasible_without_any_strength():
    penalty = Lasso(torch.zeros(1))
    assert penalty.dual_scale(torch.zeros(1, 3, 2)).tolist() == [1.0]
    assert penalty.dual_scale(torch.ones(1, 3, 2)).tolist() == [0.0]


@pytest.mark.parametrize("name", SMOOTH)
def test_a_ridge_needs_no_scaling(name):
    scale = PENALTIES[name].dual_scale(random_matrix())
    assert scale.tolist() == [1.0, 1.0]


def test_select_keeps_the_strengths_of_the_tasks(penalty):
    coef = random_matrix(6)
    chosen = penalty.select(torch.tensor([1]))
    torch.testing.assert_close(chosen.value(coef[1:]), penalty.value(coef)[1:])
    moved = chosen.prox(coef[1:], STEP[1:])
    torch.testing.assert_close(moved, penalty.prox(coef, STEP)[1:])


def test_outputs_may_be_problems_of_their_own(penalty):
    coef = random_matrix(7)
    columns = coef.mT.reshape(-1, N_FEATURES, 1)
    values = penalty.per_output(N_OUTPUTS).value(columns).view(N_TASKS, N_OUTPUTS)
    expected = entry_value(penalty, coef.numpy()).sum(1)
    np.testing.assert_allclose(values, expected, rtol=1e-14)
