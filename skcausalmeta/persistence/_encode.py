"""From objects to nodes of JSON and tensors.

Every object becomes one node in a list, and values refer to nodes by their number,
so that what is shared stays shared and circles are no trouble.
"""

from __future__ import annotations

import functools
import math
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable
from types import BuiltinFunctionType, FunctionType
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline
from skorch.callbacks import Callback
from skorch.history import History
from torch import Tensor, nn

from ..exceptions import PersistenceError
from ._arrays import flat_array, flat_tensor, plain_dtype
from ._catalog import names, withheld
from ._keys import is_key
from ._state import constructor_names, is_memo, may_contain, may_hold
from ._strict_json import write_rows_json
from ._withheld import LeftOut, harmless

MOST_NESTED = 120
_STATIC_TYPE_FLAG = 1 << 9  # Py_TPFLAGS_HEAPTYPE: unset for types written in C
_SEQUENCES: dict[Any, str] = {list: "list", tuple: "tuple", torch.Size: "size"}
_DICTS: dict[Any, str] = {dict: "dict", OrderedDict: "ordered dict"}
# Rebuilt by torch from the parameters.
_OF_RECURRENT_LAYERS = frozenset({"_flat_weights", "_flat_weight_refs"})
_PAIR = 2
_NO_KEY = object()


class _ForeignEstimatorError(PersistenceError):
    """An estimator of another package has a state that the format does not hold."""

    reason = ""


def _foreign_error(name: str, path: str, error: PersistenceError) -> PersistenceError:
    """Return an error that names an estimator, and what in it cannot be saved."""
    reason = getattr(error, "reason", "") or str(error)
    found = _ForeignEstimatorError(
        "An estimator of another package can be saved if its state is arrays and "
        f"settings. Got {name} at {path!r}, whose state is more: take one such as "
        "LogisticRegression or Ridge, or use pickle or joblib.dump, which hold it. "
        f"What cannot be saved: {reason}"
    )
    found.reason = reason
    return found


