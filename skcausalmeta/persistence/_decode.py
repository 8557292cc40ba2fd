"""From nodes of JSON and tensors back to objects, without running any constructor."""

from __future__ import annotations

import functools
import inspect
import math
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline
from torch import Tensor, nn

from ..exceptions import PersistenceError
from ._arrays import array_of, checked_shape, plain_dtype, tensor_of
from ._catalog import catalog
from ._encode import MOST_NESTED, is_plain

_BIT_GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")
_MT19937_WORDS = 624
_FLOATS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_NOT_YET = object()


class Decoder:
    """Turns nodes back into objects.

    Parameters
    ----------
    nodes : list
        Nodes of an `Encoder`, from a file that nobody vouches for.
    tensors : mapping of str to Tensor
        Its tensors.
    modules : mapping of str to type or function
        Classes and functions that the caller vouches for.
    device : torch.device or None
        Where all tensors go; None: where they came from.
    """

    def __init__(
        self,
        nodes: list[Any],
        tensors: Any,
        modules: Mapping[str, Any],
        device: torch.device | None,
    ) -> None:
        self._nodes, self._tensors, self._modules = nodes, tensors, modules
        self._device = device
        self._found: list[Any] = [_NOT_YET] * len(nodes)
        self._open: set[int] = set()

    def value(self, value: Any) -> Any:
        """The object that a value stands for.

        Raises
        ------
        PersistenceError
            If it names what is not known, or is not what an `Encoder` makes.
        """
        if not isinstance(value, dict | list):
            return value
        if isinstance(value, dict) and len(value) == 1:
            if "ref" in value:
                return self._object(value["ref"])
            if value.get("float") in _FLOATS:
                return _FLOATS[value["float"]]
        raise PersistenceError(f"Values must be scalars or references. {_got(value)}")

    def _object(self, number: Any) -> Any:
        if type(number) is not int or not 0 <= number < len(self._nodes):
            raise PersistenceError(
                f"References must be within the file. {_got(number)}"
            )
        if self._found[number] is not _NOT_YET:
            return self._found[number]
        if number in self._open or len(self._open) >= MOST_NESTED:
            raise PersistenceError(
                f"Nodes must be nested at most {MOST_NESTED} deep, and not in circles. "
                f"{_got(number)}"
            )
        self._open.add(number)
        node = self._nodes[number]
        kind = node.get("kind") if isinstance(node, dict) else None
        if not isinstance(kind, str) or kind not in self._KINDS:
            raise PersistenceError(f"Nodes must be of a known kind. {_got(kind)}")
        self._found[number] = self._KINDS[kind](self, node, number)
        self._open.remove(number)
        return self._found[number]

    def _values(self, node: dict[str, Any]) -> list[Any]:
        return [self.value(item) for item in node["items"]]

    def _named(self, state: dict[str, Any]) -> dict[str, Any]:
        return {name: self.value(value) for name, value in state.items()}

    def _known(self, name: Any) -> Any:
        """The class or function of a name, if it may be used."""
        custom = isinstance(name, str) and name.startswith("custom:")
        known: Mapping[str, Any] = self._modules if custom else catalog()
        key = name.removeprefix("custom:") if custom else name
        if isinstance(key, str) and key in known:
            return known[key]
        if custom:
            raise PersistenceError(
                f"The file needs {key!r}, which is not part of skcausalmeta. If you "
                f"trust your own {key!r}, pass modules={{{key!r}: {key}}}."
            )
        raise PersistenceError(
            "Files may name classes and functions of skcausalmeta's list only. Got "
            f"{name!r}; the file is of a newer version, or not to be trusted."
        )

    # -- containers --------------------------------------------------------------------

    def _list(self, node: dict[str, Any], number: int) -> list[Any]:
        self._found[number] = found = []
        found.extend(self._values(node))
        return found

    def _dict(self, node: dict[str, Any], number: int) -> dict[Any, Any]:
        self._found[number] = found = {} if node["kind"] == "dict" else OrderedDict()
        for key, value in node["items"]:
            found[self.value(key)] = self.value(value)
        return found

    def _tuple(self, node: dict[str, Any], number: int) -> Any:
        kinds = {"tuple": tuple, "set": set, "frozenset": frozenset, "size": torch.Size}
        return kinds[node["kind"]](self._values(node))

    def _complex(self, node: dict[str, Any], number: int) -> Any:
        kinds: dict[str, Any] = {"complex": complex, "slice": slice}
        return kinds[node["kind"]](*self._values(node))

    def _partial(self, node: dict[str, Any], number: int) -> Any:
        function, arguments, keywords = self._values(node)
        return functools.partial(function, *arguments, **keywords)

    # -- numbers -----------------------------------------------------------------------

    def _array(self, node: dict[str, Any], number: int) -> Any:
        return array_of(self._tensors[node["tensor"]], node)

    def _objects(self, node: dict[str, Any], number: int) -> Any:
        items, shape = self._values(node), checked_shape(node["shape"])
        flat = np.empty(len(items), dtype=object)
        for k, item in enumerate(items):
            flat[k] = item
        return flat.reshape(shape)

    def _scalar(self, node: dict[str, Any], number: int) -> Any:
        dtype = plain_dtype(node["dtype"])
        if not dtype.itemsize:  # an empty text
            return dtype.type()
        return np.frombuffer(bytes.fromhex(node["hex"]), dtype, 1)[0]

    def _dtype(self, node: dict[str, Any], number: int) -> Any:
        is_object = node["dtype"] == "|O"
        return np.dtype(object) if is_object else plain_dtype(node["dtype"])

    def _bytes(self, node: dict[str, Any], number: int) -> bytes:
        return bytes.fromhex(node["hex"])

    def _tensor(self, node: dict[str, Any], number: int) -> Tensor:
        device = self._placed(node["device"])
        values = tensor_of(self._tensors[node["tensor"]], node, device)
        grad = node["requires_grad"] is True
        if node["kind"] == "parameter":
            return nn.Parameter(values, requires_grad=grad)
        return values.requires_grad_(grad)

    def _device_of(self, node: dict[str, Any], number: int) -> torch.device:
        return self._placed(node["name"])

    def _placed(self, name: str) -> torch.device:
        device = torch.device(name) if self._device is None else self._device
        if device.type == "cuda" and not torch.cuda.is_available():
            raise PersistenceError(
                f"The device of the saved estimator must be at hand. Got {name!r} on "
                "a machine without it; load with device='cpu'."
            )
        return device

    def _torch_dtype(self, node: dict[str, Any], number: int) -> torch.dtype:
        found = getattr(torch, str(node["name"]), None)
        if not isinstance(found, torch.dtype):
            raise PersistenceError(f"Types must be torch's. {_got(node['name'])}")
        return found

    def _random(self, node: dict[str, Any], number: int) -> Any:
        state = self.value(node["state"])
        if node["kind"] == "torch Generator":
            return torch.Generator().set_state(state)
        name = state["bit_generator"]
        if name not in _BIT_GENERATORS:
            raise PersistenceError(f"Random states must be numpy's. {_got(name)}")
        # numpy reads at this position without a look at it.
        if name == "MT19937" and not 0 <= state["state"]["pos"] <= _MT19937_WORDS:
            raise PersistenceError(f"Random states must be sound. {_got(state)}")
        generator = getattr(np.random, name)()
        if node["kind"] == "Generator":
            generator.state = state
            return np.random.Generator(generator)
        found = np.random.RandomState(generator)
        found.set_state(state)
        return found

    # -- instances ---------------------------------------------------------------------

    def _name(self, node: dict[str, Any], number: int) -> Any:
        return self._known(node["name"])

    def _class(self, node: dict[str, Any], base: type = object) -> type:
        cls = self._known(node["class"])
        if not isinstance(cls, type) or not issubclass(cls, base):
            raise PersistenceError(
                f"Nodes must name a class of their kind. {_got(node['class'])}"
            )
        return cls

    def _plain(self, node: dict[str, Any], number: int) -> Any:
        cls: Any = self._class(node)
        if not is_plain(cls):
            raise PersistenceError(f"Classes must be plain. {_got(node['class'])}")
        self._found[number] = found = object.__new__(cls)
        state = self._named(node["state"])
        if issubclass(cls, Pipeline) and state.get("memory") is not None:
            raise PersistenceError(
                f"A saved Pipeline must have memory=None. {_got(state['memory'])}"
            )
        if issubclass(cls, BaseEstimator):
            added = {k: v for k, v in _defaults(cls).items() if k not in state}
            state |= added
        if self._device is not None and isinstance(state.get("device"), str):
            state["device"] = str(self._device)
        _set_state(found, state)
        return found

    def _named_tuple(self, node: dict[str, Any], number: int) -> Any:
        cls, items = self._class(node, tuple), self._values(node)
        if len(items) != len(getattr(cls, "_fields", ())):
            raise PersistenceError(f"Tuples must have all entries. {_got(node)}")
        return tuple.__new__(cls, items)

    def _history(self, node: dict[str, Any], number: int) -> Any:
        cls: Any = self._class(node, list)
        self._found[number] = found = list.__new__(cls)
        found.extend(self._values(node))
        return found

    def _module(self, node: dict[str, Any], number: int) -> nn.Module:
        cls: Any = self._class(node, nn.Module)
        self._found[number] = found = object.__new__(cls)
        nn.Module.__init__(found)  # empty; the constructor of the class is not run
        found.training = node["training"] is True
        found._parameters.update(self._of_type(node["parameters"], nn.Parameter))
        found._buffers.update(self._of_type(node["buffers"], Tensor))
        found._non_persistent_buffers_set.update(map(str, node["not persistent"]))
        found._modules.update(self._of_type(node["modules"], nn.Module))
        fresh = vars(nn.Module())
        state = self._named(node["state"])
        own = {k: v for k, v in state.items() if k not in fresh}
        _set_state(found, {**vars(found), **own})
        if isinstance(found, nn.RNNBase):
            found._init_flat_weights()
        return found

    def _of_type(self, state: dict[str, Any], kind: type) -> dict[str, Any]:
        found = self._named(state)
        for name, value in found.items():
            if value is not None and not isinstance(value, kind):
                raise PersistenceError(
                    f"{name!r} must be a {kind.__name__}. {_got(type(value).__name__)}"
                )
        return found

    def _optimizer(self, node: dict[str, Any], number: int) -> Any:
        cls: Any = self._class(node, torch.optim.Optimizer)
        self._found[number] = found = object.__new__(cls)
        moments: Any = defaultdict(dict)
        moments |= {self.value(key): self.value(v) for key, v in node["moments"]}
        found.__setstate__(
            {
                "defaults": self.value(node["defaults"]),
                "state": moments,
                "param_groups": self.value(node["groups"]),
            }
        )
        return found

    _KINDS: ClassVar[dict[str, Callable[[Decoder, dict[str, Any], int], Any]]] = {
        **dict.fromkeys(("tuple", "set", "frozenset", "size"), _tuple),
        **dict.fromkeys(("dict", "ordered dict"), _dict),
        **dict.fromkeys(("complex", "slice"), _complex),
        **dict.fromkeys(("tensor", "parameter"), _tensor),
        **dict.fromkeys(("RandomState", "Generator", "torch Generator"), _random),
        "list": _list,
        "partial": _partial,
        "array": _array,
        "objects": _objects,
        "scalar": _scalar,
        "dtype": _dtype,
        "bytes": _bytes,
        "device": _device_of,
        "torch dtype": _torch_dtype,
        "name": _name,
        "object": _plain,
        "named tuple": _named_tuple,
        "history": _history,
        "module": _module,
        "optimizer": _optimizer,
    }


def _set_state(thing: Any, state: dict[str, Any]) -> None:
    # Not by an update: the dicts of a class share the order of their keys.
    object.__setattr__(thing, "__dict__", state)


def _defaults(cls: type) -> dict[str, Any]:
    """Defaults of parameters, some of which an older version did not have."""
    parameters = inspect.signature(cls).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def _got(what: Any) -> str:
    text = repr(what)
    short = text if len(text) < 80 else f"{text[:77]}..."
    return f"Got {short}; the file is damaged, get another copy."
