"""Checks of the numbers that backbones and augmentations are built from."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

from ..exceptions import InvalidInputError


def positive_int(owner: str, name: str, value: Any) -> int:
    """Return `value` as an int, or say which parameter of whom must be one.

    Parameters
    ----------
    owner : str
        Class or function that has the parameter, for the message.
    name : str
        Name of the parameter, for the message.
    value : object
        What was given for it.

    Returns
    -------
    int
        The value, >= 1.

    Raises
    ------
    InvalidInputError
        If `value` is no integer >= 1; a bool is none.

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.backbones import positive_int
    >>> positive_int("MyNet", "width", np.int64(64))
    64
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise InvalidInputError(
            f"The {name!r} parameter of {owner} must be a positive integer. "
            f"Got {value!r} instead."
        )
    return int(value)


def positive_ints(owner: str, name: str, values: Any) -> tuple[int, ...]:
    """Return `values` as a tuple of positive ints, possibly empty.

    Parameters
    ----------
    owner : str
        Class or function that has the parameter, for the message.
    name : str
        Name of the parameter, for the message.
    values : object
        What was given for it.

    Returns
    -------
    tuple of int
        The values, each >= 1.

    Raises
    ------
    InvalidInputError
        If `values` is no sequence, or an entry is no integer >= 1; the message
        says which one.

    Examples
    --------
    >>> from skcausalmeta.backbones import positive_ints
    >>> positive_ints("MyNet", "hidden", [64, 32])
    (64, 32)
    """
    if isinstance(values, (str, bytes)) or not isinstance(values, Sequence):
        raise InvalidInputError(
            f"The {name!r} parameter of {owner} must be a sequence of positive "
            f"integers, such as (64,). Got {values!r} instead."
        )
    return tuple(positive_int(owner, f"{name}[{i}]", v) for i, v in enumerate(values))


def real_between(
    owner: str, name: str, value: Any, low: float, high: float, *, closed: bool
) -> float:
    """Return `value` as a float of [low, high] (closed) or [low, high)."""
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    number = float(value) if is_number else float("nan")
    if not (low <= number < high or (closed and number == high)):
        bracket = "]" if closed else ")"
        raise InvalidInputError(
            f"The {name!r} parameter of {owner} must be a number in the range "
            f"[{low}, {high}{bracket}. Got {value!r} instead."
        )
    return number


def positive_real(owner: str, name: str, value: Any) -> float:
    """Return `value` as a finite float > 0."""
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    number = float(value) if is_number else float("nan")
    if not 0 < number < float("inf"):
        raise InvalidInputError(
            f"The {name!r} parameter of {owner} must be a positive number. Got "
            f"{value!r} instead."
        )
    return number


def image_sides(owner: str, image_size: Any) -> tuple[int, int]:
    """Return (height, width) from one side of a square or from a pair."""
    if isinstance(image_size, Integral):
        side = positive_int(owner, "image_size", image_size)
        return side, side
    sides = positive_ints(owner, "image_size", image_size)
    if len(sides) != 2:
        raise InvalidInputError(
            f"The 'image_size' parameter of {owner} must be one side or a pair "
            f"(height, width). Got {image_size!r} instead."
        )
    return sides[0], sides[1]
