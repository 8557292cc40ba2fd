"""Update rules that come from layers which a task leaves as they are."""

from __future__ import annotations

import torch
from torch import Tensor

from ._update_rule import Named, UpdateRule, flat_name, learned_copies


class TNetUpdate(UpdateRule):
    """T-nets: a learned linear transform after every adapted layer.

    A T-net layer computes ``T (W x + b)`` and adapts W and b, with T learned across
    tasks. In the weights ``V = T W``, ``c = T b`` that the network sees, a gradient
    step on W and b is ::

        V <- V - lr T T' grad_V,        c <- c - lr T T' grad_c

    which is the rule here, T the identity at first. The tensors of a layer, whose names
    agree up to the last dot, share T where they have as many outputs; of convolutions
    it mixes the output channels. The masks of MT-nets are not part of it.

    References
    ----------
    .. [1] Y. Lee, S. Choi (2018). Gradient-based meta-learning with learned layerwise
       metric and subspace. ICML.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.learners import TNetUpdate
    >>> rule = TNetUpdate()
    >>> rule.build({"w": torch.zeros(2)}, n_steps=1, lr=0.5)
    >>> rule.direction({"w": torch.tensor([2.0, -3.0])}, {}, 0)["w"].tolist()
    [1.0, -1.5]
    """

    def build(self, named: Named, n_steps: int, lr: float) -> None:
        """Create the transforms, identities at first."""
        self.lr = lr
        self.warps = learned_copies(_identities(named, 0))

    def direction(self, gradients: Named, fast: Named, step: int) -> Named:
        """Return ``lr * T T' G`` for every gradient."""
        moves = {}
        for name, gradient in gradients.items():
            warp = self.warps[flat_name(_key(name, gradient, 0))]
            moves[name] = self.lr * _along(warp @ warp.mT, gradient, 0)
        return moves


class WarpGradUpdate(UpdateRule):
    """WarpGrad with linear warp layers before and after every adapted layer.

    A layer between warps computes ``T W S x``; a gradient step on W is, in the weights
    ``V = T W S`` that the network sees ::

        V <- V - lr T T' grad_V S'S

    with T and S the identity at first. S acts on the input channels of convolutions;
    what has one axis, such as a bias, has T alone. Without S it is `TNetUpdate`. Warp
    layers with nonlinearities are no function of a gradient: they belong to the
    network, as layers that are not adapted. T and S are trained by the loss after the
    steps, as all rules are; the loss along the path that the paper prefers is not
    taken.

    References
    ----------
    .. [1] S. Flennerhag, A. Rusu, R. Pascanu, F. Visin, H. Yin, R. Hadsell (2020).
       Meta-learning with warped gradient descent. ICLR.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.learners import WarpGradUpdate
    >>> rule = WarpGradUpdate()
    >>> rule.build({"w": torch.zeros(1, 2)}, n_steps=1, lr=0.5)
    >>> rule.direction({"w": torch.tensor([[2.0, -3.0]])}, {}, 0)["w"].tolist()
    [[1.0, -1.5]]
    """

    def build(self, named: Named, n_steps: int, lr: float) -> None:
        """Create the transforms, identities at first."""
        self.lr = lr
        wide = {name: one for name, one in named.items() if one.ndim > 1}
        self.warps = learned_copies(_identities(named, 0) | _identities(wide, 1))

    def direction(self, gradients: Named, fast: Named, step: int) -> Named:
        """Return ``lr * T T' G S'S`` for every gradient."""
        moves = {}
        for name, gradient in gradients.items():
            after = self.warps[flat_name(_key(name, gradient, 0))]
            moved = _along(after @ after.mT, gradient, 0)
            if gradient.ndim > 1:
                before = self.warps[flat_name(_key(name, gradient, 1))]
                moved = _along(before.mT @ before, moved, 1)
            moves[name] = self.lr * moved
        return moves


def _key(name: str, tensor: Tensor, axis: int) -> str:
    """Name the transform of an axis: that of the outputs belongs to the layer."""
    layer = name.rpartition(".")[0]
    owner = name if axis or not layer else layer
    return f"{owner}/{axis}/{_size(tensor, axis)}"


def _size(tensor: Tensor, axis: int) -> int:
    return tensor.shape[axis] if tensor.ndim else 1


def _identities(named: Named, axis: int) -> Named:
    return {
        _key(name, tensor, axis): torch.eye(_size(tensor, axis)).to(tensor)
        for name, tensor in named.items()
    }


def _along(matrix: Tensor, tensor: Tensor, axis: int) -> Tensor:
    """Multiply one axis of a tensor by a symmetric matrix."""
    if not tensor.ndim:
        return matrix[0, 0] * tensor
    return torch.movedim(torch.tensordot(matrix, tensor, ([1], [axis])), 0, axis)
