"""The squared loss, in primal and dual form."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor


class Squared:
    """Squared loss, one half of the squared distance.

    For scores z and targets y (any real vectors) the loss is ::

        loss(z, y) = 1/2 ||z - y||^2
                   = max_b  1/2 (||y||^2 - ||b||^2) + <b - y, z>

    so a row b of the dual variable is any vector, best at b = z, and its share of
    the dual objective is 1/2 (||y||^2 - ||b||^2).

    Attributes
    ----------
    smoothness : float
        Lipschitz constant of `gradient` in z: 1.
    dual_curvature : float
        Lipschitz constant of `dual_gradient` in b: 1.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.losses import Squared
    >>> scores = torch.tensor([[2.0, 0.0]])
    >>> float(Squared().value(scores, torch.tensor([[1.0, 3.0]])))
    5.0
    """

    smoothness: ClassVar[float] = 1.0
    dual_curvature: ClassVar[float] = 1.0

    def value(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Loss of every row.

        Parameters
        ----------
        scores : Tensor of shape (..., n_outputs)
            Scores z.
        targets : Tensor of shape (..., n_outputs)
            Targets y.

        Returns
        -------
        Tensor of shape (...)
            ``1/2 ||z - y||^2``.
        """
        return (scores - targets).square().sum(-1) / 2

    def gradient(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Gradient of `value` in z: ``z - y``."""
        return scores - targets

    def dual_point(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The b that attains the maximum for scores z: z itself."""
        return scores

    def dual_value(self, dual: Tensor, targets: Tensor) -> Tensor:
        """Share of every row in the dual objective, ``1/2 (||y||^2 - ||b||^2)``."""
        return (targets.square().sum(-1) - dual.square().sum(-1)) / 2

    def dual_gradient(self, dual: Tensor, targets: Tensor) -> Tensor:
        """Gradient of `dual_value` in b: ``-b``."""
        return -dual

    def start(self, targets: Tensor, offset: Tensor | None = None) -> Tensor:
        """The dual point of W = 0: b = 0, or the offset of the scores."""
        return targets.new_zeros(targets.shape) if offset is None else offset

    def project(self, dual: Tensor) -> Tensor:
        """Every b is feasible: returned as it is."""
        return dual
