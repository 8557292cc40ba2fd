"""Accelerated projected gradient on the dual, all tasks at once."""

from __future__ import annotations

import torch
from torch import Tensor

from ._contract import require
from ._problem import Point, Problem, Solution

_CHECK_EVERY = 10


@torch.no_grad()
def solve_fista(
    problem: Problem,
    *,
    tol: float = 1e-6,
    max_iter: int = 10_000,
    start: Tensor | None = None,
) -> Solution:
    """Maximise D(B) by FISTA with adaptive restart.

    Every task has its own step, momentum, restarts [1]_ and stopping rule
    ``gap <= tol * P``; a task that has converged leaves the batch.

    Parameters
    ----------
    problem : Problem
        The batch of problems.
    tol : float, default=1e-6
        Relative duality gap to reach.
    max_iter : int, default=10_000
        Largest number of iterations.
    start : Tensor of shape (n_tasks, n_samples, n_classes), default=None
        Feasible dual point to start from. None: ``problem.loss.start``.

    Returns
    -------
    Solution
        Best point found, with its certificate.

    Raises
    ------
    TypeError
        If the loss or the penalty does not offer what this solver needs.

    References
    ----------
    .. [1] B. O'Donoghue, E. Candes (2015). Adaptive restart for accelerated
       gradient schemes. Found. Comput. Math. 15, 715-732.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.losses import CrammerSinger
    >>> from skcausalmeta.penalties import GroupLasso
    >>> from skcausalmeta.solvers import Problem, solve_fista
    >>> penalty = GroupLasso(torch.full((1,), 0.1), torch.ones(1))
    >>> eye = torch.eye(3)[None]
    >>> problem = Problem(eye, eye, torch.ones(1, 3), CrammerSinger(), penalty)
    >>> bool(solve_fista(problem, tol=1e-4).relative_gap <= 1e-4)
    True
    """
    require(
        problem,
        "solve_fista",
        loss=("start", "project", "dual_value", "dual_gradient", "dual_curvature"),
        penalty=("conjugate", "conjugate_gradient"),
    )
    dual = problem.loss.start(problem.targets) if start is None else start.clone()
    best = BestPoint(problem, dual, problem.evaluate(dual))
    alive = best.unfinished(tol)
    live = problem.select(alive)
    current = momentum = dual[alive]
    theta = torch.ones_like(live.weights[:, 0])
    step = live.dual_step()
    iteration = 0
    while len(alive) and iteration < max_iter:
        iteration += 1
        ascent = live.dual_gradient(momentum)
        following = live.loss.project(momentum + step * ascent)
        # 1. restart where the momentum points against the gradient step
        move = following - current
        restart = ((momentum - following) * move / step).sum((-2, -1)) > 0
        theta = torch.where(restart, torch.ones_like(theta), theta)
        # 2. extrapolate
        theta_next = (1 + torch.sqrt(1 + 4 * theta.square())) / 2
        inertia = torch.where(
            restart, torch.zeros_like(theta), (theta - 1) / theta_next
        )
        momentum = following + inertia[:, None, None] * move
        current, theta = following, theta_next
        # 3. certify now and then; tasks that are done leave the batch
        if iteration % _CHECK_EVERY == 0 or iteration == max_iter:
            best.update(current, live.evaluate(current), alive, iteration)
            keep = best.relative_gap[alive] > tol
            if not bool(keep.all()):
                kept = keep.nonzero().squeeze(-1)
                alive, live = alive[kept], live.select(kept)
                current, momentum = current[kept], momentum[kept]
                theta, step = theta[kept], step[kept]
    return best.solution()


def fista_steps(
    problem: Problem, dual: Tensor, n_steps: int, step: Tensor | None = None
) -> Tensor:
    """A few accelerated projected steps, without certificates."""
    step = problem.dual_step() if step is None else step
    current = momentum = dual
    theta = 1.0
    for _ in range(n_steps):
        ascent = problem.dual_gradient(momentum)
        following = problem.loss.project(torch.addcmul(momentum, step, ascent))
        theta_next = (1 + (1 + 4 * theta**2) ** 0.5) / 2
        inertia = (theta - 1) / theta_next
        momentum = torch.lerp(current, following, 1 + inertia) if inertia else following
        current, theta = following, theta_next
    return current


class BestPoint:
    """The best certified point of every task so far."""

    def __init__(self, problem: Problem, dual: Tensor, point: Point) -> None:
        self.dual, self.coef = dual.clone(), point.coef
        self.gap, self.relative_gap = point.gap, point.relative_gap
        self.n_iter = torch.zeros(
            problem.n_tasks, dtype=torch.int64, device=dual.device
        )

    def unfinished(self, tol: float) -> Tensor:
        return (self.relative_gap > tol).nonzero().squeeze(-1)

    def update(
        self, dual: Tensor, point: Point, alive: Tensor, iteration: int | Tensor
    ) -> None:
        """Keep what is better among the points of the tasks `alive`."""
        self.n_iter[alive] = iteration
        better = (point.relative_gap < self.relative_gap[alive]).nonzero().squeeze(-1)
        if len(better) == len(self.gap):
            self.dual, self.coef = dual.clone(), point.coef
            self.gap, self.relative_gap = point.gap, point.relative_gap
            return
        tasks = alive[better]
        self.dual[tasks], self.coef[tasks] = dual[better], point.coef[better]
        self.gap[tasks] = point.gap[better]
        self.relative_gap[tasks] = point.relative_gap[better]

    def solution(self) -> Solution:
        return Solution(self.coef, self.dual, self.gap, self.relative_gap, self.n_iter)
