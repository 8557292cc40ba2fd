"""Four solvers against cvxpy's primal, and the certificate they all share."""

from dataclasses import replace

import cvxpy as cp
import numpy as np
import pytest
import torch

from skcausalmeta.exceptions import SolverError
from skcausalmeta.losses import CrammerSinger
from skcausalmeta.penalties import GroupLasso
from skcausalmeta.solvers import (
    Problem,
    ReducedSystem,
    Solution,
    _auto,
    _conic,
    _cvxpy,
    _newton,
    _working_set,
    solve_auto,
    solve_compiled,
    solve_cvxpy,
    solve_fista,
    solve_newton,
    solve_working_set,
)
from skcausalmeta.solvers._fista import fista_steps

SOLVERS = [
    solve_cvxpy,
    solve_working_set,
    solve_fista,
    solve_newton,
    solve_compiled,
    solve_auto,
]
BATCHED = [solve_fista, solve_newton, solve_compiled, solve_auto]


def make_problem(
    n_samples=9,
    n_features=6,
    n_classes=3,
    level=0.3,
    *,
    lambda2=1.0,
    n_groups=None,
    free_last=False,
    weights=None,
    n_tasks=1,
    seed=0,
    dtype=torch.float64,
):
    """Random problems; `level` is lambda1 over the value that switches all off."""
    rng = np.random.RandomState(seed)
    features = torch.from_numpy(rng.randn(n_tasks, n_samples, n_features))
    labels = np.stack([rng.permutation(n_samples) for _ in range(n_tasks)]) % n_classes
    targets = torch.eye(n_classes).double()[labels]
    rows = torch.ones(n_tasks, n_samples).double()
    if weights == "random":
        rows = torch.from_numpy(rng.uniform(0.2, 3.0, size=rows.shape))
        rows[:, ::4] = 0.0
    groups = group_weights = None
    if n_groups is not None:
        groups = torch.from_numpy(rng.permutation(n_features) % n_groups)
    if free_last:
        features[..., -1] = 1.0
        group_weights = torch.ones(n_features).double()
        if groups is not None:
            groups = torch.arange(n_features) % n_groups
            groups[-1] = n_groups
            group_weights = torch.ones(n_groups + 1).double()
        group_weights[-1] = 0.0
    ones = torch.ones(n_tasks).double()
    penalty = GroupLasso(ones, lambda2 * ones, groups, group_weights)
    problem = Problem(features, targets, rows, CrammerSinger(), penalty)
    norms = penalty.group_norms(problem.correlation(CrammerSinger().start(targets)))
    if group_weights is not None:
        norms = norms * group_weights
    penalty = replace(penalty, lambda1=level * norms.amax(-1))
    return cast(replace(problem, penalty=penalty), dtype)


def cast(problem, dtype):
    def to(tensor):
        return None if tensor is None else tensor.to(dtype)

    old = problem.penalty
    penalty = GroupLasso(
        to(old.lambda1), to(old.lambda2), old.groups, to(old.group_weights)
    )
    return Problem(
        to(problem.features),
        to(problem.targets),
        to(problem.weights),
        problem.loss,
        penalty,
    )


def primal_optimum(problem, task=0):
    """min P(W) by cvxpy, written down from the formula."""
    features = problem.features[task].numpy()
    targets = problem.targets[task].numpy()
    penalty = problem.penalty
    n_features = features.shape[1]
    groups = np.arange(n_features)
    if penalty.groups is not None:
        groups = penalty.groups.numpy()
    weights = np.ones(groups.max() + 1)
    if penalty.group_weights is not None:
        weights = penalty.group_weights.numpy()
    coef = cp.Variable((n_features, targets.shape[1]))
    scores = features @ coef
    margins = cp.max(1 - targets + scores, axis=1)
    hinge = margins - cp.sum(cp.multiply(targets, scores), axis=1)
    lasso = sum(
        weights[g] * cp.norm(coef[np.flatnonzero(groups == g)], "fro")
        for g in range(len(weights))
    )
    objective = (
        float(penalty.lambda2[task]) / 2 * cp.sum_squares(coef)
        + float(penalty.lambda1[task]) * lasso
        + problem.weights[task].numpy() @ hinge
    )
    program = cp.Problem(cp.Minimize(objective))
    tight = {"tol_gap_abs": 1e-9, "tol_gap_rel": 1e-9, "tol_feas": 1e-9}
    program.solve(solver=cp.CLARABEL, **tight)
    return program.value


