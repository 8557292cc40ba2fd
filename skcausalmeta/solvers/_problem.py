"""A batch of convex problems: loss + penalty -> primal, dual and gap."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Problem:
    """A batch of base-predictor problems, one a task.

    For features F (rows x_i), one-hot targets Y and row weights s ::

        P(W) = sum_i s_i loss(W'x_i, y_i) + penalty(W)
        D(B) = sum_i s_i dual_value(b_i, y_i) - conjugate(F'R),  R_i = s_i (y_i - b_i)
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

    def select(self, tasks: Tensor) -> Problem:
        """Keep the given tasks only."""
        return replace(
            self,
            features=self.features[tasks],
            targets=self.targets[tasks],
            weights=self.weights[tasks],
            penalty=self.penalty.select(tasks),
        )

    @property
    def n_tasks(self) -> int:
        """Number of tasks in the batch."""
        return self.features.shape[0]

    def residual(self, dual: Tensor) -> Tensor:
        """R = s (Y - B), (n_tasks, n_samples, n_classes)."""
        return self.weights[..., None] * (self.targets - dual)

    def correlation(self, dual: Tensor) -> Tensor:
        """V = F'R, (n_tasks, n_features, n_classes)."""
        return self.features.mT @ self.residual(dual)

    def coef(self, dual: Tensor) -> Tensor:
        """W(B), (n_tasks, n_features, n_classes)."""
        return self.penalty.conjugate_gradient(self.correlation(dual))

    def primal(self, coef: Tensor) -> Tensor:
        """P(W), (n_tasks,)."""
        losses = self.loss.value(self.features @ coef, self.targets)
        return (self.weights * losses).sum(-1) + self.penalty.value(coef)

    def dual(self, dual: Tensor) -> Tensor:
        """D(B), (n_tasks,)."""
        return self._dual(dual, self.correlation(dual))

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
        columns = residual.permute(0, 2, 1, 3).reshape(n_tasks, n_samples, -1)
        stacked = self.features.mT @ columns  # (n_tasks, n_features, points * classes)
        stacked = stacked.view(n_tasks, -1, n_points, n_classes)
        rows = self.weights[:, None] * self.loss.dual_value(duals, targets)
        conjugates = [self.penalty.conjugate(stacked[:, :, k]) for k in range(n_points)]
        return rows.sum(-1) - torch.stack(conjugates, dim=-1)

    def gap(self, dual: Tensor) -> Tensor:
        """P(W(B)) - D(B), (n_tasks,)."""
        return self.certificate(dual)[0]

    def certificate(self, dual: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Absolute gap, relative gap ``gap / |P|`` and W(B) at a feasible B.

        Rounding can leave a gap of a few units in the last place below 0; it
        is reported as 0.
        """
        correlation = self.correlation(dual)
        coef = self.penalty.conjugate_gradient(correlation)
        primal = self.primal(coef)
        gap = (primal - self._dual(dual, correlation)).clamp_min(0.0)
        tiny = torch.finfo(primal.dtype).tiny
        return gap, gap / primal.abs().clamp_min(tiny), coef

    def dual_gradient(self, dual: Tensor) -> Tensor:
        """Gradient of D in B, (n_tasks, n_samples, n_classes)."""
        scores = self.features @ self.coef(dual)
        return self.weights[..., None] * (
            self.loss.dual_gradient(dual, self.targets) + scores
        )

    def dual_step(self) -> Tensor:
        """Step of projected gradient ascent in B, (n_tasks, n_samples, 1).

        In the variable S B the gradient of D has the Lipschitz constant
        ``sigma_max(F)^2 / lambda2`` (from the smaller Gram matrix, rows of
        weight 0 left out); back in B this divides the step by s_i^2.
        """
        there = self.weights[..., None] > 0
        rows = torch.where(there, self.features, 0.0)
        small = rows.shape[-2] <= rows.shape[-1]
        gram = rows @ rows.mT if small else rows.mT @ rows
        curvature = torch.linalg.eigvalsh(gram)[..., -1] / self.penalty.lambda2
        # Without any signal the gradient is constant and every step will do.
        safe = torch.where(curvature > 0, curvature, torch.ones_like(curvature))
        squares = torch.where(there, self.weights[..., None].square(), 1.0)
        return 1.0 / (safe[:, None, None] * squares)

    def _dual(self, dual: Tensor, correlation: Tensor) -> Tensor:
        rows = self.weights * self.loss.dual_value(dual, self.targets)
        return rows.sum(-1) - self.penalty.conjugate(correlation)


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
