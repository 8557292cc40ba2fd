"""Values that stand for none: NaN, NaT, None, and what pandas writes for them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def count_missing(values: NDArray[Any]) -> int:
    """Count the values that are not there.

    Parameters
    ----------
    values : ndarray of shape (n,)
        Ids or labels of any type.

    Returns
    -------
    int
        How many are NaN, NaT, None or ``pandas.NA``.

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.utils import count_missing
    >>> count_missing(np.array(["2026-01-05", "NaT"], dtype="datetime64[D]"))
    1
    """
    kind = values.dtype.kind
    if kind == "O":
        return sum(map(_is_missing, values))
    if kind in "mM":
        return int(np.isnat(values).sum())
    return int(np.isnan(values).sum()) if kind in "fc" else 0


def _is_missing(value: Any) -> bool:
    try:
        return value is None or bool(value != value)
    except (TypeError, ValueError):  # pandas.NA is neither equal nor different
        return True
