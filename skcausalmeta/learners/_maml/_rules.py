"""The update rules of the literature."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor

from ._kfo import KFOUpdate
from ._update_rule import Named, SGDUpdate, UpdateRule, flat_name, learned_copies
from ._warps import TNetUpdate, WarpGradUpdate


class MetaSGDUpdate(UpdateRule):
    """Meta-SGD: a learned rate for every entry of every tensor.

    References
    ----------
    .. [1] Z. Li, F. Zhou, F. Chen, H. Li (2017). Meta-SGD: learning to learn quickly
       for few-shot learning. arXiv 1707.09835.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.learners import MetaSGDUpdate
    >>> rule = MetaSGDUpdate()
    >>> rule.build({"w": torch.zeros(2)}, n_steps=1, lr=0.5)
    >>> rule.direction({"w": torch.tensor([2.0, -3.0])}, {}, 0)["w"].tolist()
    [1.0, -1.5]
    """

    def build(self, named: Named, n_steps: int, lr: float) -> None:
        """Create the rates, all `lr` at first."""
        self.rates = learned_copies(
            {n: torch.full_like(t, lr) for n, t in named.items()}
        )

    def direction(self, gradients: Named, fast: Named, step: int) -> Named:
        """Return rates times gradients, entry by entry."""
        return {name: self.rates[flat_name(name)] * g for name, g in gradients.items()}


class MetaCurvatureUpdate(UpdateRule):
    """Meta-Curvature: a learned matrix for every axis of every tensor.

    A gradient of shape (out, in, height, width) is seen as (out, in, height * width)
    and multiplied along every axis by a square matrix that starts as the identity.

    References
    ----------
    .. [1] E. Park, J. Oliva (2019). Meta-Curvature. NeurIPS.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.learners import MetaCurvatureUpdate
    >>> rule = MetaCurvatureUpdate()
    >>> rule.build({"w": torch.zeros(2)}, n_steps=1, lr=0.5)
    >>> rule.direction({"w": torch.tensor([2.0, -3.0])}, {}, 0)["w"].tolist()
    [1.0, -1.5]
    """

    def build(self, named: Named, n_steps: int, lr: float) -> None:
        """Create the matrices, identities at first."""
        self.lr = lr
        self.matrices = learned_copies(
            {
                f"{name}/{axis}": torch.eye(size).to(tensor)
                for name, tensor in named.items()
                for axis, size in enumerate(_modes(tensor).shape)
            }
        )

    def direction(self, gradients: Named, fast: Named, step: int) -> Named:
        """Return the gradients multiplied along all axes, times the rate."""
        return {name: self.lr * self._turn(name, g) for name, g in gradients.items()}

    def _turn(self, name: str, gradient: Tensor) -> Tensor:
        turned = _modes(gradient)
        for axis in range(turned.ndim):
            matrix = self.matrices[flat_name(f"{name}/{axis}")]
            turned = torch.movedim(
                torch.tensordot(matrix, turned, ([1], [axis])), 0, axis
            )
        return turned.reshape(gradient.shape)


UPDATES = {
    "sgd": SGDUpdate,
    "meta-sgd": MetaSGDUpdate,
    "meta-curvature": MetaCurvatureUpdate,
    "kfo": KFOUpdate,
    "t-net": TNetUpdate,
    "warp-grad": WarpGradUpdate,
}


def build_rule(update: str | UpdateRule) -> UpdateRule:
    """Return a new update rule of that name, or a copy of a given one."""
    if isinstance(update, UpdateRule):
        return copy.deepcopy(update)
    rule: UpdateRule = UPDATES[update]()
    return rule


def _modes(tensor: Tensor) -> Tensor:
    """Reshape a kernel to (out, in, height * width); others stay as they are."""
    if tensor.ndim <= 2:
        return tensor.reshape(-1) if tensor.ndim < 2 else tensor
    return tensor.reshape(*tensor.shape[:2], math.prod(tensor.shape[2:]))
