"""Modules that share their tensors with another, and nothing that can be swapped."""

from __future__ import annotations

import copy
from collections import OrderedDict
from types import MethodType
from typing import Any

from torch import nn
from torch.jit import ScriptModule

from ..backbones import PreparedBackbone

# Longer lists of a module are tables of its own, which hold no layers.
_MOST_ITEMS = 1000


def apart(module: nn.Module, *, compiled: bool = True) -> nn.Module:
    """Return a module with the same parameters, in which others can take their place.

    `torch.func.functional_call` exchanges the parameters of a module for a moment,
    and so do the modes of batch norm with methods. An interruption at that moment
    could leave them exchanged, and another thread could meet them so. What must not
    change is therefore not worked on: the layers, their dictionaries and their lists
    of layers are new, parameters are the very tensors of the module, and buffers are
    copies. Building one takes some microseconds a layer and no memory for weights.

    Parameters
    ----------
    module : torch.nn.Module
        Not changed.

    compiled : bool, default=True
        Whether parts that are compiled or scripted are shared as they are. Nothing may
        be exchanged in those. False: compiled parts run as plain ones, scripted parts
        are copied with their weights.

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
    found: nn.Module = _apart(module, {}, compiled)
    return found


class _Plain(nn.Module):
    """A compiled module without its code, whose parameters keep their names."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._orig_mod = module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._orig_mod(*args, **kwargs)


def _apart(value: Any, made: dict[int, Any], compiled: bool) -> Any:
    """Return a value with new layers in it, each of them made once."""
    if id(value) in made:
        return made[id(value)]
    if isinstance(value, nn.Module):
        if _is_whole(value):
            found = value if compiled else _apart_whole(value, made)
            made[id(value)] = found
            return found
        return _apart_module(value, made, compiled)
    if type(value) in (dict, OrderedDict):
        items = [(name, _apart(v, made, compiled)) for name, v in [*value.items()]]
        return type(value)(items)
    if type(value) in (list, tuple) and len(value) <= _MOST_ITEMS:
        return type(value)(_apart(item, made, compiled) for item in value)
    if isinstance(value, MethodType) and isinstance(value.__self__, nn.Module):
        return MethodType(value.__func__, _apart(value.__self__, made, compiled))
    return value


def _apart_module(module: nn.Module, made: dict[int, Any], compiled: bool) -> nn.Module:
    twin = object.__new__(type(module))
    made[id(module)] = twin
    state = vars(twin)
    # A list, since a module may note something while another thread runs it.
    for name, value in list(vars(module).items()):
        state[name] = _apart(value, made, compiled)
    buffers = state["_buffers"].items()
    state["_buffers"] = {k: None if v is None else v.clone() for k, v in buffers}
    return twin


def _apart_whole(module: nn.Module, made: dict[int, Any]) -> nn.Module:
    """Return what computes the same as a compiled or scripted module."""
    if isinstance(module, ScriptModule):
        return copy.deepcopy(module)
    if isinstance(module, PreparedBackbone):
        twin = _apart_module(module, made, compiled=False)
        vars(twin)["compile_with"] = None
        return twin
    return _Plain(_apart(module._orig_mod, made, compiled=False)).train(module.training)


def _is_whole(module: nn.Module) -> bool:
    """Tell whether a module is compiled or scripted, and known by its identity."""
    if isinstance(module, PreparedBackbone):
        return module.compile_with is not None
    return isinstance(module, ScriptModule) or hasattr(module, "_orig_mod")
