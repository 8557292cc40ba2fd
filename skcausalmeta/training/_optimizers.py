"""Optimisers with parameters that a search can name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from sklearn.base import BaseEstimator

from ..exceptions import InvalidInputError


class Adam(BaseEstimator):
    """Adam, `torch.optim.Adam`.

    Parameters
    ----------
    betas : tuple of float, default=(0.9, 0.999)
        Decay of the averages of the gradient and of its square.
    eps : float, default=1e-8
        Added to the root of the latter.
    weight_decay : float, default=0.0
        Weight of the squared norm of the parameters, halved.

    Examples
    --------
    >>> from skcausalmeta.training import Adam, optimizer_keywords
    >>> optimizer_keywords(Adam(weight_decay=0.1))["optimizer__weight_decay"]
    0.1
    """

    optimizer = torch.optim.Adam

    def __init__(
        self,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        self.betas = betas
        self.eps = eps
        self.weight_decay = weight_decay


class AdamW(BaseEstimator):
    """Adam with decoupled weight decay, `torch.optim.AdamW`.

    Parameters
    ----------
    betas : tuple of float, default=(0.9, 0.999)
        Decay of the averages of the gradient and of its square.
    eps : float, default=1e-8
        Added to the root of the latter.
    weight_decay : float, default=0.01
        Share of the parameters that a step takes off, times the learning rate.

    Examples
    --------
    >>> from skcausalmeta.training import AdamW
    >>> AdamW(weight_decay=0.1)
    AdamW(weight_decay=0.1)
    """

    optimizer = torch.optim.AdamW

    def __init__(
        self,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        self.betas = betas
        self.eps = eps
        self.weight_decay = weight_decay


class SGD(BaseEstimator):
    """Stochastic gradient descent, `torch.optim.SGD`.

    Parameters
    ----------
    momentum : float, default=0.0
        Decay of the sum of past gradients.
    nesterov : bool, default=False
        Nesterov's momentum.
    weight_decay : float, default=0.0
        Weight of the squared norm of the parameters, halved.

    Examples
    --------
    >>> from skcausalmeta.training import SGD
    >>> SGD(momentum=0.9)
    SGD(momentum=0.9)
    """

    optimizer = torch.optim.SGD

    def __init__(
        self,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        self.momentum = momentum
        self.nesterov = nesterov
        self.weight_decay = weight_decay


OPTIMIZERS: dict[str, Any] = {"adam": Adam, "adamw": AdamW, "sgd": SGD}

Optimizer = str | Adam | AdamW | SGD | type | Callable[..., Any]


def named_optimizer(name: str) -> Adam | AdamW | SGD:
    """Return the optimiser that a name stands for, with its default parameters.

    Parameters
    ----------
    name : {"adam", "adamw", "sgd"}
        Its name.

    Returns
    -------
    Adam, AdamW or SGD

    Raises
    ------
    InvalidInputError
        If there is no such name.

    Examples
    --------
    >>> from skcausalmeta.training import named_optimizer
    >>> named_optimizer("sgd")
    SGD()
    """
    if name not in OPTIMIZERS:
        raise InvalidInputError(
            f"The name of an optimizer must be one of {list(OPTIMIZERS)}. Got {name!r}."
        )
    found: Adam | AdamW | SGD = OPTIMIZERS[name]()
    return found


def optimizer_keywords(optimizer: Optimizer) -> dict[str, Any]:
    """Keywords of a skorch net for an optimiser.

    Parameters
    ----------
    optimizer : str, Adam, AdamW, SGD or callable
        The `optimizer` parameter of a learner; a class of `torch.optim` is passed on.

    Returns
    -------
    dict
        "optimizer" and, where it has parameters, "optimizer__name" for each.

    Examples
    --------
    >>> from skcausalmeta.training import optimizer_keywords
    >>> optimizer_keywords("sgd")["optimizer"].__name__
    'SGD'
    """
    if isinstance(optimizer, str):
        optimizer = named_optimizer(optimizer)
    if not isinstance(optimizer, Adam | AdamW | SGD):
        return {"optimizer": optimizer}
    params = optimizer.get_params(deep=False)
    keywords = {f"optimizer__{name}": value for name, value in params.items()}
    return {"optimizer": optimizer.optimizer, **keywords}