CASES = {
    "two classes": {"n_classes": 2},
    "more features": {"n_features": 30},
    "more rows": {"n_samples": 30, "n_features": 4},
    "twenty classes": {"n_samples": 20, "n_features": 10, "n_classes": 20},
    "no lasso": {"level": 0.0},
    "strong lasso": {"level": 0.9, "n_features": 20},
    "all off": {"level": 1.0},
    "far off": {"level": 5.0},
    "strong ridge": {"lambda2": 50.0},
    "weak ridge": {"lambda2": 0.05},
    "groups": {"n_features": 12, "n_groups": 4},
    "intercept": {"free_last": True},
    "groups and intercept": {"n_features": 12, "n_groups": 5, "free_last": True},
    "row weights": {"weights": "random", "n_samples": 12},
    "all together": {
        "n_samples": 14,
        "n_features": 15,
        "n_classes": 4,
        "n_groups": 6,
        "free_last": True,
        "weights": "random",
    },
}
OPTIMA = {}


def optimum_of(case):
    if case not in OPTIMA:
        OPTIMA[case] = primal_optimum(make_problem(**CASES[case]))
    return OPTIMA[case]


@pytest.mark.parametrize("solve", SOLVERS, ids=lambda solve: solve.__name__)
@pytest.mark.parametrize("case", CASES)
def test_objective_is_that_of_the_primal_program(solve, case):
    problem = make_problem(**CASES[case])
    solution = solve(problem, tol=5e-7)
    value = float(problem.primal(solution.coef))
    assert value == pytest.approx(optimum_of(case), rel=1e-6)
    # the certificate: B is feasible, and gap and W belong to it
    assert bool((solution.dual >= 0).all())
    np.testing.assert_allclose(solution.dual.sum(-1), 1.0, atol=1e-12)
    gap, relative_gap, coef = problem.certificate(solution.dual)
    assert 0 <= float(solution.gap) <= 5e-7 * value
    torch.testing.assert_close(solution.gap, gap, rtol=0, atol=1e-12 * value)
    torch.testing.assert_close(solution.relative_gap, relative_gap, rtol=0, atol=1e-12)
    torch.testing.assert_close(solution.coef, coef)
    torch.testing.assert_close(solution.coef, problem.coef(solution.dual))


@pytest.mark.parametrize("seed", range(4))
def test_certificate_bounds_the_distance_to_the_optimum_of_any_point(seed):
    problem = make_problem(**CASES["all together"], seed=seed)
    rng = np.random.RandomState(seed)
    shape = problem.targets.shape
    dual = torch.from_numpy(rng.dirichlet(np.ones(shape[-1]), size=shape[:-1]))
    best = primal_optimum(problem)
    primal = float(problem.primal(problem.coef(dual)))
    assert float(problem.dual(dual)) <= best + 1e-6
    assert primal - best <= float(problem.gap(dual)) + 1e-6
    assert float(problem.gap(dual)) == pytest.approx(primal - float(problem.dual(dual)))


@pytest.mark.parametrize("solve", SOLVERS, ids=lambda solve: solve.__name__)
def test_all_off_is_exact(solve):
    problem = make_problem(level=1.0)
    if solve is solve_cvxpy:
        problem = make_problem(level=1.1)
    solution = solve(problem)
    assert not bool(solution.coef.any())
    # P(0) = n_samples for the multiclass hinge
    assert float(problem.primal(solution.coef)) == 9.0