class Encoder:
    """Turns objects into nodes.

    Parameters
    ----------
    optimizer_state : bool
        Keep what an optimiser has accumulated.

    Attributes
    ----------
    nodes : list of dict
        One node per object.
    tensors : dict of str to Tensor
        Values of arrays and tensors.
    custom : dict of str to type or function
        What the caller of `load` has to bring along.
    left_out : LeftOut
        What the objects hold and the file does not get.
    """

    def __init__(self, optimizer_state: bool) -> None:
        self.nodes: list[Any] = []
        self.tensors: dict[str, Tensor] = {}
        self.custom: dict[str, Any] = {}
        self.left_out = LeftOut()
        self._optimizer_state = optimizer_state
        self._numbers: dict[int, int] = {}
        self._alive: list[Any] = []  # so that no address is used again
        self._storages: set[int] = set()
        self._depth = 0

    def value(self, thing: Any, path: str) -> Any:
        """A scalar as it is, or a reference to the node of an object.

        Raises
        ------
        PersistenceError
            If the object, or what it holds, is of a kind that cannot be saved.
        """
        if thing is None or type(thing) in (bool, int, str):
            return thing
        if type(thing) is float:
            return thing if math.isfinite(thing) else {"float": repr(thing)}
        if id(thing) not in self._numbers:
            self._numbers[id(thing)] = number = len(self.nodes)
            self._alive.append(thing)
            self.nodes.append(None)
            self._depth += 1
            if self._depth > MOST_NESTED:
                raise PersistenceError(
                    f"Objects must be nested at most {MOST_NESTED} deep. Got more at "
                    f"{path[:80]!r}; flatten them."
                )
            self.nodes[number] = self._node(thing, path)
            self._depth -= 1
        return {"ref": self._numbers[id(thing)]}

    def constructors(self) -> dict[str, list[str]]:
        """What the constructors of the caller's classes set, by class."""
        classes = {k: v for k, v in self.custom.items() if isinstance(v, type)}
        return {name: sorted(constructor_names(c)) for name, c in classes.items()}

    def _values(self, things: Iterable[Any], path: str) -> list[Any]:
        return [
            self.value(thing, f"{path}.{k}")
            for k, thing in enumerate(things)
            if not self._is_withheld(thing)
        ]

    def _named(self, state: dict[str, Any], path: str) -> dict[str, Any]:
        prefix = f"{path}." if path else ""
        return {
            name: self.value(v, f"{prefix}{name}")
            for name, v in state.items()
            if not self._is_withheld(v)
        }

    def _is_withheld(self, thing: Any) -> bool:
        """Whether files do not bring it along, by itself or with its name."""
        parts = thing if type(thing) is tuple and len(thing) == _PAIR else (thing,)
        for part in parts:
            if type(part) in withheld():
                self.left_out.note(type(part).__name__)
                return True
        return False

    def _allowed(
        self, cls: type, state: dict[str, Any], may: Callable[..., bool]
    ) -> dict[str, Any]:
        """Attributes that the class has, by the rule by which they are loaded."""
        custom, allowed = cls not in names(), {}
        for name, value in state.items():
            if may(cls, name, custom=custom):
                allowed[name] = value
            elif not is_memo(cls, name):
                self.left_out.note(f"{cls.__name__}.{name}")
        return allowed

    def _node(self, thing: Any, path: str) -> dict[str, Any]:
        kind = type(thing)
        if kind in _SEQUENCES:
            return {"kind": _SEQUENCES[kind], "items": self._values(thing, path)}
        if kind in (set, frozenset):
            items = sorted(thing, key=repr)
            self._check_keys(items, path)
            return {"kind": kind.__name__, "items": self._values(items, path)}
        if kind in _DICTS:
            self._check_keys(thing, path)
            pairs = [
                [self.value(key, f"{path}.key"), self.value(v, f"{path}.{key}")]
                for key, v in thing.items()
                if not self._is_withheld(v)
            ]
            return {"kind": _DICTS[kind], "items": pairs}
        for group in (self._number, self._torch_thing, self._random_thing):
            node = group(thing, path)
            if node is not None:
                return node
        if isinstance(thing, type | FunctionType | BuiltinFunctionType):
            return {"kind": "name", "name": self._name(thing, path)}
        if kind is functools.partial:
            parts = (thing.func, thing.args, thing.keywords)
            return {"kind": "partial", "items": self._values(parts, path)}
        return self._instance(thing, path)

    def _check_keys(self, keys: Iterable[Any], path: str) -> None:
        wrong = next((key for key in keys if not is_key(key)), _NO_KEY)
        if wrong is not _NO_KEY:
            raise PersistenceError(
                "Keys of dictionaries and members of sets must be numbers, text, or "
                f"short tuples of them to be saved. Got {_described(wrong)} at "
                f"{path!r}; use another key."
            )

    # -- numbers -----------------------------------------------------------------------

    def _number(self, thing: Any, path: str) -> dict[str, Any] | None:
        if type(thing) is np.ndarray or isinstance(thing, np.memmap):
            return self._array(np.asarray(thing), path)
        if isinstance(thing, np.generic):
            dtype = plain_dtype(thing.dtype.str)
            return {"kind": "scalar", "dtype": dtype.str, "hex": thing.tobytes().hex()}
        if isinstance(thing, np.dtype):
            return {"kind": "dtype", "dtype": thing.str}
        if type(thing) is bytes:
            return {"kind": "bytes", "hex": thing.hex()}
        if type(thing) in (complex, slice):
            parts = (
                (thing.real, thing.imag)
                if type(thing) is complex
                else (thing.start, thing.stop, thing.step)
            )
            items = self._values(parts, path)
            return {"kind": type(thing).__name__, "items": items}
        return None

    def _array(self, array: np.ndarray, path: str) -> dict[str, Any]:
        if array.dtype == object:
            items = self._values(array.ravel(), path)
            return {"kind": "objects", "shape": list(array.shape), "items": items}
        try:
            flat, facts = flat_array(array)
        except PersistenceError as error:
            raise PersistenceError(f"{error} It is {path!r}.") from error
        return {"kind": "array", "tensor": self._store(flat, path), **facts}

    def _torch_thing(self, thing: Any, path: str) -> dict[str, Any] | None:
        kind = type(thing)
        if kind in (Tensor, nn.Parameter):
            flat, facts = flat_tensor(thing)
            name = "tensor" if kind is Tensor else "parameter"
            return {"kind": name, "tensor": self._store(flat, path), **facts}
        if kind is torch.device:
            return {"kind": "device", "name": str(thing)}
        if kind is torch.dtype:
            return {"kind": "torch dtype", "name": str(thing).removeprefix("torch.")}
        return None

    def _store(self, flat: Tensor, path: str) -> str:
        """Put a tensor away under a name that tells where it comes from."""
        stem = re.sub(r"[^\w.\-]+", "_", path, flags=re.ASCII)[:200] or "values"
        name, copies = stem, 1
        while name in self.tensors:
            copies += 1
            name = f"{stem}-{copies}"
        # The library refuses two tensors in one piece of memory.
        address = flat.untyped_storage().data_ptr()
        if address in self._storages:
            flat = flat.clone()
            address = flat.untyped_storage().data_ptr()
        self._storages.add(address)
        self.tensors[name] = flat
        return name

    def _random_thing(self, thing: Any, path: str) -> dict[str, Any] | None:
        if type(thing) is np.random.RandomState:
            state = self.value(thing.get_state(legacy=False), path)
            return {"kind": "RandomState", "state": state}
        if type(thing) is np.random.Generator:
            state = self.value(thing.bit_generator.state, path)
            return {"kind": "Generator", "state": state}
        if type(thing) is torch.Generator:
            state = self.value(thing.get_state(), path)
            return {"kind": "torch Generator", "state": state}
        return None

    # -- instances ---------------------------------------------------------------------

    def _instance(self, thing: Any, path: str) -> dict[str, Any]:
        cls = type(thing)
        if isinstance(thing, torch.optim.Optimizer):
            return self._optimizer(thing, path)
        if isinstance(thing, nn.Module):
            return self._module(thing, path)
        head = {"kind": "object", "class": self._name(cls, path)}
        if isinstance(thing, tuple) and hasattr(cls, "_fields"):
            items = self._values(thing, path)
            return {**head, "kind": "named tuple", "items": items}
        if type(thing) is History:
            text = write_rows_json(list(thing))
            if text is not None:
                values = torch.frombuffer(bytearray(text), dtype=torch.uint8)
                return {**head, "kind": "history", "tensor": self._store(values, path)}
            items = self._values(thing, path)
            return {**head, "kind": "history", "items": items}
        if not is_plain(cls):
            raise PersistenceError(
                "An estimator must hold arrays, tensors, modules, estimators and "
                f"settings to be saved. Got {_described(thing)} at {path!r}; drop it "
                "or replace it."
            )
        try:
            return {**head, "state": self._named(self._state(thing, path), path)}
        except PersistenceError as error:
            if not _is_foreign(cls):
                raise
            raise _foreign_error(cls.__name__, path, error) from error

    def _state(self, thing: Any, path: str) -> dict[str, Any]:
        if isinstance(thing, Pipeline) and thing.memory is not None:
            raise PersistenceError(
                "A saved Pipeline must have memory=None, since a cache is a folder of "
                f"pickles. Got {thing.memory!r} at {path!r}; set it after loading."
            )
        # The callbacks of skorch leave copies of weights out of their state.
        own = isinstance(thing, Callback)
        state = dict(thing.__getstate__()) if own else vars(thing)
        cls = type(thing)
        allowed = self._allowed(cls, state, may_hold)
        return harmless(allowed, self.left_out, cls.__name__)

    def _module(self, module: nn.Module, path: str) -> dict[str, Any]:
        fresh = vars(nn.Module())
        state = {k: v for k, v in vars(module).items() if k not in fresh}
        if isinstance(module, nn.RNNBase):
            state = {k: v for k, v in state.items() if k not in _OF_RECURRENT_LAYERS}
        hooks = [k for k in fresh if k.endswith("_hooks") and vars(module)[k]]
        if hooks:
            raise PersistenceError(
                "Modules must have no hooks to be saved, since hooks are code. Got "
                f"{hooks[0]!r} of {path!r}; remove it and register it after loading."
            )
        cls = type(module)
        own = harmless(self._allowed(cls, state, may_hold), self.left_out, cls.__name__)
        groups: dict[str, dict[str, Any]] = {
            "parameters": dict(module._parameters),
            "buffers": dict(module._buffers),
            "modules": dict(module._modules),
        }
        return {
            "kind": "module",
            "class": self._name(cls, path),
            "training": module.training,
            "not persistent": sorted(module._non_persistent_buffers_set),
            **{
                group: self._named(self._allowed(cls, parts, may_contain), path)
                for group, parts in groups.items()
            },
            "state": self._named(own, path),
        }

    def _optimizer(self, optimizer: Any, path: str) -> dict[str, Any]:
        state = optimizer.__getstate__()
        moments = [
            [self.value(key, f"{path}.key"), self.value(v, f"{path}.state.{k}")]
            for k, (key, v) in enumerate(state["state"].items())
            if self._optimizer_state
        ]
        return {
            "kind": "optimizer",
            "class": self._name(type(optimizer), path),
            "defaults": self.value(state["defaults"], f"{path}.defaults"),
            "groups": self.value(state["param_groups"], f"{path}.groups"),
            "moments": moments,
        }

    def _name(self, thing: Any, path: str) -> str:
        """Name of a class or function: of the catalogue, or of the user's own."""
        try:
            return names()[thing]
        except (KeyError, TypeError):
            name = thing.__name__
        if not name.isidentifier() or self.custom.setdefault(name, thing) is not thing:
            raise PersistenceError(
                "Classes and functions of your own must have names, each its own. Got "
                f"{thing!r} at {path!r}; define it with another name."
            )
        return f"custom:{name}"


def is_plain(cls: type) -> bool:
    """Whether the attributes of an instance are all that there is to it."""
    bases = [base for base in cls.__mro__ if base is not object]
    written_in_c = any(not base.__flags__ & _STATIC_TYPE_FLAG for base in bases)
    slots = any(vars(base).get("__slots__") for base in bases)
    return bool(bases) and not written_in_c and not slots


def _is_foreign(cls: type) -> bool:
    """Whether a class is of an estimator, and derived from none that files name."""
    known = names()
    own = any(base in known for base in cls.__mro__[:-1])  # the last is object
    return issubclass(cls, BaseEstimator) and not own


def _described(thing: Any) -> str:
    text = repr(thing)
    return text if len(text) < 60 else f"a {type(thing).__name__}"
