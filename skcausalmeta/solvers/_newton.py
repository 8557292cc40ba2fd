"""Projected Newton on the free entries of the dual, all tasks at once."""

from __future__ import annotations

import torch
from torch import Tensor

from ._fista import BestPoint, fista_steps, solve_fista
from ._problem import Problem, Solution
from ._reduced_system import ReducedSystem

_WARM_STEPS = 12
_STEPS_BETWEEN = 3
_LENGTHS = (1.0, 0.5, 0.2, 0.05, 0.01)
# Damping relative to the largest curvature: first value, then by step length.
_FIRST_DAMPING, _LEAST_DAMPING, _MOST_DAMPING = 1e-3, 1e-12, 1e3
_WARM_START_DAMPING = 1e-8
# A dense system beyond this size costs more than many gradient steps.
_LARGEST_SYSTEM = 3000
_STEPS_INSTEAD = 50
# Newton steps needed are 2 to 60; whoever needs more gets gradient steps.
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
    2. Newton direction ``dB = E u, (H + delta S^2) u = E' grad D`` on the free
       entries (`ReducedSystem`). The damping delta falls after full steps and
       grows after short ones: with more rows than features H is singular, and
       along its null space D is linear.
    3. Projected line search: the best of a few step lengths by D, evaluated in
       one product.
    4. A few projected gradient steps free entries that should grow.
       While more than 3000 entries are free, gradient steps take the place
       of the dense Newton system.
    5. Certificate; a task with ``gap <= tol * P`` leaves the batch. Tasks
       that 100 Newton steps did not solve are left to `solve_fista`.

    Parameters
    ----------
    problem : Problem
        The batch of problems.
    tol : float, default=1e-6
        Relative duality gap to reach.
    max_iter : int, default=200
        Largest number of Newton steps, and of gradient steps after them.
    start : Tensor of shape (n_tasks, n_samples, n_classes), default=None
        Feasible dual point to start from, without a FISTA phase. None:
        ``problem.loss.start``.

    Returns
    -------
    Solution
        Best point found, with its certificate; ``n_iter`` counts Newton steps.

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
    dual = problem.loss.start(problem.targets) if start is None else start
    best = BestPoint(problem, dual)
    alive = best.unfinished(tol)
    live, current = problem.select(alive), dual[alive]
    if len(alive) and start is None:
        current = fista_steps(live, current, _WARM_STEPS)
    first = _FIRST_DAMPING if start is None else _WARM_START_DAMPING
    damping = torch.full_like(live.penalty.lambda2, first)
    iteration = 0
    while len(alive) and iteration < min(max_iter, _MOST_NEWTON_STEPS):
        iteration += 1
        system = ReducedSystem(live, current)
        if int(system.n_free.max()) <= _LARGEST_SYSTEM:
            direction = _direction(live, current, system, damping)
            current, lengths = _line_search(live, current, direction)
            current = fista_steps(live, current, _STEPS_BETWEEN)
            damping = _next_damping(damping, lengths)
        else:
            current = fista_steps(live, current, _STEPS_INSTEAD)
        best.update(live, current, alive, iteration)
        kept = (best.relative_gap[alive] > tol).nonzero().squeeze(-1)
        if len(kept) < len(alive):
            alive, live = alive[kept], live.select(kept)
            current, damping = current[kept], damping[kept]
    if len(alive) and iteration < max_iter:
        rest = solve_fista(live, tol=tol, max_iter=max_iter, start=best.dual[alive])
        best.update(live, rest.dual, alive, iteration)
    return best.solution()


def _direction(
    problem: Problem, dual: Tensor, system: ReducedSystem, damping: Tensor
) -> Tensor:
    """Damped Newton direction on the free entries."""
    matrix = system.matrix()
    right = system.restrict(problem.dual_gradient(dual))
    diagonal = matrix.diagonal(dim1=-2, dim2=-1)
    squares = system.row_weights().square()
    level = (diagonal / squares).amax(-1, keepdim=True)
    least = 10 * torch.finfo(matrix.dtype).eps
    diagonal += damping.clamp_min(least)[:, None] * level * squares
    factor, _ = torch.linalg.cholesky_ex(matrix)
    step = torch.cholesky_solve(right[..., None], factor)[..., 0]
    # A factor that broke down gives no direction; the gradient steps go on.
    step = torch.where(torch.isfinite(step), step, 0.0)
    return system.extend(step)


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
