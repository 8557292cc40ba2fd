"""Options of training as objects with parameters: validation, comfort, optimisers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from numbers import Integral, Real
from os import PathLike
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import (
    Interval,
    StrOptions,
    validate_parameter_constraints,
)
from torch import Tensor

from ..exceptions import InvalidInputError

_SHARE = Interval(Real, 0, 1, closed="neither")
_COUNT = Interval(Integral, 1, None, closed="left")


class Validation(BaseEstimator):
    """Validation: the share held out, its episodes, and when training stops.

    Parameters
    ----------
    held_out : float or array-like, default=0.2
        Share of the classes, of the tasks where they are given, or of the rows where
        a learner has neither; or the classes or task ids to hold out.
    n_episodes : int, default=100
        Number of validation episodes, the same after every epoch. A multi-task
        learner validates on the rows held out and draws none.
    patience : int, default=5
        Epochs without progress after which training stops. None trains all epochs.
        The weights of the best epoch are restored either way.

    Examples
    --------
    >>> from skcausalmeta.training import Validation
    >>> Validation(n_episodes=50)
    Validation(n_episodes=50)
    """

    def __init__(
        self,
        held_out: float | ArrayLike = 0.2,
        *,
        n_episodes: int = 100,
        patience: int | None = 5,
    ) -> None:
        self.held_out = held_out
        self.n_episodes = n_episodes
        self.patience = patience

    @classmethod
    def of(cls, given: Any) -> Validation | None:
        """Read the `validation` parameter of a learner.

        Parameters
        ----------
        given : None, float, array-like or Validation
            A share is `held_out` of a validation with the default patience; classes
            or task ids are those of one that trains all epochs.

        Returns
        -------
        Validation or None
            Checked; None where nothing is held out.

        Raises
        ------
        ValueError
            If a parameter of the validation is invalid.

        Examples
        --------
        >>> from skcausalmeta.training import Validation
        >>> Validation.of(0.5)
        Validation(held_out=0.5)
        >>> Validation.of(["a", "b"])
        Validation(held_out=['a', 'b'], patience=None)
        """
        if given is None:
            return None
        if not isinstance(given, Validation):
            share = isinstance(given, Real)
            given = cls(given) if share else cls(given, patience=None)
        validate_parameter_constraints(
            {
                "held_out": [_SHARE, "array-like"],
                "n_episodes": [_COUNT],
                "patience": [_COUNT, None],
            },
            given.get_params(deep=False),
            caller_name="Validation",
        )
        return given

    @property
    def share(self) -> float | None:
        """Share to hold out; None where classes or tasks are named."""
        return float(self.held_out) if isinstance(self.held_out, Real) else None

    @property
    def named(self) -> Any:
        """Classes or tasks to hold out; None where a share is."""
        return None if isinstance(self.held_out, Real) else np.asarray(self.held_out)


@dataclass(frozen=True)
class TrainingSettings:
    """The settings of `Training` in force, and the keywords of the net.

    Parameters
    ----------
    precision : str
        As of `Training`.
    compile : bool or dict
        As of `Training`.
    checkpoint_path : str, path-like or None
        As of `Training`.
    warm_start : bool
        As of `Training`.
    keywords : dict
        All other keywords that the net is made with.

    Examples
    --------
    >>> from skcausalmeta.training import Training
    >>> settings = Training.of({"precision": "bfloat16", "head_tol": 1e-4})
    >>> settings.precision, settings.keywords
    ('bfloat16', {'head_tol': 0.0001})
    """

    precision: str
    compile: bool | dict[str, Any]
    checkpoint_path: str | PathLike[str] | None
    warm_start: bool
    keywords: dict[str, Any]


class Training(BaseEstimator):
    """How training runs: precision, compilation, checkpoints, keywords of the net.

    Parameters
    ----------
    precision : {"float32", "bfloat16", "float16"}, default="float32"
        Number type of the operations of the backbone, where `torch.autocast` finds
        it safe. Its weights and features stay in float32, heads and losses as they
        are. "float16" needs a GPU and no hook, and scales the losses of training
        (`torch.amp.GradScaler`).
    compile : bool or dict, default=False
        Compile the backbone by `torch.compile`, with dynamic shapes, or with the
        given keywords such as ``{"mode": "reduce-overhead"}``. Saved learners hold
        the plain backbone, and compile it when they are used.
    checkpoint_path : str or path-like, default=None
        File in which training is saved after every epoch. If it is there, `fit` with
        the same parameters and data continues from it and ends in the same weights,
        to the last bit. None: training is not saved.
    warm_start : bool, default=False
        Begin `fit` with the weights of the fit before, if there was one.
    keywords : dict, default=None
        More keywords of the net: those of `skorch.NeuralNet`, and those of the net of
        the learner, such as ``{"head_tol": 1e-4}``.

    Examples
    --------
    >>> from skcausalmeta.training import Training
    >>> Training(precision="bfloat16")
    Training(precision='bfloat16')
    """

    def __init__(
        self,
        *,
        precision: str = "float32",
        compile: bool | dict[str, Any] = False,
        checkpoint_path: str | PathLike[str] | None = None,
        warm_start: bool = False,
        keywords: dict[str, Any] | None = None,
    ) -> None:
        self.precision = precision
        self.compile = compile
        self.checkpoint_path = checkpoint_path
        self.warm_start = warm_start
        self.keywords = keywords

    @classmethod
    def of(cls, net_params: dict[str, Any] | Training | None) -> TrainingSettings:
        """Read the `net_params` parameter of a learner.

        Parameters
        ----------
        net_params : dict, Training or None
            A dictionary holds parameters of `Training` and keywords of the net.

        Returns
        -------
        TrainingSettings
            Checked; `keywords` is a new dictionary.

        Raises
        ------
        ValueError
            If a parameter is invalid.

        Examples
        --------
        >>> from skcausalmeta.training import Training
        >>> settings = Training.of({"warm_start": True, "head_tol": 1e-4})
        >>> settings.warm_start, settings.keywords
        (True, {'head_tol': 0.0001})
        """
        given = net_params if isinstance(net_params, Training) else cls()
        params = given.get_params(deep=False)
        keywords = params.pop("keywords") or {}
        if isinstance(net_params, dict):
            own = params.keys() & net_params.keys()
            params |= {name: net_params[name] for name in own}
            keywords = {k: v for k, v in net_params.items() if k not in own}
        elif net_params is not None and given is not net_params:
            raise InvalidInputError(
                "The 'net_params' parameter must be a dictionary, a Training or None. "
                f"Got {net_params!r}; pass one of these."
            )
        _check_given(keywords, params)
        validate_parameter_constraints(
            {
                "precision": [StrOptions({"float32", "bfloat16", "float16"})],
                "compile": ["boolean", dict],
                "checkpoint_path": [str, PathLike, None],
                "warm_start": ["boolean"],
            },
            params,
            caller_name="Training",
        )
        return TrainingSettings(**params, keywords=dict(keywords))

    @classmethod
    def named(cls, net_params: dict[str, Any] | None) -> Training:
        """Return the object that a dictionary, or None, stands for.

        Parameters
        ----------
        net_params : dict or None
            As in `of`.

        Returns
        -------
        Training

        Examples
        --------
        >>> from skcausalmeta.training import Training
        >>> Training.named({"warm_start": True, "head_tol": 1e-4})
        Training(keywords={'head_tol': 0.0001}, warm_start=True)
        """
        return cls(**vars(cls.of(net_params)))


def _check_given(keywords: Any, own: dict[str, Any]) -> None:
    """Refuse keywords that are none, or that `Training` has as parameters."""
    if not isinstance(keywords, dict) or keywords.keys() & own.keys():
        raise InvalidInputError(
            "The 'keywords' parameter of Training must be a dictionary without its own "
            f"parameters, {sorted(own)}. Got {keywords!r}; give those to Training."
        )


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
    if not isinstance(name, str) or name not in OPTIMIZERS:
        raise InvalidInputError(
            f"The name of an optimizer must be one of {list(OPTIMIZERS)}. Got "
            f"{name!r}; pass one of them, or an object such as Adam(eps=1e-7)."
        )
    found: Adam | AdamW | SGD = OPTIMIZERS[name]()
    return found


def optimizer_keywords(optimizer: Optimizer) -> dict[str, Any]:
    """Return the keywords of a skorch net for an optimiser.

    Parameters
    ----------
    optimizer : str, Adam, AdamW, SGD or callable
        The `optimizer` parameter of a learner; a class of `torch.optim` is passed on.

    Returns
    -------
    dict
        "optimizer" and, where it has parameters, "optimizer__name" for each.

    Raises
    ------
    InvalidInputError
        If it is none of these.

    Examples
    --------
    >>> from skcausalmeta.training import optimizer_keywords
    >>> optimizer_keywords("sgd")["optimizer"].__name__
    'SGD'
    """
    if isinstance(optimizer, str):
        optimizer = named_optimizer(optimizer)
    if not isinstance(optimizer, Adam | AdamW | SGD):
        if not callable(optimizer):
            raise InvalidInputError(
                f"An optimizer must be one of {list(OPTIMIZERS)}, an object such as "
                "Adam(weight_decay=1e-4), or a class of torch.optim. Got "
                f"{optimizer!r}; pass one of these."
            )
        return {"optimizer": optimizer}
    params = optimizer.get_params(deep=False)
    keywords = {f"optimizer__{name}": value for name, value in params.items()}
    return {"optimizer": optimizer.optimizer, **keywords}


def fused_on_cpu(parameters: Iterable[Tensor]) -> dict[str, Any]:
    """Return the keyword by which Adam moves all parameters in one call, on the CPU.

    A step of Adam on a small net is a dozen calls a parameter, each of which takes
    longer than its arithmetic. Elsewhere torch knows what is fastest.

    Parameters
    ----------
    parameters : iterable of Tensor
        All that the optimiser moves.

    Returns
    -------
    dict
        ``{"fused": True}``; empty where one is elsewhere, or not of real numbers.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.training._options import fused_on_cpu
    >>> fused_on_cpu([torch.zeros(2)])
    {'fused': True}
    >>> fused_on_cpu([torch.zeros(2, dtype=torch.complex64)])
    {}
    """
    fits = all(p.device.type == "cpu" and p.is_floating_point() for p in parameters)
    return {"fused": True} if fits else {}