@pytest.mark.parametrize("solve", SOLVERS, ids=lambda solve: solve.__name__)
def test_batch_equals_one_by_one(solve):
    problem = make_problem(n_tasks=4, n_features=8, level=0.2, weights="random")
    together = solve(problem, tol=1e-9)
    assert together.n_iter.shape == (4,)
    for task in range(4):
        alone = solve(problem.select(torch.tensor([task])), tol=1e-9)
        # 1e-9 in the objective is 1e-4 in the weights at worst
        torch.testing.assert_close(
            together.coef[task], alone.coef[0], rtol=0, atol=2e-4
        )
        one = problem.select(torch.tensor([task]))
        np.testing.assert_allclose(
            one.primal(together.coef[task : task + 1]),
            one.primal(alone.coef),
            rtol=2e-9,
        )


@pytest.mark.parametrize("solve", BATCHED, ids=lambda solve: solve.__name__)
def test_easy_tasks_leave_the_batch_first(solve):
    problem = make_problem(n_tasks=2, n_features=20, level=0.1)
    lambda1 = problem.penalty.lambda1 * torch.tensor([1.0, 100.0])
    problem = replace(problem, penalty=replace(problem.penalty, lambda1=lambda1))
    n_iter = solve(problem, tol=1e-8).n_iter
    assert int(n_iter[1]) == 0 < int(n_iter[0])


@pytest.mark.parametrize("solve", BATCHED, ids=lambda solve: solve.__name__)
def test_warm_start_at_the_solution_takes_no_step(solve):
    problem = make_problem(n_features=15, n_tasks=2)
    cold = solve(problem, tol=1e-8)
    start = cold.dual.clone()
    warm = solve(problem, tol=1e-8, start=start)
    assert int(cold.n_iter.min()) > 0
    assert warm.n_iter.tolist() == [0, 0]
    assert torch.equal(warm.dual, cold.dual)
    assert torch.equal(start, cold.dual)


@pytest.mark.parametrize("solve", BATCHED, ids=lambda solve: solve.__name__)
def test_a_start_is_never_made_worse(solve):
    problem = make_problem(n_features=15, seed=3)
    start = solve_fista(problem, tol=1e-3).dual
    before = float(problem.gap(start))
    assert float(solve(problem, tol=1e-12, max_iter=1, start=start).gap) <= before


@pytest.mark.parametrize("solve", SOLVERS, ids=lambda solve: solve.__name__)
def test_single_precision(solve):
    problem = make_problem(n_features=20, n_tasks=2, dtype=torch.float32)
    solution = solve(problem, tol=1e-4)
    assert solution.coef.dtype == solution.dual.dtype == torch.float32
    assert bool((solution.relative_gap <= 1e-4).all())
    double = cast(problem, torch.float64)
    for task in range(2):
        value = float(double.primal(solution.coef.double())[task])
        assert value == pytest.approx(primal_optimum(double, task), rel=2e-4)


@pytest.mark.parametrize("solve", BATCHED, ids=lambda solve: solve.__name__)
def test_no_graph_is_recorded(solve):
    problem = make_problem()
    problem = replace(problem, features=problem.features.requires_grad_())
    assert not solve(problem).coef.requires_grad


def test_newton_leaves_hard_tasks_to_gradient_steps(monkeypatch):
    problem = make_problem(n_samples=30, n_features=8, level=0.1, seed=1)
    monkeypatch.setattr(_newton, "_MOST_NEWTON_STEPS", 1)
    assert float(solve_newton(problem, tol=1e-7, max_iter=20_000).relative_gap) <= 1e-7
    monkeypatch.setattr(_newton, "_LARGEST_SYSTEM", 0)
    monkeypatch.setattr(_newton, "_MOST_NEWTON_STEPS", 100)
    assert float(solve_newton(problem, tol=1e-5, max_iter=100).relative_gap) <= 1e-5


