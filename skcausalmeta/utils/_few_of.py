"""Many names in a message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_MOST_NAMES = 5


def few_of(names: Sequence[Any]) -> str:
    """Name the first of many, and say how many there are.

    Parameters
    ----------
    names : sequence
        Ids, labels or words; strings are quoted as in code.

    Returns
    -------
    str
        Their number and at most five of them.

    Examples
    --------
    >>> from skcausalmeta.utils import few_of
    >>> print(few_of(["ann", "bob"]))
    2 ('ann', 'bob')
    >>> print(few_of(range(9)))
    9 (0, 1, 2, 3, 4 and 4 more)
    """
    shown = ", ".join(repr(name) for name in names[:_MOST_NAMES])
    more = len(names) - _MOST_NAMES
    return f"{len(names)} ({shown}{f' and {more} more' if more > 0 else ''})"
