"""Linear systems against the pseudo-inverse, roots against finite differences."""

import numpy as np
import pytest
import torch

from skcausalmeta.implicit import implicit_root, solve_psd


def random_systems(seed, size, ranks):
    """Positive semi-definite matrices of the given ranks, b in their range."""
    rng = np.random.RandomState(seed)
    factors = [rng.randn(size, rank) for rank in ranks]
    matrices = np.stack([factor @ factor.T for factor in factors])
    right = (matrices @ rng.randn(len(ranks), size, 1))[..., 0]
    return torch.from_numpy(matrices), torch.from_numpy(right)


@pytest.mark.parametrize("size", [1, 5, 40])
@pytest.mark.parametrize("kind", ["regular", "singular", "mixed"])
def test_solution_is_that_of_the_pseudo_inverse(size, kind):
    full, low = size + 3, size // 2
    ranks = {"regular": [full] * 3, "singular": [low] * 3, "mixed": [full, low, 0]}
    matrix, right = random_systems(size, size, ranks[kind])
    expected = np.linalg.pinv(matrix.numpy(), hermitian=True) @ right.numpy()[..., None]
    found = solve_psd(matrix, right)
    np.testing.assert_allclose(found, expected[..., 0], rtol=1e-6, atol=1e-8)


def test_one_null_direction_is_found():
    # Nearly full rank: the null direction shows in one pivot only.
    matrix, right = random_systems(3, 60, [59, 60])
    expected = np.linalg.pinv(matrix.numpy(), hermitian=True) @ right.numpy()[..., None]
    np.testing.assert_allclose(solve_psd(matrix, right), expected[..., 0], rtol=1e-6)


def test_a_singular_neighbour_changes_nothing():
    matrix, right = random_systems(4, 8, [20, 3])
    alone = solve_psd(matrix[:1], right[:1])
    torch.testing.assert_close(solve_psd(matrix, right)[:1], alone, rtol=1e-13, atol=0)


def test_rows_of_very_different_scale_are_solved():
    matrix, _ = random_systems(5, 6, [20])
    scale = torch.logspace(0, -8, 6, dtype=torch.float64)
    right = torch.ones(1, 6, dtype=torch.float64) * scale
    found = solve_psd(scale[:, None] * matrix * scale, right) * scale
    expected = torch.linalg.solve(matrix, torch.ones(1, 6, dtype=torch.float64))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-12)


def test_single_precision():
    matrix, right = random_systems(6, 10, [30, 4])
    found = solve_psd(matrix.float(), right.float())
    assert found.dtype == torch.float32
    torch.testing.assert_close(
        found.double(), solve_psd(matrix, right), rtol=1e-2, atol=1e-3
    )


def cubic(a, b):
    """The real root w of ``w^3 + a w = b`` by bisection, elementwise."""

    def solve(a, b):
        low, high = -torch.ones_like(b) * 10, torch.ones_like(b) * 10
        for _ in range(80):
            middle = (low + high) / 2
            above = middle**3 + a * middle > b
            low, high = (
                torch.where(above, low, middle),
                torch.where(above, middle, high),
            )
        return low, low

    def adjoint(gradient, root, a, b):
        moved = gradient / (3 * root**2 + a)
        return -moved * root, moved

    return implicit_root(solve, adjoint, a, b)


def toy_inputs():
    a = torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64, requires_grad=True)
    b = torch.tensor([2.0, -1.0, 0.3], dtype=torch.float64, requires_grad=True)
    return a, b


def test_gradient_of_a_root_against_finite_differences():
    assert torch.autograd.gradcheck(cubic, toy_inputs())


def test_inputs_without_gradient_may_get_none():
    a = torch.tensor(3.0, requires_grad=True)
    root = implicit_root(
        lambda a, b: (a * b, b), lambda g, b, *_: (g * b, None), a, torch.tensor(2.0)
    )
    root.backward()
    assert root.item() == 6.0
    assert a.grad.item() == 2.0


def test_iterations_are_not_recorded():
    seen = []

    def solve(a):
        seen.append(torch.is_grad_enabled())
        return a * 2, None

    implicit_root(solve, lambda g, *_: (2 * g,), torch.ones(2, requires_grad=True))
    assert seen == [False]


def test_double_backward_is_refused():
    a, b = toy_inputs()
    root = cubic(a, b).square().sum()
    (gradient,) = torch.autograd.grad(root, a, create_graph=True)
    with pytest.raises(RuntimeError, match="first derivatives only"):
        gradient.sum().backward()
