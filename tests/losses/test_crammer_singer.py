"""The multiclass hinge against loops, linear programs and a quadratic program."""

import cvxpy as cp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skcausalmeta.losses import CrammerSinger

LOSS = CrammerSinger()


def random_rows(seed, n_rows=12, n_classes=4):
    rng = np.random.RandomState(seed)
    scores = torch.from_numpy(3 * rng.randn(n_rows, n_classes))
    targets = torch.eye(n_classes).double()[rng.randint(n_classes, size=n_rows)]
    dual = torch.from_numpy(rng.dirichlet(np.ones(n_classes), size=n_rows))
    return scores, targets, dual


def conjugate_part(scores, targets, dual):
    """``<1 - y, b> + <b - y, z>``, what a feasible b proves about the loss."""
    return LOSS.dual_value(dual, targets) + ((dual - targets) * scores).sum(-1)


@pytest.mark.parametrize("n_classes", [2, 3, 7])
def test_value_is_the_worst_margin(n_classes):
    scores, targets, _ = random_rows(0, n_classes=n_classes)
    expected = []
    for z, y in zip(scores.tolist(), targets.tolist(), strict=True):
        own = y.index(1.0)
        expected.append(max((c != own) + z[c] - z[own] for c in range(n_classes)))
    np.testing.assert_allclose(LOSS.value(scores, targets), expected, rtol=1e-14)
    assert bool((LOSS.value(scores, targets) >= 0).all())


def test_leading_axes_are_kept():
    scores, targets, dual = random_rows(1)
    deep = [tensor.reshape(3, 2, 2, -1) for tensor in (scores, targets, dual)]
    value = LOSS.value(deep[0], deep[1])
    assert value.shape == (3, 2, 2)
    assert torch.equal(value.flatten(), LOSS.value(scores, targets))
    assert torch.equal(LOSS.project(deep[2]).reshape(12, -1), LOSS.project(dual))


@pytest.mark.parametrize("seed", range(5))
def test_any_feasible_point_is_below_the_loss_and_one_attains_it(seed):
    scores, targets, dual = random_rows(seed)
    value = LOSS.value(scores, targets)
    assert bool((conjugate_part(scores, targets, dual) <= value + 1e-12).all())
    best = torch.eye(4).double()[(scores + 1 - targets).argmax(-1)]
    np.testing.assert_allclose(conjugate_part(scores, targets, best), value, atol=1e-12)


def test_dual_gradient_is_that_of_the_dual_value():
    _, targets, dual = random_rows(2)
    dual.requires_grad_()
    # <1 - y, b> on the simplex, where the entries of b sum to 1
    (gradient,) = torch.autograd.grad(LOSS.dual_value(dual, targets).sum(), dual)
    difference = LOSS.dual_gradient(dual, targets) - gradient
    np.testing.assert_array_equal(difference, np.ones_like(difference))


def test_start_is_feasible_and_has_the_largest_dual_value():
    _, targets, dual = random_rows(3)
    start = LOSS.start(targets)
    np.testing.assert_allclose(start.sum(-1), 1.0)
    assert bool((start >= 0).all())
    np.testing.assert_allclose(LOSS.dual_value(start, targets), 1.0)
    assert bool((LOSS.dual_value(dual, targets) <= 1.0).all())


@pytest.mark.parametrize("n_classes", [2, 5, 12])
def test_projection_solves_the_quadratic_program(n_classes):
    point = np.random.RandomState(n_classes).randn(6, n_classes)
    variable = cp.Variable(point.shape, nonneg=True)
    program = cp.Problem(
        cp.Minimize(cp.sum_squares(variable - point)), [cp.sum(variable, axis=1) == 1]
    )
    tol = 1e-12
    program.solve(solver=cp.CLARABEL, tol_gap_abs=tol, tol_gap_rel=tol, tol_feas=tol)
    projected = LOSS.project(torch.from_numpy(point))
    np.testing.assert_allclose(projected, variable.value, atol=1e-8)


POINTS = hnp.arrays(
    float,
    st.tuples(st.integers(1, 4), st.integers(2, 8)),
    elements=st.floats(-50, 50, width=32),
)


@settings(max_examples=60, deadline=None)
@given(POINTS)
def test_projection_is_the_nearest_feasible_point(point):
    point = torch.from_numpy(point)
    projected = LOSS.project(point)
    np.testing.assert_allclose(projected.sum(-1), 1.0, atol=1e-12)
    assert bool((projected >= 0).all())
    np.testing.assert_allclose(LOSS.project(projected), projected, atol=1e-14)
    # The angle to every corner of the simplex is obtuse (variational inequality).
    corners = torch.eye(point.shape[1]).double()
    inner = ((point - projected)[:, None] * (corners - projected[:, None])).sum(-1)
    assert float(inner.max()) <= 1e-10


@pytest.mark.parametrize("n_classes", [3, 12])
def test_projection_is_differentiable_however_long_the_rows_are(n_classes):
    point = torch.from_numpy(np.random.RandomState(0).randn(4, n_classes))
    assert torch.autograd.gradcheck(LOSS.project, point.requires_grad_())
    torch.testing.assert_close(LOSS.project(point), LOSS.project(point.detach()))


def test_projection_leaves_its_argument_alone():
    point = torch.tensor([[3.0, -1.0, 0.5]])
    copy = point.clone()
    assert LOSS.project(point).tolist() == [[1.0, 0.0, 0.0]]
    assert torch.equal(point, copy)


def test_start_with_an_offset_attains_the_largest_share():
    targets = torch.eye(4).double()[torch.arange(12) % 4]
    offset = 3 * torch.randn(12, 4).double()
    start = LOSS.start(targets, offset)
    torch.testing.assert_close(start.sum(-1), torch.ones(12).double())
    reached = LOSS.dual_value(start, targets) + ((start - targets) * offset).sum(-1)
    torch.testing.assert_close(reached, LOSS.value(offset, targets))
    torch.testing.assert_close(LOSS.start(targets, 0 * offset), LOSS.start(targets))
