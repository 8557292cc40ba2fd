"""Modules that share their tensors with another, and nothing that can be swapped."""

from __future__ import annotations

from collections import OrderedDict
from types import MethodType
from typing import Any

from torch import nn
from torch.jit import ScriptModule

# Longer lists of a module are tables of its own, which hold no layers.
_MOST_ITEMS = 1000


def apart(module: nn.Module) -> nn.Module:
    """Return a module with the same parameters, in which others can take their place.

    `torch.func.functional_call` exchanges the parameters of a module for a moment,
    and so do the modes of batch norm with methods. An interruption at that moment
    could leave them exchanged, so what must not change is not worked on: the layers,
    their dictionaries and their lists of layers are new, parameters are the very
    tensors of the module, and buffers are copies. Building one takes some microseconds
    a layer and no memory for weights.

    Scripted and compiled parts are shared as they are.

    Parameters
    ----------
    module : torch.nn.Module
        Not changed.

    Returns
    -------
    torch.nn.Module

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skcausalmeta.training import apart
    >>> layer = nn.Linear(2, 1)
    >>> twin = apart(layer)
    >>> twin.weight is layer.weight
    True
    >>> del twin.weight
    >>> layer.weight.shape
    torch.Size([1, 2])
    """
    found: nn.Module = _apart(module, {})
    return found


def _apart(value: Any, made: dict[int, Any]) -> Any:
    """Return a value with new layers in it, each of them made once."""
    if id(value) in made:
        return made[id(value)]
    if isinstance(value, nn.Module):
        return value if _is_whole(value) else _apart_module(value, made)
    if type(value) in (dict, OrderedDict):
        items = ((name, _apart(item, made)) for name, item in value.items())
        return type(value)(items)
    if type(value) in (list, tuple) and len(value) <= _MOST_ITEMS:
        return type(value)(_apart(item, made) for item in value)
    if isinstance(value, MethodType) and isinstance(value.__self__, nn.Module):
        return MethodType(value.__func__, _apart(value.__self__, made))
    return value


def _apart_module(module: nn.Module, made: dict[int, Any]) -> nn.Module:
    twin = object.__new__(type(module))
    made[id(module)] = twin
    state = vars(twin)
    for name, value in vars(module).items():
        state[name] = _apart(value, made)
    buffers = state["_buffers"].items()
    state["_buffers"] = {k: None if v is None else v.clone() for k, v in buffers}
    return twin


def _is_whole(module: nn.Module) -> bool:
    """Tell whether a module is compiled or scripted, and known by its identity."""
    compiled = getattr(module, "compile_with", None) is not None
    return compiled or isinstance(module, ScriptModule) or hasattr(module, "_orig_mod")
