"""The closed-form ridge solver against scikit-learn, numpy and finite differences."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch.autograd import grad, gradcheck, gradgradcheck

from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.solvers import ridge_certificate, solve_ridge

SHAPES = [(4, 9), (9, 4), (5, 5)]


def make_tasks(n_samples, n_features, n_tasks=2, n_outputs=3, seed=0):
    """Features, targets, row weights and lambda2, float64."""
    rng = np.random.RandomState(seed)
    arrays = (
        rng.randn(n_tasks, n_samples, n_features),
        rng.randn(n_tasks, n_samples, n_outputs),
        rng.uniform(0.2, 2.0, (n_tasks, n_samples)),
        rng.uniform(0.1, 2.0, n_tasks),
    )
    return tuple(torch.from_numpy(array) for array in arrays)


@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_the_ridge_of_scikit_learn(shape):
    tasks = make_tasks(*shape)
    found = solve_ridge(*tasks)
    for k, (X, Y, weights, lambda2) in enumerate(zip(*tasks, strict=True)):
        peer = Ridge(alpha=float(lambda2), fit_intercept=False)
        peer.fit(X.numpy(), Y.numpy(), sample_weight=weights.numpy())
        np.testing.assert_allclose(found[k].T, peer.coef_, rtol=1e-8, atol=1e-10)


def test_one_row_by_hand():
    # W = 3 * 2 * 5 / (3 * 4 + 6)
    numbers = [
        torch.full(shape, x) for shape, x in (((1, 1, 1), 2.0), ((1, 1, 1), 5.0))
    ]
    coef = solve_ridge(*numbers, torch.full((1, 1), 3.0), 6.0)
    assert coef.item() == pytest.approx(30 / 18)


@pytest.mark.parametrize("shape", SHAPES)
def test_rows_of_weight_zero_are_not_there(shape):
    features, targets, weights, lambda2 = make_tasks(*shape)
    padding = torch.full((2, 6, shape[1]), 1e6).double()
    padded = solve_ridge(
        torch.cat([features, padding], dim=1),
        torch.cat([targets, padding[..., :3]], dim=1),
        torch.cat([weights, torch.zeros(2, 6).double()], dim=1),
        lambda2,
    )
    expected = solve_ridge(features, targets, weights, lambda2)
    torch.testing.assert_close(padded, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("shape", SHAPES)
def test_first_and_second_derivatives(shape):
    inputs = [tensor.requires_grad_() for tensor in make_tasks(*shape)]
    assert gradcheck(solve_ridge, inputs)
    assert gradgradcheck(solve_ridge, inputs, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_weights_of_zero_have_their_one_sided_derivatives(shape):
    features, targets, weights, lambda2 = make_tasks(*shape, n_tasks=1)
    direction = torch.from_numpy(np.random.RandomState(1).randn(1, shape[1], 3))

    def value(first):
        changed = torch.cat([first[None, None], weights[:, 1:]], dim=1)
        return (solve_ridge(features, targets, changed, lambda2) * direction).sum()

    def slope(first):
        return grad(value(first), first, create_graph=True)[0]

    zero = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
    step = torch.tensor(1e-6, dtype=torch.float64, requires_grad=True)
    (curvature,) = grad(slope(zero), zero)
    difference = (value(step) - value(zero)) / step
    assert slope(zero).item() == pytest.approx(difference.item(), rel=1e-3)
    difference = (slope(step) - slope(zero)) / step
    assert curvature.item() == pytest.approx(difference.item(), rel=1e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_vanishing_ridge_gives_the_least_norm_solution(shape):
    features, targets, weights, _ = make_tasks(*shape)
    # rows, and so the system, repeated: singular but for the ridge
    features, targets = features.repeat(1, 2, 2), targets.repeat(1, 2, 1)
    weights = weights.repeat(1, 2).requires_grad_()
    features.requires_grad_()
    found = solve_ridge(features, targets, weights, 1e-15)
    root = weights.detach().sqrt()[..., None]
    expected = torch.linalg.pinv(root * features.detach(), rtol=1e-10) @ (
        root * targets
    )
    torch.testing.assert_close(found.detach(), expected, rtol=1e-6, atol=1e-7)
    for gradient in grad(found.sum(), [features, weights]):
        assert bool(torch.isfinite(gradient).all())


@pytest.mark.parametrize("shape", SHAPES)
def test_gap_is_primal_minus_dual_at_any_weights(shape):
    features, targets, weights, lambda2 = make_tasks(*shape)
    weights[:, 0] = 0.0
    best = solve_ridge(features, targets, weights, lambda2)
    noise = torch.from_numpy(np.random.RandomState(2).randn(*best.shape))
    for size in (0.0, 0.01, 1.0):
        coef = best + size * noise
        found = ridge_certificate(features, targets, weights, lambda2, coef)
        errors = targets - features @ coef
        primal = 0.5 * torch.einsum("tn,tnk->t", weights, errors**2)
        primal = primal + lambda2 / 2 * (coef**2).sum((1, 2))
        dual_point = weights[..., None] * errors
        dual = (dual_point * targets).sum((1, 2))
        dual = dual - 0.5 * (dual_point[:, 1:] ** 2 / weights[:, 1:, None]).sum((1, 2))
        dual = dual - ((features.mT @ dual_point) ** 2).sum((1, 2)) / (2 * lambda2)
        torch.testing.assert_close(found.dual, dual_point)
        torch.testing.assert_close(found.primal, primal)
        torch.testing.assert_close(found.gap, primal - dual, rtol=1e-8, atol=1e-12)
        torch.testing.assert_close(found.relative_gap, found.gap / primal)
        assert bool((found.residual <= 1e-14).all()) == (size == 0.0)
        optimum = ridge_certificate(features, targets, weights, lambda2, best).primal
        assert bool((primal - optimum <= found.gap + 1e-12).all())


def test_single_precision_stays_so():
    features, targets, weights, lambda2 = make_tasks(5, 40)
    exact = solve_ridge(features, targets, weights, lambda2)
    found = solve_ridge(features.float(), targets.float(), weights.float(), lambda2)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("lambda2", "got"),
    [(0.0, "0.0"), (-1.0, "-1.0"), (torch.ones(3), r"\[1.0, 1.0, 1.0\]")],
)
def test_strengths_must_be_positive_and_fit_the_tasks(lambda2, got):
    features, targets, weights, _ = make_tasks(4, 3)
    with pytest.raises(InvalidInputError, match=f"lambda2 must be > 0.*{got} for 2"):
        solve_ridge(features, targets, weights, lambda2)
