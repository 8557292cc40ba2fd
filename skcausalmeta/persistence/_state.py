"""Which attributes a class has, so that a file can set no others."""

from __future__ import annotations

import dis
import functools
import inspect
from collections.abc import Iterable, Iterator
from types import CodeType, FunctionType
from typing import Any

from sklearn.base import BaseEstimator
from sklearn.utils._metadata_requests import SIMPLE_METHODS, MetadataRequest
from skorch import NeuralNet
from skorch.callbacks import LRScheduler
from torch import nn
from torch.optim import lr_scheduler

from ..utils import package_definitions

_PACKAGE = __name__.partition(".")[0]
_LIBRARIES = frozenset({_PACKAGE, "sklearn", "skorch", "torch"})
_STORE = dis.opmap["STORE_ATTR"]
_DEFAULTS = (type(None), bool, int, float, str)
# Set by functions of scikit-learn, outside the classes.
_OF_ESTIMATORS = frozenset(
    {
        "_metadata_request",
        "_sklearn_output_config",
        "feature_names_in_",
        "n_features_in_",
    }
)
# Parts of a skorch net, whose keywords it keeps as they were given.
_PARTS_OF_NETS = frozenset(
    {
        *("callbacks", "criterion", "dataset", "iterator_train", "iterator_valid"),
        *("module", "optimizer"),
    }
)
# How a module works, hooks included; its parts are told apart from its attributes.
_OF_EVERY_MODULE = frozenset({*vars(nn.Module), *vars(nn.Module())})
# Modules that number or name their parts as they come.
_CONTAINERS = (
    *(nn.ModuleDict, nn.ModuleList, nn.ParameterDict, nn.ParameterList),
    *(nn.RNNBase, nn.Sequential),
)
# Answers that are kept of names in files and of classes, and most letters of a name.
_MOST_ANSWERS, _MOST_CLASSES, _MOST_LETTERS = 10_000, 1000, 200


def may_hold(cls: Any, name: Any, *, custom: bool) -> bool:
    """Whether an instance of a class may get an attribute from a file.

    Parameters
    ----------
    cls : type
        The class.
    name : object
        Name of the attribute.
    custom : bool
        Whether the caller vouches for the class, which then has any attribute but
        one that would stand before a method.
    """
    if not isinstance(name, str) or not name:
        return False
    # Answers are kept with their names: long ones are worked out anew.
    kept = len(name) <= _MOST_LETTERS
    return (_may_hold if kept else _may_hold.__wrapped__)(cls, name, custom)


def may_contain(cls: Any, name: Any, *, custom: bool) -> bool:
    """Whether a module of a class may have a part, weight or buffer of a name."""
    if not isinstance(name, str) or not name:
        return False
    kept = len(name) <= _MOST_LETTERS
    return (_may_contain if kept else _may_contain.__wrapped__)(cls, name, custom)


@functools.lru_cache(maxsize=_MOST_ANSWERS)
def _may_hold(cls: Any, name: str, custom: bool) -> bool:
    if not name.isidentifier() or _is_of_python(name):
        return False
    if issubclass(cls, nn.Module) and name in _OF_EVERY_MODULE:
        return False
    known = custom or name in attribute_names(cls) or _is_keyword(cls, name)
    return known and not _is_behaviour(inspect.getattr_static(cls, name, None))


@functools.lru_cache(maxsize=_MOST_ANSWERS)
def _may_contain(cls: Any, name: str, custom: bool) -> bool:
    if "." in name:
        return False
    if hasattr(nn.Module, name):
        return False
    if _is_behaviour(inspect.getattr_static(cls, name, None)):
        return False
    return custom or issubclass(cls, _CONTAINERS) or name in _part_names(cls)


def is_memo(cls: type, name: str) -> bool:
    """Whether an attribute is a value that the class computes again when asked."""
    return isinstance(
        inspect.getattr_static(cls, name, None), functools.cached_property
    )


@functools.lru_cache(maxsize=_MOST_CLASSES)
def constructor_names(cls: type) -> frozenset[str]:
    """Attributes that the constructors of a class, and of bases of its kind, set.

    Bases of libraries are left out: their versions are in the file.
    """
    found: set[str] = set()
    for base in cls.__mro__[:-1]:
        constructor = vars(base).get("__init__")
        if base.__module__.partition(".")[0] in _LIBRARIES:
            continue
        if isinstance(constructor, FunctionType):
            found |= _set_on_self(constructor.__code__)
    return frozenset(
        name
        for name in found
        if not _is_behaviour(inspect.getattr_static(cls, name, None))
    )


