"""Lasso: the sum of absolute weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

# Scaling a point into the box of the conjugate leaves it outside by rounding.
_ROUNDING = 16.0


@dataclass(frozen=True)
class Lasso:
    """Lasso on the entries of a weight matrix, one problem a task.

    For weights W (n_features, n_outputs) ::

        penalty(W)   = lambda1 sum_jl |W_jl|
        conjugate(V) = 0 where every |V_jl| <= lambda1, else infinity

    The conjugate is not differentiable, so W does not follow from V: there is no
    ``conjugate_gradient``. A V outside the box is made feasible by `dual_scale`.

    Parameters
    ----------
    lambda1 : Tensor of shape (n_tasks,) or (n_tasks, n_outputs)
        Strength of every task, or of every output of every task; >= 0.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.penalties import Lasso
    >>> penalty = Lasso(torch.tensor([1.0]))
    >>> point = torch.tensor([[[3.0], [-0.5], [-2.0]]])
    >>> penalty.prox(point, step=torch.tensor([1.0]))[0, :, 0].tolist()
    [2.0, 0.0, -1.0]
    """

    lambda1: Tensor

    def select(self, tasks: Tensor) -> Lasso:
        """Keep the given tasks only."""
        return replace(self, lambda1=self.lambda1[tasks])

    def per_output(self, n_outputs: int) -> Lasso:
        """The same penalty for problems of one output each, task by task.

        Parameters
        ----------
        n_outputs : int
            Number of outputs of every task.

        Returns
        -------
        Lasso
            With strengths of shape (n_tasks * n_outputs,).
        """
        return replace(self, lambda1=one_output_each(self.lambda1, n_outputs))

    def value(self, coef: Tensor) -> Tensor:
        """Penalty of W (n_tasks, n_features, n_outputs), shape (n_tasks,)."""
        return (per_entry(self.lambda1) * coef.abs()).sum((-2, -1))

    def prox(self, point: Tensor, step: Tensor) -> Tensor:
        """``argmin_U step * penalty(U) + 1/2 ||U - point||_F^2``.

        Parameters
        ----------
        point : Tensor of shape (n_tasks, n_features, n_outputs)
            Where to start from.
        step : Tensor of shape (n_tasks,)
            Step, > 0.

        Returns
        -------
        Tensor of shape (n_tasks, n_features, n_outputs)
            ``point`` soft-thresholded at ``step * lambda1``.
        """
        return soft_threshold(point, per_entry(step) * per_entry(self.lambda1))

    def dual_scale(self, correlation: Tensor) -> Tensor:
        """Largest factor in [0, 1] that brings V into the box of the conjugate.

        Parameters
        ----------
        correlation : Tensor of shape (n_tasks, n_features, n_outputs)
            Any V.

        Returns
        -------
        Tensor of the shape of `lambda1`
            ``min(1, lambda1 / max_j |V_j|)``, over all outputs if they share one
            lambda1.
        """
        largest = correlation.abs()
        shared = self.lambda1.ndim == 1
        largest = largest.amax((-2, -1)) if shared else largest.amax(-2)
        outside = largest > self.lambda1
        safe = torch.where(outside, largest, torch.ones_like(largest))
        return torch.where(outside, self.lambda1 / safe, 1.0)

    def conjugate(self, correlation: Tensor) -> Tensor:
        """0 if V lies in the box up to rounding, else infinity; (n_tasks,)."""
        slack = 1.0 + _ROUNDING * torch.finfo(correlation.dtype).eps
        outside = correlation.abs() > slack * per_entry(self.lambda1)
        value = torch.where(outside.any(-1).any(-1), torch.inf, 0.0)
        return value.to(correlation.dtype)


def per_entry(strength: Tensor) -> Tensor:
    """(n_tasks,) or (n_tasks, n_outputs) -> (n_tasks, 1, 1 or n_outputs)."""
    return strength.reshape(len(strength), 1, -1)


def one_output_each(strength: Tensor, n_outputs: int) -> Tensor:
    """(n_tasks,) or (n_tasks, n_outputs) -> (n_tasks * n_outputs,)."""
    return strength.reshape(len(strength), -1).expand(-1, n_outputs).reshape(-1)


def soft_threshold(point: Tensor, threshold: Tensor) -> Tensor:
    """``sign(point) max(0, |point| - threshold)``."""
    return point - point.clamp(-threshold, threshold)
