"""A batch of Lasso problems in Gram form, by exact steps between sign patterns."""

from __future__ import annotations

import torch
from torch import Tensor

# Up to so many coordinates, masking is cheaper than gathering the active ones.
_MASK_LIMIT = 16
_ROUNDING = 1e-13
_SETTLED = 1e3


def minimise_gram(
    hessian: Tensor,
    linear: Tensor,
    lambda1: Tensor,
    point: Tensor,
    max_iter: int,
    share: float,
) -> tuple[Tensor, Tensor]:
    """Minimise ``1/2 w'Hw - c'w + lambda1 ||w||_1`` exactly, one problem a row.

    An active-set method: coordinates that violate their optimality condition join
    the support with the sign that descends, and the quadratic is minimised on the
    support with these signs held. Coordinates whose sign comes out wrong are set
    to 0 if that lowers the objective; if not, the step ends where the first one
    of them changes its sign. A problem for which this brings nothing adds one
    coordinate at a time, which does. With every step the objective falls, or the
    support shrinks while the objective stays; so no sign pattern comes back, and
    the last step is exact.

    Parameters
    ----------
    hessian : Tensor of shape (n_problems, m, m)
        Positive definite H.
    linear : Tensor of shape (n_problems, m)
        Vectors c.
    lambda1 : Tensor of shape (n_problems, 1)
        Strengths of the Lasso, >= 0.
    point : Tensor of shape (n_problems, m)
        Where to start.
    max_iter : int
        Largest number of steps.
    share : float
        A violation joins if it is at least this share of the largest one.

    Returns
    -------
    point : Tensor of shape (n_problems, m)
        Solutions.
    n_iter : Tensor of shape (n_problems,)
        Steps of every problem.
    """
    solution = point.clone()
    n_iter = torch.zeros(len(point), dtype=torch.int64, device=point.device)
    alive = torch.arange(len(point), device=point.device)
    batch = _Batch(hessian, linear, lambda1, point)
    for _ in range(max_iter):
        finished = batch.step(share)
        n_iter[alive] += 1
        if bool(finished.any()):
            solution[alive] = batch.point
            kept = (~finished).nonzero().squeeze(-1)
            if not len(kept):
                return solution, n_iter
            alive = alive[kept]
            batch.keep(kept)
    solution[alive] = batch.point
    return solution, n_iter


