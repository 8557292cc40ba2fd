"""The compiled solver: certificates in numpy, threads, forks, and its absence."""

import os
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skcausalmeta.heads._group_lasso_problem import Solved
from skcausalmeta.heads._group_lasso_svc import svm_adjoint
from skcausalmeta.losses import CrammerSinger, Squared
from skcausalmeta.penalties import GroupLasso
from skcausalmeta.solvers import (
    Problem,
    _auto,
    _compiled_solver,
    compiled_applies,
    compiled_gradients,
    has_compiled_solver,
    solve_auto,
    solve_compiled,
    solve_newton,
)
from skcausalmeta.solvers._compiled import kernel

ROOT = Path(__file__).parents[2]
# More for a long search: SKCAUSALMETA_EXAMPLES=10000.
N_EXAMPLES = int(os.environ.get("SKCAUSALMETA_EXAMPLES", "500"))
TOL = 1e-6


def draw_problem(
    seed,
    n_rows=12,
    n_features=10,
    n_classes=3,
    *,
    level=0.2,
    ridge=0.1,
    scale=1.0,
    kind="plain",
    n_tasks=1,
    spoil=0,
    weights="ones",
    grouped=False,
    free=False,
    offset=0.0,
):
    """Random tasks; `level` is lambda1 over what switches all off, `spoil` columns
    are duplicated, dead or constant, or rows repeated."""
    rng = np.random.RandomState(seed)
    features = rng.standard_normal((n_tasks, n_rows, n_features))
    features = {
        "plain": features,
        "relu": np.maximum(features, 0.0),
        "grid": features.round(),
        "shifted": features + 3.0,
        "dead": 0.0 * features,
    }[kind]
    for _ in range(spoil):
        one, other = rng.randint(n_features, size=2)
        row, same = rng.randint(n_rows, size=2)
        way = rng.randint(4)
        if way == 0:
            features[:, :, one] = features[:, :, other]
        elif way == 1:
            features[:, :, one] = 0.0
        elif way == 2:
            features[:, :, one] = rng.choice([1.0, 5.0, 1e-3, 100.0])
        else:
            features[:, row] = features[:, same]
    # Some classes may have no row.
    labels = rng.randint(rng.randint(1, n_classes + 1), size=(n_tasks, n_rows))
    rows = np.ones((n_tasks, n_rows))
    if weights == "uneven":
        rows = rng.uniform(0.1, 3.0, size=rows.shape)
    elif weights == "zeros":
        rows[:, rng.uniform(size=n_rows) < 0.4] = 0.0
        rows[:, 0] = 1.0
    groups = group_weights = None
    n_groups = n_features
    if grouped:
        groups = np.unique(
            rng.randint(n_features // 2 + 1, size=n_features), False, True
        )
        groups = torch.from_numpy(groups[1])
        n_groups = int(groups.max()) + 1
    if free:
        group_weights = torch.ones(n_groups).double()
        group_weights[rng.randint(n_groups)] = 0.0
    shift = None
    if offset:
        shift = torch.from_numpy(offset * rng.standard_normal((*rows.shape, n_classes)))
    tensor = torch.from_numpy(scale * features)
    ones = torch.ones(n_tasks).double()
    square = float(tensor.square().sum(-1).mean()) or 1.0
    penalty = GroupLasso(ones, ridge * square * ones, groups, group_weights)
    targets = torch.eye(n_classes).double()[labels]
    weight = torch.from_numpy(rows)
    problem = Problem(tensor, targets, weight, CrammerSinger(), penalty, shift)
    norms = penalty.group_norms(problem.correlation(problem.start()))
    if group_weights is not None:
        norms = norms * group_weights
    return replace(problem, penalty=replace(penalty, lambda1=level * norms.amax(-1)))


def numpy_certificate(problem, coef, dual, task=0):
    """P(W) and D(B), written down from the formulas, and W(B)."""
    rows, targets = problem.features[task].numpy(), problem.targets[task].numpy()
    weights, penalty = problem.weights[task].numpy(), problem.penalty
    offset = 0.0 if problem.offset is None else problem.offset[task].numpy()
    lambda1, lambda2 = float(penalty.lambda1[task]), float(penalty.lambda2[task])
    groups = np.arange(rows.shape[1])
    if penalty.groups is not None:
        groups = penalty.groups.numpy()
    factors = np.ones(groups.max() + 1)
    if penalty.group_weights is not None:
        factors = penalty.group_weights.numpy()
    thresholds = lambda1 * factors

    def norms(matrix):
        return np.sqrt(np.bincount(groups, (matrix**2).sum(1), len(factors)))

    scores = rows @ coef + offset
    own = (scores * targets).sum(1)
    loss = (1.0 - targets + scores).max(1) - own
    primal = weights @ loss + lambda2 / 2 * (coef**2).sum() + thresholds @ norms(coef)
    correlation = rows.T @ (weights[:, None] * (targets - dual))
    size = norms(correlation)
    excess = np.maximum(size - thresholds, 0.0)
    share = ((1.0 - targets) * dual + (dual - targets) * offset).sum(1)
    value = weights @ share - (excess**2).sum() / (2 * lambda2)
    factor = excess / np.where(size > 0, size, 1.0) / lambda2
    return primal, value, factor[groups][:, None] * correlation


def assert_certified(problem, solution, tol=TOL):
    for task in range(problem.n_tasks):
        coef, dual = solution.coef[task].numpy(), solution.dual[task].numpy()
        assert np.isfinite(coef).all()
        assert dual.min() >= 0.0
        np.testing.assert_allclose(dual.sum(1), 1.0, rtol=1e-12)
        primal, value, expected = numpy_certificate(problem, coef, dual, task)
        # W is a difference of sums: rounding is relative to their terms.
        terms = np.abs(problem.features[task].numpy()).T @ problem.weights[task].numpy()
        terms = terms.max() / float(problem.penalty.lambda2[task])
        np.testing.assert_allclose(coef, expected, rtol=1e-9, atol=1e-12 * terms)
        # P and D are sums of many rows: 1e-12 of them is rounding.
        rounding = 1e-12 * (abs(primal) + float(problem.weights[task].sum()))
        assert primal - value <= tol * abs(primal) + rounding
        assert float(solution.gap[task]) == pytest.approx(
            primal - value, rel=1e-6, abs=rounding
        )
        assert float(solution.relative_gap[task]) * abs(primal) == pytest.approx(
            float(solution.gap[task]), rel=1e-9
        )


PROBLEMS = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32 - 1),
        "n_rows": st.integers(1, 30),
        "n_features": st.sampled_from([1, 2, 5, 12, 40, 200]),
        "n_classes": st.integers(2, 8),
        "level": st.sampled_from([0.0, 0.01, 0.1, 0.3, 0.6, 0.9, 1.0, 1.1]),
        "ridge": st.sampled_from([1e-3, 1e-2, 0.1, 1.0, 100.0]),
        "scale": st.sampled_from([1e-6, 1e-3, 1.0, 1.0, 1e3, 1e6]),
        "kind": st.sampled_from(["plain", "relu", "grid", "shifted", "dead"]),
        "spoil": st.integers(0, 4),
        "weights": st.sampled_from(["ones", "uneven", "zeros"]),
        "grouped": st.booleans(),
        "free": st.booleans(),
        "offset": st.sampled_from([0.0, 0.0, 0.5]),
    }
)


