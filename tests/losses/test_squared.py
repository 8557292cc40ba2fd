"""The squared loss against numpy, autograd and its own maximum over b."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skcausalmeta.losses import Squared

LOSS = Squared()
# scores, targets and a dual point, each (4, 3)
TRIPLES = hnp.arrays(float, (3, 4, 3), elements=st.floats(-50, 50, width=32))


def conjugate_part(scores, targets, dual):
    """``1/2 (||y||^2 - ||b||^2) + <b - y, z>``, what b proves about the loss."""
    return LOSS.dual_value(dual, targets) + ((dual - targets) * scores).sum(-1)


@settings(max_examples=60, deadline=None)
@given(TRIPLES)
def test_any_dual_point_is_below_the_loss_and_its_own_attains_it(triple):
    scores, targets, dual = torch.from_numpy(triple)
    value = LOSS.value(scores, targets)
    expected = 0.5 * ((triple[0] - triple[1]) ** 2).sum(-1)
    np.testing.assert_allclose(value, expected, rtol=1e-14)
    slack = 1e-10 * (1 + value + dual.square().sum(-1) + scores.square().sum(-1))
    assert bool((conjugate_part(scores, targets, dual) <= value + slack).all())
    best = LOSS.dual_point(scores, targets)
    difference = conjugate_part(scores, targets, best) - value
    assert bool((difference.abs() <= slack).all())


def test_gradients_are_those_of_the_values():
    rng = np.random.RandomState(0)
    scores, targets, dual = torch.from_numpy(rng.randn(3, 2, 5, 3))
    for point, value, gradient in (
        (scores, LOSS.value, LOSS.gradient),
        (dual, LOSS.dual_value, LOSS.dual_gradient),
    ):
        moving = point.clone().requires_grad_()
        (expected,) = torch.autograd.grad(value(moving, targets).sum(), moving)
        torch.testing.assert_close(gradient(point, targets), expected)


def test_gradients_move_as_fast_as_the_constants_say():
    rng = np.random.RandomState(1)
    one, two, targets = torch.from_numpy(rng.randn(3, 5, 3))
    for gradient, constant in (
        (LOSS.gradient, LOSS.smoothness),
        (LOSS.dual_gradient, LOSS.dual_curvature),
    ):
        change = (gradient(one, targets) - gradient(two, targets)).norm()
        assert float(change / (one - two).norm()) == constant


def test_start_has_the_largest_dual_value_and_is_the_point_of_zero_scores():
    rng = np.random.RandomState(2)
    targets, dual = torch.from_numpy(rng.randn(2, 5, 3))
    start = LOSS.start(targets)
    assert torch.equal(start, LOSS.dual_point(torch.zeros_like(targets), targets))
    assert bool(
        (LOSS.dual_value(dual, targets) < LOSS.dual_value(start, targets)).all()
    )


def test_every_point_is_feasible():
    point = torch.tensor([[3.0, -1.0]])
    assert torch.equal(LOSS.project(point), point)


def test_start_with_an_offset_attains_the_largest_share():
    targets, offset = torch.randn(6, 2).double(), torch.randn(6, 2).double()
    start = LOSS.start(targets, offset)
    reached = LOSS.dual_value(start, targets) + ((start - targets) * offset).sum(-1)
    torch.testing.assert_close(reached, LOSS.value(offset, targets))
