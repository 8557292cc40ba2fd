"""Ids of tasks of any type, compared without loss."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..exceptions import InvalidInputError
from ._checks import check_given_ids

_NUMBERS = "biuf"
_FAMILIES = {
    **dict.fromkeys(_NUMBERS, "numbers"),
    "U": "texts",
    "S": "bytes",
    "M": "dates",
    "m": "durations",
}
# Longer texts would fill arrays of a fixed width with nothing.
_LONGEST = 200
_BITS = np.iinfo(np.int64).max


def as_ids(values: Any) -> NDArray[Any]:
    """Return ids as an array of one axis, in which none is changed.

    Texts and bytes that an array of a fixed width would cut, and values of which numpy
    knows no type, stay objects. Times with a zone become those of UTC.

    Parameters
    ----------
    values : sequence
        Ids of one type.

    Returns
    -------
    ndarray of shape (n,)

    Examples
    --------
    >>> from skcausalmeta.learners import as_ids
    >>> as_ids(["a", "b"]).dtype, as_ids([2**70]).dtype, as_ids([(1, "a")]).shape
    (dtype('<U1'), dtype('O'), (1,))
    """
    if hasattr(values, "to_numpy"):
        values = values.to_numpy()
    if isinstance(values, np.ndarray) and values.dtype.kind != "O":
        return values
    listed = list(values)
    found = np.empty(len(listed), dtype=object)
    for k, value in enumerate(listed):  # a tuple is one id
        found[k] = value
    exact = _exact(listed)
    return found if exact is None else exact


def _exact(listed: list[Any]) -> NDArray[Any] | None:
    """Return values in a type of numpy, None if there is none that keeps them."""
    if not listed:
        return None
    for kind in (str, bytes):
        if all(isinstance(value, kind) for value in listed):
            longest = max(map(len, listed))
            found = np.array(listed) if longest <= _LONGEST else None
            # Zeros at the end get lost in a fixed width.
            return found if found is not None and found.tolist() == listed else None
    if all(isinstance(value, bool | int | float | np.number) for value in listed):
        found = np.array(listed)
        kept = found.dtype.kind in _NUMBERS and found.tolist() == listed
        return found if kept else None
    return _dates(listed)


def _dates(listed: list[Any]) -> NDArray[Any] | None:
    if all(hasattr(value, "asm8") for value in listed):  # of pandas, in UTC
        return np.array([value.asm8 for value in listed])
    if all(isinstance(value, np.datetime64 | np.timedelta64) for value in listed):
        return np.array(listed)
    if all(isinstance(value, datetime.datetime) for value in listed):
        aware = {value.utcoffset() is not None for value in listed}
        if aware == {True}:
            utc = datetime.UTC
            listed = [value.astimezone(utc).replace(tzinfo=None) for value in listed]
        return np.array(listed, dtype="M8[us]") if len(aware) == 1 else None
    if all(type(value) is datetime.date for value in listed):
        return np.array(listed, dtype="M8[D]")
    if all(isinstance(value, datetime.timedelta) for value in listed):
        return np.array(listed, dtype="m8[us]")
    return None


def checked_ids(ids: Any, X: Any = None) -> NDArray[Any]:
    """Return ids of rows as `as_ids` does, all of one type and none missing.

    Parameters
    ----------
    ids : array-like of shape (n,)
        Ids of tasks.
    X : array-like of shape (n, ...), default=None
        Rows that they must be as many as.

    Returns
    -------
    ndarray of shape (n,)

    Raises
    ------
    InvalidInputError
        If an id is missing, they are of several types, or not one a row.

    Examples
    --------
    >>> from skcausalmeta.exceptions import InvalidInputError
    >>> from skcausalmeta.learners import checked_ids
    >>> try:
    ...     checked_ids([1.0, float("nan")])
    ... except InvalidInputError as error:
    ...     print(error)
    tasks must not hold NaN or infinity. Got 1 such rows; drop or fill them.
    """
    return as_ids(check_given_ids(ids, ids if X is None else X, "tasks"))


def names_of(ids: NDArray[Any]) -> list[Any]:
    """Return ids as values that `as_ids` takes back, for use as keys.

    Parameters
    ----------
    ids : ndarray of shape (n,)
        As `as_ids` makes them.

    Returns
    -------
    list
        Numbers, texts, dates and so on.

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.learners import names_of
    >>> names_of(np.array([3, 4]))
    [3, 4]
    """
    if ids.dtype.kind in "mM" and np.datetime_data(ids.dtype)[0] == "ns":
        return list(ids)  # as numbers they would be no dates
    return ids.tolist()


def family_of(ids: NDArray[Any]) -> str:
    """Return what ids are: only those of one family are compared."""
    if ids.dtype.kind != "O":
        return _FAMILIES.get(ids.dtype.kind, "others")
    for kind, name in ((str, "texts"), (bytes, "bytes")):
        if len(ids) and isinstance(ids[0], kind):
            return name
    return "others"


def joined_ids(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Join ids; those that are equal stay so, and those that are not.

    Raises
    ------
    InvalidInputError
        If they are of several types, or no type of numbers holds all.
    """
    parts = [part for part in parts if len(part)]
    if not parts:
        return np.empty(0, dtype=np.int64)
    families = sorted({family_of(part) for part in parts})
    if len(families) > 1:
        raise InvalidInputError(
            f"Ids of tasks must be of one type. Got {' and '.join(families)}; convert "
            "the ids of the new tasks."
        )
    kinds = {part.dtype.kind for part in parts}
    if len(kinds) == 1 or families != ["numbers"]:
        return np.concatenate(parts)
    for kind in (np.int64, np.uint64, np.float64):
        found = [comparable(part, np.dtype(kind)) for part in parts]
        if all(exact.all() for _, exact in found):
            return np.concatenate([part for part, _ in found])
    raise InvalidInputError(
        "Ids of tasks must be numbers of one type. Got some that are whole and large "
        "and others that are not; convert all of them to texts."
    )


