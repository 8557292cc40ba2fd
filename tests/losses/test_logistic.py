"""The logistic loss against scipy, conic bounds and finite differences."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from scipy.stats import entropy
from torch.autograd.functional import hessian

from skcausalmeta.losses import CrammerSinger, Logistic

LOSS = Logistic()


def double(values):
    return torch.tensor(values, dtype=torch.float64)


def random_rows(seed, n_rows=12, n_classes=4, size=3.0):
    rng = np.random.RandomState(seed)
    scores = torch.from_numpy(size * rng.randn(n_rows, n_classes))
    targets = torch.eye(n_classes).double()[rng.randint(n_classes, size=n_rows)]
    dual = torch.from_numpy(rng.dirichlet(np.ones(n_classes), size=n_rows))
    return scores, targets, dual


@pytest.mark.parametrize("n_classes", [2, 3, 7])
def test_value_is_the_cross_entropy_of_the_softmax(n_classes):
    scores, targets, _ = random_rows(0, n_classes=n_classes)
    expected = -(log_softmax(scores.numpy(), axis=1) * targets.numpy()).sum(1)
    np.testing.assert_allclose(LOSS.value(scores, targets), expected, rtol=1e-12)


def test_value_of_huge_scores():
    scores = double([[1e300, 0.0], [0.0, 1e300], [1e5, 1e5]])
    targets = double([[1.0, 0.0]]).expand(3, 2)
    expected = [0.0, 1e300, np.log(2)]
    np.testing.assert_allclose(LOSS.value(scores, targets), expected, rtol=1e-14)
    # one part in 1e13 below the top: log1p keeps it
    tiny = LOSS.value(double([[30.0, 0.0]]), targets[:1])
    np.testing.assert_allclose(tiny, np.log1p(np.exp(-30.0)), rtol=1e-14)


@pytest.mark.parametrize("seed", range(5))
def test_any_feasible_point_is_below_the_loss_and_the_softmax_attains_it(seed):
    scores, targets, dual = random_rows(seed)
    value = LOSS.value(scores, targets)

    def bound(dual):
        return LOSS.dual_value(dual, targets) + ((dual - targets) * scores).sum(-1)

    assert bool((bound(dual) <= value).all())
    best = LOSS.dual_point(scores, targets)
    np.testing.assert_allclose(best, softmax(scores.numpy(), axis=1), rtol=1e-13)
    np.testing.assert_allclose(bound(best), value, rtol=1e-12)


def test_dual_value_is_the_entropy_also_at_corners():
    _, targets, dual = random_rows(1)
    expected = entropy(dual.numpy(), axis=1)
    np.testing.assert_allclose(LOSS.dual_value(dual, targets), expected, rtol=1e-12)
    assert not LOSS.dual_value(targets, targets).any()
    # 1 - 1e-20 is 1 in double precision, the entropy still knows the rest
    near = double([[1.0, 1e-20]])
    expected = 1e-20 * (1.0 + 20 * np.log(10))
    np.testing.assert_allclose(LOSS.dual_value(near, near), [expected], rtol=1e-14)


def test_dual_gradient_is_that_of_the_dual_value_and_finite_at_corners():
    _, targets, dual = random_rows(2)
    free = dual.clone().requires_grad_()
    entropy_of_free = -(free * free.log()).sum()
    (expected,) = torch.autograd.grad(entropy_of_free, free)
    torch.testing.assert_close(LOSS.dual_gradient(dual, targets), expected)
    corner = LOSS.dual_gradient(targets, targets)
    assert bool(torch.isfinite(corner).all())
    assert float(corner.max()) > 100


def test_gradient_is_that_of_the_value():
    scores, targets, _ = random_rows(3)
    scores.requires_grad_()
    (expected,) = torch.autograd.grad(LOSS.value(scores, targets).sum(), scores)
    found = LOSS.gradient(scores, targets)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("n_classes", [2, 3, 6])
def test_curvature_is_a_factor_of_the_hessian_below_the_smoothness(n_classes):
    scores, targets, _ = random_rows(4, n_classes=n_classes)
    factor = LOSS.curvature(scores, targets)
    assert factor.shape == (12, n_classes, n_classes - 1)
    for z, y, root in zip(scores, targets, factor, strict=True):
        expected = hessian(lambda z, y=y: LOSS.value(z, y), z)
        torch.testing.assert_close(root @ root.mT, expected, rtol=1e-10, atol=1e-14)
    assert float(torch.linalg.matrix_norm(factor, 2).max()) ** 2 <= LOSS.smoothness


def test_curvature_is_finite_where_the_softmax_is_a_corner():
    scores = 1e4 * torch.eye(3).double()
    factor = LOSS.curvature(scores, scores)
    assert not factor.any()


def test_the_largest_curvature_attains_the_smoothness():
    factor = LOSS.curvature(torch.zeros(1, 2).double(), torch.zeros(1, 2).double())
    np.testing.assert_allclose((factor @ factor.mT)[0], [[0.25, -0.25], [-0.25, 0.25]])
    assert LOSS.smoothness == 0.5
    assert not hasattr(LOSS, "dual_curvature")


def test_start_has_the_largest_entropy():
    _, targets, dual = random_rows(5)
    start = LOSS.start(targets)
    np.testing.assert_allclose(start, 0.25)
    top = LOSS.dual_value(start, targets)
    np.testing.assert_allclose(top, np.log(4), rtol=1e-14)
    assert bool((LOSS.dual_value(dual, targets) < top).all())


def test_projection_is_the_one_onto_the_simplex():
    point = random_rows(6)[0]
    assert torch.equal(LOSS.project(point), CrammerSinger().project(point))


def test_start_with_an_offset_attains_the_largest_share():
    targets = torch.eye(4).double()[torch.arange(12) % 4]
    offset = 3 * torch.randn(12, 4).double()
    start = LOSS.start(targets, offset)
    reached = LOSS.dual_value(start, targets) + ((start - targets) * offset).sum(-1)
    torch.testing.assert_close(reached, LOSS.value(offset, targets))
    torch.testing.assert_close(LOSS.start(targets, 0 * offset), LOSS.start(targets))