# -- working set ------------------------------------------------------------------


@pytest.fixture(name="widths")
def spy_on_cvxpy(monkeypatch):
    """Numbers of features of the programs that the working set hands to cvxpy."""
    seen = []

    def spy(problem, **keywords):
        seen.append(problem.features.shape[-1])
        return solve_cvxpy(problem, **keywords)

    monkeypatch.setattr(_working_set, "solve_cvxpy", spy)
    return seen


WIDE = {"n_features": 60, "level": 0.6, "n_samples": 10, "n_classes": 5}


@pytest.mark.parametrize("extra", [{}, {"n_groups": 20, "free_last": True}])
def test_working_set_leaves_out_features_that_are_off(widths, extra):
    problem = make_problem(**WIDE, **extra)
    solution = solve_working_set(problem)
    assert float(solution.relative_gap) <= 1e-6
    used = int((solution.coef != 0).any(-1).sum())
    assert used <= widths[-1] < 60
    assert len(widths) == int(solution.n_iter)


def empty_scout(problem, **_):
    """B = Y: V = 0, so that no feature looks useful."""
    gap, relative_gap, coef = problem.certificate(problem.targets)
    return Solution(coef, problem.targets, gap, relative_gap, torch.zeros(1).long())


def wrong_scout(problem, **_):
    """A point that sees little of the signal."""
    dual = 0.6 * problem.targets + 0.4 * problem.loss.start(problem.targets)
    gap, relative_gap, coef = problem.certificate(dual)
    return Solution(coef, dual, gap, relative_gap, torch.zeros(1).long())


@pytest.mark.parametrize("scout", [empty_scout, wrong_scout])
@pytest.mark.parametrize("extra", [{}, {"n_groups": 20}, {"free_last": True}])
def test_working_set_grows_after_a_bad_scout(monkeypatch, widths, scout, extra):
    monkeypatch.setattr(_working_set, "solve_newton", scout)
    problem = make_problem(**(WIDE | {"level": 0.3}), **extra)
    solution = solve_working_set(problem)
    assert float(solution.relative_gap) <= 1e-6
    assert float(problem.primal(solution.coef)) == pytest.approx(
        primal_optimum(problem), rel=1e-6
    )
    assert int(solution.n_iter) > 1
    assert widths == sorted(set(widths))  # every set is larger than the last


def test_working_set_spares_cvxpy_where_the_scout_is_good_enough(widths):
    solve_working_set(make_problem(level=2.0))
    assert widths == []


# -- cvxpy ------------------------------------------------------------------------


@pytest.fixture(name="attempts")
def failing_program(monkeypatch):
    """Record the conic solvers tried; those named in `failures` give no point."""

    class Attempts(list):
        failures = ()

    attempts, solve = Attempts(), _cvxpy._Program.solve

    def spy(self, name, keywords):
        attempts.append((name, keywords))
        if name in attempts.failures:
            return None, f"{name} gave up"
        return solve(self, name, keywords)

    monkeypatch.setattr(_cvxpy._Program, "solve", spy)
    return attempts


def test_a_failing_solver_is_retried_with_the_next(attempts):
    attempts.failures = ("CLARABEL",)
    solution = solve_cvxpy(make_problem(), tol=1e-5)
    assert len(attempts) >= 2
    assert attempts[0][0] == "CLARABEL" != attempts[1][0]
    assert float(solution.relative_gap) <= 1e-5
    assert solution.n_iter.tolist() == [len(attempts)]


def test_a_point_without_certificate_is_retried_with_the_next(attempts):
    # Three iterations of the interior point method are not enough.
    options = {"solver": "CLARABEL", "max_iter": 3}
    solution = solve_cvxpy(make_problem(), tol=1e-5, solver_options=options)
    assert attempts[0] == ("CLARABEL", _conic._TIGHT["CLARABEL"] | {"max_iter": 3})
    assert len(attempts) >= 2
    assert "max_iter" not in attempts[1][1]
    assert float(solution.relative_gap) <= 1e-5