def comparable(
    ids: NDArray[Any], dtype: np.dtype[Any]
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return ids as values of a type, and which of them that type holds.

    Numbers of several types would be compared as floats, in which large ones that
    differ are equal.
    """
    if ids.dtype.kind == dtype.kind or {ids.dtype.kind, dtype.kind} - set(_NUMBERS):
        return ids, np.ones(len(ids), dtype=bool)
    if ids.dtype.kind == "b":
        ids = ids.astype(np.int64)
    if dtype.kind == "b":
        exact = (ids == 0) | (ids == 1)
        return np.where(exact, ids, 0).astype(bool), exact
    if dtype.kind == "f":
        found = ids.astype(np.float64)
        small = np.abs(found) < 2.0**63
        return found, small & (np.where(small, found, 0).astype(ids.dtype) == ids)
    if ids.dtype.kind == "f":
        low, high = (-(2.0**63), 2.0**63) if dtype.kind == "i" else (0.0, 2.0**64)
        exact = (ids >= low) & (ids < high) & (np.floor(ids) == ids)
    elif dtype.kind == "u":
        exact = ids >= 0
    else:
        exact = ids <= np.uint64(_BITS) if ids.dtype.kind == "u" else ids == ids
    wide = np.int64 if dtype.kind == "i" else np.uint64
    return np.where(exact, ids, 0).astype(wide), exact


def find_ids(ids: NDArray[Any], known: NDArray[Any]) -> NDArray[np.int64]:
    """Return the places of ids among sorted ones, -1 of those that are not there."""
    unknown = np.full(len(ids), -1, dtype=np.int64)
    if not len(known) or not len(ids) or family_of(ids) != family_of(known):
        return unknown
    values, exact = comparable(ids, known.dtype)
    try:
        place = np.searchsorted(known, values)
    except TypeError:  # objects of another kind
        return unknown
    place[place == len(known)] = 0
    return np.where(exact & (known[place] == values), place, -1)
