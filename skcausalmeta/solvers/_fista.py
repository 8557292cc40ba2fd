"""Accelerated projected gradient on the dual, all tasks at once."""

from __future__ import annotations

import torch
from torch import Tensor

from ._problem import Problem, Solution, require
from ._progress import Best, Momentum

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
        Feasible dual point to start from. None: ``problem.start()``.

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
    dual = problem.start() if start is None else start.clone()
    best = Best(dual, problem.evaluate(dual))
    alive = best.unfinished(tol)
    ascent = Ascent(problem.select(alive), dual[alive])
    iteration = 0
    while len(alive) and iteration < max_iter:
        iteration += 1
        ascent.advance()
        # Certify now and then; tasks that are done leave the batch.
        if iteration % _CHECK_EVERY == 0 or iteration == max_iter:
            point = ascent.problem.evaluate(ascent.current)
            best.update(alive, ascent.current, point, iteration)
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
    """Accelerated projected gradient ascent on the dual."""

    def __init__(
        self, problem: Problem, dual: Tensor, step: Tensor | None = None
    ) -> None:
        self.problem = problem
        self.step = problem.dual_step() if step is None else step
        self._momentum = Momentum(dual)

    @property
    def current(self) -> Tensor:
        """The last point."""
        return self._momentum.point

    def advance(self) -> None:
        """One step."""
        ahead = self._momentum.ahead
        slope = self.problem.dual_gradient(ahead)
        following = self.problem.loss.project(torch.addcmul(ahead, self.step, slope))
        self._momentum.move(following, self.step)

    def select(self, kept: Tensor) -> None:
        """Go on with the given tasks only."""
        self.problem, self.step = self.problem.select(kept), self.step[kept]
        self._momentum.select(kept)
