"""What a harmless function must not do, and the memory that it takes."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from ._memory import peak, reset_peak

# Anything that reading has no business with.
FORBIDDEN = (
    "compile",
    "exec",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.chmod",
    "os.link",
    "os.mkdir",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.symlink",
    "os.truncate",
    "os.system",
    "pickle.find_class",
    "socket",
    "subprocess",
    "import",
)


class Watch:
    """Notes events of the interpreter that reading must not bring about.

    Parameters
    ----------
    allowed : iterable of str, default=()
        Events of which nothing is said, such as "compile" of a parser of literals.
    """

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self._forbidden = tuple(set(FORBIDDEN) - set(allowed))
        self.on = False
        self.seen: list[str] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        writes = (
            event == "open"
            and isinstance(arguments[1], str)
            and (set(arguments[1]) & set("wax+"))
        )
        if writes or event.startswith(self._forbidden):
            self.seen.append(f"{event} {str(arguments)[:100]}")


class Memory:
    """The most memory that a block of code takes beyond what the process has."""

    def __enter__(self) -> Memory:
        self._rest = reset_peak()
        return self

    def __exit__(self, *_: object) -> None:
        self.grown = peak() - self._rest