@pytest.mark.parametrize("solve", [solve_cvxpy, solve_working_set])
def test_all_solvers_failing_is_an_error_with_statuses(attempts, solve):
    attempts.failures = tuple(cp.installed_solvers())
    with pytest.raises(SolverError, match="No installed conic solver") as caught:
        solve(make_problem())
    assert caught.value.statuses["CLARABEL"] == "CLARABEL gave up"
    assert len(caught.value.statuses) == len(attempts) >= 2


def test_an_exception_of_a_conic_solver_becomes_a_status(monkeypatch):
    def broken(self, **keywords):
        raise cp.error.SolverError("out of luck")

    monkeypatch.setattr(cp.Problem, "solve", broken)
    with pytest.raises(SolverError, match="set solver_options") as caught:
        solve_cvxpy(make_problem())
    assert set(caught.value.statuses.values()) == {"out of luck"}


def test_the_solver_of_the_options_goes_first(attempts):
    solve_cvxpy(make_problem(), tol=1e-4, solver_options={"solver": "SCS"})
    assert attempts[0] == ("SCS", _conic._TIGHT["SCS"])


@pytest.mark.parametrize("solve", [solve_cvxpy, solve_working_set])
def test_an_unknown_conic_solver_is_refused(solve):
    with pytest.raises(ValueError, match=r"installed cvxpy solver\. Got 'NO'"):
        solve(make_problem(), solver_options={"solver": "NO"})


def test_a_small_shape_is_canonicalised_once():
    _cvxpy._parametrised.cache_clear()
    problem = make_problem(n_tasks=3)
    fresh = solve_cvxpy(problem.select(torch.tensor([2])))
    again = solve_cvxpy(problem)
    info = _cvxpy._parametrised.cache_info()
    assert (info.misses, info.hits) == (1, 3)
    torch.testing.assert_close(again.coef[2], fresh.coef[0], atol=1e-5, rtol=0)


def test_statuses_that_doubt_a_certified_point_stay_quiet(recwarn):
    for seed in range(3):
        solve_cvxpy(make_problem(n_features=20, seed=seed))
    assert [str(w.message) for w in recwarn if "inaccurate" in str(w.message)] == []


# -- pieces -----------------------------------------------------------------------


@pytest.mark.parametrize("case", ["two classes", "groups", "all together"])
def test_dual_of_many_is_the_dual_of_each(case):
    problem = make_problem(**CASES[case], n_tasks=2)
    n_tasks, n_samples, n_classes = problem.targets.shape
    points = np.random.RandomState(0).dirichlet(
        np.ones(n_classes), size=(n_tasks, 5, n_samples)
    )
    points = torch.from_numpy(points)
    expected = torch.stack([problem.dual(points[:, k]) for k in range(5)], dim=1)
    torch.testing.assert_close(problem.dual_of_many(points), expected)


@pytest.mark.parametrize("case", ["two classes", "groups", "all together"])
def test_dual_gradient_is_that_of_autograd(case):
    problem = make_problem(**CASES[case], n_tasks=2)
    dual = problem.loss.start(problem.targets).requires_grad_()
    (gradient,) = torch.autograd.grad(problem.dual(dual).sum(), dual)
    # equal up to a constant in every row, which the row sums do not see
    difference = problem.dual_gradient(dual.detach()) - gradient
    spread = difference.amax(-1) - difference.amin(-1)
    np.testing.assert_allclose(spread, 0.0, atol=1e-10)


