"""Elastic net: Lasso plus ridge on the entries of a weight matrix."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from ._lasso import one_output_each, per_entry, soft_threshold


@dataclass(frozen=True)
class ElasticNet:
    """Lasso plus ridge on the entries of a weight matrix, one problem a task.

    For weights W (n_features, n_outputs) ::

        penalty(W)     = lambda1 sum_jl |W_jl| + lambda2 / 2 ||W||_F^2
        conjugate(V)   = 1 / (2 lambda2) ||ST(V, lambda1)||_F^2
        grad conjugate = ST(V, lambda1) / lambda2
        ST(v, t)       = sign(v) max(0, |v| - t),   entry by entry

    Parameters
    ----------
    lambda1 : Tensor of shape (n_tasks,) or (n_tasks, n_outputs)
        Strength of the Lasso, >= 0.
    lambda2 : Tensor of shape (n_tasks,) or (n_tasks, n_outputs)
        Strength of the ridge, > 0.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.penalties import ElasticNet
    >>> penalty = ElasticNet(torch.tensor([1.0]), torch.tensor([2.0]))
    >>> correlation = torch.tensor([[[3.0], [-0.5], [-2.0]]])
    >>> penalty.conjugate_gradient(correlation)[0, :, 0].tolist()
    [1.0, 0.0, -0.5]
    """

    lambda1: Tensor
    lambda2: Tensor

    def select(self, tasks: Tensor) -> ElasticNet:
        """Keep the given tasks only."""
        return replace(self, lambda1=self.lambda1[tasks], lambda2=self.lambda2[tasks])

    def per_output(self, n_outputs: int) -> ElasticNet:
        """The same penalty for problems of one output each, task by task.

        Parameters
        ----------
        n_outputs : int
            Number of outputs of every task.

        Returns
        -------
        ElasticNet
            With strengths of shape (n_tasks * n_outputs,).
        """
        return replace(
            self,
            lambda1=one_output_each(self.lambda1, n_outputs),
            lambda2=one_output_each(self.lambda2, n_outputs),
        )

    def value(self, coef: Tensor) -> Tensor:
        """Penalty of W (n_tasks, n_features, n_outputs), shape (n_tasks,)."""
        lasso = per_entry(self.lambda1) * coef.abs()
        return (lasso + per_entry(self.lambda2) / 2 * coef.square()).sum((-2, -1))

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
            ``ST(point, step lambda1) / (1 + step lambda2)``.
        """
        step = per_entry(step)
        shrunk = soft_threshold(point, step * per_entry(self.lambda1))
        return shrunk / (1.0 + step * per_entry(self.lambda2))

    def dual_scale(self, correlation: Tensor) -> Tensor:
        """1 for every task: the ridge makes the conjugate finite everywhere."""
        return correlation.new_ones(len(correlation))

    def conjugate(self, correlation: Tensor) -> Tensor:
        """Convex conjugate at V (n_tasks, n_features, n_outputs), (n_tasks,)."""
        excess = soft_threshold(correlation, per_entry(self.lambda1))
        return (excess.square() / (2 * per_entry(self.lambda2))).sum((-2, -1))

    def conjugate_gradient(self, correlation: Tensor) -> Tensor:
        """W(V) = ST(V, lambda1) / lambda2, the weights that belong to V."""
        excess = soft_threshold(correlation, per_entry(self.lambda1))
        return excess / per_entry(self.lambda2)

    def support(self, correlation: Tensor) -> Tensor:
        """Mask (n_tasks, n_features) of the features that any output uses."""
        return (correlation.abs() > per_entry(self.lambda1)).any(-1)
