"""Lasso regressions by the compiled kernel against the tensor solver and numpy."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skcausalmeta.solvers import _compiled_lasso, _lasso, solve_lasso
from skcausalmeta.solvers._compiled import kernel
from tests.solvers.test_compiled_solver import N_EXAMPLES, instructions
from tests.solvers.test_solve_lasso import make_problem, peer_coef

needs_kernel = pytest.mark.skipif(kernel is None, reason="the kernel was not built")
# Far from dependent columns, where one search may not do.
PLAIN = {
    "more rows": {},
    "more features": {"n_features": 60, "n_samples": 20},
    "ridge": {"n_features": 60, "n_samples": 20, "lambda2": 0.1},
    "correlated": {"n_features": 30, "n_samples": 40, "correlation": 0.9},
    "weights": {"weighted": True, "lambda2": 0.01},
    "weak": {"n_features": 15, "level": 1e-3},
    "outputs": {"n_outputs": 3},
    "off": {"level": 1.0},
}


def in_precision(problem, dtype):
    tensors = ("features", "targets", "weights")
    parts = {name: getattr(problem, name).to(dtype) for name in tensors}
    penalty = replace(problem.penalty, lambda1=problem.penalty.lambda1.to(dtype))
    return replace(problem, penalty=penalty, **parts)


def numpy_gap(problem, coef):
    """P(w) - D(theta) over P(w) of every task, the dual point by scaling residuals."""
    gaps = []
    for task in range(problem.n_tasks):
        rows, w = problem.features[task].numpy(), coef[task, :, 0].numpy()
        s, y = problem.weights[task].numpy(), problem.targets[task, :, 0].numpy()
        lambda1 = float(problem.penalty.lambda1[task].squeeze())
        lambda2 = 0.0
        if hasattr(problem.penalty, "lambda2"):
            lambda2 = float(problem.penalty.lambda2[task])
        # The ridge is the Lasso on rows of sqrt(lambda2) more.
        rows = np.vstack([np.sqrt(s)[:, None] * rows, lambda2**0.5 * np.eye(len(w))])
        y = np.r_[np.sqrt(s) * y, np.zeros(len(w))]
        lacking = y - rows @ w
        primal = lacking @ lacking / 2 + lambda1 * np.abs(w).sum()
        largest = np.abs(rows.T @ lacking).max()
        theta = lacking * min(1.0, lambda1 / largest if largest > 0 else 1.0)
        dual = y @ y / 2 - (y - theta) @ (y - theta) / 2
        gaps.append((primal - dual) / max(primal, 1e-300))
    return np.array(gaps)


@needs_kernel
@pytest.mark.parametrize("case", PLAIN)
def test_the_kernel_alone_solves(case, monkeypatch):
    problem = make_problem(**PLAIN[case])
    columns = _lasso._one_output_each(problem)
    coef, n_iter = _compiled_lasso.compiled_lasso(columns)
    assert float(np.abs(numpy_gap(columns, coef)).max()) <= 1e-12
    assert int(n_iter.max()) <= 20
    found = solve_lasso(problem)
    monkeypatch.setattr(_lasso, "compiled_lasso", lambda columns: None)
    torch.testing.assert_close(found.coef, solve_lasso(problem).coef)
    for output in range(problem.targets.shape[-1]):
        expected = peer_coef(problem, 0, output)
        np.testing.assert_allclose(found.coef[0, :, output], expected, atol=1e-6)


@settings(max_examples=N_EXAMPLES // 5, deadline=None, derandomize=True)
@given(
    st.fixed_dictionaries(
        {
            "seed": st.integers(0, 2**31),
            "n_samples": st.integers(2, 30),
            "n_features": st.sampled_from([1, 2, 5, 20, 60]),
            "level": st.sampled_from([1e-4, 0.01, 0.3, 0.9, 1.0, 1.1]),
            "lambda2": st.sampled_from([0.0, 1e-6, 0.1, 10.0]),
            "correlation": st.sampled_from([0.0, 0.99]),
            "n_copies": st.sampled_from([0, 0, 1]),
            "weighted": st.booleans(),
        }
    ),
    st.sampled_from([1e-6, 1e-3, 1.0, 1e3, 1e6]),
)
def test_random_regressions_have_a_true_certificate(drawn, scale):
    drawn["n_copies"] = min(drawn["n_copies"], drawn["n_features"] // 2)
    problem = make_problem(**drawn)
    moved = {"lambda1": scale * problem.penalty.lambda1}
    if drawn["lambda2"]:
        moved["lambda2"] = scale**2 * problem.penalty.lambda2
    penalty = replace(problem.penalty, **moved)
    problem = replace(problem, features=scale * problem.features, penalty=penalty)
    solution = solve_lasso(problem, tol=1e-8)
    assert bool(torch.isfinite(solution.coef).all())
    assert float(np.abs(numpy_gap(problem, solution.coef)).max()) <= 1e-7
    assert float(solution.relative_gap.max()) <= 1e-8


@needs_kernel
def test_dependent_columns_are_left_to_tensors():
    problem = make_problem(n_features=8, n_copies=2, level=0.01)
    solution = solve_lasso(problem, tol=1e-12)
    assert float(solution.relative_gap.max()) <= 1e-12
    assert bool(torch.isfinite(solution.coef).all())


@needs_kernel
def test_where_it_does_not_apply():
    many = make_problem(n_features=520, n_samples=10)
    for problem in (many, in_precision(make_problem(), torch.bfloat16)):
        columns = _lasso._one_output_each(problem)
        assert _compiled_lasso.compiled_lasso(columns) is None
    assert float(solve_lasso(many).relative_gap.max()) <= 1e-10


@needs_kernel
def test_single_precision():
    problem = in_precision(make_problem(n_features=30), torch.float32)
    found = solve_lasso(problem, tol=1e-5)
    assert found.coef.dtype == torch.float32
    exact = solve_lasso(in_precision(problem, torch.float64))
    torch.testing.assert_close(found.coef.double(), exact.coef, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("isa", instructions())
def test_every_set_of_instructions_solves(isa):
    widest = kernel.get_isa()
    problem = make_problem(n_features=60, n_samples=30, level=0.05)
    try:
        kernel.set_isa(isa)
        coef, _ = _compiled_lasso.compiled_lasso(problem)
        assert float(np.abs(numpy_gap(problem, coef)).max()) <= 1e-12
    finally:
        kernel.set_isa(widest)