class _Batch:
    """Problems that are still on their way."""

    _names = ("hessian", "linear", "lambda1", "tolerance", "point", "slope")

    def __init__(
        self, hessian: Tensor, linear: Tensor, lambda1: Tensor, point: Tensor
    ) -> None:
        self.hessian, self.linear, self.lambda1 = hessian, linear, lambda1
        # Violations of the optimality conditions below it are rounding.
        self.tolerance = _ROUNDING * linear.abs().amax(-1, keepdim=True)
        self.point, self.slope = point, self._slope(point)
        self.careful = torch.zeros_like(point[:, 0], dtype=torch.bool)
        self.violation = self._violation()

    def keep(self, kept: Tensor) -> None:
        for name in (*self._names, "careful", "violation"):
            setattr(self, name, getattr(self, name)[kept])

    def step(self, share: float) -> Tensor:
        """One step of every problem; says which of them are solved."""
        # 1. who joins the support, with the sign that descends
        used = self.point != 0
        signs = torch.where(used, self.point, self.slope).sign()
        active = used | self._joining(used, signs, share)
        # 2. the minimum with these signs
        right = torch.where(active, self.linear - self.lambda1 * signs, 0.0)
        target = _solve_on(self.hessian, right, active)
        wrong = active & (target * signs <= 0)
        whole = ~wrong.any(-1)
        if bool(whole.all()):
            self.point, self.slope = target, self._slope(target)
            progress = whole
        else:
            progress = self._move(target, wrong, whole)
        stuck = self.careful & ~progress
        self.careful = ~progress
        self.violation = self._violation()
        return stuck | (whole & ~(self.violation > 0).any(-1))

    def _move(self, target: Tensor, wrong: Tensor, whole: Tensor) -> Tensor:
        """Go to the targets or towards them; says who got anywhere."""
        value = self._value(self.point, self.slope)
        rounding = value.abs() * torch.finfo(value.dtype).eps
        level = value - rounding
        # 3. without the coordinates of the wrong sign, if that is lower
        moved = torch.where(wrong, 0.0, target)
        slope = self._slope(moved)
        progress = whole | (self._value(moved, slope) < level)
        if not bool(progress.all()):
            # 4. else up to the first change of sign
            blocked = _up_to_first_change(self.point, target, wrong)
            moved = torch.where(progress[:, None], moved, blocked)
            slope = self._slope(moved)
            reached = self._value(moved, slope)
            # Dropping a weight that rounding has left near 0 gains nothing that
            # could be measured, but frees the steps to come.
            fewer = (moved != 0).sum(-1) < (self.point != 0).sum(-1)
            progress = progress | (reached < level)
            progress = progress | (fewer & (reached <= value + rounding))
        self.point = torch.where(progress[:, None], moved, self.point)
        self.slope = torch.where(progress[:, None], slope, self.slope)
        return progress

    def _joining(self, used: Tensor, signs: Tensor, share: float) -> Tensor:
        largest, first = self.violation.max(-1, keepdim=True)
        joining = (self.violation >= share * largest) & (self.violation > 0)
        if not bool(self.careful.any()):
            return joining
        # One coordinate, and only onto a support on which nothing is left to gain.
        error = torch.where(used, self.slope - self.lambda1 * signs, 0.0).abs()
        settled = error.amax(-1, keepdim=True) <= _SETTLED * self.tolerance
        alone = torch.zeros_like(joining).scatter(-1, first, True) & joining & settled
        return torch.where(self.careful[:, None], alone, joining)

    def _violation(self) -> Tensor:
        """How far |slope| exceeds lambda1 on unused coordinates."""
        excess = self.slope.abs() - self.lambda1
        broken = (excess > self.tolerance) & (self.point == 0)
        return torch.where(broken, excess, 0.0)

    def _slope(self, point: Tensor) -> Tensor:
        """c - Hw, minus the gradient of the quadratic."""
        return self.linear - (self.hessian @ point[..., None])[..., 0]

    def _value(self, point: Tensor, slope: Tensor) -> Tensor:
        quadratic = -((self.linear + slope) * point).sum(-1) / 2
        return quadratic + self.lambda1[:, 0] * point.abs().sum(-1)


def _up_to_first_change(point: Tensor, target: Tensor, wrong: Tensor) -> Tensor:
    """As far towards the target as no sign changes; the first to change is 0."""
    distance = torch.where(wrong, point - target, 1.0)
    length = torch.where(wrong, point / distance, torch.inf)
    # A coordinate that starts and ends at 0 is in nobody's way.
    length = torch.where(wrong & (point == 0), 0.0, length)
    shortest = length.amin(-1, keepdim=True)
    moved = point + shortest.clamp(0.0, 1.0) * (target - point)
    return torch.where(wrong & (length <= shortest), 0.0, moved)


def _solve_on(hessian: Tensor, right: Tensor, active: Tensor) -> Tensor:
    """Solve on the active coordinates, the others 0."""
    size = active.shape[-1]
    if size <= _MASK_LIMIT:
        return _masked_solve(hessian, right, active)
    size = max(1, int(active.sum(-1).max()))
    order = active.to(torch.int8).argsort(dim=-1, descending=True, stable=True)
    order = order[:, :size]
    rows = torch.arange(len(order), device=order.device)[:, None, None]
    part = hessian[rows, order[:, :, None], order[:, None, :]]
    found = _masked_solve(part, right.gather(-1, order), active.gather(-1, order))
    return torch.zeros_like(right).scatter(-1, order, found)


def _masked_solve(hessian: Tensor, right: Tensor, active: Tensor) -> Tensor:
    mask = active.to(hessian.dtype)
    system = hessian * mask[:, :, None] * mask[:, None, :]
    system.diagonal(dim1=-2, dim2=-1).add_(1.0 - mask)
    factor, _ = torch.linalg.cholesky_ex(system)
    return torch.cholesky_solve(right[..., None], factor)[..., 0] * mask
