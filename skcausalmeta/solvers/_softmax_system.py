"""Newton's linear system of a logistic loss with a group Lasso and a ridge."""

from __future__ import annotations

import torch
from torch import Tensor

from ._problem import Problem


class SoftmaxSystem:
    """Coupling of the scores of all rows at a point.

    With S the row weights, J the Jacobian of the softmax at the scores Z and M the
    Jacobian of V -> W(V) at V = F'R, put P = S J and A = F M F', both
    (n_samples n_classes) square and positive semi-definite. Newton's step and the
    adjoint both need ``y = (I + P A)^-1 P r``, for which there are two forms, with
    P = L L' and A = N N' ::

        y = L (I + L'A L)^-1 L'r                 n_samples (n_classes - 1) unknowns
        y = P r - P N (I + N'P N)^-1 N'P r       n_on n_classes unknowns

    where n_on features are switched on. The smaller one is solved, by Cholesky: no
    eigenvalue of either is below 1.

    Parameters
    ----------
    problem : Problem
        The batch of problems, with loss `Logistic`, penalty `GroupLasso`.
    scores : Tensor of shape (n_tasks, n_samples, n_classes)
        Scores Z.
    correlation : Tensor of shape (n_tasks, n_features, n_classes)
        V = F'R.

    Attributes
    ----------
    size : int
        Number of unknowns.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.losses import Logistic
    >>> from skcausalmeta.penalties import GroupLasso
    >>> from skcausalmeta.solvers import Problem, SoftmaxSystem
    >>> penalty = GroupLasso(torch.zeros(1), torch.ones(1))
    >>> eye = torch.eye(2)[None]
    >>> problem = Problem(eye, eye, torch.ones(1, 2), Logistic(), penalty)
    >>> system = SoftmaxSystem(problem, torch.zeros(1, 2, 2), torch.ones(1, 2, 2))
    >>> system.size
    2
    >>> system.solve(eye)
    tensor([[[ 0.1667, -0.1667],
             [-0.1667,  0.1667]]])
    """

    def __init__(self, problem: Problem, scores: Tensor, correlation: Tensor) -> None:
        self._penalty = problem.penalty
        self._weights = problem.weights[..., None]
        self._dual = problem.loss.dual_point(scores, problem.targets)
        self._root = problem.loss.curvature(scores, problem.targets)
        self._root = self._root * problem.weights.sqrt()[..., None, None]
        self._keep_what_is_on(problem.features, correlation)
        n_samples, n_classes = scores.shape[1:]
        self._by_rows = (
            n_samples * (n_classes - 1) <= self._features.shape[-1] * n_classes
        )
        self.size = (
            n_samples * (n_classes - 1)
            if self._by_rows
            else self._features.shape[-1] * n_classes
        )

    def _keep_what_is_on(self, features: Tensor, correlation: Tensor) -> None:
        """Features with curvature only, padded to the largest number of a task."""
        scale, self._rank_one = self._penalty.jacobian(correlation)
        n_on = max(1, int((scale > 0).sum(-1).max()))
        on = (scale > 0).to(torch.int8).argsort(dim=-1, descending=True, stable=True)
        on = on[:, :n_on]
        self._scale = scale.gather(1, on)
        self._features = features.gather(
            2, on[:, None, :].expand(-1, features.shape[1], -1)
        )
        self._correlation = correlation.gather(
            1, on[..., None].expand(-1, -1, correlation.shape[-1])
        )
        groups = self._penalty.groups
        self._groups = on if groups is None else groups[on]  # (n_tasks, n_on)

    def couple(self, matrix: Tensor) -> Tensor:
        """A X for X (n_tasks, n_samples, n_classes)."""
        through = self._features.mT @ matrix
        inner = self._sum_groups((self._correlation * through).sum(-1)[..., None])
        along = self._per_feature(self._rank_one[..., None] * inner)
        moved = self._scale[..., None] * through + along * self._correlation
        return self._features @ moved

    def soften(self, matrix: Tensor) -> Tensor:
        """P X for X (n_tasks, n_samples, n_classes)."""
        return (self._root @ (self._root.mT @ matrix[..., None]))[..., 0]

    def solve(self, right: Tensor) -> Tensor:
        """``(I + P A)^-1 P r`` for r (n_tasks, n_samples, n_classes)."""
        return self._solve_rows(right) if self._by_rows else self._solve_coef(right)

    def _solve_rows(self, right: Tensor) -> Tensor:
        reduced = (self._root.mT @ right[..., None]).flatten(1)
        solved = _solve_with_identity(self._rows_matrix(), reduced)
        solved = solved.view(*right.shape[:2], -1, 1)
        return (self._root @ solved)[..., 0]

    def _rows_matrix(self) -> Tensor:
        """L'A L, (n_tasks, m, m) with m = n_samples (n_classes - 1)."""
        n_tasks, n_samples, _, free = self._root.shape
        factors = self._root.mT.flatten(1, 2)  # (n_tasks, m, n_classes)
        gram = (self._features * self._scale[:, None]) @ self._features.mT
        matrix = (factors @ factors.mT).view(n_tasks, n_samples, free, n_samples, free)
        matrix = matrix * gram[:, :, None, :, None]
        matrix = matrix.flatten(3, 4).flatten(1, 2)
        if bool(self._rank_one.any()):
            slopes = self._root.mT @ self._correlation.mT[:, None]
            slopes = (slopes * self._features[:, :, None]).flatten(1, 2)
            slopes = self._sum_groups(slopes.mT).mT * self._rank_one.sqrt()[:, None]
            matrix = matrix + slopes @ slopes.mT
        return matrix

    def _solve_coef(self, right: Tensor) -> Tensor:
        softened = self.soften(right)
        reduced = self._half((self._features.mT @ softened).flatten(1)[..., None])
        solved = _solve_with_identity(self._coef_matrix(), reduced[..., 0])
        moved = self._half(solved[..., None]).view_as(self._correlation)
        return softened - self.soften(self._features @ moved)

    def _coef_matrix(self) -> Tensor:
        """N'P N, (n_tasks, m, m) with m = n_on n_classes, N = F M^1/2."""
        n_classes = self._dual.shape[-1]
        weighted = self._weights * self._dual
        # P = S diag(b) - S b b': a block per class minus one product.
        blocks = self._features.mT[:, None] @ (
            weighted.mT[..., None] * self._features[:, None]
        )  # (n_tasks, n_classes, n_on, n_on)
        joint = self._features[..., None] * self._dual[:, :, None]
        joint = (self._weights[..., None].sqrt() * joint).flatten(2)
        matrix = -(joint.mT @ joint)
        for label in range(n_classes):
            matrix[:, label::n_classes, label::n_classes] += blocks[:, label]
        return self._half(self._half(matrix).mT)

    def _half(self, columns: Tensor) -> Tensor:
        """M^1/2 X for the columns of X (n_tasks, n_on n_classes, n_columns).

        On group g, M is ``a I + b v v'`` and its root ``sqrt(a) I + c v v'`` with
        ``c = (sqrt(a + b v'v) - sqrt(a)) / v'v``.
        """
        vectors = self._correlation[..., None]  # (n_tasks, n_on, n_classes, 1)
        split = columns.view(*self._correlation.shape, -1)
        squares = self._sum_groups(self._correlation.square().sum(-1)[..., None])
        bend = self._rank_one[..., None] * squares
        top = 1.0 / self._penalty.lambda2[:, None, None]  # a + b v'v where on
        rise = top.sqrt() - (top - bend).clamp_min(0.0).sqrt()
        slope = torch.where(bend > 0, rise / torch.where(bend > 0, squares, 1.0), 0.0)
        inner = self._sum_groups((vectors * split).sum(2))
        along = self._per_feature(slope * inner)[:, :, None]
        moved = self._scale.sqrt()[..., None, None] * split + along * vectors
        return moved.flatten(1, 2)

    def _sum_groups(self, values: Tensor) -> Tensor:
        """Sum (n_tasks, n_on, k) within groups: (n_tasks, n_groups, k)."""
        n_groups = self._rank_one.shape[-1]
        out = values.new_zeros(values.shape[0], n_groups, values.shape[-1])
        return out.scatter_add_(1, self._groups[..., None].expand_as(values), values)

    def _per_feature(self, values: Tensor) -> Tensor:
        """Values (n_tasks, n_groups, k) of the groups of the kept features."""
        index = self._groups[..., None].expand(-1, -1, values.shape[-1])
        return values.gather(1, index)


def _solve_with_identity(matrix: Tensor, right: Tensor) -> Tensor:
    """``(I + A)^-1 b`` for positive semi-definite A (n_tasks, m, m)."""
    matrix.diagonal(dim1=-2, dim2=-1).add_(1.0)
    factor, _ = torch.linalg.cholesky_ex(matrix)
    return torch.cholesky_solve(right[..., None], factor)[..., 0]
