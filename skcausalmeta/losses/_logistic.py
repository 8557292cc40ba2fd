"""The multinomial logistic loss, in primal and dual form."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from ._simplex import project_simplex


class Logistic:
    """Multinomial logistic loss (cross-entropy of a softmax).

    For scores z and a one-hot target y the loss is ::

        loss(z, y) = log sum_l exp(z_l) - y'z
                   = max_{b in simplex} entropy(b) + <b - y, z>

    and b = softmax(z) attains the maximum, so a row b of the dual variable is a
    vector of class probabilities, its residual is y - b and its share of the dual
    objective is ``entropy(b) = - sum_l b_l log b_l``, with 0 log 0 = 0.

    The curvature of the entropy has no bound where a probability tends to 0: the
    loss has no `dual_curvature`, and projected gradient methods on the dual do
    not apply to it.

    Attributes
    ----------
    smoothness : float
        Lipschitz constant of `gradient`, 1/2.
    entropic : bool
        True: `dual_value` is the entropy of b on the simplex.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.losses import Logistic
    >>> scores = torch.tensor([[2.0, 0.0]])
    >>> print(f"{float(Logistic().value(scores, torch.tensor([[0.0, 1.0]]))):.4f}")
    2.1269
    """

    smoothness = 0.5
    entropic: ClassVar[bool] = True

    def value(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Loss of every row.

        Parameters
        ----------
        scores : Tensor of shape (..., n_classes)
            Scores z, of any size.
        targets : Tensor of shape (..., n_classes)
            One-hot targets y.

        Returns
        -------
        Tensor of shape (...)
            ``logsumexp(z) - y'z``; tiny values keep their relative accuracy.
        """
        margins = scores - (scores * targets).sum(-1, keepdim=True)
        top, winner = margins.max(-1, keepdim=True)
        others = (margins - top).exp().scatter(-1, winner, 0.0)
        return top[..., 0] + others.sum(-1).log1p()

    def gradient(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Gradient of `value` in the scores: ``softmax(z) - y``."""
        return self.dual_point(scores, targets) - targets

    def curvature(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Factor L of the Hessian of `value` in the scores.

        With b = softmax(z) and q = sqrt(b), a unit vector, the Hessian is
        ``diag(b) - b b' = diag(q) (I - q q') diag(q) = L L'`` for
        ``L = diag(q) N`` and the columns of N an orthonormal basis of what is
        orthogonal to q (columns of a Householder reflection).

        Parameters
        ----------
        scores : Tensor of shape (..., n_classes)
            Scores z.
        targets : Tensor of shape (..., n_classes)
            One-hot targets; they do not matter.

        Returns
        -------
        Tensor of shape (..., n_classes, n_classes - 1)
        """
        root = self.dual_point(scores, targets).sqrt()
        last = root[..., -1:]
        axis = torch.cat([root[..., :-1], last + 1.0], dim=-1)
        scaled = root[..., :-1] / (1.0 + last)
        eye = torch.eye(root.shape[-1], dtype=root.dtype, device=root.device)
        basis = eye[:, :-1] - axis[..., :, None] * scaled[..., None, :]
        return root[..., :, None] * basis

    def dual_point(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The b that attains the loss at the scores z: ``softmax(z)``."""
        return scores.softmax(-1)

    def dual_value(self, dual: Tensor, targets: Tensor) -> Tensor:
        """Share of every row in the dual objective, the entropy of b."""
        top, winner = dual.max(-1, keepdim=True)
        others = dual.scatter(-1, winner, 0.0)
        rest = others.sum(-1)
        # Near a corner 1 - b_top is known from the other entries, not from b_top.
        log_top = torch.where(top[..., 0] > 0.5, torch.log1p(-rest), top[..., 0].log())
        return -torch.xlogy(others, others).sum(-1) - top[..., 0] * log_top

    def dual_gradient(self, dual: Tensor, targets: Tensor) -> Tensor:
        """Gradient of `dual_value` in b: ``- 1 - log b``, large where b is 0."""
        return -1.0 - dual.clamp_min(torch.finfo(dual.dtype).tiny).log()

    def start(self, targets: Tensor, offset: Tensor | None = None) -> Tensor:
        """A feasible dual point: uniform over the classes, or the softmax of an offset.

        It alone attains the largest ``entropy(b) + <b, o>``: it is the solution if
        and only if it leaves every feature switched off.
        """
        if offset is None:
            return torch.full_like(targets, 1.0 / targets.shape[-1])
        return offset.softmax(-1)

    def project(self, dual: Tensor) -> Tensor:
        """Project every row onto the probability simplex.

        Parameters
        ----------
        dual : Tensor of shape (..., n_classes)
            Any point.

        Returns
        -------
        Tensor of shape (..., n_classes)
            The nearest point with entries >= 0 that sum to 1.
        """
        return project_simplex(dual)
