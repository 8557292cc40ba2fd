"""Group Lasso plus ridge on the rows of a weight matrix."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class GroupLasso:
    """Group Lasso plus ridge, one problem a task.

    For weights W (n_features, n_classes) whose rows fall into groups g ::

        penalty(W)      = lambda2 / 2 ||W||_F^2 + lambda1 sum_g w_g ||W_g||_F
        conjugate(V)    = 1 / (2 lambda2) ||BST(V, lambda1 w)||_F^2
        grad conjugate  = BST(V, lambda1 w) / lambda2
        BST(V, t)_g     = max(0, 1 - t_g / ||V_g||_F) V_g

    Parameters
    ----------
    lambda1 : Tensor of shape (n_tasks,)
        Strength of the group Lasso, >= 0.
    lambda2 : Tensor of shape (n_tasks,)
        Strength of the ridge, > 0.
    groups : Tensor of shape (n_features,), default=None
        Group number of every feature, 0..n_groups-1. None: every feature is a
        group of its own.
    group_weights : Tensor of shape (n_groups,) or (n_tasks, n_groups), default=None
        Factor w_g of lambda1 for every group, 0 for a group that is not
        penalised. None: 1 for all.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.penalties import GroupLasso
    >>> penalty = GroupLasso(torch.tensor([1.0]), torch.tensor([2.0]))
    >>> penalty.conjugate_gradient(torch.tensor([[[3.0, 4.0], [0.6, 0.0]]]))
    tensor([[[1.2000, 1.6000],
             [0.0000, 0.0000]]])
    """

    lambda1: Tensor
    lambda2: Tensor
    groups: Tensor | None = None
    group_weights: Tensor | None = None

    def select(self, tasks: Tensor) -> GroupLasso:
        """Keep the given tasks only."""
        weights = self.group_weights
        return replace(
            self,
            lambda1=self.lambda1[tasks],
            lambda2=self.lambda2[tasks],
            group_weights=_select(weights, tasks),
        )

    def to(self, dtype: torch.dtype) -> GroupLasso:
        """The same numbers in another precision."""
        weights = self.group_weights
        return replace(
            self,
            lambda1=self.lambda1.to(dtype),
            lambda2=self.lambda2.to(dtype),
            group_weights=weights if weights is None else weights.to(dtype),
        )

    def narrow(self, positions: Tensor) -> GroupLasso:
        """Keep, task by task, the features at `positions` (n_tasks, width).

        Raises
        ------
        ValueError
            If features share groups.
        """
        if self.groups is not None:
            raise ValueError(
                "Only a penalty whose features are groups of their own can be "
                "narrowed. Got shared groups; keep all features."
            )
        weights = self.group_weights
        if weights is not None:
            per_task = weights.expand(len(positions), -1)
            weights = per_task.gather(1, positions)
        return replace(self, group_weights=weights)

    def thresholds(self) -> Tensor:
        """lambda1 of every group: (n_tasks, 1) or (n_tasks, n_groups)."""
        if self.group_weights is None:
            return self.lambda1[:, None]
        return self.lambda1[:, None] * self.group_weights

    def value(self, coef: Tensor) -> Tensor:
        """Penalty of W (n_tasks, n_features, n_classes), shape (n_tasks,)."""
        lasso = (self.thresholds() * self.group_norms(coef)).sum(-1)
        return lasso + self.lambda2 / 2 * coef.square().sum((-2, -1))

    def prox(self, point: Tensor, step: Tensor) -> Tensor:
        """``argmin_U step * penalty(U) + 1/2 ||U - point||_F^2``.

        Parameters
        ----------
        point : Tensor of shape (n_tasks, n_features, n_classes)
            Where to start from.
        step : Tensor of shape (n_tasks,)
            Step, > 0.

        Returns
        -------
        Tensor of shape (n_tasks, n_features, n_classes)
            ``BST(point, step lambda1 w) / (1 + step lambda2)``.
        """
        kept = _kept(self.group_norms(point), step[:, None] * self.thresholds())
        shrunk = point * self.per_feature(kept)[..., None]
        return shrunk / (1.0 + step * self.lambda2)[:, None, None]

    def dual_scale(self, correlation: Tensor) -> Tensor:
        """1 for every task: the ridge makes the conjugate finite everywhere."""
        return correlation.new_ones(len(correlation))

    def conjugate(self, correlation: Tensor) -> Tensor:
        """Convex conjugate at V (n_tasks, n_features, n_classes)."""
        excess = (self.group_norms(correlation) - self.thresholds()).clamp_min(0.0)
        return excess.square().sum(-1) / (2 * self.lambda2)

    def conjugate_gradient(self, correlation: Tensor) -> Tensor:
        """W(V) = BST(V, lambda1 w) / lambda2, the weights that belong to V."""
        return correlation * self.shrinkage(correlation)[..., None]

    def shrinkage(self, correlation: Tensor) -> Tensor:
        """Factor ``max(0, 1 - t_g / ||V_g||) / lambda2`` of every feature.

        Returns
        -------
        Tensor of shape (n_tasks, n_features)
        """
        norms = self.group_norms(correlation)
        factor = _kept(norms, self.thresholds()) / self.lambda2[:, None]
        return self.per_feature(factor)

    def jacobian(self, correlation: Tensor) -> tuple[Tensor, Tensor]:
        """Jacobian of V -> W(V) in factors.

        On group g it is ``scale_g I + rank_one_g vec(V_g) vec(V_g)'``.

        Returns
        -------
        scale : Tensor of shape (n_tasks, n_features)
            ``max(0, 1 - t_g / ||V_g||) / lambda2``, per feature.
        rank_one : Tensor of shape (n_tasks, n_groups)
            ``t_g / (lambda2 ||V_g||^3)`` where the group is on, else 0.
        """
        norms = self.group_norms(correlation)
        thresholds = self.thresholds()
        lambda2 = self.lambda2[:, None]
        scale = self.per_feature(_kept(norms, thresholds) / lambda2)
        on = norms > thresholds
        safe = torch.where(on, norms, torch.ones_like(norms))
        # One division at a time: the cube of a small norm would underflow.
        rank_one = torch.where(on, thresholds / safe / safe / safe / lambda2, 0.0)
        return scale, rank_one

    def support(self, correlation: Tensor) -> Tensor:
        """Mask (n_tasks, n_features) of the features that are switched on."""
        return self.per_feature(self.group_norms(correlation) > self.thresholds())

    def group_norms(self, matrix: Tensor) -> Tensor:
        """Frobenius norm of every group of rows, (n_tasks, n_groups)."""
        squares = self.sum_groups(matrix.square().sum(-1))
        if not squares.requires_grad:
            return squares.sqrt()
        # sqrt has an infinite slope at 0, which would turn gradients into NaN.
        there = squares > 0
        return torch.where(there, torch.where(there, squares, 1.0).sqrt(), 0.0)

    def sum_groups(self, values: Tensor) -> Tensor:
        """Sum the last axis (n_features) within groups: (..., n_groups)."""
        if self.groups is None:
            return values
        n_groups = int(self.groups.max()) + 1
        out = values.new_zeros((*values.shape[:-1], n_groups))
        return out.index_add_(-1, self.groups, values)

    def per_feature(self, values: Tensor) -> Tensor:
        """Spread values of groups (..., n_groups) over features."""
        return values if self.groups is None else values[..., self.groups]


def _select(weights: Tensor | None, tasks: Tensor) -> Tensor | None:
    """Weights of the tasks, where every task has its own."""
    return weights if weights is None or weights.ndim == 1 else weights[tasks]


def _kept(norms: Tensor, thresholds: Tensor) -> Tensor:
    """``max(0, 1 - t / norm)``, with 1 where norm = t = 0 and no division by 0."""
    tiny = torch.finfo(norms.dtype).tiny
    return (1.0 - thresholds / norms.clamp_min(tiny)).clamp_min_(0.0)
