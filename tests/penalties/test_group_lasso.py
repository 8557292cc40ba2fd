"""Group Lasso plus ridge against maximisation and finite differences."""

import cvxpy as cp
import numpy as np
import pytest
import torch

from skcausalmeta.penalties import GroupLasso

N_TASKS, N_FEATURES, N_CLASSES = 2, 6, 3
GROUPS = torch.tensor([2, 0, 1, 0, 2, 2])
WEIGHTS = torch.tensor([1.0, 0.0, 0.5], dtype=torch.float64)
KINDS = {
    "plain": {},
    "groups": {"groups": GROUPS},
    "weighted": {
        "group_weights": torch.tensor([1, 0, 2, 0.5, 1, 1], dtype=torch.float64)
    },
    "weighted groups": {"groups": GROUPS, "group_weights": WEIGHTS},
}


@pytest.fixture(params=KINDS, name="penalty")
def make_penalty(request):
    lambda1 = torch.tensor([2.8, 0.4], dtype=torch.float64)
    lambda2 = torch.tensor([0.7, 2.5], dtype=torch.float64)
    return GroupLasso(lambda1, lambda2, **KINDS[request.param])


def random_matrix(seed=0):
    rng = np.random.RandomState(seed)
    return torch.from_numpy(rng.randn(N_TASKS, N_FEATURES, N_CLASSES))


def members(penalty):
    """Lists of feature indices, one a group."""
    groups = torch.arange(N_FEATURES) if penalty.groups is None else penalty.groups
    return [np.flatnonzero(groups.numpy() == g) for g in range(int(groups.max()) + 1)]


def program_value(penalty, coef, task):
    """The penalty as a cvxpy expression."""
    weights = penalty.group_weights
    total = float(penalty.lambda2[task]) / 2 * cp.sum_squares(coef)
    for g, rows in enumerate(members(penalty)):
        weight = 1.0 if weights is None else float(weights[g])
        total += float(penalty.lambda1[task]) * weight * cp.norm(coef[rows], "fro")
    return total


def test_value_against_cvxpy(penalty):
    coef = random_matrix()
    constants = [cp.Constant(coef[task].numpy()) for task in range(N_TASKS)]
    expected = [program_value(penalty, w, t).value for t, w in enumerate(constants)]
    np.testing.assert_allclose(penalty.value(coef), expected, rtol=1e-13)


@pytest.mark.parametrize("task", range(N_TASKS))
def test_conjugate_is_the_maximum_of_inner_product_minus_value(penalty, task):
    correlation = random_matrix(1)
    coef = cp.Variable((N_FEATURES, N_CLASSES))
    inner = cp.sum(cp.multiply(coef, correlation[task].numpy()))
    program = cp.Problem(cp.Maximize(inner - program_value(penalty, coef, task)))
    program.solve(solver=cp.CLARABEL)
    conjugate = float(penalty.conjugate(correlation)[task])
    np.testing.assert_allclose(program.value, conjugate, rtol=1e-6, atol=1e-7)
    gradient = penalty.conjugate_gradient(correlation)[task]
    np.testing.assert_allclose(coef.value, gradient, atol=1e-4)


def test_fenchel_equality_at_the_conjugate_gradient(penalty):
    correlation = random_matrix(2)
    coef = penalty.conjugate_gradient(correlation)
    inner = (coef * correlation).sum((-2, -1))
    expected = inner - penalty.value(coef)
    np.testing.assert_allclose(penalty.conjugate(correlation), expected, rtol=1e-12)


def test_conjugate_gradient_is_the_gradient_of_the_conjugate(penalty):
    correlation = random_matrix(3).requires_grad_()
    total = penalty.conjugate(correlation).sum()
    (gradient,) = torch.autograd.grad(total, correlation)
    found = penalty.conjugate_gradient(correlation.detach())
    np.testing.assert_allclose(found, gradient, atol=1e-13)


