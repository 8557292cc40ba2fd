"""Build a backbone from a name, a class, a factory or a ready module."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any

import torch
from torch import nn

from ..exceptions import InvalidInputError
from ._checks import positive_ints
from ._contract import Backbone
from ._conv4 import Conv4
from ._mlp import MLP
from ._prepared_backbone import PreparedBackbone
from ._resnet12 import ResNet12

_SMALLEST_CONV4_SIDE = 8


def build_backbone(
    backbone: str | Backbone | nn.Module | Callable[..., nn.Module],
    input_shape: Iterable[int],
) -> nn.Module:
    """Build a module that maps samples to feature vectors.

    Parameters
    ----------
    backbone : {"auto", "mlp", "conv4", "resnet12", "identity"}, Backbone, module or \
callable
        - "auto": `MLP` for vectors, `Conv4` for images (c, h, w) with both sides at
          least 8 pixels, `MLP` on the flattened sample for everything else;
        - "identity": the samples are features already; they are flattened only;
        - a `Backbone`: built for the shape;
        - a class or another callable: called with `input_shape` if its signature has
          a parameter of that name; it must return a module;
        - a torch.nn.Module: deep-copied with its weights, so the given one is never
          trained.

    input_shape : tuple of int
        Shape of one sample: (p,) for vectors, (c, h, w) for images.

    Returns
    -------
    module : torch.nn.Module
        Called with ``(n, *input_shape)`` it gives features (n, d).

    Raises
    ------
    InvalidInputError
        If the name or a parameter is unknown, a parameter is missing, the samples are
        not images where the backbone needs images, or no module results.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.backbones import Conv4, build_backbone
    >>> module = build_backbone(Conv4(n_filters=32), (1, 28, 28))
    >>> module(torch.zeros(5, 1, 28, 28)).shape
    torch.Size([5, 32])
    """
    shape = positive_ints("build_backbone", "input_shape", tuple(input_shape))
    if not shape:
        raise InvalidInputError(
            "The 'input_shape' parameter of build_backbone must name at least one axis,"
            " such as (10,). Got () instead."
        )
    if backbone == "auto":
        backbone = _auto(shape)
    elif isinstance(backbone, str):
        backbone = named_backbone(backbone)
    if isinstance(backbone, Backbone):
        module = backbone.build(shape)
        if type(backbone) in (MLP, Conv4, ResNet12):
            return module  # gives features (n, d) by itself; a subclass may not
    elif isinstance(backbone, nn.Module):
        module = copy.deepcopy(backbone)
    elif callable(backbone):
        module = _call_factory(backbone, shape)
    else:
        raise InvalidInputError(
            f"The backbone must be one of {list(_NAMES)}, a Backbone, a "
            "torch.nn.Module, or a callable that returns one. Got "
            f"{backbone!r} instead."
        )
    return _FlatFeatures(module)


def named_backbone(name: str) -> Backbone:
    """Return the backbone that a name stands for, with its default parameters.

    Parameters
    ----------
    name : {"mlp", "conv4", "resnet12", "identity"}
        Its name.

    Returns
    -------
    Backbone

    Raises
    ------
    InvalidInputError
        If there is no such name, or it is "auto", which waits for the data.

    Examples
    --------
    >>> from skcausalmeta.backbones import named_backbone
    >>> named_backbone("conv4")
    Conv4()
    """
    if name == "auto":
        raise InvalidInputError(
            "The parameters of a backbone need one that is named. Got "
            "backbone='auto', which waits for the data; set backbone='mlp' or 'conv4' "
            "as well."
        )
    if not isinstance(name, str):
        raise InvalidInputError(
            "The parameters of a backbone need one that is named, or a Backbone. Got "
            f"{type(name).__name__}, which has none of its own; pass one such as "
            "backbone=Conv4(n_filters=32)."
        )
    if name not in _NAMED:
        raise InvalidInputError(
            f"The name of a backbone must be one of {list(_NAMES)}. Got {name!r} "
            f"instead.{_suggest(name, _NAMES)}"
        )
    return _NAMED[name]()


def n_features_out(module: nn.Module, input_shape: Iterable[int]) -> int:
    """Count the features of a backbone by passing two rows of zeros through it.

    Parameters
    ----------
    module : torch.nn.Module
        Gives (n, d) for ``(n, *input_shape)``. It runs in eval mode without gradients;
        the training flag of every layer is restored.
    input_shape : tuple of int
        Shape of one sample.

    Returns
    -------
    n_features : int

    Raises
    ------
    InvalidInputError
        If the module fails on rows of that shape.

    Examples
    --------
    >>> from skcausalmeta.backbones import build_backbone, n_features_out
    >>> n_features_out(build_backbone("conv4", (3, 84, 84)), (3, 84, 84))
    1600
    """
    shape = tuple(input_shape)
    if isinstance(module, PreparedBackbone):
        module = module.backbone  # counting takes neither half numbers nor a compiler
    # One flag per layer: `module.train()` would also wake layers frozen in eval mode.
    flags = [(layer, layer.training) for layer in module.modules()]
    try:
        with torch.no_grad():
            return run_on_zeros(module.eval(), shape).shape[1]
    except InvalidInputError:
        raise
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise InvalidInputError(
            f"The backbone must accept rows of shape {shape}. It failed with: {error}. "
            "Set input_shape to the shape the backbone expects, or change the backbone."
        ) from error
    finally:
        for layer, training in flags:
            layer.training = training


def run_on_zeros(module: nn.Module, shape: tuple[int, ...]) -> torch.Tensor:
    """Return the features of two rows of zeros: numbers, or integers if it must be.

    Parameters
    ----------
    module : torch.nn.Module
        As it is: in training or evaluation, with or without gradients.
    shape : tuple of int
        Shape of one sample.

    Returns
    -------
    Tensor of shape (2, n_features)

    Examples
    --------
    >>> from torch import nn
    >>> from skcausalmeta.backbones import run_on_zeros
    >>> run_on_zeros(nn.Embedding(10, 2), (4,)).shape
    torch.Size([2, 4, 2])
    """
    try:
        found: torch.Tensor = module(zero_rows(module, shape))
    except (RuntimeError, TypeError) as error:
        try:
            found = module(zero_rows(module, shape, whole=True))
        except Exception:
            raise error from None  # what the module says to numbers tells more
    return found


def zero_rows(
    module: nn.Module, shape: tuple[int, ...], n_rows: int = 2, *, whole: bool = False
) -> torch.Tensor:
    """Return rows of zeros to try a module with.

    Parameters
    ----------
    module : torch.nn.Module
        Says the device, and the type of numbers, by its parameters.
    shape : tuple of int
        Shape of one sample.
    n_rows : int, default=2
        Number of rows.
    whole : bool, default=False
        Whole numbers, int64, for a module that looks rows up in a table.

    Returns
    -------
    Tensor of shape ``(n_rows, *shape)``

    Examples
    --------
    >>> from torch import nn
    >>> from skcausalmeta.backbones import zero_rows
    >>> zero_rows(nn.Embedding(10, 2), (4,), whole=True).dtype
    torch.int64
    """
    example = next((p for p in module.parameters() if p.is_floating_point()), None)
    device = None if example is None else example.device
    dtype = None if example is None else example.dtype
    dtype = torch.int64 if whole else dtype
    return torch.zeros(n_rows, *shape, dtype=dtype, device=device)


def is_frozen(module: nn.Module) -> bool:
    """Tell whether a module has parameters, none of which is trained.

    Parameters
    ----------
    module : torch.nn.Module
        A backbone.

    Returns
    -------
    bool

    Examples
    --------
    >>> from torch import nn
    >>> from skcausalmeta.backbones import is_frozen
    >>> is_frozen(nn.Linear(2, 2)), is_frozen(nn.Linear(2, 2).requires_grad_(False))
    (False, True)
    """
    flags = [parameter.requires_grad for parameter in module.parameters()]
    return bool(flags) and not any(flags)


class _FlatFeatures(nn.Module):
    """Run a backbone and flatten what it gives to (n, d)."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        if not isinstance(self.backbone, nn.Identity):
            rows = rows.clone()  # a module may work in place; the rows are others'
        features = self.backbone(rows)
        is_tensor = isinstance(features, torch.Tensor)
        if not is_tensor or features.shape[:1] != rows.shape[:1]:
            got = tuple(features.shape) if is_tensor else type(features).__name__
            raise InvalidInputError(
                "A backbone must return one tensor with one row per sample. Got "
                f"{got} for {rows.shape[0]} samples; return the features only."
            )
        return features.unsqueeze(1) if features.ndim == 1 else features.flatten(1)


