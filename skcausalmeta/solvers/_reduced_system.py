"""Curvature of the dual on its free entries."""

from __future__ import annotations

import torch
from torch import Tensor

from ._problem import Problem


class ReducedSystem:
    """The dual Hessian on the face of the simplices that holds B.

    Row i of B has the free entries ``{l : B_il > 0}``; moves inside the face
    keep the row sums, so with one free entry p_i (the largest) as pivot they are
    spanned by ``e_l - e_{p_i}``. In these m coordinates the negative Hessian
    of D is ::

        H = E' S F M F' S E,   M = Jacobian of V -> W(V) at V = F'R,
        H[(i,l),(k,j)] = s_i s_k (F_i diag(a) F_k') (e_l - e_{p_i})'(e_j - e_{p_k})
                         + U U',
        U[(i,l), g] = s_i sqrt(b_g) (F_g V_g)_i (e_l - e_{p_i})

    with a and b from ``penalty.jacobian``. Tasks are padded to the largest m;
    a padded coordinate has the row of an identity matrix.

    Parameters
    ----------
    problem : Problem
        The batch of problems.
    dual : Tensor of shape (n_tasks, n_samples, n_classes)
        Feasible point B.
    correlation : Tensor of shape (n_tasks, n_features, n_classes), default=None
        V = F'R at B, if it is known.

    Attributes
    ----------
    n_free : Tensor of shape (n_tasks,)
        Number of coordinates m of every task.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.losses import CrammerSinger
    >>> from skcausalmeta.penalties import GroupLasso
    >>> from skcausalmeta.solvers import Problem, ReducedSystem
    >>> penalty = GroupLasso(torch.zeros(1), torch.ones(1))
    >>> eye = torch.eye(2)[None]
    >>> problem = Problem(eye, eye, torch.ones(1, 2), CrammerSinger(), penalty)
    >>> ReducedSystem(problem, torch.full((1, 2, 2), 0.5)).matrix()
    tensor([[[2., 0.],
             [0., 2.]]])
    """

    def __init__(
        self, problem: Problem, dual: Tensor, correlation: Tensor | None = None
    ) -> None:
        self._problem = problem
        self._correlation = (
            problem.correlation(dual) if correlation is None else correlation
        )
        self._shape = dual.shape
        self._index(dual)

    def _index(self, dual: Tensor) -> None:
        """Rows, classes and pivots of the coordinates, padded: (n_tasks, m)."""
        pivots = dual.argmax(-1, keepdim=True)
        free = (dual > 0) & (self._problem.weights[..., None] > 0)
        free = free.scatter(-1, pivots, False).flatten(1)
        self.n_free = free.sum(-1)
        width = max(1, int(self.n_free.max()))
        # Stable descending sort lists the free entries of every task first.
        entries = free.to(torch.int8).argsort(dim=-1, descending=True, stable=True)
        entries = entries[:, :width]
        self._valid = free.gather(1, entries)
        self._rows = entries // dual.shape[-1]
        self._classes = entries % dual.shape[-1]
        self._pivots = pivots[..., 0].gather(1, self._rows)

    def restrict(self, matrix: Tensor) -> Tensor:
        """E'X: (n_tasks, n_samples, n_classes) -> (n_tasks, m)."""
        n_classes = self._shape[-1]
        flat = matrix.flatten(1)
        own = flat.gather(1, self._rows * n_classes + self._classes)
        pivot = flat.gather(1, self._rows * n_classes + self._pivots)
        return torch.where(self._valid, own - pivot, 0.0)

    def extend(self, coordinates: Tensor) -> Tensor:
        """E u: (n_tasks, m) -> (n_tasks, n_samples, n_classes), row sums 0."""
        n_classes = self._shape[-1]
        values = torch.where(self._valid, coordinates, 0.0)
        out = values.new_zeros((self._shape[0], self._shape[1] * n_classes))
        out.scatter_add_(1, self._rows * n_classes + self._classes, values)
        out.scatter_add_(1, self._rows * n_classes + self._pivots, -values)
        return out.view(self._shape)

    def row_weights(self) -> Tensor:
        """s_i of every coordinate, 1 where padded: (n_tasks, m)."""
        weights = self._problem.weights.gather(1, self._rows)
        return torch.where(self._valid, weights, 1.0)

    def matrix(self) -> Tensor:
        """H, (n_tasks, m, m)."""
        problem = self._problem
        scale, rank_one = problem.penalty.jacobian(self._correlation)
        features, correlation, scale = self._switched_on(scale)
        # (n_tasks, m, n_on)
        rows = self._gather_rows(problem.weights[..., None] * features)
        gram = (rows * scale[:, None, :]) @ rows.mT * self._overlap()
        slopes = rows * self._class_difference(correlation)
        if problem.penalty.groups is None:
            rank_one = rank_one.gather(1, self._on)
        else:
            slopes = problem.penalty.sum_groups(self._scatter_on(slopes))
        slopes = slopes * rank_one.sqrt()[:, None, :]
        hessian = gram + slopes @ slopes.mT
        both = self._valid[:, :, None] & self._valid[:, None, :]
        hessian = torch.where(both, hessian, 0.0)
        return hessian + torch.diag_embed((~self._valid).to(hessian.dtype))

    def _switched_on(self, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features with curvature only, padded to the largest number of a task."""
        n_on = max(1, int((scale > 0).sum(-1).max()))
        on = (scale > 0).to(torch.int8).argsort(dim=-1, descending=True, stable=True)
        self._on = on[:, :n_on]
        samples, classes = self._shape[1:]
        features = self._problem.features.gather(
            2, self._on[:, None, :].expand(-1, samples, -1)
        )
        correlation = self._correlation.gather(
            1, self._on[..., None].expand(-1, -1, classes)
        )
        return features, correlation, scale.gather(1, self._on)

    def _gather_rows(self, matrix: Tensor) -> Tensor:
        index = self._rows[..., None].expand(-1, -1, matrix.shape[-1])
        return matrix.gather(1, index)

    def _class_difference(self, correlation: Tensor) -> Tensor:
        """V_jl - V_jp of every coordinate: (n_tasks, m, n_on)."""
        classes = correlation.mT  # (n_tasks, n_classes, n_on)
        width = classes.shape[-1]
        own = classes.gather(1, self._classes[..., None].expand(-1, -1, width))
        pivot = classes.gather(1, self._pivots[..., None].expand(-1, -1, width))
        return own - pivot

    def _scatter_on(self, values: Tensor) -> Tensor:
        """Back from the features that are on to all features."""
        n_features = self._problem.features.shape[-1]
        out = values.new_zeros((*values.shape[:-1], n_features))
        return out.scatter_add_(2, self._on[:, None, :].expand_as(values), values)

    def _overlap(self) -> Tensor:
        """(e_l - e_p)'(e_j - e_q) of every pair of coordinates."""
        one, two = self._classes, self._pivots

        def same(a: Tensor, b: Tensor) -> Tensor:
            return (a[:, :, None] == b[:, None, :]).to(self._problem.features.dtype)

        return same(one, one) - same(one, two) - same(two, one) + same(two, two)
