"""The certificates of every head are those of the formulas in its docstring."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.heads.drawn_tasks import (
    LOOSE,
    ROUNDING,
    all_weights,
    answers,
    balanced,
    check,
    gradients,
    group_lasso_heads,
    lasso_heads,
    one_hot,
    prototype_heads,
    ridge_heads,
    solve,
    suited,
    tasks,
    written,
)


@check
@given(
    task=tasks(),
    head=group_lasso_heads(solvers=("newton", "fista")),
    grouped=st.booleans(),
    absolute=st.booleans(),
)
def test_the_gap_of_the_group_lasso_is_that_of_the_formulas(
    task, head, grouped, absolute
):
    if grouped:
        head.set_params(groups=np.arange(task.support.shape[-1]) // 2)
    if absolute:
        n_features = task.support.shape[-1]
        head.set_params(reg_scale="absolute", ridge_reg=n_features * head.ridge_reg)
    solution = solve(head, task)
    assert bool((solution.gap >= 0).all())
    assert bool((solution.relative_gap <= head.tol).all())
    for number in range(len(task.support)):
        problem = written(head, task, number)
        coef = all_weights(head, solution, number, problem)
        primal = problem.primal(head, coef)
        dual = solution.dual[number].numpy()
        assert dual.min() >= 0
        np.testing.assert_allclose(dual.sum(1), 1, rtol=1e-12)
        gap = primal - problem.dual(head, dual)
        size = primal + problem.weights.sum()
        assert gap == pytest.approx(float(solution.gap[number]), abs=1e-12 * size)
        assert float(solution.relative_gap[number] * primal) == pytest.approx(
            float(solution.gap[number]), rel=1e-9, abs=1e-14 * size
        )
        if head.solver == "newton":
            correlation = problem.correlation(dual)
            kept = problem.norms(correlation) > problem.thresholds
            scale = 1e-9 * np.abs(correlation).max() / problem.lambda2
            unused = np.abs(coef[~kept[problem.groups]]).max(initial=0.0)
            assert unused <= scale


@check
@given(task=tasks(), head=ridge_heads())
def test_the_gap_of_the_ridge_is_that_of_the_formulas(task, head):
    solution = solve(head, task)
    assert bool((solution.gap >= 0).all())
    assert bool((solution.relative_gap <= ROUNDING).all())
    for number in range(len(task.support)):
        F, s = task.support[number].numpy(), task.weight[number].numpy()
        Y = one_hot(task.targets[number].numpy(), task.n_classes)
        s = balanced(s, Y)
        F, Y = (
            part - head.fit_intercept * np.average(part, axis=0, weights=s)
            for part in (F, Y)
        )
        lambda2 = head.ridge_reg * (np.average((F**2).sum(1), weights=s) or 1.0)
        W, R = solution.coef[number].numpy(), solution.dual[number].numpy()
        errors = s @ ((F @ W - Y) ** 2).sum(1)
        primal = errors / 2 + lambda2 / 2 * (W**2).sum()
        quadratic = (R**2 / s[:, None]).sum() / 2
        dual = (R * Y).sum() - quadratic - ((F.T @ R) ** 2).sum() / (2 * lambda2)
        size = primal + np.abs(R * Y).sum() + 1e-12
        gap = float(solution.gap[number])
        assert primal - dual == pytest.approx(gap, abs=1e-12 * size)


@check
@given(task=tasks(), head=prototype_heads())
def test_the_gap_of_prototypes_is_the_excess_of_squares(task, head):
    solution = solve(head, task)
    assert bool((solution.gap >= 0).all())
    assert bool((solution.relative_gap <= ROUNDING).all())
    for number in range(len(task.support)):
        F, s = task.support[number].numpy(), task.weight[number].numpy()
        labels = task.targets[number].numpy()
        means = solution.dual[number].numpy().T @ F
        for label in np.unique(labels):
            rows, own = F[labels == label], s[labels == label]
            expected = np.average(rows, axis=0, weights=own)
            np.testing.assert_allclose(means[label], expected, atol=1e-12)


@check
@given(task=tasks(), head=lasso_heads(), fista=st.booleans())
def test_the_gap_of_the_lasso_is_that_of_the_formulas(task, head, fista):
    if fista:
        head.set_params(solver="fista", tol=LOOSE)
    task = suited(head, task)
    solution = solve(head, task)
    assert bool((solution.gap >= 0).all())
    assert bool((solution.relative_gap <= head.tol).all())
    for number in range(len(task.support)):
        F, y = task.support[number].numpy(), task.targets[number].numpy()
        s = task.weight[number].numpy()
        s = s / s.sum()
        F, y = (part - head.fit_intercept * (s @ part) for part in (F, y))
        lambda1 = head.lasso_reg * np.abs(F.T @ (s * y)).max()
        lambda2 = head.ridge_reg * (s @ (F**2).sum(1) or 1.0)
        w, b = solution.coef[number, :, 0].numpy(), solution.dual[number, :, 0].numpy()
        primal = s @ (F @ w - y) ** 2 / 2
        primal += lambda1 * np.abs(w).sum() + lambda2 / 2 * (w @ w)
        excess = np.maximum(np.abs(F.T @ (s * (y - b))) - lambda1, 0)
        lower = s @ (y**2 - b**2) / 2
        if lambda2 > 0:
            lower -= (excess @ excess) / (2 * lambda2)
        else:
            assert excess.max() <= 1e-12 * max(lambda1, 1.0)
        gap = float(solution.gap[number])
        size = primal + s @ y**2
        assert primal - lower == pytest.approx(gap, abs=1e-12 * size)


@check
@given(
    task=tasks(grid=False),
    head=group_lasso_heads(solvers=("newton", "fista"), fit_intercept=False),
    strength=st.sampled_from([1.0, 1.3, 1e3]),
    grouped=st.booleans(),
)
def test_all_features_off_gives_nothing_at_all(task, head, strength, grouped):
    head.set_params(group_reg=strength)
    if grouped:
        head.set_params(groups=np.arange(task.support.shape[-1]) // 2)
    assert bool((answers(head, task) == 0).all())
    assert bool((solve(head, task).relative_gap <= 1e-14).all())
    for grad in gradients(head, task):
        assert bool((grad == 0).all())


@check
@given(
    task=tasks(max_features=3),
    head=group_lasso_heads(group_reg=0.0),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    copies=st.integers(2, 4),
)
def test_singular_gram_matrices_are_solved(task, head, dtype, copies):
    """More rows than features, every row several times, no Lasso."""
    repeated = [torch.cat([part] * copies, dim=1) for part in task[:2]]
    task = task.replace(
        support=repeated[0],
        targets=repeated[1],
        weight=torch.cat([task.weight] * copies, dim=1),
    ).to(dtype)
    head.set_params(tol=1e-9 if dtype == torch.float64 else 1e-5)
    solution = solve(head, task)
    assert bool((solution.gap >= 0).all())
    assert bool((solution.relative_gap <= head.tol).all())
    for grad in gradients(head, task):
        assert bool(torch.isfinite(grad).all())