@pytest.mark.parametrize("case", ["more rows", "more features", "row weights"])
def test_dual_step_is_the_inverse_of_the_largest_curvature(case):
    problem = make_problem(**CASES[case])
    there = problem.weights[0] > 0
    largest = np.linalg.norm(problem.features[0][there].numpy(), 2) ** 2
    squares = problem.weights[0].square().masked_fill(~there, 1.0)
    expected = 1.0 / (largest * squares[:, None])  # lambda2 = 1
    torch.testing.assert_close(problem.dual_step()[0], expected)


def random_faces(problem, seed=0):
    """Feasible points with some entries at 0."""
    rng = np.random.RandomState(seed)
    dual = rng.dirichlet(np.ones(problem.targets.shape[-1]), problem.targets.shape[:-1])
    dual[dual < 0.2] = 0.0
    return torch.from_numpy(dual / dual.sum(-1, keepdims=True))


SYSTEMS = ["two classes", "no lasso", "groups", "row weights", "all together"]


@pytest.mark.parametrize("case", SYSTEMS)
def test_reduced_system_is_the_projected_hessian(case):
    problem = make_problem(**CASES[case], n_tasks=3)
    dual = random_faces(problem)
    system = ReducedSystem(problem, dual)
    matrix = system.matrix()
    n_samples, n_classes = dual.shape[1:]
    for task in range(3):
        one = problem.select(torch.tensor([task]))
        hessian = -torch.autograd.functional.hessian(
            lambda flat, one=one: one.dual(flat.view(1, n_samples, n_classes))[0],
            dual[task].flatten(),
        )
        moves = []
        for i in range(n_samples):
            free = torch.nonzero(dual[task, i] > 0)[:, 0].tolist()
            pivot = int(dual[task, i].argmax())
            for label in free:
                if label != pivot and float(problem.weights[task, i]) > 0:
                    move = torch.zeros(n_samples, n_classes).double()
                    move[i, label], move[i, pivot] = 1.0, -1.0
                    moves.append(move.flatten())
        size = len(moves)
        assert int(system.n_free[task]) == size > 0
        basis = torch.stack(moves)
        expected = basis @ hessian @ basis.T
        torch.testing.assert_close(
            matrix[task, :size, :size], expected, atol=1e-9, rtol=1e-9
        )
        padded = torch.zeros_like(matrix[task])
        padded[size:, size:] = torch.eye(len(padded) - size)
        padded[:size, :size] = matrix[task, :size, :size]
        assert torch.equal(matrix[task], padded)


def test_restrict_and_extend_are_adjoint():
    problem = make_problem(n_tasks=2, weights="random", n_samples=12)
    system = ReducedSystem(problem, random_faces(problem))
    rng = np.random.RandomState(0)
    matrix = torch.from_numpy(rng.randn(*problem.targets.shape))
    width = int(system.n_free.max())
    coordinates = torch.from_numpy(rng.randn(2, width))
    moved = system.extend(coordinates)
    np.testing.assert_allclose(moved.sum(-1), 0.0, atol=1e-14)
    left = (system.restrict(matrix) * coordinates).sum(-1)
    torch.testing.assert_close(left, (matrix * moved).sum((-2, -1)))


def test_a_corner_has_no_free_entries():
    problem = make_problem()
    system = ReducedSystem(problem, problem.targets)
    assert system.n_free.tolist() == [0]
    assert system.matrix().tolist() == [[[1.0]]]
    assert not bool(system.restrict(problem.targets).any())


def test_auto_takes_gradient_steps_for_many_rows_and_little_accuracy(monkeypatch):
    problem = make_problem(n_samples=6, n_features=5)
    monkeypatch.setattr(_auto, "compiled_applies", lambda problem: False)
    small = _auto._choose(problem, 1e-3)
    monkeypatch.setattr(_auto, "_MANY_ENTRIES", 18)
    assert small is solve_newton
    assert _auto._choose(problem, 1e-3) is solve_fista
    assert _auto._choose(problem, 1e-6) is solve_newton
    monkeypatch.setattr(_auto, "_ROWS_PER_FEATURE", 1)
    assert _auto._choose(problem, 1e-6) is solve_fista