def entry_of(module: nn.Module) -> nn.Module:
    """Return the part of a backbone that the rows reach first, as they are.

    Parameters
    ----------
    module : torch.nn.Module
        A backbone, prepared or not.

    Returns
    -------
    torch.nn.Module
        What lies inside the wrappers of the package, and first in a
        `torch.nn.Sequential`.

    Examples
    --------
    >>> from torch import nn
    >>> from skcausalmeta.backbones import build_backbone, entry_of
    >>> entry_of(build_backbone(nn.Sequential(nn.Linear(2, 3), nn.ReLU()), (2,)))
    Linear(in_features=2, out_features=3, bias=True)
    """
    while True:
        if isinstance(module, PreparedBackbone | _FlatFeatures):
            module = module.backbone
        elif type(module) is nn.Sequential and len(module):
            module = module[0]
        else:
            return module


class Identity(Backbone):
    """No backbone: the samples are features already, and are flattened only.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.backbones import Identity
    >>> Identity().build((3,))(torch.ones(1, 3)).tolist()
    [[1.0, 1.0, 1.0]]
    """

    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        """Build the module that gives back what it gets."""
        return nn.Identity()


_NAMED: dict[str, type[Backbone]] = {
    "mlp": MLP,
    "conv4": Conv4,
    "resnet12": ResNet12,
    "identity": Identity,
}
_NAMES = ("auto", *_NAMED)


def _auto(shape: tuple[int, ...]) -> Backbone:
    is_image = len(shape) == 3 and min(shape[1:]) >= _SMALLEST_CONV4_SIDE
    return Conv4() if is_image else MLP()


def _call_factory(factory: Callable[..., Any], shape: tuple[int, ...]) -> nn.Module:
    inner = factory
    while isinstance(inner, functools.partial):
        inner = inner.func
    owner = getattr(inner, "__name__", type(inner).__name__)
    arguments = {}
    try:
        signature = inspect.signature(factory)
    except ValueError:  # some callables written in C have no signature
        signature = None
    if signature is not None:
        if "input_shape" in signature.parameters:
            arguments["input_shape"] = shape
        try:
            signature.bind(**arguments)
        except TypeError as error:
            raise InvalidInputError(
                f"The backbone {owner} must be callable with nothing but input_shape. "
                f"It has other parameters: {error}. Give them by functools.partial, or "
                "wrap the backbone in a function of input_shape."
            ) from error
    module = factory(**arguments)
    if not isinstance(module, nn.Module):
        raise InvalidInputError(
            f"The backbone {owner} must return a torch.nn.Module. "
            f"Got {module!r} instead."
        )
    return module


def _suggest(name: str, options: Iterable[str]) -> str:
    close = get_close_matches(name.lower(), list(options), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
