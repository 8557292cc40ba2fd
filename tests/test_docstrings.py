"""Every public name is documented in the form that readers rely on."""

import importlib
import inspect
import pkgutil

import pytest
from numpydoc.docscrape import ClassDoc, FunctionDoc

import skcausalmeta


def iter_public_objects():
    """Yield name and object of what a room exports and the package defines."""
    seen = set()
    for info in pkgutil.iter_modules(skcausalmeta.__path__):
        if info.name.startswith("_"):
            continue
        room = importlib.import_module(f"skcausalmeta.{info.name}")
        for name in room.__all__:
            obj = getattr(room, name)
            if is_documented_here(obj) and id(obj) not in seen:
                seen.add(id(obj))
                yield f"{info.name}.{name}", obj


def is_documented_here(obj):
    kind = inspect.isclass(obj) or inspect.isfunction(obj)
    return kind and obj.__module__.split(".")[0] == "skcausalmeta"


def signature_names(obj):
    """List the parameters of `obj`, with the stars that numpydoc expects."""
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    parameters = inspect.signature(obj).parameters.values()
    return [stars.get(item.kind, "") + item.name for item in parameters]


def has_own_constructor(cls):
    """Tell a constructor of the package from one inherited from a library."""
    if getattr(cls, "_is_protocol", False):
        return False
    owner = next(c for c in cls.__mro__ if {"__init__", "__new__"} & vars(c).keys())
    return owner.__module__.startswith(("skcausalmeta.", __name__))


def parameter_faults(obj, doc):
    names = [name for item in doc["Parameters"] for name in item.name.split(", ")]
    if not names and inspect.isclass(obj) and not has_own_constructor(obj):
        return []
    expected = signature_names(obj)
    if names != expected:
        return [f"Parameters lists {names}, the signature has {expected}"]
    return [
        f"parameter {item.name} lacks a type or a description"
        for item in doc["Parameters"]
        if not item.type or not "".join(item.desc).strip()
    ]


def docstring_faults(obj):
    """List what the docstring of `obj` lacks; an empty list is a pass."""
    if not inspect.getdoc(obj) or not vars(obj).get("__doc__", obj.__doc__):
        return ["no docstring"]
    if inspect.isclass(obj):
        doc = ClassDoc(obj, config={"show_class_members": False})
    else:
        doc = FunctionDoc(obj)
    faults = []
    if not "".join(doc["Summary"]).strip():
        faults.append("no summary")
    faults += parameter_faults(obj, doc)
    if ">>> " not in "\n".join(doc["Examples"]):
        faults.append("no Examples section with a doctest")
    return faults


def test_public_docstrings_are_complete():
    faults = {name: docstring_faults(obj) for name, obj in iter_public_objects()}
    assert {name: found for name, found in faults.items() if found} == {}
    assert len(faults) > 250


def sample_vague(a):
    """Do something.

    Parameters
    ----------
    a
        A number.

    Examples
    --------
    >>> 1
    1
    """


def sample_function(a, *names, b=1):
    """Do something.

    Parameters
    ----------
    a, b : int
        Numbers.
    *names : str
        Names.
    """


class SampleClass:
    """A class.

    Parameters
    ----------
    a : int
        A number.

    Examples
    --------
    >>> 1
    1
    """

    def __init__(self, a, b):
        self.a, self.b = a, b


class SampleError(ValueError):
    """An error whose constructor is Python's own.

    Examples
    --------
    >>> 1
    1
    """


class Undocumented(SampleError):
    pass


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (sample_function, ["Parameters lists ['a', 'b', '*names']", "no Examples"]),
        (sample_vague, ["parameter a lacks a type"]),
        (SampleClass, ["Parameters lists ['a'], the signature has ['a', 'b']"]),
        (SampleError, []),
        (Undocumented, ["no docstring"]),
    ],
)
def test_the_check_finds_faults(obj, expected):
    faults = docstring_faults(obj)
    assert len(faults) == len(expected)
    for fault, start in zip(faults, expected, strict=True):
        assert fault.startswith(start)