def _set_on_self(code: CodeType) -> set[str]:
    found, loaded = set(), None
    for step in dis.get_instructions(code):
        if step.opcode == _STORE and code.co_varnames[:1] == (loaded,):
            found.add(step.argval)
        # Newer Pythons load two variables in one step.
        both = isinstance(step.argval, tuple) and step.argval
        loaded = both[-1] if both else step.argval
    return found


@functools.lru_cache(maxsize=_MOST_CLASSES)
def attribute_names(cls: Any) -> frozenset[str]:
    """Names that the code of a class gives to attributes of its instances.

    Those are the parameters of its constructors, its annotations, what its functions
    assign, and what they spell as scikit-learn names what is learned, with an
    underscore at the end. For a class of this package its whole room counts.
    """
    found: set[str] = set()
    for base in cls.__mro__[:-1]:
        module = base.__module__.split(".")
        if module[0] == _PACKAGE:
            found |= _names_of_room(module[1])
        found |= _names_of_class(base)
    if issubclass(cls, BaseEstimator):
        found |= _OF_ESTIMATORS
    if issubclass(cls, MetadataRequest):
        found.update(SIMPLE_METHODS)
    return frozenset(found)


@functools.lru_cache(maxsize=_MOST_CLASSES)
def _part_names(cls: type) -> frozenset[str]:
    """Attributes of a module, and what it registers by a name in its text."""
    spelled = {
        text
        for base in cls.__mro__[:-1]
        for code in _codes_of_class(base)
        for text in _texts(code.co_consts)
    }
    return attribute_names(cls) | spelled


def _is_of_python(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _is_behaviour(member: Any) -> bool:
    """Whether a member of a class is code, which no instance replaces."""
    return callable(member) or hasattr(type(member), "__get__")


def _is_keyword(cls: type, name: str) -> bool:
    """Whether skorch keeps it as the keyword of a part."""
    if issubclass(cls, NeuralNet):
        part, mark, _ = name.partition("__")
        return bool(mark) and part in _PARTS_OF_NETS
    return issubclass(cls, LRScheduler) and name in _keywords_of_schedules()


@functools.cache
def _keywords_of_schedules() -> frozenset[str]:
    schedules = [c for c in vars(lr_scheduler).values() if inspect.isclass(c)]
    own = [c for c in schedules if issubclass(c, lr_scheduler.LRScheduler)]
    return frozenset(name for c in own for name in inspect.signature(c).parameters)


@functools.cache
def _names_of_room(room: str) -> frozenset[str]:
    found: set[str] = set()
    for name, definition in package_definitions():
        if name == room and isinstance(definition, type):
            found |= _names_of_class(definition)
        elif name == room:
            found.update(*map(_assigned, _codes(definition)))
    return frozenset(found)


@functools.lru_cache(maxsize=_MOST_CLASSES)
def _names_of_class(cls: type) -> frozenset[str]:
    fields = vars(cls).get("__dataclass_fields__", {})
    annotated = vars(cls).get("__annotations__", ())
    # A collection in a class, such as the constraints of its parameters, stays there.
    found = {
        name
        for name in annotated
        if name in fields or isinstance(vars(cls).get(name), _DEFAULTS)
    }
    found.update(*map(_assigned, _codes_of_class(cls)))
    constructor = vars(cls).get("__init__")
    if isinstance(constructor, FunctionType):
        found |= set(inspect.signature(constructor).parameters)
    return frozenset(found)


def _codes_of_class(cls: type) -> Iterator[CodeType]:
    for member in vars(cls).values():
        for part in ("__func__", "fget", "fset", "func"):
            yield from _codes(getattr(member, part, None))
        yield from _codes(member)


def _codes(function: Any) -> Iterator[CodeType]:
    function = inspect.unwrap(function) if callable(function) else function
    if isinstance(function, FunctionType):
        yield from _nested(function.__code__)


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)


def _assigned(code: CodeType) -> set[str]:
    found = {t for t in _texts(code.co_consts) if t.endswith("_")}
    # Most functions assign nothing, and to take a code apart is slow.
    if _STORE in code.co_code[::2]:
        steps = dis.get_instructions(code)
        found |= {step.argval for step in steps if step.opcode == _STORE}
    return found


def _texts(constants: Iterable[Any]) -> Iterator[str]:
    for constant in constants:
        if isinstance(constant, tuple):
            yield from _texts(constant)
        elif isinstance(constant, str) and constant.isidentifier():
            yield constant
