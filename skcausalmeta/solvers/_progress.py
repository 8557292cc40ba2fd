"""What the first-order solvers share: momentum, and the best point so far."""

from __future__ import annotations

import torch
from torch import Tensor

from ._problem import Point, Solution


class Momentum:
    """Nesterov's extrapolation with adaptive restart [1]_, task by task.

    Parameters
    ----------
    point : Tensor of shape (n_tasks, ...)
        Where to start.

    Attributes
    ----------
    point : Tensor
        The last point.
    ahead : Tensor
        Where to take the next step from.

    References
    ----------
    .. [1] B. O'Donoghue, E. Candes (2015). Adaptive restart for accelerated
       gradient schemes. Found. Comput. Math. 15, 715-732.
    """

    def __init__(self, point: Tensor) -> None:
        self.point = self.ahead = point
        self._theta = torch.ones_like(point[:, :1, :1])

    def move(self, following: Tensor, step: Tensor) -> None:
        """Go to the point that a step of this length from `ahead` has reached."""
        move = following - self.point
        # Restart where the momentum points against the step.
        against = (self.ahead - following) * move / step
        restart = against.sum((-2, -1), keepdim=True) > 0
        theta = torch.where(restart, 1.0, self._theta)
        self._theta = (1 + torch.sqrt(1 + 4 * theta.square())) / 2
        inertia = torch.where(restart, 0.0, (theta - 1) / self._theta)
        self.ahead = torch.addcmul(following, inertia, move)
        self.point = following

    def select(self, kept: Tensor) -> None:
        """Go on with the given tasks only."""
        self.point, self.ahead = self.point[kept], self.ahead[kept]
        self._theta = self._theta[kept]


class Best:
    """The best certified point of every task so far.

    Parameters
    ----------
    dual : Tensor of shape (n_tasks, n_samples, n_classes)
        First dual point.
    point : Point | Solution
        Weights and certificate that belong to it.
    """

    def __init__(self, dual: Tensor, point: Point | Solution) -> None:
        self.dual, self.coef = dual.clone(), point.coef.clone()
        self.gap, self.relative_gap = point.gap, point.relative_gap
        self.n_iter = torch.zeros(len(dual), dtype=torch.int64, device=dual.device)

    def unfinished(self, tol: float) -> Tensor:
        """Tasks whose relative gap is above `tol`, or NaN."""
        return (~(self.relative_gap <= tol)).nonzero().squeeze(-1)

    def update(
        self, alive: Tensor, dual: Tensor, point: Point | Solution, n_iter: int | Tensor
    ) -> None:
        """Keep what is better among the points of the tasks `alive`."""
        self.n_iter[alive] = n_iter
        better = (point.relative_gap < self.relative_gap[alive]).nonzero().squeeze(-1)
        if len(better) == len(self.gap):
            self.dual, self.coef = dual.clone(), point.coef.clone()
            self.gap, self.relative_gap = point.gap, point.relative_gap
            return
        tasks = alive[better]
        self.dual[tasks], self.coef[tasks] = dual[better], point.coef[better]
        self.gap[tasks] = point.gap[better]
        self.relative_gap[tasks] = point.relative_gap[better]

    def solution(self) -> Solution:
        """The best points as what a solver returns."""
        return Solution(self.coef, self.dual, self.gap, self.relative_gap, self.n_iter)
