"""Curvature of the dual on its free entries."""

from __future__ import annotations

import torch
from torch import Tensor

from ._problem import Problem, pack


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
        """Rows and classes of the coordinates and e_l - e_p, padded."""
        n_classes = dual.shape[-1]
        pivots = dual.argmax(-1, keepdim=True)
        free = (dual > 0) & (self._problem.weights[..., None] > 0)
        free = free.scatter(-1, pivots, False).flatten(1)
        self.n_free = free.sum(-1)
        self._entries, self._valid = pack(free)  # (n_tasks, m)
        self._rows = self._entries.div(n_classes, rounding_mode="floor")
        pivot_classes = pivots[..., 0].gather(1, self._rows)
        self._pivots = self._rows * n_classes + pivot_classes
        valid = self._valid.to(dual.dtype)[..., None]
        moves = dual.new_zeros((*self._rows.shape, n_classes))
        moves.scatter_(-1, (self._entries % n_classes)[..., None], valid)
        # (n_tasks, m, n_classes), zero where padded
        self._moves = moves.scatter_(-1, pivot_classes[..., None], -valid)

    def restrict(self, matrix: Tensor) -> Tensor:
        """E'X: (n_tasks, n_samples, n_classes) -> (n_tasks, m)."""
        flat = matrix.flatten(1)
        difference = flat.gather(1, self._entries) - flat.gather(1, self._pivots)
        return torch.where(self._valid, difference, 0.0)

    def entries(self, dual: Tensor) -> Tensor:
        """Entries of B at the coordinates, infinite where padded: (n_tasks, m)."""
        values = dual.flatten(1).gather(1, self._entries)
        return torch.where(self._valid, values, torch.inf)

    def extend(self, coordinates: Tensor) -> Tensor:
        """E u: (n_tasks, m) -> (n_tasks, n_samples, n_classes), row sums 0."""
        values = torch.where(self._valid, coordinates, 0.0)
        out = values.new_zeros((self._shape[0], self._shape[1] * self._shape[2]))
        out.scatter_add_(1, self._entries, values)
        out.scatter_add_(1, self._pivots, -values)
        return out.view(self._shape)

    def row_weights(self) -> Tensor:
        """s_i of every coordinate, 1 where padded: (n_tasks, m)."""
        weights = self._problem.weights.gather(1, self._rows)
        return torch.where(self._valid, weights, 1.0)

    def matrix(self) -> Tensor:
        """H, (n_tasks, m, m)."""
        problem = self._problem
        scale, rank_one = problem.penalty.jacobian(self._correlation)
        rows = problem.weights[..., None] * problem.features
        gram = (rows * scale[:, None, :]) @ rows.mT  # (n_tasks, n_samples, n_samples)
        hessian = self._moves @ self._moves.mT
        hessian *= self._spread(gram)
        if bool((rank_one > 0).any()):
            slopes = self._slopes(rows, rank_one)
            hessian.baddbmm_(slopes, slopes.mT)
        hessian.diagonal(dim1=-2, dim2=-1).add_((~self._valid).to(hessian.dtype))
        return hessian

    def _spread(self, gram: Tensor) -> Tensor:
        """Entries of a matrix of rows for every pair of coordinates."""
        n_samples = gram.shape[-1]
        pairs = self._rows[:, :, None] * n_samples + self._rows[:, None, :]
        return gram.flatten(1).gather(1, pairs.flatten(1)).view(pairs.shape)

    def _slopes(self, rows: Tensor, rank_one: Tensor) -> Tensor:
        """U, (n_tasks, m, n_on) or (n_tasks, m, n_groups)."""
        penalty, directions = self._problem.penalty, self._correlation.mT
        roots = rank_one.sqrt()
        if penalty.groups is None:
            on, valid = pack(rank_one > 0)
            columns = on[:, None, :]
            rows = rows.gather(2, columns.expand(-1, rows.shape[1], -1))
            directions = directions.gather(
                2, columns.expand(-1, directions.shape[1], -1)
            )
            directions = directions * (roots.gather(1, on) * valid)[:, None, :]
        # (n_tasks, m, n_features): F_ij (V_jl - V_jp)
        index = self._rows[..., None].expand(-1, -1, rows.shape[-1])
        slopes = self._moves @ directions
        slopes *= rows.gather(1, index)
        if penalty.groups is None:
            return slopes
        return penalty.sum_groups(slopes).mul_(roots[:, None, :])
