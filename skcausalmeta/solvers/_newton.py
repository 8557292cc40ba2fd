"""Projected Newton on the free entries of the dual, all tasks at once."""

from __future__ import annotations

import torch
from torch import Tensor

from ._fista import fista_steps, solve_fista
from ._problem import Point, Problem, Solution, narrow, require, triangular
from ._progress import Best
from ._reduced_system import ReducedSystem

# Gradient steps before the first Newton step, with and without a Lasso, and after
# every one: they identify the free entries.
_WARM_STEPS, _RIDGE_WARM_STEPS, _STEPS_BETWEEN = 12, 4, 1
_LENGTHS = (1.0, 0.5, 0.2, 0.05, 0.01)
# Damping relative to the largest curvature: first value, then by step length.
_FIRST_DAMPING, _LEAST_DAMPING, _MOST_DAMPING = 1e-2, 1e-12, 1e3
# Near the solution, and for a pure ridge, whose dual is quadratic.
_SMALL_DAMPING = 1e-8
# Features at this share of their threshold take part: at the start, later.
_FIRST_MARGIN, _MARGIN = 0.7, 0.6
_NARROW_FROM = 256
_MOST_ROUNDS = 20
# A dense system of the first size costs more than a block of gradient steps, which
# goes first as long as it halves the gap; one of the second size is never formed.
_LARGE_SYSTEM, _LARGEST_SYSTEM = 600, 3000
_STEPS_INSTEAD = 120
# Systems are formed and solved in single precision, if the tolerance is not below
# the first value and lambda2 in this range, until a step fails to reduce the gap
# by this factor.
_COARSE_TOL, _COARSE_SCALE, _FELL = 1e-8, (1e-8, 1e8), 0.1
# A gap within this factor of rounding that has not fallen for so many steps is as
# small as it gets.
_ROUNDING, _IDLE_STEPS = 100.0, 5
# Few tasks need more Newton steps; those get gradient steps.
_MOST_NEWTON_STEPS = 100


@torch.no_grad()
def solve_newton(
    problem: Problem,
    *,
    tol: float = 1e-6,
    max_iter: int = 200,
    start: Tensor | None = None,
) -> Solution:
    """Maximise D(B) by Newton steps on the face of the simplices that holds B.

    1. A short FISTA phase finds a first guess of the free entries.
    2. The features near or above their threshold are gathered: the cost of all
       that follows is that of the features in use, not of all. With a pure
       ridge the triangular factor of F', n_samples wide, takes their place.
    3. Newton direction ``dB = E u, (H + delta S^2) u = E' grad D`` on the free
       entries (`ReducedSystem`). The damping delta falls after full steps and
       grows after short ones: with more rows than features H is singular, and
       along its null space D is linear.
    4. Projected line search: the best of a few step lengths by D, evaluated in
       one product; then a projected gradient step frees entries that should
       grow. While more than 600 entries are free and gradient steps halve the
       gap, or more than 3000 are free, they take the place of the dense system.
    5. A task whose gap on its features is at most ``tol * P`` leaves the batch, or
       whose gap is close to rounding and no longer falls.
    6. Certificate on all features. Features outside that are switched on join,
       and steps 3 to 5 go on from there. Tasks that 100 Newton steps did not
       solve are left to `solve_fista`.

    Parameters
    ----------
    problem : Problem
        The batch of problems, with loss `CrammerSinger`, penalty `GroupLasso`.
    tol : float, default=1e-6
        Relative duality gap to reach.
    max_iter : int, default=200
        Largest number of Newton steps, and of gradient steps after them.
    start : Tensor of shape (n_tasks, n_samples, n_classes), default=None
        Feasible dual point to start from, without a FISTA phase. None:
        ``problem.start()``.

    Returns
    -------
    Solution
        Best point found, with its certificate on all features; ``n_iter``
        counts Newton steps.

    Raises
    ------
    TypeError
        If the loss or the penalty does not offer what this solver needs.

    References
    ----------
    .. [1] D. Bertsekas (1982). Projected Newton methods for optimization
       problems with simple constraints. SIAM J. Control Optim. 20, 221-246.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.losses import CrammerSinger
    >>> from skcausalmeta.penalties import GroupLasso
    >>> from skcausalmeta.solvers import Problem, solve_newton
    >>> penalty = GroupLasso(torch.full((1,), 0.1), torch.ones(1))
    >>> eye = torch.eye(3)[None]
    >>> problem = Problem(eye, eye, torch.ones(1, 3), CrammerSinger(), penalty)
    >>> bool(solve_newton(problem, tol=1e-4).relative_gap <= 1e-4)
    True
    """
    require(
        problem,
        "solve_newton",
        loss=("start", "project", "dual_value", "dual_gradient", "polyhedral"),
        penalty=("conjugate_gradient", "conjugate", "jacobian"),
    )
    dual = problem.start() if start is None else start
    point = problem.evaluate(dual)
    best = Best(dual, point)
    alive = best.unfinished(tol)
    correlation = point.correlation[alive]
    lasso = bool((problem.penalty.lambda1 > 0).any())
    if len(alive) and start is None:
        live = _live(problem, alive)
        part, _ = _part(live, correlation, None, _FIRST_MARGIN)
        n_warm = _WARM_STEPS if lasso else _RIDGE_WARM_STEPS
        warm = fista_steps(part, dual[alive], n_warm)
        dual, correlation = dual.index_copy(0, alive, warm), live.correlation(warm)
    first = _FIRST_DAMPING if lasso and start is None else _SMALL_DAMPING
    steps, mask, budget = 0, None, min(max_iter, _MOST_NEWTON_STEPS)
    for _ in range(_MOST_ROUNDS):
        if not len(alive) or steps >= budget:
            break
        live = _live(problem, alive)
        part, mask = _part(live, correlation, mask, _MARGIN)
        found, taken, stuck = _newton_steps(
            part, dual[alive], tol, budget - steps, first
        )
        point = live.evaluate(found)
        best.update(alive, found, point, best.n_iter[alive] + taken)
        steps, first = steps + int(taken.max()), _SMALL_DAMPING
        dual = dual.index_copy(0, alive, found)
        kept = ((best.relative_gap[alive] > tol) & ~stuck).nonzero().squeeze(-1)
        alive, mask = alive[kept], None if mask is None else mask[kept]
        correlation = point.correlation[kept]
    if len(alive) and steps < max_iter:
        live = _live(problem, alive)
        rest = solve_fista(live, tol=tol, max_iter=max_iter, start=best.dual[alive])
        best.update(alive, rest.dual, rest, best.n_iter[alive])
    return best.solution()


