"""Labels and ids of text that look like the same to a reader."""

from __future__ import annotations

import math
import unicodedata
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np

from ._printable import printable

# From here on neighbours among the whole numbers are the same as floats.
_EXACT = 2**53


def as_seen(text: str) -> str:
    """Return a text without what is not seen: forms of letters, kinds of spaces.

    Parameters
    ----------
    text : str
        A label, an id, the name of a column.

    Returns
    -------
    str
        Equal for texts that look like the same.

    Examples
    --------
    >>> from skcausalmeta.utils import as_seen
    >>> as_seen(" cafe\\u0301\\u00a0noir") == as_seen("caf\\u00e9 noir")
    True
    """
    whole = unicodedata.normalize("NFC", text)
    seen = "".join(c for c in whole if unicodedata.category(c) != "Cf")
    return " ".join(seen.split())


def number_in(text: str) -> float | None:
    """Return the finite number that a text writes; None where it is none.

    Parameters
    ----------
    text : str
        A cell of a table.

    Returns
    -------
    float or None

    Examples
    --------
    >>> from skcausalmeta.utils import number_in
    >>> number_in("1e2"), number_in("1_000"), number_in("nan")
    (100.0, None, None)
    """
    if not text.isascii() or "_" in text:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def look_alikes(texts: Iterable[str]) -> tuple[str, str] | None:
    """Return the first two texts that differ in writing only, such as 1 and 01.

    Parameters
    ----------
    texts : iterable of str
        Labels or ids, each as often as it occurs.

    Returns
    -------
    tuple of two str, or None

    Examples
    --------
    >>> from skcausalmeta.utils import look_alikes
    >>> look_alikes(["yes", "no", "yes", "no "])
    ('no', 'no ')
    >>> look_alikes(["01", "1.0"])
    ('01', '1.0')
    >>> look_alikes(["one", "One"])
    """
    seen: dict[Any, str] = {}
    for text in dict.fromkeys(texts):
        for mark in _marks(text):
            other = seen.setdefault(mark, text)
            if other != text:
                return other, text
    return None


def _marks(text: str) -> list[Any]:
    """What two texts that look like the same have in common."""
    value = number_in(text)
    if value is None:
        return [as_seen(text)]
    if abs(value) >= _EXACT:
        return [as_seen(text), ("digits", text.lstrip("+0"))]
    return [as_seen(text), ("number", value)]


def warn_of_look_alikes(**given: Any) -> None:
    """Warn of labels and ids that differ in writing only, and are taken apart.

    Parameters
    ----------
    **given : array-like
        By name: labels, ids. None, numbers, and arrays of more than one axis are
        passed over.

    Warns
    -----
    UserWarning
        With the first two.

    Examples
    --------
    >>> import warnings
    >>> from skcausalmeta.utils import warn_of_look_alikes
    >>> with warnings.catch_warnings(record=True) as found:
    ...     warnings.simplefilter("always")
    ...     warn_of_look_alikes(y=["a", "a "], tasks=[1, 2])
    >>> print(str(found[0].message)[:44])
    Labels and ids must differ in more than writ
    """
    for name, values in given.items():
        try:
            array = np.asarray(() if values is None else values)
        except (TypeError, ValueError):  # of what is refused in words of its own
            continue
        if array.ndim != 1 or array.dtype.kind not in "OUST":
            continue
        pair = look_alikes(text for text in array.tolist() if isinstance(text, str))
        if pair is not None:
            one, other = (printable(text[:60]) for text in pair)
            warnings.warn(
                "Labels and ids must differ in more than writing to be told apart by "
                f"a reader. Got {one!r} and {other!r} in {name}, which are taken for "
                "two; write them in one way if they are one.",
                UserWarning,
                stacklevel=3,
            )
