"""Build a backbone from a name, a class, a factory or a ready module."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

import torch
from torch import nn

from ..exceptions import InvalidInputError
from ._checks import positive_ints
from ._conv4 import Conv4
from ._mlp import MLP
from ._prepared_backbone import PreparedBackbone
from ._resnet12 import ResNet12

_NAMES = ("auto", "mlp", "conv4", "resnet12", "identity")
_SMALLEST_CONV4_SIDE = 8


def build_backbone(
    backbone: str | nn.Module | Callable[..., nn.Module],
    input_shape: Iterable[int],
    *,
    params: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Build a module that maps samples to feature vectors.

    Parameters
    ----------
    backbone : {"auto", "mlp", "conv4", "resnet12", "identity"}, module or callable
        - "auto": `MLP` for vectors, `Conv4` for images (c, h, w) with both sides at
          least 8 pixels, `MLP` on the flattened sample for everything else;
        - "identity": the samples are features already; they are flattened only;
        - a class or another callable: called with `params`, and with `input_shape` if
          its signature has a parameter of that name; it must return a module;
        - a torch.nn.Module: deep-copied with its weights, so the given one is never
          trained. `params` must be empty.

    input_shape : tuple of int
        Shape of one sample: (p,) for vectors, (c, h, w) for images.

    params : mapping, default=None
        Keyword arguments of the backbone, such as {"n_filters": 32}.

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
    >>> from skcausalmeta.backbones import build_backbone
    >>> module = build_backbone("auto", (1, 28, 28), params={"n_filters": 32})
    >>> module(torch.zeros(5, 1, 28, 28)).shape
    torch.Size([5, 32])
    """
    shape = positive_ints("build_backbone", "input_shape", tuple(input_shape))
    if not shape:
        raise InvalidInputError(
            "The 'input_shape' parameter of build_backbone must name at least one axis,"
            " such as (10,). Got () instead."
        )
    params = dict(params or {})
    if isinstance(backbone, str):
        return _FlatFeatures(_build_named(backbone, shape, params))
    if isinstance(backbone, nn.Module):
        if params:
            raise InvalidInputError(
                "A backbone that is a ready module takes no parameters. Got "
                f"{sorted(params)} with a {type(backbone).__name__} instance; pass the "
                "class instead of the instance, or drop the parameters."
            )
        return _FlatFeatures(copy.deepcopy(backbone))
    if callable(backbone):
        return _FlatFeatures(_call_factory(backbone, shape, params))
    raise InvalidInputError(
        f"The backbone must be one of {list(_NAMES)}, a torch.nn.Module, or a callable "
        f"that returns one. Got {backbone!r} instead."
    )


def n_features_out(module: nn.Module, input_shape: Iterable[int]) -> int:
    """Count the features of a backbone by passing two rows of zeros through it.

    Parameters
    ----------
    module : torch.nn.Module
        Gives (n, d) for (n, *input_shape). It runs in eval mode without gradients; the
        training flag of every layer is restored.

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
    example = next((p for p in module.parameters() if p.is_floating_point()), None)
    rows = (
        torch.zeros(2, *shape)
        if example is None
        else torch.zeros(2, *shape, dtype=example.dtype, device=example.device)
    )
    # One flag per layer: `module.train()` would also wake layers frozen in eval mode.
    flags = [(layer, layer.training) for layer in module.modules()]
    try:
        with torch.no_grad():
            return module.eval()(rows).shape[1]
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


class _FlatFeatures(nn.Module):
    """Run a backbone and flatten what it gives to (n, d)."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        features = self.backbone(rows)
        is_tensor = isinstance(features, torch.Tensor)
        if not is_tensor or features.shape[:1] != rows.shape[:1]:
            got = tuple(features.shape) if is_tensor else type(features).__name__
            raise InvalidInputError(
                "A backbone must return one tensor with one row per sample. Got "
                f"{got} for {rows.shape[0]} samples; return the features only."
            )
        return features.unsqueeze(1) if features.ndim == 1 else features.flatten(1)


def _build_named(
    name: str, shape: tuple[int, ...], params: dict[str, Any]
) -> nn.Module:
    resolved = _resolve_auto(shape) if name == "auto" else name
    if resolved == "mlp":
        _check_names("MLP", MLP, params, given={"in_features"})
        return MLP(math.prod(shape), **params)
    if resolved == "identity":
        if params:
            raise InvalidInputError(
                f"The backbone 'identity' takes no parameters. Got {sorted(params)}; "
                "drop them or choose another backbone."
            )
        return nn.Identity()
    if resolved in ("conv4", "resnet12"):
        if len(shape) != 3:
            raise InvalidInputError(
                f"The backbone {name!r} needs images with input_shape (channels, "
                f"height, width). Got input_shape={shape}; reshape the samples or use "
                "backbone='mlp'."
            )
        given = {"in_channels", "image_size"}
        if resolved == "conv4":
            _check_names("Conv4", Conv4, params, given=given)
            return Conv4(shape[0], (shape[1], shape[2]), **params)
        _check_names("ResNet12", ResNet12, params, given=given)
        return ResNet12(shape[0], image_size=(shape[1], shape[2]), **params)
    raise InvalidInputError(
        f"The name of a backbone must be one of {list(_NAMES)}. Got {name!r} instead."
        f"{_suggest(name, _NAMES)}"
    )


def _resolve_auto(shape: tuple[int, ...]) -> str:
    is_image = len(shape) == 3 and min(shape[1:]) >= _SMALLEST_CONV4_SIDE
    return "conv4" if is_image else "mlp"


def _call_factory(
    factory: Callable[..., Any], shape: tuple[int, ...], params: dict[str, Any]
) -> nn.Module:
    owner = getattr(factory, "__name__", type(factory).__name__)
    arguments = dict(params)
    try:
        signature = inspect.signature(factory)
    except ValueError:  # some callables written in C have no signature
        signature = None
    if signature is not None:
        given = {"input_shape"} & set(signature.parameters)
        _check_names(owner, factory, params, given=given)
        if given:
            arguments["input_shape"] = shape
        try:
            signature.bind(**arguments)
        except TypeError as error:
            raise InvalidInputError(
                f"The backbone {owner} cannot be called with the parameters "
                f"{sorted(params)}: {error}. Add it to the parameters, or wrap the "
                "backbone in a function of input_shape."
            ) from error
    module = factory(**arguments)
    if not isinstance(module, nn.Module):
        raise InvalidInputError(
            f"The backbone {owner} must return a torch.nn.Module. "
            f"Got {module!r} instead."
        )
    return module


def _check_names(
    owner: str, target: Callable[..., Any], params: dict[str, Any], given: set[str]
) -> None:
    """Refuse parameters that `target` does not have or that are `given` to it."""
    kinds = inspect.signature(target).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in kinds.values()):
        return
    skipped = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.POSITIONAL_ONLY)
    accepted = [
        name for name, p in kinds.items() if p.kind not in skipped and name not in given
    ]
    unknown = [name for name in params if name not in accepted]
    if unknown:
        raise InvalidInputError(
            f"The parameters of the backbone {owner} must be among {accepted}. "
            f"Got {unknown[0]!r} instead.{_suggest(unknown[0], accepted)}"
        )


def _suggest(name: str, options: Iterable[str]) -> str:
    close = get_close_matches(name.lower(), list(options), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
