"""Indices of data frames and series that belong together."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..exceptions import InvalidInputError


def refuse_other_index(**given: Any) -> None:
    """Refuse pandas objects whose indices differ.

    Objects with an index must have the same one, in the same order: rows are never
    aligned in silence, nor taken by position against what their index says. Arrays
    and lists, which have none, go by position beside any of them.

    Parameters
    ----------
    **given : object
        By name: rows, labels, ids. None, and what has no index, is passed over.

    Raises
    ------
    InvalidInputError
        With the names of two that differ, and the first place.

    Examples
    --------
    >>> import pandas as pd
    >>> from skcausalmeta.exceptions import InvalidInputError
    >>> from skcausalmeta.utils import refuse_other_index
    >>> rows = pd.DataFrame({"a": [1.0, 2.0]}, index=["p", "q"])
    >>> refuse_other_index(X=rows, y=[0, 1])
    >>> try:
    ...     refuse_other_index(X=rows, y=rows["a"].sort_index(ascending=False))
    ... except InvalidInputError as error:
    ...     print(str(error)[:58])
    X and y must have one index, in the same order. Got 'p' an
    """
    found = {
        name: value.index
        for name, value in given.items()
        if hasattr(getattr(value, "index", None), "equals")
    }
    if len(found) < 2:
        return
    first, *others = found
    for name in others:
        one, other = found[first], found[name]
        if len(one) == len(other) and not one.equals(other):
            pairs = enumerate(zip(one, other, strict=True))
            place = next((k for k, pair in pairs if _differ(pair)), 0)
            raise InvalidInputError(
                f"{first} and {name} must have one index, in the same order. Got "
                f"{_plain(one[place])!r} and {_plain(other[place])!r} at row {place}; "
                f"align them, for instance by {name}.loc[{first}.index], or pass "
                f"{name}.to_numpy() to go by position."
            )


def _plain(value: Any) -> Any:
    """Return a number of numpy as one of Python, which is shorter to read."""
    return value.item() if isinstance(value, np.generic) else value


def _differ(pair: tuple[Any, Any]) -> bool:
    one, other = pair
    both_missing = one != one and other != other
    return not both_missing and bool(one != other)
