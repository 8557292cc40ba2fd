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
    ascent = Ascent(problem.select(alive), dual[alive])
    iteration = 0
    while len(alive) and iteration < max_iter:
        iteration += 1
        ascent.advance()
        # Certify now and then; tasks that are done leave the batch.
        if iteration % _CHECK_EVERY == 0 or iteration == max_iter:
            point = ascent.problem.evaluate(ascent.current)
            best.update(ascent.current, point, alive, iteration)
            kept = (best.relative_gap[alive] > tol).nonzero().squeeze(-1)
            if len(kept) < len(alive):
                alive = alive[kept]
                ascent.select(kept)
    return best.solution()


def fista_steps(
    problem: Problem, dual: Tensor, n_steps: int, step: Tensor | None = None
) -> Tensor:
    """A few accelerated projected steps, without certificates."""
    ascent = Ascent(problem, dual, step)
    for _ in range(n_steps):
        ascent.advance()
    return ascent.current


class Ascent:
    """Accelerated projected gradient ascent with adaptive restart, task by task."""

    def __init__(
        self, problem: Problem, dual: Tensor, step: Tensor | None = None
    ) -> None:
        self.problem = problem
        self.step = problem.dual_step() if step is None else step
        self.current = self._momentum = dual
        self._theta = torch.ones_like(dual[:, :1, :1])

    def advance(self) -> None:
        """One step."""
        slope = self.problem.dual_gradient(self._momentum)
        moved = torch.addcmul(self._momentum, self.step, slope)
        following = self.problem.loss.project(moved)
        move = following - self.current
        # Restart where the momentum points against the gradient step.
        against = (self._momentum - following) * move / self.step
        restart = against.sum((-2, -1), keepdim=True) > 0
        theta = torch.where(restart, 1.0, self._theta)
        self._theta = (1 + torch.sqrt(1 + 4 * theta.square())) / 2
        inertia = torch.where(restart, 0.0, (theta - 1) / self._theta)
        self._momentum = torch.addcmul(following, inertia, move)
        self.current = following

    def select(self, kept: Tensor) -> None:
        """Go on with the given tasks only."""
        self.problem, self.step = self.problem.select(kept), self.step[kept]
        self.current, self._momentum = self.current[kept], self._momentum[kept]
        self._theta = self._theta[kept]


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