@pytest.mark.parametrize("solve", BATCHED[:3], ids=lambda solve: solve.__name__)
def test_a_solver_names_what_a_loss_lacks(solve):
    problem = replace(make_problem(), loss=object())
    with pytest.raises(TypeError, match=r"needs a loss with .* Got object"):
        solve(problem)


def test_features_join_a_working_set_that_missed_them(monkeypatch):
    problem = make_problem(n_samples=12, n_features=60, n_tasks=2)
    expected = solve_newton(problem, tol=1e-12)
    monkeypatch.setattr(_newton, "_NARROW_FROM", 1)
    # At first only what is far above its threshold takes part, then what is above.
    monkeypatch.setattr(_newton, "_FIRST_MARGIN", 2.0)
    monkeypatch.setattr(_newton, "_MARGIN", 1.0)
    found = solve_newton(problem, tol=1e-9)
    assert float(found.relative_gap.max()) <= 1e-9
    torch.testing.assert_close(found.coef, expected.coef, atol=1e-6, rtol=1e-6)


def test_gradient_blocks_stand_in_for_a_large_system(monkeypatch):
    problem = make_problem(n_samples=20, n_features=20, n_classes=4, n_tasks=2)
    monkeypatch.setattr(_newton, "_LARGE_SYSTEM", 0)
    lengths = []

    def spy(problem, dual, n_steps, step=None):
        lengths.append(n_steps)
        return fista_steps(problem, dual, n_steps, step)

    monkeypatch.setattr(_newton, "fista_steps", spy)
    assert float(solve_newton(problem, tol=1e-9).relative_gap.max()) <= 1e-9
    assert _newton._STEPS_INSTEAD in lengths


def test_a_gap_at_the_level_of_rounding_ends_the_search():
    """Weak ridge, separable rows, single precision: tol * P is out of reach."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(5).repeat_interleave(5)
    means = 2 * torch.randn(2, 5, 64, generator=generator)
    features = means[:, labels] + torch.randn(2, 25, 64, generator=generator)
    targets = torch.eye(5)[labels].expand(2, -1, -1)
    ones = torch.ones(2)
    unit = features.square().sum(-1).mean(-1)
    penalty = GroupLasso(0 * ones, 1e-2 * unit)
    problem = Problem(features, targets, torch.ones(2, 25), CrammerSinger(), penalty)
    solution = solve_newton(problem, tol=1e-9)
    assert int(solution.n_iter.max()) < 60
    exact = solve_newton(cast(problem, torch.float64), tol=1e-9)
    error = (solution.coef - exact.coef).norm() / exact.coef.norm()
    assert float(error) < 0.05


def test_entries_that_a_step_would_make_negative_stop_at_zero():
    problem = make_problem(n_samples=12, n_features=20, n_classes=3, level=0.0)
    dual = random_faces(problem)
    system = ReducedSystem(problem, dual)
    none = torch.zeros_like(problem.penalty.lambda2)
    direction = _newton._direction(system, dual, problem.dual_gradient(dual), none)
    free = _newton._solve(system.matrix(), system.restrict(problem.dual_gradient(dual)))
    stopped = free < -system.entries(dual)
    assert bool(stopped.any())
    flat = (dual + direction).flatten(1)
    own = flat.gather(1, system._entries)
    torch.testing.assert_close(own[stopped], torch.zeros_like(own[stopped]))
    # Those that go on solve the rest of the system, given the ones that stopped.
    step = torch.where(stopped, -system.entries(dual), 0.0)
    step = torch.where(stopped, step, own - system.entries(dual))
    left = (system.matrix() @ step[..., None])[..., 0]
    right = system.restrict(problem.dual_gradient(dual))
    torch.testing.assert_close(left[~stopped], right[~stopped])
