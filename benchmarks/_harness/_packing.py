"""Long lists of numbers as short text in a line, without loss.

A list of scores becomes ``{"packed": "u1", "over": 75, "digits": 4, "data": ...}``:
whole numbers of one byte, in base64, each of which is divided by `over` and rounded
to `digits` digits (not rounded where `digits` is null). Where no such fractions give
back every number exactly, the numbers are stored as they are ("<f8").
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

SHORTEST = 30
# Correct answers of an episode of up to 400 rows, then decimals.
_DIVISORS = (*range(1, 401), 1_000, 10_000, 100_000, 1_000_000)
_DIGITS = (None, 3, 4, 5)
_WHOLE = ("u1", "i1", "<u2", "<i2", "<i4")


def pack(entry: Any) -> Any:
    """An entry of a line with its long lists of numbers packed."""
    if isinstance(entry, dict):
        return {key: pack(value) for key, value in entry.items()}
    if not isinstance(entry, list | tuple):
        return entry
    if len(entry) < SHORTEST or not all(type(value) is float for value in entry):
        return [pack(value) for value in entry]
    return _as_fractions(entry) or _stored("<f8", None, None, np.array(entry))


def unpack(entry: Any) -> Any:
    """An entry of a line with its lists of numbers as lists."""
    if isinstance(entry, list):
        return [unpack(value) for value in entry]
    if not isinstance(entry, dict):
        return entry
    if "packed" not in entry:
        return {key: unpack(value) for key, value in entry.items()}
    kind, over, digits = entry["packed"], entry["over"], entry["digits"]
    numbers = np.frombuffer(base64.b64decode(entry["data"]), np.dtype(kind))
    return numbers.tolist() if over is None else _fractions(numbers, over, digits)


def _as_fractions(values: Sequence[float]) -> dict[str, Any] | None:
    """The packed list by the smallest divisor that gives every number back."""
    array, text = np.array(values), json.dumps(list(values))
    if not np.isfinite(array).all():
        return None
    for over in _DIVISORS:
        counts = np.rint(array * over)
        near = np.abs(counts / over - array).max() <= 1e-3
        kind = _kind_of(counts) if near else None
        if kind is None:
            continue
        for digits in _DIGITS:
            numbers = counts.astype(kind)
            if json.dumps(_fractions(numbers, over, digits)) == text:
                return _stored(kind, over, digits, numbers)
    return None


def _fractions(numbers: np.ndarray, over: int, digits: int | None) -> list[float]:
    values = [number / over for number in numbers.tolist()]
    return values if digits is None else [round(value, digits) for value in values]


def _kind_of(counts: np.ndarray) -> str | None:
    for kind in _WHOLE:
        bounds = np.iinfo(kind)
        if bounds.min <= counts.min() and counts.max() <= bounds.max:
            return kind
    return None


def _stored(
    kind: str, over: int | None, digits: int | None, numbers: np.ndarray
) -> dict[str, Any]:
    data = base64.b64encode(numbers.tobytes()).decode("ascii")
    return {"packed": kind, "over": over, "digits": digits, "data": data}