def test_jacobian_factors_against_finite_differences(penalty):
    correlation, step = random_matrix(4), 1e-6
    scale, rank_one = penalty.jacobian(correlation)
    for task in range(N_TASKS):
        dense = torch.zeros(N_FEATURES, N_CLASSES, N_FEATURES, N_CLASSES).double()
        for g, rows in enumerate(members(penalty)):
            block = torch.zeros(N_FEATURES, N_CLASSES).double()
            block[rows] = correlation[task, rows]
            dense += rank_one[task, g] * torch.einsum("ij,kl->ijkl", block, block)
        eye = torch.eye(N_FEATURES * N_CLASSES).double().view_as(dense)
        dense += scale[task, :, None, None, None] * eye
        for i in range(N_FEATURES):
            for j in range(N_CLASSES):
                moved = torch.zeros_like(correlation)
                moved[task, i, j] = step
                up = penalty.conjugate_gradient(correlation + moved)[task]
                down = penalty.conjugate_gradient(correlation - moved)[task]
                slope = (up - down) / (2 * step)
                np.testing.assert_allclose(dense[:, :, i, j], slope, atol=1e-7)


def test_support_says_which_rows_of_the_gradient_are_not_zero(penalty):
    correlation = random_matrix(5)
    used = (penalty.conjugate_gradient(correlation) != 0).any(-1)
    assert torch.equal(penalty.support(correlation), used)
    assert 0 < int(used.sum()) < used.numel()


def test_a_group_of_weight_zero_is_never_switched_off():
    weights = torch.tensor([1.0, 0.0, 1.0])
    penalty = GroupLasso(torch.ones(1), torch.full((1,), 2.0), None, weights)
    correlation = torch.tensor([[[0.1, 0.0], [0.1, 0.0], [3.0, 4.0]]])
    coef = penalty.conjugate_gradient(correlation)
    expected = torch.tensor([[[0.0, 0.0], [0.05, 0.0], [1.2, 1.6]]])
    torch.testing.assert_close(coef, expected)


def test_select_keeps_the_strengths_of_the_tasks(penalty):
    chosen = penalty.select(torch.tensor([1]))
    coef = random_matrix(6)
    torch.testing.assert_close(chosen.value(coef[1:]), penalty.value(coef)[1:])


@pytest.mark.parametrize("lambda1", [0.0, 1.0])
def test_zero_rows_give_numbers_and_gradients(penalty, lambda1):
    strengths = torch.full((N_TASKS,), lambda1, dtype=torch.float64)
    penalty = GroupLasso(
        strengths, penalty.lambda2, penalty.groups, penalty.group_weights
    )
    zeros = random_matrix(7)
    zeros[:, [0, 1, 3]] = 0.0  # a whole group and a part of one
    zeros.requires_grad_()
    outputs = [
        penalty.value(zeros),
        penalty.conjugate(zeros),
        penalty.conjugate_gradient(zeros),
        penalty.group_norms(zeros),
        *penalty.jacobian(zeros),
    ]
    for output in outputs:
        assert bool(torch.isfinite(output).all())
        (gradient,) = torch.autograd.grad(output.sum(), zeros, retain_graph=True)
        assert bool(torch.isfinite(gradient).all())


def test_all_zero_matrix_without_lasso_shrinks_nothing():
    penalty = GroupLasso(torch.zeros(1), torch.full((1,), 4.0))
    scale, rank_one = penalty.jacobian(torch.zeros(1, 3, 2))
    assert scale.tolist() == [[0.25] * 3]
    assert rank_one.tolist() == [[0.0] * 3]


def test_jacobian_survives_norms_whose_cube_underflows():
    penalty = GroupLasso(
        torch.tensor([1e-6]), torch.tensor([1e-12]), None, torch.tensor([1.0, 0.0])
    )
    correlation = torch.tensor([[[2e-6], [1e-15]]])
    scale, rank_one = penalty.jacobian(correlation)
    assert bool(torch.isfinite(scale).all())
    np.testing.assert_allclose(rank_one, [[1.25e23, 0.0]], rtol=1e-5)