def _live(problem: Problem, alive: Tensor) -> Problem:
    """The tasks that are not done; no copy while that is all."""
    return problem if len(alive) == problem.n_tasks else problem.select(alive)


def _part(
    problem: Problem, correlation: Tensor, mask: Tensor | None, margin: float
) -> tuple[Problem, Tensor | None]:
    """The problem on the columns that matter at V, and their mask if there is one."""
    penalty = problem.penalty
    n_samples, n_features = problem.features.shape[1:]
    if not bool((penalty.lambda1 > 0).any()):
        return (triangular(problem) if n_samples < n_features else problem), None
    if penalty.groups is not None or n_features < _NARROW_FROM:
        return problem, None
    norms = penalty.group_norms(correlation)
    near = norms >= margin * penalty.thresholds()
    mask = near if mask is None else mask | near
    return narrow(problem, mask)[0], mask


def _newton_steps(
    problem: Problem, dual: Tensor, tol: float, max_steps: int, first_damping: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Newton steps until every task has its gap, or rounding forbids it.

    Returns
    -------
    best : Tensor of shape (n_tasks, n_samples, n_classes)
        The best points.
    taken : Tensor of shape (n_tasks,)
        Steps taken.
    stuck : Tensor of shape (n_tasks,)
        True where the gap is close to rounding and no longer falls.
    """
    step = problem.dual_step()
    point = problem.evaluate(dual)
    best, best_gap = dual.clone(), point.relative_gap.clone()
    taken = torch.zeros(problem.n_tasks, dtype=torch.int64, device=dual.device)
    idle, stuck = torch.zeros_like(taken), torch.zeros_like(taken, dtype=torch.bool)
    alive = torch.arange(problem.n_tasks, device=dual.device)
    current, damping = dual, torch.full_like(step[:, 0, 0], first_damping)
    coarse, fell, halved = _coarse(problem, tol), True, True
    for _ in range(max_steps):
        unsolved = (best_gap[alive] > tol) & ~stuck[alive]
        kept = unsolved.nonzero().squeeze(-1)
        if len(kept) < len(alive):
            alive, problem = alive[kept], problem.select(kept)
            current, point = current[kept], point.select(kept)
            damping, step = damping[kept], step[kept]
            coarse = coarse if coarse is None else coarse.select(kept)
        if not len(alive):
            break
        coarse = coarse if fell else None
        system = _system(problem if coarse is None else coarse, current, point)
        size = int(system.n_free.max())
        if size > (_LARGE_SYSTEM if halved else _LARGEST_SYSTEM):
            current = _gradient_block(problem, coarse, current, step)
        else:
            ascent = problem.gradient_at(current, point)
            direction = _direction(system, current, ascent, damping)
            current, lengths = _line_search(problem, current, direction)
            current = fista_steps(problem, current, _STEPS_BETWEEN, step)
            damping = _next_damping(damping, lengths)
        point = problem.evaluate(current)
        taken[alive] += 1
        ratio = point.relative_gap / best_gap[alive]
        halved, fell = bool((ratio < 0.5).any()), bool((ratio < _FELL).any())
        idle[alive] = torch.where(ratio < 0.9, 0, idle[alive] + 1)
        near = point.gap <= _ROUNDING * problem.rounding(point)
        stuck[alive] = near & (idle[alive] >= _IDLE_STEPS)
        better = point.relative_gap < best_gap[alive]
        best[alive] = torch.where(better[:, None, None], current, best[alive])
        best_gap[alive] = torch.minimum(point.relative_gap, best_gap[alive])
    return best, taken, stuck


def _gradient_block(
    problem: Problem, coarse: Problem | None, dual: Tensor, step: Tensor
) -> Tensor:
    """Many gradient steps, all but the last in single precision while that serves."""
    if coarse is None:
        return fista_steps(problem, dual, _STEPS_INSTEAD, step)
    single = coarse.features.dtype
    near = fista_steps(coarse, dual.to(single), _STEPS_INSTEAD - 1, step.to(single))
    # The last step makes the point feasible to full precision, zeros included.
    return fista_steps(problem, near.to(dual.dtype), 1, step)


def _coarse(problem: Problem, tol: float) -> Problem | None:
    """The problem in single precision, None where that would not do."""
    lambda2 = problem.penalty.lambda2
    moderate = (lambda2 > _COARSE_SCALE[0]) & (lambda2 < _COARSE_SCALE[1])
    exact = tol < _COARSE_TOL or problem.features.dtype == torch.float32
    if exact or not bool(moderate.all()):
        return None
    return problem.to(torch.float32)


def _system(problem: Problem, dual: Tensor, point: Point) -> ReducedSystem:
    dtype = problem.features.dtype
    return ReducedSystem(problem, dual.to(dtype), point.correlation.to(dtype))


def _direction(
    system: ReducedSystem, dual: Tensor, ascent: Tensor, damping: Tensor
) -> Tensor:
    """Damped Newton direction on the free entries, with those that end at 0.

    Entries that the step would make negative stop at 0, and the others are
    solved for again: a Newton step that ignored its bounds would be cut short
    by the first of them.
    """
    matrix = system.matrix()
    right = system.restrict(ascent.to(matrix.dtype))
    diagonal = matrix.diagonal(dim1=-2, dim2=-1)
    squares = system.row_weights().square()
    damping = damping.to(matrix.dtype)
    level = (diagonal / squares).amax(-1, keepdim=True)
    least = 10 * torch.finfo(matrix.dtype).eps
    diagonal += damping.clamp_min(least)[:, None] * level * squares
    room = system.entries(dual.to(matrix.dtype))
    step = _solve(matrix, right)
    stopped = step < -room
    if bool(stopped.any()):
        step = _solve_with(matrix, right, torch.where(stopped, -room, 0.0), stopped)
    return system.extend(step).to(ascent.dtype)


def _solve_with(
    matrix: Tensor, right: Tensor, fixed: Tensor, stopped: Tensor
) -> Tensor:
    """Solve for the coordinates that are not stopped, the others being given."""
    right = right - (matrix @ fixed[..., None])[..., 0]
    either = stopped[:, :, None] | stopped[:, None, :]
    matrix = matrix.masked_fill(either, 0.0)
    matrix.diagonal(dim1=-2, dim2=-1).add_(stopped.to(matrix.dtype))
    return torch.where(stopped, fixed, _solve(matrix, right))


def _solve(matrix: Tensor, right: Tensor) -> Tensor:
    factor, _ = torch.linalg.cholesky_ex(matrix)
    step = torch.cholesky_solve(right[..., None], factor)[..., 0]
    # A factor that broke down gives no direction; the gradient steps go on.
    return torch.where(torch.isfinite(step), step, 0.0)


def _line_search(
    problem: Problem, dual: Tensor, direction: Tensor
) -> tuple[Tensor, Tensor]:
    """Best of the projected points ``B + t dB`` and B itself, with its t."""
    lengths = torch.tensor((*_LENGTHS, 0.0), dtype=dual.dtype, device=dual.device)
    moved = problem.loss.project(
        dual[:, None] + lengths[:, None, None] * direction[:, None]
    )  # (n_tasks, n_lengths, n_samples, n_classes)
    chosen = problem.dual_of_many(moved).argmax(-1)
    tasks = torch.arange(len(chosen), device=dual.device)
    return moved[tasks, chosen], lengths[chosen]


def _next_damping(damping: Tensor, lengths: Tensor) -> Tensor:
    """Less damping after long steps, more after short ones (Levenberg)."""
    factor = torch.ones_like(damping)
    factor = torch.where(lengths >= 0.5, 0.1, factor)
    factor = torch.where(lengths == 1.0, 0.03, factor)
    factor = torch.where(lengths <= 0.05, 10.0, factor)
    return (damping * factor).clamp(_LEAST_DAMPING, _MOST_DAMPING)
