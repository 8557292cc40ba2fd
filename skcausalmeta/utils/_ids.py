"""Ids of rows: of tasks and of environments."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ..exceptions import InvalidInputError
from ._missing import count_missing

_NOTHING = object()


def ids_of(ids: Any, name: str, n_rows: int | None = None) -> NDArray[Any]:
    """Return one id a row, none of them missing, all of one type.

    Parameters
    ----------
    ids : array-like of shape (n_rows,) or (n_rows, 1)
        Numbers, texts, dates or any objects that sort.
    name : str
        What the message calls them.
    n_rows : int, default=None
        How many there have to be; None: any number.

    Returns
    -------
    ndarray of shape (n_rows,)

    Raises
    ------
    InvalidInputError
        With the name, if they are not one a row, or some are missing or of another
        type than others.

    Examples
    --------
    >>> from skcausalmeta.utils import ids_of
    >>> ids_of([["a"], ["b"]], "tasks").tolist()
    ['a', 'b']
    """
    found = _as_array(ids, name)
    if found.ndim != 1 and not (found.ndim == 2 and found.shape[1] == 1):
        raise InvalidInputError(
            f"{name} must be one-dimensional, one id per row. Got shape "
            f"{found.shape}; pass one column, or join several to one id."
        )
    found = found.ravel()
    if n_rows is not None and len(found) != n_rows:
        raise InvalidInputError(
            f"{name} must hold one id a row. Found input variables with inconsistent "
            f"numbers of samples: {[n_rows, len(found)]}."
        )
    refuse_mixed(ids, name)
    if found.dtype.kind in "fc" and not np.isfinite(found).all():
        raise InvalidInputError(
            f"{name} must not hold NaN or infinity. Got "
            f"{np.count_nonzero(~np.isfinite(found))} such rows; drop or fill them."
        )
    check_sortable(found, name)
    if missing := count_missing(found) + count_masked(ids):
        raise InvalidInputError(
            f"{name} must not hold NaN, NaT or None. Got {missing} such rows; drop or "
            "fill them."
        )
    return found


def _as_array(ids: Any, name: str) -> NDArray[Any]:
    if isinstance(ids, str | bytes | dict | set | frozenset) or not (
        hasattr(ids, "__len__") or hasattr(ids, "__array__")
    ):
        got = type(ids).__name__
    elif sparse.issparse(ids):
        got = "a sparse matrix"
    else:
        try:
            # Integers of pandas that may be missing would become floats.
            return np.asarray(ids.to_numpy() if hasattr(ids, "to_numpy") else ids)
        except ValueError as error:
            reason = str(error).partition(". The")[0]
            got = f"a {type(ids).__name__} that is no array ({reason})"
    raise InvalidInputError(
        f"{name} must be one-dimensional, one id per row. Got {got}; pass a list, an "
        "array or one column."
    )


def refuse_mixed(values: Any, name: str) -> None:
    """Refuse a list of text and other values, which numpy would turn into text.

    The number 1 and the text "1" would be one label.

    Parameters
    ----------
    values : array-like
        Labels or ids; arrays have one type and are passed over.
    name : str
        What the message calls them.

    Raises
    ------
    InvalidInputError
        With the first two values of different types.

    Examples
    --------
    >>> from skcausalmeta.utils import refuse_mixed
    >>> refuse_mixed(["1", "2"], "y")
    """
    if not isinstance(values, list | tuple):
        return
    texts = (value for value in values if isinstance(value, str))
    others = (v for v in values if not isinstance(v, str | list | tuple))
    one, other = next(texts, None), next(others, _NOTHING)
    if one is not None and other is not _NOTHING:
        raise InvalidInputError(
            f"{name} must hold values of one type, none of them missing. Got {one!r} "
            f"and {other!r}; convert them to one type."
        )


def count_masked(values: Any) -> int:
    """Count the values that a mask of numpy hides.

    Parameters
    ----------
    values : array-like
        Rows, labels or ids.

    Returns
    -------
    int
        0 of anything but a masked array.

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.utils import count_masked
    >>> count_masked(np.ma.masked_equal([1, 2, 2], 2))
    2
    """
    masked = isinstance(values, np.ma.MaskedArray)
    return int(np.ma.count_masked(values)) if masked else 0


def check_sortable(values: NDArray[Any], name: str) -> None:
    """Refuse labels or ids of mixed types, missing ones among strings included.

    Parameters
    ----------
    values : ndarray
        Labels or ids.
    name : str
        What the message calls them.

    Raises
    ------
    InvalidInputError
        If they cannot be sorted.

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.utils import check_sortable
    >>> check_sortable(np.array(["b", "a"]), "y")
    """
    if values.dtype.kind in "biufcmMSU":  # of one type, that sorts
        return
    try:
        np.unique(values)
    except (TypeError, ValueError) as error:  # of lists as values
        raise InvalidInputError(
            f"{name} must hold values of one type, none of them missing. Got a mix "
            "that cannot be sorted; drop the rows without a value and convert the "
            "rest to one type."
        ) from error
