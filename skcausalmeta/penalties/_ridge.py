"""Ridge: the sum of squared weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from ._lasso import one_output_each, per_entry


@dataclass(frozen=True)
class Ridge:
    """Ridge on a weight matrix, one problem a task.

    For weights W (n_features, n_outputs) ::

        penalty(W)     = lambda2 / 2 ||W||_F^2
        conjugate(V)   = 1 / (2 lambda2) ||V||_F^2
        grad conjugate = V / lambda2

    Parameters
    ----------
    lambda2 : Tensor of shape (n_tasks,) or (n_tasks, n_outputs)
        Strength of every task, or of every output of every task; > 0.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.penalties import Ridge
    >>> penalty = Ridge(torch.tensor([2.0]))
    >>> penalty.conjugate_gradient(torch.tensor([[[3.0], [-1.0]]]))[0, :, 0].tolist()
    [1.5, -0.5]
    """

    lambda2: Tensor

    def select(self, tasks: Tensor) -> Ridge:
        """Keep the given tasks only."""
        return replace(self, lambda2=self.lambda2[tasks])

    def per_output(self, n_outputs: int) -> Ridge:
        """The same penalty for problems of one output each, task by task.

        Parameters
        ----------
        n_outputs : int
            Number of outputs of every task.

        Returns
        -------
        Ridge
            With strengths of shape (n_tasks * n_outputs,).
        """
        return replace(self, lambda2=one_output_each(self.lambda2, n_outputs))

    def value(self, coef: Tensor) -> Tensor:
        """Penalty of W (n_tasks, n_features, n_outputs), shape (n_tasks,)."""
        return (per_entry(self.lambda2) / 2 * coef.square()).sum((-2, -1))

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
            ``point / (1 + step lambda2)``.
        """
        return point / (1.0 + per_entry(step) * per_entry(self.lambda2))

    def dual_scale(self, correlation: Tensor) -> Tensor:
        """1 for every task: the conjugate is finite everywhere."""
        return correlation.new_ones(len(correlation))

    def conjugate(self, correlation: Tensor) -> Tensor:
        """Convex conjugate at V (n_tasks, n_features, n_outputs), (n_tasks,)."""
        return (correlation.square() / (2 * per_entry(self.lambda2))).sum((-2, -1))

    def conjugate_gradient(self, correlation: Tensor) -> Tensor:
        """W(V) = V / lambda2, the weights that belong to V."""
        return correlation / per_entry(self.lambda2)

    def support(self, correlation: Tensor) -> Tensor:
        """Mask (n_tasks, n_features) of the features that any output uses."""
        return (correlation != 0).any(-1)
