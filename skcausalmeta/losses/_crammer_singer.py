"""The multiclass hinge of Crammer and Singer, in primal and dual form."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ._simplex import project_simplex


class CrammerSinger:
    """Multiclass hinge loss of Crammer and Singer.

    For scores z and a one-hot target y the loss is ::

        loss(z, y) = max_l [1 - y_l + z_l - y'z]
                   = max_{b in simplex} <1 - y, b> + <b - y, z>

    so a row b of the dual variable lives in the probability simplex, its
    residual is y - b and its share of the dual objective is <1 - y, b>.

    References
    ----------
    .. [1] K. Crammer, Y. Singer (2001). On the algorithmic implementation of
       multiclass kernel-based vector machines. JMLR 2, 265-292.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.losses import CrammerSinger
    >>> scores = torch.tensor([[2.0, 0.5, -1.0]])
    >>> float(CrammerSinger().value(scores, torch.tensor([[0.0, 1.0, 0.0]])))
    2.5
    """

    #: The dual is linear on a polytope: second-order solvers may fix its faces.
    polyhedral: ClassVar[bool] = True
    #: Lipschitz constant of `dual_gradient`.
    dual_curvature: ClassVar[float] = 0.0

    def value(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Loss of every row.

        Parameters
        ----------
        scores : Tensor of shape (..., n_classes)
            Scores z.
        targets : Tensor of shape (..., n_classes)
            One-hot targets y.

        Returns
        -------
        Tensor of shape (...)
            ``max_l [1 - y_l + z_l - y'z]``, at least 0.
        """
        own = (scores * targets).sum(-1)
        return (scores + (1.0 - targets)).amax(-1) - own

    def dual_value(self, dual: Tensor, targets: Tensor) -> Tensor:
        """Share of every row in the dual objective, ``<1 - y, b>``."""
        return 1.0 - (dual * targets).sum(-1)

    def dual_gradient(self, dual: Tensor, targets: Tensor) -> Tensor:
        """Gradient of `dual_value` in b: ``1 - y``, whatever b is."""
        return 1.0 - targets

    def start(self, targets: Tensor, offset: Tensor | None = None) -> Tensor:
        """A feasible dual point: uniform over the wrong classes.

        With an offset o of the scores: uniform over the classes l that attain
        ``max_l [1 - y_l + o_l]``. It has the largest ``<1 - y + o, b>``, hence it is
        optimal whenever it leaves every feature switched off.
        """
        slope = 1.0 - targets if offset is None else 1.0 - targets + offset
        best = (slope == slope.amax(-1, keepdim=True)).to(targets)
        return best / best.sum(-1, keepdim=True)

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