@settings(max_examples=N_EXAMPLES, deadline=None, derandomize=True)
@given(PROBLEMS)
def test_random_problems_have_a_true_certificate(drawn):
    problem = draw_problem(**drawn)
    assert_certified(problem, solve_compiled(problem, tol=TOL))


@pytest.mark.parametrize("tol", [1e-3, 1e-9, 1e-12])
def test_any_tolerance_is_reached(tol):
    problem = draw_problem(0, 25, 64, 5, n_tasks=4)
    solution = solve_compiled(problem, tol=tol)
    assert_certified(problem, solution, tol)
    assert float(solution.relative_gap.max()) <= tol
    exact = solve_newton(problem, tol=1e-13)
    distance = (solution.coef - exact.coef).norm() / exact.coef.norm()
    # P is strongly convex: the distance is at most of the order of sqrt(gap).
    assert float(distance) <= 20 * tol**0.5


@pytest.mark.parametrize(
    "shape",
    [(75, 300, 5), (100, 150, 20), (300, 8, 4)],
    ids=["more features", "many classes", "more rows"],
)
@pytest.mark.parametrize("level", [0.0, 0.15])
def test_larger_problems(shape, level):
    problem = draw_problem(1, *shape, level=level, kind="relu")
    assert_certified(problem, solve_compiled(problem))


