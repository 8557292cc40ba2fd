"""Kronecker-factored meta-optimisers."""

from __future__ import annotations

from numbers import Integral

import torch
from torch import Tensor, nn

from ...exceptions import InvalidInputError
from ._update_rule import Named, UpdateRule, flat_name, learned_copies

_KERNELS = ("channels", "flat")


class KFOUpdate(UpdateRule):
    """Kronecker-factored meta-optimiser.

    For a gradient that is seen as a matrix G (n, m), or as several with the same
    factors ::

        U(G) = L G R            L (n, n), R (m, m), identities at first
        L = A'A, R = B'B        with psd=True
        U(G) = K_h(tanh(... tanh(K_0(G))))     with n_hidden = h tanh layers

    The authors' runs have ``psd=True``, and with all parameters adapted
    ``adapt_transform=True`` as well [2]_.

    Parameters
    ----------
    n_hidden : int, default=0
        Number of tanh layers between Kronecker layers; 2 in the paper's network.
        0: linear, and plain gradient steps at first.
    psd : bool, default=False
        Keep the factors positive semi-definite, so that U(G) is a descent
        direction.
    bias : bool, default=False
        Add a learned matrix to every layer, 0 at first.
    adapt_transform : bool, default=False
        From the second inner step on, the factors take a gradient step on the
        support loss themselves, at the same rate.
    kernels : {"channels", "flat"}, default="channels"
        How a convolution kernel (out, in, height, width) is seen. "channels": as `out`
        matrices (in, height * width), as the authors have it [2]_; outputs are not
        mixed, and the factors are small. "flat": as one matrix
        (out, in * height * width).

    Raises
    ------
    InvalidInputError
        If `n_hidden` is not an int >= 0, or there are no such `kernels`.

    References
    ----------
    .. [1] S. Arnold, S. Iqbal, F. Sha (2021). When MAML can adapt fast and how to
       assist when it cannot. AISTATS, section 4.
    .. [2] S. Arnold, P. Mahajan, D. Datta, I. Bunner, K. Zarkias (2020). learn2learn: a
       library for meta-learning research. arXiv 2008.12284; its Kronecker transform and
       the examples of [1]_.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.learners import KFOUpdate
    >>> rule = KFOUpdate()
    >>> rule.build({"w": torch.zeros(2, 3)}, n_steps=1, lr=0.5)
    >>> rule.direction({"w": torch.ones(2, 3)}, rule.start(), 0)["w"].tolist()
    [[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]]
    """

    def __init__(
        self,
        n_hidden: int = 0,
        *,
        psd: bool = False,
        bias: bool = False,
        adapt_transform: bool = False,
        kernels: str = "channels",
    ) -> None:
        super().__init__()
        if not isinstance(n_hidden, Integral) or n_hidden < 0:
            raise InvalidInputError(
                "The 'n_hidden' parameter of KFOUpdate must be an int >= 0. Got "
                f"{n_hidden!r}."
            )
        if kernels not in _KERNELS:
            raise InvalidInputError(
                f"The 'kernels' parameter of KFOUpdate must be one of {_KERNELS}. Got "
                f"{kernels!r}."
            )
        self.n_hidden: int = int(n_hidden)
        self.psd: bool = psd
        self.bias: bool = bias
        self.adapt_transform: bool = adapt_transform
        self.kernels: str = kernels

    def build(self, named: Named, n_steps: int, lr: float) -> None:
        """Create the factors of every layer."""
        self.lr = lr
        factors = {}
        for name, tensor in named.items():
            matrix = self._seen(tensor)
            n, m = matrix.shape[-2:]
            for layer in range(self.n_hidden + 1):
                factors[f"{name}/left{layer}"] = torch.eye(n).to(tensor)
                factors[f"{name}/right{layer}"] = torch.eye(m).to(tensor)
                if self.bias:
                    factors[f"{name}/bias{layer}"] = torch.zeros_like(matrix)
        self.factors = learned_copies(factors)

    def start(self) -> Named:
        """Return the factors, where they are adapted within a task."""
        return dict(self.factors.items()) if self.adapt_transform else {}

    def direction(self, gradients: Named, fast: Named, step: int) -> Named:
        """Return ``lr * U(G)`` for every gradient."""
        factors = fast or self.factors
        return {
            name: self.lr * self._transform(name, g, factors)
            for name, g in gradients.items()
        }

    def _transform(
        self, name: str, gradient: Tensor, factors: Named | nn.ParameterDict
    ) -> Tensor:
        value = self._seen(gradient)
        for layer in range(self.n_hidden + 1):
            if layer:
                value = value.tanh()
            left = factors[flat_name(f"{name}/left{layer}")]
            right = factors[flat_name(f"{name}/right{layer}")]
            if self.psd:
                left, right = left.mT @ left, right.mT @ right
            value = left @ value @ right
            if self.bias:
                value = value + factors[flat_name(f"{name}/bias{layer}")]
        return value.reshape(gradient.shape)

    def _seen(self, tensor: Tensor) -> Tensor:
        """Reshape to a matrix, or to a batch of matrices with the same factors."""
        if tensor.ndim > 2 and self.kernels == "channels":
            return tensor.flatten(2)  # (out, in, height * width)
        return _matrix(tensor)


def _matrix(tensor: Tensor) -> Tensor:
    """Reshape to a matrix, first axis against the rest; a vector is a column."""
    return tensor.reshape(tensor.shape[0], -1) if tensor.ndim else tensor.reshape(1, 1)
