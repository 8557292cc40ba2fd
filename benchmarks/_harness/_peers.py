"""Packages that a benchmark compares with, where they can be imported."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple


class Peer(NamedTuple):
    """A package of others: its module, None if it cannot be imported, and why."""

    name: str
    module: Any
    state: str  # its version, or why it is left out

    @property
    def missing(self) -> bool:
        return self.module is None


def find_peer(name: str, load: str | Callable[[], Any]) -> Peer:
    """The peer of a distribution's name, by a module's name or a call that loads it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            module = import_module(load) if isinstance(load, str) else load()
        except Exception as error:  # optional parts of peers fail in many ways
            why = " ".join(f"{type(error).__name__}: {error}".split())
            return Peer(name, None, f"left out, {why}"[:80])
    return Peer(name, module, _version(name))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "version unknown"
