"""The layer as one operation: gradients by hand are those that autograd records."""

from __future__ import annotations

import pytest
import torch

from skcausalmeta.heads import GroupLassoLogistic, GroupLassoSVC
from skcausalmeta.solvers import has_compiled_solver

pytestmark = pytest.mark.skipif(
    not has_compiled_solver(), reason="the compiled solver was not built"
)
N_TASKS, N_ROWS, N_CLASSES = 3, 8, 3


def inputs(dtype=torch.float64):
    """Support, query, row weights and offset; a row and a column say nothing."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    support, query = draw(N_TASKS, N_ROWS, 6), draw(N_TASKS, 4, 6)
    support[..., 5] = 2.5
    weights = draw(N_TASKS, N_ROWS).abs() + 0.1
    weights[0, 2] = 0.0
    return [support, query, weights, 0.3 * draw(N_TASKS, N_ROWS, N_CLASSES)]


def gradients(head, *, recorded, weighted, around, dtype=torch.float64):
    """Scores, and gradients of a sum of them in all that was given."""
    if recorded:  # an operation for every step of the way to the problem
        head._is_one_operation = lambda *tensors: False
    tensors = [tensor.requires_grad_() for tensor in inputs(dtype)]
    labels = torch.arange(N_ROWS).remainder(N_CLASSES).expand(N_TASKS, N_ROWS)
    scores = head.episode_logits(
        tensors[0],
        labels,
        tensors[1],
        N_CLASSES,
        sample_weight=tensors[2] if weighted else None,
        support_offset=tensors[3] if around else None,
    )
    slope = torch.linspace(-1.0, 2.0, scores.numel(), dtype=scores.dtype)
    (scores.flatten() * slope).sum().backward()
    return [scores.detach(), *(t.grad for t in tensors if t.grad is not None)]


@pytest.mark.parametrize("kind", [GroupLassoSVC, GroupLassoLogistic])
@pytest.mark.parametrize("reg_scale", ["relative", "ridge-absolute", "absolute"])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("groups", [None, [0, 0, 1, 1, 2, 2]])
def test_gradients_are_those_of_the_recorded_operations(
    kind, reg_scale, fit_intercept, groups
):
    for weighted, around in ((False, False), (True, False), (True, True)):
        found, expected = (
            gradients(
                kind(
                    0.0 if around else 0.2,
                    reg_scale=reg_scale,
                    fit_intercept=fit_intercept,
                    intercept_scaling=1.7,
                    groups=groups,
                    solver="compiled",
                    tol=1e-10,
                ),
                recorded=recorded,
                weighted=weighted,
                around=around,
            )
            for recorded in (False, True)
        )
        assert len(found) == len(expected) == 3 + weighted + around
        for one, two in zip(found, expected, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-11)


def test_it_is_used_where_the_strengths_are_numbers():
    support, _, _, offset = inputs()
    one_hot = torch.zeros(N_TASKS, N_ROWS, N_CLASSES)
    head = GroupLassoSVC(0.2, solver="auto")
    assert head._is_one_operation(support, one_hot, None)
    assert not head._is_one_operation(support, one_hot, offset)
    assert GroupLassoLogistic(0.0)._is_one_operation(support, one_hot, offset)
    for other in (
        GroupLassoSVC(torch.tensor(0.2)),
        GroupLassoSVC(0.2, solver="newton"),
        GroupLassoSVC(0.2, refit=True),
        GroupLassoSVC(0.2, dual_reg=0.1),
        GroupLassoLogistic(0.2, n_reweight=1),
    ):
        assert not other._is_one_operation(support, one_hot, None)


def test_single_precision_and_no_second_derivative():
    head = GroupLassoSVC(0.2, solver="auto", tol=1e-6)
    found = gradients(
        head, recorded=False, weighted=True, around=False, dtype=torch.float32
    )
    assert all(part.dtype == torch.float32 for part in found)
    support, query, _, _ = inputs()
    labels = torch.arange(N_ROWS).remainder(N_CLASSES).expand(N_TASKS, N_ROWS)
    support.requires_grad_()
    scores = head.episode_logits(support, labels, query, N_CLASSES)
    (slope,) = torch.autograd.grad(scores.square().sum(), support, create_graph=True)
    with pytest.raises(RuntimeError, match="first derivatives only"):
        slope.sum().backward()