def test_a_face_that_is_too_large_is_solved_by_parts():
    problem = draw_problem(2, 400, 40, 6, level=0.05, ridge=1e-3, kind="shifted")
    solution = solve_compiled(problem, tol=1e-4)
    assert_certified(problem, solution, 1e-4)
    # The hinge as a limit of logistic losses: no hundreds of steps on parts of it.
    assert int(solution.n_iter) <= 120


@pytest.mark.parametrize("shape", [(600, 8, 4), (500, 20, 3), (300, 15, 6)])
@pytest.mark.parametrize("level", [0.0, 0.1])
def test_many_rows_of_few_columns(shape, level):
    options = {"level": level, "grouped": True, "free": True, "offset": 0.5}
    problem = draw_problem(16, *shape, ridge=1e-2, weights="uneven", **options)
    solution = solve_compiled(problem)
    assert_certified(problem, solution)
    again = solve_compiled(problem, tol=1e-7, start=solution.dual)
    assert int(again.n_iter) <= 15


def test_a_row_of_weight_two_is_two_rows():
    once = draw_problem(3, 10, 8, 3)
    twice = replace(
        once,
        **{
            name: torch.cat([getattr(once, name)] * 2, 1)
            for name in ("features", "targets", "weights")
        },
    )
    heavy = replace(once, weights=2 * once.weights)
    left, right = (solve_compiled(part, tol=1e-12).coef for part in (twice, heavy))
    torch.testing.assert_close(left, right, atol=1e-7, rtol=1e-7)


def test_single_precision_agrees_with_double():
    problem = draw_problem(4, 25, 64, 5, n_tasks=3, offset=0.3, free=True)
    single = problem.to(torch.float32)
    found = solve_compiled(single, tol=1e-5)
    assert found.coef.dtype == found.dual.dtype == found.gap.dtype == torch.float32
    assert float(found.relative_gap.max()) <= 1e-5
    exact = solve_compiled(single.to(torch.float64), tol=1e-5)
    torch.testing.assert_close(found.coef.double(), exact.coef, atol=1e-4, rtol=1e-3)
    # The certificate belongs to the rounded point, whose rows sum to 1 but for 1e-7.
    again = single.to(torch.float64).certificate(found.dual.double())[1]
    torch.testing.assert_close(found.relative_gap.double(), again, atol=1e-7, rtol=1e-2)


def test_a_start_is_taken():
    problem = draw_problem(5, 25, 64, 5, n_tasks=2)
    first = solve_compiled(problem, tol=1e-10)
    again = solve_compiled(problem, tol=1e-9, start=first.dual)
    assert again.n_iter.tolist() == [0, 0]
    torch.testing.assert_close(again.coef, first.coef)


@pytest.mark.parametrize("exponent", [-430, 430])
def test_units_whose_squares_overflow_change_nothing(exponent):
    problem, unit = draw_problem(17, 12, 20, 3), 2.0**exponent
    penalty = replace(
        problem.penalty,
        lambda1=problem.penalty.lambda1 * unit,
        lambda2=problem.penalty.lambda2 * unit * unit,
    )
    scaled = replace(problem, features=problem.features * unit, penalty=penalty)
    solution, found = solve_compiled(problem), solve_compiled(scaled)
    assert torch.equal(found.dual, solution.dual)
    assert torch.equal(found.coef * unit, solution.coef)


def test_the_number_of_steps_is_bounded():
    problem = draw_problem(6, 25, 64, 5)
    short = solve_compiled(problem, tol=1e-12, max_iter=1)
    assert int(short.n_iter) == 1
    assert float(short.relative_gap) > 1e-12
    assert float(problem.certificate(short.dual)[0]) == pytest.approx(float(short.gap))


