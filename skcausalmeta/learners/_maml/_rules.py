"""The update rules of the literature."""

from __future__ import annotations

import copy
import math
from numbers import Integral

import torch
from torch import Tensor, nn

from ...exceptions import InvalidInputError
from ._update_rule import Named, UpdateRule


class SGDUpdate(UpdateRule):
    """Plain gradient steps, with a fixed or a learned rate.

    Parameters
    ----------
    learn_lr : bool, default=False
        Learn one rate per step and tensor [1]_.

    References
    ----------
    .. [1] A. Antoniou, H. Edwards, A. Storkey (2019). How to train your MAML. ICLR.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.learners import SGDUpdate
    >>> rule = SGDUpdate()
    >>> rule.build({"w": torch.zeros(2)}, n_steps=1, lr=0.5)
    >>> rule.direction({"w": torch.tensor([2.0, -3.0])}, {}, 0)
    {'w': tensor([ 1.0000, -1.5000])}
    """

    def __init__(self, learn_lr: bool = False) -> None:
        super().__init__()
        self.learn_lr = learn_lr

    def build(self, named: Named, n_steps: int, lr: float) -> None:
        """Create the rates, (n_steps, n_tensors) if learned."""
        self.lr = lr
        self.columns = {name: k for k, name in enumerate(named)}
        if self.learn_lr:
            rates = torch.full((n_steps, len(named)), float(lr))
            self.rates = nn.Parameter(rates)

    def direction(self, gradients: Named, fast: Named, step: int) -> Named:
        """Rate times gradient; later steps than trained take the last rate."""
        if not self.learn_lr:
            return {name: self.lr * g for name, g in gradients.items()}
        rates = self.rates[min(step, len(self.rates) - 1)]
        return {name: rates[self.columns[name]] * g for name, g in gradients.items()}


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
        self.rates = _parameters({n: torch.full_like(t, lr) for n, t in named.items()})

    def direction(self, gradients: Named, fast: Named, step: int) -> Named:
        """Rates times gradients, entry by entry."""
        return {name: self.rates[_key(name)] * g for name, g in gradients.items()}


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
        self.matrices = _parameters(
            {
                f"{name}/{axis}": torch.eye(size).to(tensor)
                for name, tensor in named.items()
                for axis, size in enumerate(_modes(tensor).shape)
            }
        )

    def direction(self, gradients: Named, fast: Named, step: int) -> Named:
        """Gradients multiplied along all axes, times the rate."""
        return {name: self.lr * self._turn(name, g) for name, g in gradients.items()}

    def _turn(self, name: str, gradient: Tensor) -> Tensor:
        turned = _modes(gradient)
        for axis in range(turned.ndim):
            matrix = self.matrices[_key(f"{name}/{axis}")]
            turned = torch.movedim(
                torch.tensordot(matrix, turned, ([1], [axis])), 0, axis
            )
        return turned.reshape(gradient.shape)


class KFOUpdate(UpdateRule):
    """Kronecker-factored meta-optimiser.

    For a gradient reshaped to a matrix G (n, m), the first axis against the rest ::

        U(G) = L G R            L (n, n), R (m, m), identities at first
        L = A'A, R = B'B        with psd=True
        U(G) = K_h(tanh(... tanh(K_0(G))))     with n_hidden = h tanh layers

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

    Raises
    ------
    InvalidInputError
        If `n_hidden` is not an int >= 0.

    References
    ----------
    .. [1] S. Arnold, S. Iqbal, F. Sha (2021). When MAML can adapt fast and how to
       assist when it cannot. AISTATS, section 4.

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
    ) -> None:
        super().__init__()
        if not isinstance(n_hidden, Integral) or n_hidden < 0:
            raise InvalidInputError(
                "The 'n_hidden' parameter of KFOUpdate must be an int >= 0. Got "
                f"{n_hidden!r}."
            )
        self.n_hidden: int = int(n_hidden)
        self.psd: bool = psd
        self.bias: bool = bias
        self.adapt_transform: bool = adapt_transform

    def build(self, named: Named, n_steps: int, lr: float) -> None:
        """Create the factors of every layer."""
        self.lr = lr
        factors = {}
        for name, tensor in named.items():
            matrix = _matrix(tensor)
            n, m = matrix.shape
            for layer in range(self.n_hidden + 1):
                factors[f"{name}/left{layer}"] = torch.eye(n).to(tensor)
                factors[f"{name}/right{layer}"] = torch.eye(m).to(tensor)
                if self.bias:
                    factors[f"{name}/bias{layer}"] = torch.zeros_like(matrix)
        self.factors = _parameters(factors)

    def start(self) -> Named:
        """The factors, where they are adapted within a task."""
        return dict(self.factors.items()) if self.adapt_transform else {}

    def direction(self, gradients: Named, fast: Named, step: int) -> Named:
        """``lr * U(G)`` for every gradient."""
        factors = fast or self.factors
        return {
            name: self.lr * self._transform(name, g, factors)
            for name, g in gradients.items()
        }

    def _transform(
        self, name: str, gradient: Tensor, factors: Named | nn.ParameterDict
    ) -> Tensor:
        value = _matrix(gradient)
        for layer in range(self.n_hidden + 1):
            if layer:
                value = value.tanh()
            left = factors[_key(f"{name}/left{layer}")]
            right = factors[_key(f"{name}/right{layer}")]
            if self.psd:
                left, right = left.mT @ left, right.mT @ right
            value = left @ value @ right
            if self.bias:
                value = value + factors[_key(f"{name}/bias{layer}")]
        return value.reshape(gradient.shape)


UPDATES = {
    "sgd": SGDUpdate,
    "meta-sgd": MetaSGDUpdate,
    "meta-curvature": MetaCurvatureUpdate,
    "kfo": KFOUpdate,
}


def build_rule(update: str | UpdateRule) -> UpdateRule:
    """A fresh update rule from its name, or a copy of a given one."""
    if isinstance(update, UpdateRule):
        return copy.deepcopy(update)
    rule: UpdateRule = UPDATES[update]()
    return rule


def _parameters(tensors: Named) -> nn.ParameterDict:
    """Learned copies; the names of a ParameterDict hold no dots."""
    return nn.ParameterDict(
        {_key(name): nn.Parameter(t.detach().clone()) for name, t in tensors.items()}
    )


def _key(name: str) -> str:
    return name.replace(".", "/")


def _matrix(tensor: Tensor) -> Tensor:
    """First axis against the rest; a vector is a column."""
    return tensor.reshape(tensor.shape[0], -1) if tensor.ndim else tensor.reshape(1, 1)


def _modes(tensor: Tensor) -> Tensor:
    """(out, in, height * width) of a kernel; other tensors as they are."""
    if tensor.ndim <= 2:
        return tensor.reshape(-1) if tensor.ndim < 2 else tensor
    return tensor.reshape(*tensor.shape[:2], math.prod(tensor.shape[2:]))
