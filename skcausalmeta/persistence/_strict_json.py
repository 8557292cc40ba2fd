"""JSON as a file from elsewhere has to be read: nothing twice, nothing huge."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from ..exceptions import PersistenceError

# A parsed value takes up to a hundred bytes: this bounds the memory of a parse.
_MOST_VALUES = 4_000_000


def read_json(text: str) -> Any:
    """Parse a text.

    Raises
    ------
    PersistenceError
        If it is no JSON, names a key twice in one object, holds NaN or an infinite
        number, is nested too deep, or holds more values than a saved estimator.
    """
    n_values = sum(text.count(mark) for mark in ",[{")
    if n_values > _MOST_VALUES:
        raise PersistenceError(
            f"A saved estimator must have at most {_MOST_VALUES} values. Got about "
            f"{n_values}; the file was not written by skcausalmeta."
        )
    try:
        return json.loads(
            text,
            object_pairs_hook=_without_repetition,
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


def write_json(value: Any) -> str:
    """The shortest text of a value, in ASCII."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        _refuse(f"the key {twice!r} twice")
    return found


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        _refuse(digits)
    return value


def _refuse(what: str) -> NoReturn:
    raise PersistenceError(
        "The description of a saved estimator must hold finite numbers and every key "
        f"once. Got {what}; the file is damaged, get another copy."
    )