def test_what_the_kernel_leaves_is_solved_by_tensors(monkeypatch):
    problem = draw_problem(7, 25, 64, 5, n_tasks=3)
    monkeypatch.setattr(_compiled_solver, "_MOST_STEPS", 1)
    solution = solve_compiled(problem, tol=1e-9)
    assert_certified(problem, solution, 1e-9)
    assert int(solution.n_iter.min()) > 1


def test_strengths_beyond_the_range_of_the_kernel_are_left_to_tensors():
    problem = draw_problem(8)
    scale = replace(problem.penalty, lambda2=1e40 * problem.penalty.lambda2)
    problem = replace(problem, penalty=scale)
    assert_certified(problem, solve_compiled(problem))


# -- gradients --------------------------------------------------------------------

GRADIENTS = {
    "plain": {},
    "many features": {"n_features": 200},
    "no lasso": {"level": 0.0},
    "groups": {"grouped": True},
    "free": {"free": True, "grouped": True},
    "weights": {"weights": "uneven"},
    "offset": {"offset": 0.5},
    "spoilt": {"spoil": 6},
    "more rows": {"n_rows": 40, "n_features": 4},
    "all off": {"level": 2.0},
}


@pytest.mark.parametrize("case", GRADIENTS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_gradients_are_those_of_the_tensor_derivative(case, dtype):
    problem = draw_problem(0, **({"n_tasks": 4} | GRADIENTS[case])).to(dtype)
    dual = solve_compiled(problem, tol=1e-9).dual
    generator = torch.Generator().manual_seed(0)
    shape = problem.features.shape[0], problem.features.shape[2], 3
    gradient = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    exact = problem.to(torch.float64)
    coef = exact.coef(dual.double())
    if case == "no lasso":  # all features are in use
        coef = torch.ones_like(coef)
    expected = svm_adjoint(gradient.double(), Solved(dual.double(), coef), exact)
    found = compiled_gradients(problem, dual, gradient) if kernel else None
    if found is None:
        found = svm_adjoint(gradient, Solved(dual, coef), problem)
    # With more rows than features the system is singular, but for rounding.
    double = 1e-5 if case == "more rows" else 1e-9
    tolerance = double if dtype == torch.float64 else 1e-4
    for one, other in zip(found, expected, strict=True):
        size = float(other.abs().max())
        assert one.dtype == dtype
        torch.testing.assert_close(
            one.double(), other, atol=tolerance * (1.0 + size), rtol=tolerance
        )


def test_the_derivative_in_the_offset_is_that_of_differences():
    problem = draw_problem(9, 12, 6, 3, offset=0.5)
    gradient = torch.ones(1, 6, 3).double()
    gradient[0, 0] = 2.0
    gradient[0, 1, 0] = -3.0
    base = solve_compiled(problem, tol=1e-13)
    solved = Solved(base.dual, base.coef)
    expected = svm_adjoint(gradient, solved, problem)[-1]
    move = torch.randn(problem.offset.shape, generator=torch.Generator().manual_seed(1))
    step = 1e-6 * move.double()
    values = [
        float((gradient * solve_compiled(moved, tol=1e-13).coef).sum())
        for moved in (
            replace(problem, offset=problem.offset + step),
            replace(problem, offset=problem.offset - step),
        )
    ]
    slope = (values[0] - values[1]) / 2e-6
    assert slope == pytest.approx(float((expected * move.double()).sum()), rel=1e-4)
    if kernel:
        found = compiled_gradients(problem, base.dual, gradient)[-1]
        torch.testing.assert_close(found, expected)


# -- threads, processes, machines -------------------------------------------------


def fields(solution):
    return [solution.coef, solution.dual, solution.gap, solution.n_iter]


@pytest.fixture
def any_threads(monkeypatch):
    monkeypatch.setattr(_compiled_solver, "_WORK_OF_A_THREAD", 1)
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_results_do_not_depend_on_the_number_of_threads(any_threads):
    problem = draw_problem(10, 25, 150, 5, n_tasks=9)
    gradient = torch.ones(9, 150, 5).double()
    found = []
    for n_threads in (1, 2, 5):
        any_threads(n_threads)
        solution = solve_compiled(problem)
        parts = fields(solution)
        if kernel:
            parts += compiled_gradients(problem, solution.dual, gradient)
        found.append(parts)
    for parts in found[1:]:
        assert all(map(torch.equal, parts, found[0]))


def test_callers_do_not_disturb_each_other(any_threads):
    any_threads(2)
    problems = [draw_problem(seed, 20, 60, 4, n_tasks=3) for seed in range(8)]
    alone = [fields(solve_compiled(problem)) for problem in problems]
    with ThreadPoolExecutor(4) as pool:
        together = [fields(found) for found in pool.map(solve_compiled, problems)]
    for one, other in zip(alone, together, strict=True):
        assert all(map(torch.equal, one, other))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_solves_as_its_parent():
    program = """if True:
        import os, sys, torch
        from tests.solvers.test_compiled_solver import draw_problem, fields
        from skcausalmeta.solvers import _compiled_solver, solve_compiled
        _compiled_solver._WORK_OF_A_THREAD = 1
        torch.set_num_threads(2)
        problem = draw_problem(11, 20, 60, 4, n_tasks=6)
        expected = fields(solve_compiled(problem))
        child = os.fork()
        if child == 0:
            found = fields(solve_compiled(problem))
            os._exit(0 if all(map(torch.equal, found, expected)) else 1)
        _, status = os.waitpid(child, 0)
        assert all(map(torch.equal, fields(solve_compiled(problem)), expected))
        sys.exit(os.waitstatus_to_exitcode(status))
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        env=environment,
        timeout=900,  # a sanitised build takes a minute of a machine of its own
        check=False,
    )
    assert done.returncode == 0


def instructions():
    """Sets of instructions that this machine has."""
    if kernel is None:
        return []
    widest = kernel.ISAS.index(kernel.get_isa())
    return list(kernel.ISAS[: widest + 1])


@pytest.mark.parametrize("isa", instructions())
def test_every_set_of_instructions_solves(isa):
    widest = kernel.get_isa()
    problem = draw_problem(12, 25, 150, 7, n_tasks=3, spoil=4, weights="uneven")
    ridge = draw_problem(13, 25, 150, 9, level=0.0)
    try:
        kernel.set_isa(isa)
        assert_certified(problem, solve_compiled(problem))
        assert_certified(ridge, solve_compiled(ridge))
    finally:
        kernel.set_isa(widest)


# -- where it does not apply ------------------------------------------------------


def test_auto_takes_the_kernel_where_it_applies():
    problem = draw_problem(14)
    expected = solve_compiled if has_compiled_solver() else solve_newton
    assert _auto._choose(problem, 1e-6) is expected
    for other in (
        replace(problem, loss=Squared()),
        problem.to(torch.bfloat16),
        replace(problem, features=problem.features.to("meta")),
    ):
        assert not compiled_applies(other)
        assert _auto._choose(other, 1e-6) is solve_newton


def test_without_the_kernel_a_warning_says_so_once(monkeypatch):
    problem = draw_problem(15, n_tasks=2)
    expected = solve_newton(problem)
    monkeypatch.setattr(_compiled_solver, "kernel", None)
    monkeypatch.setattr(_compiled_solver._Warned, "once", False)
    assert not has_compiled_solver()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(solve_auto(problem).coef, expected.coef)
    with pytest.warns(RuntimeWarning, match="was not built") as caught:
        found = [solve_compiled(problem) for _ in range(2)]
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert all(torch.equal(one.coef, expected.coef) for one in found)


def test_the_package_is_imported_without_the_kernel():
    program = """if True:
        import sys
        sys.modules["skcausalmeta.solvers._compiled._kernel"] = None
        from skcausalmeta.heads import GroupLassoSVC
        from skcausalmeta.solvers import has_compiled_solver
        assert not has_compiled_solver()
        svc = GroupLassoSVC(solver="auto").fit([[0.0], [1.0]], [0, 1])
        print(svc.predict([[-1.0], [2.0]]))
    """
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["[0", "1]"]


def test_a_lack_of_memory_is_an_error(monkeypatch):
    outcome = torch.tensor([0, _compiled_solver._NO_MEMORY])
    with pytest.raises(MemoryError, match='solver="fista"'):
        _compiled_solver.check_outcomes(outcome)
    with pytest.raises(RuntimeError, match="did not run"):
        _compiled_solver.check_outcomes(outcome - 5)
