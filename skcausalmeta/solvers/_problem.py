"""A batch of convex problems: loss + penalty -> primal, dual and gap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Point(NamedTuple):
    """A feasible B: V, W(B), F W(B) + O and its certificate, tasks first."""

    correlation: Tensor
    coef: Tensor
    scores: Tensor
    gap: Tensor
    relative_gap: Tensor

    def select(self, tasks: Tensor) -> Point:
        """Keep the given tasks only."""
        return Point(*(part[tasks] for part in self))


@dataclass(frozen=True)
class Problem:
    """A batch of base-predictor problems, one a task.

    For features F (rows x_i), one-hot targets Y, row weights s and an offset O of
    the scores (rows o_i; 0 where there is none) ::

        P(W) = sum_i s_i loss(W'x_i + o_i, y_i) + penalty(W)
        D(B) = sum_i s_i [dual_value(b_i, y_i) + <b_i - y_i, o_i>] - conjugate(F'R),
               R_i = s_i (y_i - b_i)
        W(B) = grad conjugate(F'R)

    max D = min P, so ``P(W(B)) - D(B) >= 0`` certifies any feasible B.

    Parameters
    ----------
    features : Tensor of shape (n_tasks, n_samples, n_features)
        Rows of the tasks.
    targets : Tensor of shape (n_tasks, n_samples, n_classes)
        One-hot targets.
    weights : Tensor of shape (n_tasks, n_samples)
        Row weights >= 0; a row of weight 0 is not there.
    loss : object
        Offers ``value``, ``dual_value``, ``dual_gradient``, ``start`` and
        ``project`` (see `losses.CrammerSinger`).
    penalty : object
        Offers ``value``, ``conjugate``, ``conjugate_gradient``, ``support``,
        ``jacobian`` and ``select`` (see `penalties.GroupLasso`).
    offset : Tensor of shape (n_tasks, n_samples, n_classes), default=None
        What is added to the scores F W before the loss. None: 0.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.losses import CrammerSinger
    >>> from skcausalmeta.penalties import GroupLasso
    >>> from skcausalmeta.solvers import Problem
    >>> penalty = GroupLasso(torch.zeros(1), torch.ones(1))
    >>> features, targets = torch.eye(2)[None], torch.eye(2)[None]
    >>> problem = Problem(features, targets, torch.ones(1, 2), CrammerSinger(), penalty)
    >>> problem.gap(torch.full((1, 2, 2), 0.5)).item()
    0.0
    """

    features: Tensor
    targets: Tensor
    weights: Tensor
    loss: Any
    penalty: Any
    offset: Tensor | None = None

    def select(self, tasks: Tensor) -> Problem:
        """Keep the given tasks only."""
        return replace(
            self,
            features=self.features[tasks],
            targets=self.targets[tasks],
            weights=self.weights[tasks],
            penalty=self.penalty.select(tasks),
            offset=None if self.offset is None else self.offset[tasks],
        )

    def to(self, dtype: torch.dtype) -> Problem:
        """The same numbers in another precision."""
        return replace(
            self,
            features=self.features.to(dtype),
            targets=self.targets.to(dtype),
            weights=self.weights.to(dtype),
            penalty=self.penalty.to(dtype),
            offset=None if self.offset is None else self.offset.to(dtype),
        )

    @property
    def n_tasks(self) -> int:
        """Number of tasks in the batch."""
        return self.features.shape[0]

    def start(self) -> Tensor:
        """A feasible B, optimal if every feature is off."""
        start: Tensor = self.loss.start(self.targets, self.offset)
        return start

    def scores(self, coef: Tensor) -> Tensor:
        """F W + O, (n_tasks, n_samples, n_classes)."""
        return self._shifted(self.features @ coef)

    def residual(self, dual: Tensor) -> Tensor:
        """R = s (Y - B), (n_tasks, n_samples, n_classes)."""
        return self.weights[..., None] * (self.targets - dual)

    def correlation(self, dual: Tensor) -> Tensor:
        """V = F'R, (n_tasks, n_features, n_classes).

        The memory lies classes first: sums over few classes and products with
        the features are several times faster then.
        """
        return (self.residual(dual).mT @ self.features).mT

    def coef(self, dual: Tensor) -> Tensor:
        """W(B), (n_tasks, n_features, n_classes)."""
        return self.penalty.conjugate_gradient(self.correlation(dual))

    def primal(self, coef: Tensor) -> Tensor:
        """P(W), (n_tasks,)."""
        losses = self.loss.value(self.scores(coef), self.targets)
        return (self.weights * losses).sum(-1) + self.penalty.value(coef)

    def dual(self, dual: Tensor) -> Tensor:
        """D(B), (n_tasks,)."""
        return self.dual_at(dual, self.correlation(dual))

    def dual_of_many(self, duals: Tensor) -> Tensor:
        """D of several points a task, reading the features once.

        Parameters
        ----------
        duals : Tensor of shape (n_tasks, n_points, n_samples, n_classes)
            Feasible points.

        Returns
        -------
        Tensor of shape (n_tasks, n_points)
        """
        n_tasks, n_points, n_samples, n_classes = duals.shape
        targets = self.targets[:, None]
        residual = self.weights[:, None, :, None] * (targets - duals)
        stacked = residual.mT.reshape(n_tasks, -1, n_samples) @ self.features
        correlations = stacked.view(n_tasks * n_points, n_classes, -1).mT
        tasks = torch.arange(n_tasks, device=duals.device)
        penalty = self.penalty.select(tasks.repeat_interleave(n_points))
        offset = None if self.offset is None else self.offset[:, None]
        rows = self.weights[:, None] * self._dual_rows(duals, targets, offset)
        conjugates = penalty.conjugate(correlations).view(n_tasks, n_points)
        return rows.sum(-1) - conjugates

    def gap(self, dual: Tensor) -> Tensor:
        """P(W(B)) - D(B), (n_tasks,)."""
        return self.certificate(dual)[0]

    def certificate(self, dual: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Absolute gap, relative gap ``gap / |P|`` and W(B) at a feasible B.

        Rounding can leave a gap of a few units in the last place below 0; it
        is reported as 0.
        """
        point = self.evaluate(dual)
        return point.gap, point.relative_gap, point.coef

    def evaluate(self, dual: Tensor) -> Point:
        """Everything at a feasible B that two products with F give.

        ``penalty(W(B)) + conjugate(V) = <V, W(B)> = <R, F W(B)>``, so with the scores
        ``z_i = W(B)'x_i + o_i`` the gap is a sum over rows, without the cancellation
        of P - D ::

            gap = sum_i s_i [loss(z_i, y_i) - dual_value(b_i, y_i) + <y_i - b_i, z_i>]
        """
        correlation = self.correlation(dual)
        coef = self.penalty.conjugate_gradient(correlation)
        scores = self.scores(coef)
        losses = self.loss.value(scores, self.targets)
        excess = losses - self.loss.dual_value(dual, self.targets)
        excess = excess + ((self.targets - dual) * scores).sum(-1)
        gap = (self.weights * excess).sum(-1).clamp_min(0.0)
        primal = (self.weights * losses).sum(-1) + self.penalty.value(coef)
        tiny = torch.finfo(primal.dtype).tiny
        relative_gap = gap / primal.abs().clamp_min(tiny)
        return Point(correlation, coef, scores, gap, relative_gap)

    def rounding(self, point: Point) -> Tensor:
        """Size of the rounding errors in the gap at a point, (n_tasks,)."""
        eps = torch.finfo(point.scores.dtype).eps
        sizes = 1.0 + point.scores.abs().amax(-1)
        return 2 * eps * (self.weights * sizes).sum(-1)

    def gradient_at(self, dual: Tensor, point: Point) -> Tensor:
        """Gradient of D in B at a point that has been evaluated."""
        slope = self.loss.dual_gradient(dual, self.targets) + point.scores
        return self.weights[..., None] * slope

    def dual_gradient(self, dual: Tensor) -> Tensor:
        """Gradient of D in B, (n_tasks, n_samples, n_classes)."""
        # Classes first, as in `correlation`: up to twice as fast.
        scores = self._shifted((self.coef(dual).mT @ self.features.mT).mT)
        return self.weights[..., None] * (
            self.loss.dual_gradient(dual, self.targets) + scores
        )

    def dual_step(self) -> Tensor:
        """Step of projected gradient ascent in B, (n_tasks, n_samples, 1).

        In the variable S B the gradient of the conjugate has the Lipschitz
        constant ``sigma_max(F)^2 / lambda2`` (from the smaller Gram matrix, rows
        of weight 0 left out); back in B this is multiplied by s_i^2, and s_i
        times the curvature of the loss is added.
        """
        there = self.weights[..., None] > 0
        rows = torch.where(there, self.features, 0.0)
        small = rows.shape[-2] <= rows.shape[-1]
        gram = rows @ rows.mT if small else rows.mT @ rows
        curvature = torch.linalg.eigvalsh(gram)[..., -1] / self.penalty.lambda2
        # Without any signal the gradient is constant and every step will do.
        safe = torch.where(curvature > 0, curvature, torch.ones_like(curvature))
        scale = torch.where(there, self.weights[..., None], 1.0)
        own = scale * self.loss.dual_curvature
        return 1.0 / (safe[:, None, None] * scale.square() + own)

    def dual_at(self, dual: Tensor, correlation: Tensor) -> Tensor:
        """D(B) where V = F'R is known, (n_tasks,)."""
        rows = self.weights * self._dual_rows(dual, self.targets, self.offset)
        return rows.sum(-1) - self.penalty.conjugate(correlation)

    def _shifted(self, scores: Tensor) -> Tensor:
        return scores if self.offset is None else scores + self.offset

    def _dual_rows(
        self, dual: Tensor, targets: Tensor, offset: Tensor | None
    ) -> Tensor:
        """``dual_value(b_i, y_i) + <b_i - y_i, o_i>`` of every row."""
        values: Tensor = self.loss.dual_value(dual, targets)
        if offset is None:
            return values
        return values + ((dual - targets) * offset).sum(-1)


@dataclass(frozen=True)
class Solution:
    """What a solver returns: the point and its certificate.

    Parameters
    ----------
    coef : Tensor of shape (n_tasks, n_features, n_classes)
        W(B).
    dual : Tensor of shape (n_tasks, n_samples, n_classes)
        Feasible dual point B.
    gap : Tensor of shape (n_tasks,)
        ``P(W(B)) - D(B)``.
    relative_gap : Tensor of shape (n_tasks,)
        ``gap / P``.
    n_iter : Tensor of shape (n_tasks,)
        Iterations of every task.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.losses import CrammerSinger
    >>> from skcausalmeta.penalties import GroupLasso
    >>> from skcausalmeta.solvers import Problem, Solution, solve_newton
    >>> penalty = GroupLasso(torch.zeros(1), torch.ones(1))
    >>> eye = torch.eye(2)[None]
    >>> problem = Problem(eye, eye, torch.ones(1, 2), CrammerSinger(), penalty)
    >>> solution = solve_newton(problem)
    >>> isinstance(solution, Solution)
    True
    >>> solution.coef
    tensor([[[ 0.5000, -0.5000],
             [-0.5000,  0.5000]]])
    """

    coef: Tensor
    dual: Tensor
    gap: Tensor
    relative_gap: Tensor
    n_iter: Tensor


def pack(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Positions of the True entries of every row, padded to the longest row.

    Parameters
    ----------
    mask : Tensor of shape (n_tasks, n_entries)
        Which entries to list.

    Returns
    -------
    positions : Tensor of shape (n_tasks, width)
        Ascending positions; 0 where padded. The width is at least 1.
    valid : Tensor of shape (n_tasks, width)
        False where padded.
    """
    counts = mask.sum(-1)
    width = max(1, int(counts.max()))
    tasks, entries = mask.nonzero(as_tuple=True)
    slots = (mask.cumsum(-1) - 1)[tasks, entries]
    positions = torch.zeros(
        (len(mask), width), dtype=torch.int64, device=mask.device
    ).index_put_((tasks, slots), entries)
    valid = torch.arange(width, device=mask.device) < counts[:, None]
    return positions, valid


def narrow(problem: Problem, mask: Tensor) -> tuple[Problem, Tensor, Tensor]:
    """The problem on the features of `mask`, every task its own.

    Columns that pad a task are zero: they stay off and cost little. A feature
    that is off at the solution adds nothing to the dual, so the solution on
    the mask is the solution once no feature outside is switched on.

    Parameters
    ----------
    problem : Problem
        The batch of problems; every feature is a group of its own.
    mask : Tensor of shape (n_tasks, n_features)
        Features to keep.

    Returns
    -------
    problem : Problem
        With features of shape (n_tasks, n_samples, width).
    positions : Tensor of shape (n_tasks, width)
        Ascending positions of the kept features; 0 where padded.
    valid : Tensor of shape (n_tasks, width)
        False where padded.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.losses import CrammerSinger
    >>> from skcausalmeta.penalties import GroupLasso
    >>> from skcausalmeta.solvers import Problem, narrow
    >>> penalty = GroupLasso(torch.ones(1), torch.ones(1))
    >>> eye = torch.eye(3)[None]
    >>> problem = Problem(eye, eye, torch.ones(1, 3), CrammerSinger(), penalty)
    >>> part, positions, valid = narrow(problem, torch.tensor([[True, False, True]]))
    >>> part.features.shape, positions.tolist()
    (torch.Size([1, 3, 2]), [[0, 2]])
    """
    positions, valid = pack(mask)
    columns = positions[:, None, :].expand(-1, problem.features.shape[1], -1)
    features = problem.features.gather(2, columns) * valid[:, None, :]
    penalty = problem.penalty.narrow(positions)
    return replace(problem, features=features, penalty=penalty), positions, valid


def triangular(problem: Problem) -> Problem:
    """The problem in n_samples coordinates, where the penalty is a pure ridge.

    Its dual depends on the features through the Gram matrix F F' alone, which
    the triangular factor of F' = Q R keeps: F F' = R'R. Unlike a factor of the
    Gram matrix it does not square the condition number.
    """
    factor = torch.linalg.qr(problem.features.mT, mode="r").R
    penalty = replace(problem.penalty, groups=None, group_weights=None)
    return replace(problem, features=factor.mT.contiguous(), penalty=penalty)


def require(
    problem: Problem,
    solver: str,
    *,
    loss: Sequence[str] = (),
    penalty: Sequence[str] = (),
) -> None:
    """Refuse a problem whose loss or penalty lacks what a solver needs.

    Losses and penalties declare what they offer by having it: the logistic loss,
    whose dual has unbounded curvature, has no `dual_curvature`. A solver names its
    needs here, once, before its first step.

    Parameters
    ----------
    problem : Problem
        The batch of problems.
    solver : str
        Name of the solver, for the message.
    loss, penalty : sequence of str
        Names that the loss and the penalty must have.

    Raises
    ------
    TypeError
        If a name is missing.
    """
    for role, part, needs in (
        ("loss", problem.loss, loss),
        ("penalty", problem.penalty, penalty),
    ):
        missing = [name for name in needs if not hasattr(part, name)]
        if missing:
            raise TypeError(
                f"{solver} needs a {role} with {', '.join(needs)}. Got "
                f"{type(part).__name__}, which has no {', '.join(missing)}; choose "
                f"another solver or another {role}."
            )
