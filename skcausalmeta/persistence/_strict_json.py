"""JSON as a file from elsewhere has to be read: nothing twice, nothing huge."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from ..exceptions import PersistenceError
from ..utils import printable

# A parsed value takes up to a hundred bytes: this bounds the memory of a parse.
_MOST_VALUES = 1_000_000
# A list takes some 80 bytes and an object some 200, so that short texts of many of
# them would grow: what a saved estimator says takes more letters.
_FREE_PARTS, _LETTERS_PER_LIST, _LETTERS_PER_OBJECT = 1000, 6, 20
_FLOATS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


class Ref:
    """Reference to a node by its number, the most frequent of all objects."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number


def read_json(text: str) -> Any:
    """Parse a text; ``{"ref": number}`` becomes a `Ref`, ``{"float": name}`` a float.

    Raises
    ------
    PersistenceError
        If it is no JSON in ASCII, names a key twice in one object, holds NaN or an
        infinite number, is nested too deep, or holds more values than a saved
        estimator.
    """
    check_text(text)
    pairs = _Pairs(text)
    try:
        found = json.loads(
            text,
            object_pairs_hook=pairs.read,
            parse_constant=_refuse,
            parse_float=_finite,
        )
    except PersistenceError:
        raise
    except (ValueError, RecursionError) as error:
        raise PersistenceError(
            f"The description of a saved estimator must be JSON. Got: {error}; the "
            "file is damaged, get another copy."
        ) from error
    return found


def check_text(text: str) -> None:
    """Refuse a text that would cost far more than its length, before it is parsed.

    Raises
    ------
    PersistenceError
        If it holds more values than a saved estimator, or many empty parts.
    """
    if not text.isascii():
        _refuse("letters that are not in ASCII")
    n_values = sum(text.count(mark) for mark in ",[{")
    if n_values > _MOST_VALUES:
        raise PersistenceError(
            f"A saved estimator must have at most {_MOST_VALUES} values beside its "
            f"arrays. Got about {n_values}; leave out what is not needed, or keep long "
            "lists of numbers as arrays."
        )
    n_lists = text.count("[")
    if n_lists > _FREE_PARTS + len(text) // _LETTERS_PER_LIST:
        _refuse_density(n_lists, "lists", text)


def read_rows_json(content: bytes) -> list[dict[str, Any]]:
    """Rows of a history, which has one a step: a text of plain numbers.

    Raises
    ------
    PersistenceError
        If they are none.
    """
    n_parts = content.count(b"[") + content.count(b"{")
    if not content.isascii() or n_parts > _FREE_PARTS + len(content) // 12:
        _refuse("a history of empty parts")
    try:
        rows = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise PersistenceError(
            "A history must be JSON. It is not; the file is damaged, get another copy."
        ) from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        _refuse("a history without rows")
    return rows


def write_rows_json(rows: list[Any]) -> bytes | None:
    """The text of a history; None where it holds more than numbers and text."""
    if not _is_plain(rows):
        return None
    return json.dumps(rows, separators=(",", ":")).encode("ascii")


def _is_plain(value: Any) -> bool:
    if type(value) is list:
        return all(map(_is_plain, value))
    if type(value) is dict:
        return all(type(name) is str for name in value) and _is_plain([*value.values()])
    return value is None or type(value) in (bool, int, float, str)


def write_json(value: Any) -> str:
    """The shortest text of a value, in ASCII."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


class _Pairs:
    """Makes objects of their pairs, and counts them."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._left = _FREE_PARTS + len(text) // _LETTERS_PER_OBJECT

    def read(self, pairs: list[tuple[str, Any]]) -> Any:
        if len(pairs) == 1:
            ((name, value),) = pairs
            if name == "ref" and type(value) is int:
                return Ref(value)
            if name == "float" and isinstance(value, str) and value in _FLOATS:
                return _FLOATS[value]
        self._left -= 1
        if self._left < 0:
            _refuse_density("more", "objects", self._text)
        found = dict(pairs)
        if len(found) != len(pairs):
            _refuse(f"the key {_repeated(pairs)} twice")
        return found


def _repeated(pairs: list[tuple[str, Any]]) -> str:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            break
        seen.add(name)
    return repr(name[:60])


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        _refuse(digits)
    return value


def _refuse(what: str) -> NoReturn:
    raise PersistenceError(
        "The description of a saved estimator must hold finite numbers and every key "
        f"once. Got {printable(what[:100])}; the file is damaged, get another copy."
    )


def _refuse_density(number: Any, what: str, text: str) -> NoReturn:
    raise PersistenceError(
        f"A saved estimator must have few {what} for the length of its text. Got "
        f"{number} in {len(text)} letters; the file was not written by skcausalmeta."
    )
