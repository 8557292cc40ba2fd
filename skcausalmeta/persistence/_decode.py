"""From nodes of JSON and tensors back to objects, without running any constructor."""

from __future__ import annotations

import functools
import inspect
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline
from torch import Tensor, nn

from ..exceptions import PersistenceError
from ..utils import printable
from ._arrays import array_of, checked_shape, plain_dtype, tensor_of
from ._catalog import catalog
from ._encode import MOST_NESTED, is_plain
from ._keys import check_keys
from ._optimizers import optimizer_of
from ._random_states import generator_of, random_state_of, torch_generator_of
from ._state import constructor_names, is_memo, may_contain, may_hold
from ._strict_json import Ref, read_rows_json
from ._withheld import WITHHELD_CLASSES, LeftOut, harmless

_NOT_YET = object()
_PAIR = 2
_MOST_ARGUMENTS = 1000
# Work and memory beyond that of the nodes themselves, in units of some 64 bytes or a
# microsecond: so many for nothing, and one per so many bytes of the file.
_FREE_WORK, _BYTES_PER_WORK = 100_000, 16
_WORK_PER_MODULE = 40


class Decoder:
    """Turns nodes back into objects.

    Parameters
    ----------
    nodes : list
        Nodes of an `Encoder`, from a file that nobody vouches for. They are used up.
    take : callable
        ``take(name)``, a tensor of the file, which is given away once.
    n_bytes : int
        Size of the file, which bounds the work.
    modules : mapping of str to type or function
        Classes and functions that the caller vouches for.
    device : torch.device or None
        Where all tensors go; None: where they came from.
    constructors : mapping of str to list of str
        Attributes that the constructors of the caller's classes set when the file was
        saved, by class.

    Attributes
    ----------
    left_out : LeftOut
        What the file holds and the objects do not get.
    """

    def __init__(
        self,
        nodes: list[Any],
        take: Callable[[Any], Tensor],
        n_bytes: int,
        modules: Mapping[str, Any],
        device: torch.device | None,
        constructors: Mapping[str, Any],
    ) -> None:
        self._nodes, self._take, self._modules = nodes, take, modules
        self._device, self._constructors = device, constructors
        self._found: list[Any] = [_NOT_YET] * len(nodes)
        self._open: set[int] = set()
        self._work_left = _FREE_WORK + n_bytes // _BYTES_PER_WORK
        self.left_out = LeftOut()

    def value(self, value: Any) -> Any:
        """The object that a value stands for.

        Raises
        ------
        PersistenceError
            If it names what is not known, or is not what an `Encoder` makes.
        """
        if type(value) is Ref:
            return self._object(value.number)
        if isinstance(value, dict | list):
            raise PersistenceError(
                f"Values must be scalars or references. {_got(value)}"
            )
        return value

    def _object(self, number: int) -> Any:
        if not 0 <= number < len(self._nodes):
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
        self._nodes[number] = None  # every object is made once
        return self._found[number]

    def _spend(self, units: int) -> None:
        """Bound what small nodes may cost, such as many that share a long list."""
        self._work_left -= units
        if self._work_left < 0:
            raise PersistenceError(
                "A saved estimator must cost about as much as its size. Got one of "
                "small parts that grow; the file was not written by skcausalmeta."
            )

    # -- what is left out --------------------------------------------------------------

    def _is_withheld(self, value: Any) -> bool:
        """Whether a value is a thing that files do not bring along, or names one."""
        node = self._raw(value)
        if node.get("kind") == "tuple" and isinstance(node.get("items"), list):
            items = node["items"] if len(node["items"]) <= _PAIR else []
            return any(self._names_withheld(item) for item in items)
        return self._names_withheld(value)

    def _names_withheld(self, value: Any) -> bool:
        name = self._raw(value).get("class")
        if isinstance(name, str) and name in WITHHELD_CLASSES:
            self.left_out.note(name.rpartition(".")[2])
            return True
        return False

    def _raw(self, value: Any) -> dict[str, Any]:
        number = value.number if type(value) is Ref else -1
        node = self._nodes[number] if 0 <= number < len(self._nodes) else None
        return node if isinstance(node, dict) else {}

    def _allowed(
        self, cls: type, raw: Any, custom: bool, may: Callable[..., bool]
    ) -> dict[str, Any]:
        """Entries of a state whose names an instance of the class may have."""
        if not isinstance(raw, dict):
            raise PersistenceError(f"States must have names. {_got(raw)}")
        allowed = {}
        for name, value in raw.items():
            if may(cls, name, custom=custom):
                allowed[name] = value
            elif not is_memo(cls, name):
                self.left_out.note(f"{cls.__name__}.{name}")
        return allowed

    # -- parts of nodes ----------------------------------------------------------------

    def _values(self, items: Any) -> list[Any]:
        if not isinstance(items, list):
            raise PersistenceError(f"Items must be in a list. {_got(items)}")
        return [self.value(item) for item in items if not self._is_withheld(item)]

    def _named(self, state: dict[str, Any]) -> dict[str, Any]:
        return {
            name: self.value(value)
            for name, value in state.items()
            if not self._is_withheld(value)
        }

    def _known(self, name: Any) -> Any:
        """The class or function of a name, if it may be used."""
        custom = isinstance(name, str) and name.startswith("custom:")
        known: Mapping[str, Any] = self._modules if custom else catalog()
        key = name.removeprefix("custom:") if custom else name
        if isinstance(key, str) and key in known:
            return known[key]
        if custom:
            key = printable(key[:100])
            raise PersistenceError(
                f"The file needs {key!r}, which is not part of skcausalmeta. If you "
                f"trust your own {key!r}, pass modules={{{key!r}: {key}}}."
            )
        raise PersistenceError(
            "Files may name classes and functions of skcausalmeta's list only. Got "
            f"{repr(name)[:100]}; the file is of a newer version, or not to be trusted."
        )

    # -- containers --------------------------------------------------------------------

    def _list(self, node: dict[str, Any], number: int) -> list[Any]:
        self._found[number] = found = []
        found.extend(self._values(node["items"]))
        return found

    def _dict(self, node: dict[str, Any], number: int) -> dict[Any, Any]:
        self._found[number] = found = {} if node["kind"] == "dict" else OrderedDict()
        pairs = [pair for pair in node["items"] if not self._is_withheld(pair[1])]
        keys = [self.value(key) for key, _ in pairs]
        check_keys(keys)
        for key, (_, value) in zip(keys, pairs, strict=True):
            found[key] = self.value(value)
        return found

    def _tuple(self, node: dict[str, Any], number: int) -> Any:
        return tuple(self._values(node["items"]))

    def _set(self, node: dict[str, Any], number: int) -> Any:
        items = self._values(node["items"])
        check_keys(items)
        return set(items) if node["kind"] == "set" else frozenset(items)

    def _size(self, node: dict[str, Any], number: int) -> torch.Size:
        return torch.Size(checked_shape(node["items"]))

    def _complex(self, node: dict[str, Any], number: int) -> complex:
        real, imaginary = self._values(node["items"])
        return complex(float(real), float(imaginary))

    def _slice(self, node: dict[str, Any], number: int) -> slice:
        start, stop, step = self._values(node["items"])
        return slice(start, stop, step)

    def _partial(self, node: dict[str, Any], number: int) -> Any:
        function, arguments, keywords = self._values(node["items"])
        sound = callable(function) and not isinstance(function, functools.partial)
        if not (sound and type(arguments) is tuple and type(keywords) is dict):
            raise PersistenceError(f"Partial calls must be sound. {_got(function)}")
        # Their arguments are copied, of which many may share one long tuple.
        self._spend(len(arguments) + len(keywords))
        if len(arguments) > _MOST_ARGUMENTS:
            raise PersistenceError(f"Calls must be short. {_got(len(arguments))}")
        return functools.partial(function, *arguments, **keywords)

    # -- numbers -----------------------------------------------------------------------

    def _array(self, node: dict[str, Any], number: int) -> Any:
        return array_of(self._take(node["tensor"]), node)

    def _objects(self, node: dict[str, Any], number: int) -> Any:
        items, shape = self._values(node["items"]), checked_shape(node["shape"])
        flat = np.empty(len(items), dtype=object)
        for k, item in enumerate(items):
            flat[k] = item
        return flat.reshape(shape)

    def _scalar(self, node: dict[str, Any], number: int) -> Any:
        dtype = plain_dtype(node["dtype"])
        content = bytes.fromhex(node["hex"])
        odd_flag = dtype.kind == "b" and content not in (b"\0", b"\1")
        if not dtype.itemsize:  # an empty text
            return dtype.type()
        if len(content) != dtype.itemsize or odd_flag:
            raise PersistenceError(f"Scalars must be sound. {_got(node['hex'])}")
        return np.frombuffer(content, dtype, 1)[0]

    def _dtype(self, node: dict[str, Any], number: int) -> Any:
        is_object = node["dtype"] == "|O"
        return np.dtype(object) if is_object else plain_dtype(node["dtype"])

    def _bytes(self, node: dict[str, Any], number: int) -> bytes:
        return bytes.fromhex(node["hex"])

    def _tensor(self, node: dict[str, Any], number: int) -> Tensor:
        device = self._placed(node["device"])
        values = tensor_of(self._take(node["tensor"]), node, device)
        grad = node["requires_grad"] is True
        if node["kind"] == "parameter":
            return nn.Parameter(values, requires_grad=grad)
        return values.requires_grad_(grad)

    def _device_of(self, node: dict[str, Any], number: int) -> torch.device:
        return self._placed(node["name"])

    def _placed(self, name: Any) -> torch.device:
        if self._device is not None:
            return self._device
        return usable_device(name, "load with device='cpu'")

    def _torch_dtype(self, node: dict[str, Any], number: int) -> torch.dtype:
        found = getattr(torch, str(node["name"]), None)
        if not isinstance(found, torch.dtype):
            raise PersistenceError(f"Types must be torch's. {_got(node['name'])}")
        return found

    def _random(self, node: dict[str, Any], number: int) -> Any:
        make = {
            "RandomState": random_state_of,
            "Generator": generator_of,
            "torch Generator": torch_generator_of,
        }
        return make[node["kind"]](self.value(node["state"]))

    # -- instances ---------------------------------------------------------------------

    def _name(self, node: dict[str, Any], number: int) -> Any:
        return self._known(node["name"])

    def _class(self, node: dict[str, Any], base: type = object) -> tuple[Any, bool]:
        """The class of a node, and whether the caller brought it."""
        cls = self._known(node["class"])
        if not isinstance(cls, type) or not issubclass(cls, base):
            raise PersistenceError(
                f"Nodes must name a class of their kind. {_got(node['class'])}"
            )
        return cls, node["class"].startswith("custom:")

    def _plain(self, node: dict[str, Any], number: int) -> Any:
        cls, custom = self._class(node)
        if not is_plain(cls):
            raise PersistenceError(f"Classes must be plain. {_got(node['class'])}")
        self._found[number] = found = object.__new__(cls)
        state = self._named(self._allowed(cls, node["state"], custom, may_hold))
        state = harmless(state, self.left_out, cls.__name__)
        if issubclass(cls, Pipeline) and state.get("memory") is not None:
            raise PersistenceError(
                f"A saved Pipeline must have memory=None. {_got(state['memory'])}"
            )
        if issubclass(cls, BaseEstimator):
            added = {k: v for k, v in _defaults(cls).items() if k not in state}
            self._spend(len(added))
            state |= added
        if self._device is not None and isinstance(state.get("device"), str):
            state["device"] = str(self._device)
        self._check_constructor(cls, custom, state)
        _set_state(found, state)
        return found

    def _check_constructor(self, cls: type, custom: bool, names: Iterable[str]) -> None:
        """Refuse a class that sets more than it did when the file was saved."""
        before = self._constructors.get(cls.__name__) if custom else None
        if isinstance(before, list):
            missing = constructor_names(cls) - set(map(str, before)) - set(names)
            if missing:
                raise PersistenceError(
                    f"The class {cls.__name__} must be the one that the file was saved "
                    f"with. Got one whose constructor also sets {sorted(missing)}; "
                    "load with the class as it was, or fit again."
                )

    def _named_tuple(self, node: dict[str, Any], number: int) -> Any:
        cls, _ = self._class(node, tuple)
        items = self._values(node["items"])
        if len(items) != len(getattr(cls, "_fields", ())):
            raise PersistenceError(f"Tuples must have all entries. {_got(len(items))}")
        return tuple.__new__(cls, items)

    def _history(self, node: dict[str, Any], number: int) -> Any:
        cls, _ = self._class(node, list)
        self._found[number] = found = list.__new__(cls)
        if "tensor" in node:
            content = self._take(node["tensor"])
            if content.dtype != torch.uint8:
                raise PersistenceError(f"Histories must be text. {_got(None)}")
            found.extend(read_rows_json(content.numpy().tobytes()))
            return found
        rows = self._values(node["items"])
        if not all(type(row) is dict for row in rows):
            raise PersistenceError(f"Histories must have rows. {_got(len(rows))}")
        found.extend(rows)
        return found

    def _module(self, node: dict[str, Any], number: int) -> nn.Module:
        cls, custom = self._class(node, nn.Module)
        self._spend(_WORK_PER_MODULE)
        self._found[number] = found = object.__new__(cls)
        nn.Module.__init__(found)  # empty; the constructor of the class is not run
        found.training = node["training"] is True
        kinds = {"parameters": nn.Parameter, "buffers": Tensor, "modules": nn.Module}
        parts = {
            group: self._allowed(
                cls, _of_type(self._named(node[group]), kind), custom, may_contain
            )
            for group, kind in kinds.items()
        }
        found._parameters.update(parts["parameters"])
        found._buffers.update(parts["buffers"])
        kept = [name for name in node["not persistent"] if name in found._buffers]
        found._non_persistent_buffers_set.update(kept)
        found._modules.update(parts["modules"])
        own = self._named(self._allowed(cls, node["state"], custom, may_hold))
        own = harmless(own, self.left_out, cls.__name__)
        self._check_constructor(
            cls, custom, {k for p in (own, *parts.values()) for k in p}
        )
        _set_state(found, {**vars(found), **own})
        if isinstance(found, nn.RNNBase):
            self._spend(len(found._flat_weights_names))
            found._init_flat_weights()
        return found

    def _optimizer(self, node: dict[str, Any], number: int) -> Any:
        cls, _ = self._class(node, torch.optim.Optimizer)
        self._found[number] = found = object.__new__(cls)
        keys = [self.value(key) for key, _ in node["moments"]]
        self._spend(len(keys))
        check_keys(keys)
        moments = {
            key: self.value(value)
            for key, (_, value) in zip(keys, node["moments"], strict=True)
        }
        defaults, groups = self.value(node["defaults"]), self.value(node["groups"])
        return optimizer_of(found, defaults, groups, moments, self._spend)

    _KINDS: ClassVar[dict[str, Callable[[Decoder, dict[str, Any], int], Any]]] = {
        **dict.fromkeys(("set", "frozenset"), _set),
        **dict.fromkeys(("dict", "ordered dict"), _dict),
        **dict.fromkeys(("tensor", "parameter"), _tensor),
        **dict.fromkeys(("RandomState", "Generator", "torch Generator"), _random),
        "complex": _complex,
        "slice": _slice,
        "tuple": _tuple,
        "size": _size,
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


def usable_device(name: Any, remedy: str) -> torch.device:
    """The device of a name, if this machine has it.

    Raises
    ------
    PersistenceError
        If it has not.
    """
    try:
        device = torch.device(name)
        there = device.type != "cuda" or torch.cuda.is_available()
        if there and device.type not in ("cpu", "cuda", "meta"):
            torch.empty(0, device=device)
    except (RuntimeError, TypeError, AssertionError, NotImplementedError):
        there = False
    if not there:
        raise PersistenceError(
            "The device of the saved estimator must be at hand. Got "
            f"{repr(name)[:60]} on a machine without it; {remedy}."
        )
    return device


def _of_type(found: dict[str, Any], kind: type) -> dict[str, Any]:
    for name, value in found.items():
        if value is not None and not isinstance(value, kind):
            raise PersistenceError(
                f"{name!r} must be a {kind.__name__}. {_got(type(value).__name__)}"
            )
    return found


def _set_state(thing: Any, state: dict[str, Any]) -> None:
    # Not by an update: the dicts of a class share the order of their keys.
    object.__setattr__(thing, "__dict__", state)


@functools.lru_cache(maxsize=1000)
def _defaults(cls: type) -> Mapping[str, Any]:
    """Defaults of parameters, some of which an older version did not have."""
    if cls.__init__ is object.__init__:  # type: ignore[misc]
        return {}
    parameters = inspect.signature(cls).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def _got(what: Any) -> str:
    text = repr(what[:80]) if isinstance(what, str) else _brief(what)
    short = text if len(text) < 80 else f"{text[:77]}..."
    return f"Got {short}; the file is damaged, get another copy."


def _brief(what: Any) -> str:
    """What something is, in few letters, whatever its size."""
    if what is None or isinstance(what, bool | float):
        return repr(what)
    if isinstance(what, int):
        return repr(what) if abs(what) < 2**63 else "a huge number"
    return f"a {type(what).__name__}"
