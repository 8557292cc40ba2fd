"""What stands where numbers have to be: text, complex numbers, sequences."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..exceptions import InvalidInputError


@contextmanager
def saying_where_text_is(X: Any, name: str = "X") -> Iterator[None]:
    """Name the entry of `X` that is text, where the block fails because of one.

    Parameters
    ----------
    X : array-like
        What the block converts to numbers.
    name : str, default="X"
        What the message calls it.

    Raises
    ------
    InvalidInputError
        In place of a ValueError of the block, if an entry is text that is no number.

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.utils import saying_where_text_is
    >>> rows = [[1.0, "red"]]
    >>> try:
    ...     with saying_where_text_is(rows):
    ...         np.asarray(rows, dtype=object).astype(float)
    ... except ValueError as error:
    ...     print(str(error)[:51])
    X must hold numbers. Got 'red' in row 0, column 1;
    """
    try:
        yield
    except ValueError as error:
        refuse_text(X, name, error)
        raise


def refuse_text(X: Any, name: str, error: ValueError) -> None:
    """Name the entry that is text, where numbers were wanted in vain.

    Parameters
    ----------
    X : array-like
        What could not be converted to numbers.
    name : str
        What the message calls it.
    error : ValueError
        What the conversion raised.

    Raises
    ------
    InvalidInputError
        If an entry is text that is no number.

    Examples
    --------
    >>> from skcausalmeta.utils import refuse_text
    >>> refuse_text([[1.0, 2.0]], "X", ValueError("of another reason"))
    """
    place = _first_text(X)
    if place is not None:
        raise InvalidInputError(
            f"{name} must hold numbers. Got {place}; encode such values, for instance "
            "with OneHotEncoder in a ColumnTransformer before the estimator, by "
            "make_meta_pipeline, or leave them out."
        ) from error


def refuse_other_kinds(X: Any, name: str, error: ValueError) -> None:
    """Say what rows hold instead of real numbers, where these were wanted in vain.

    Parameters
    ----------
    X : array-like
        What could not be converted to numbers.
    name : str
        What the message calls it.
    error : ValueError
        What the conversion raised.

    Raises
    ------
    InvalidInputError
        If X holds text, complex numbers, or arrays as its entries, or its rows differ
        in shape.

    Examples
    --------
    >>> from skcausalmeta.utils import refuse_other_kinds
    >>> refuse_other_kinds([[1.0, 2.0]], "X", ValueError("of another reason"))
    """
    refuse_text(X, name, error)
    dtype = getattr(X, "dtype", None)
    if not isinstance(dtype, np.dtype):
        dtype = _entries_dtype(X)
    if dtype is not None and dtype.kind == "c":
        raise InvalidInputError(
            f"Complex data not supported: {name} must hold real numbers. Got {dtype}; "
            "give the real and the imaginary parts as features of their own."
        ) from error
    if dtype is not None and dtype.kind in "SU":
        raise InvalidInputError(
            f"{name} must hold numbers. Got numbers written as text ({dtype}); convert "
            f"them by {name}.astype(float)."
        ) from error
    shapes = sorted(_shapes_of_entries(X))
    if len(shapes) > 1:
        raise InvalidInputError(
            f"Rows of {name} must have one shape. Got {len(shapes)} shapes, from "
            f"{shapes[0]} to {shapes[-1]}; fill them up to one length, for instance by "
            "torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), and let the "
            "module leave out what was filled in."
        ) from error
    if shapes:
        raise InvalidInputError(
            f"{name} must be one array of numbers. Got an array of objects, each of "
            f"shape {shapes[0]}; join them to one array, for instance by np.stack."
        ) from error


def refuse_masked(X: Any, name: str = "X") -> None:
    """Refuse masked arrays, whose hidden values would be taken for numbers.

    Parameters
    ----------
    X : array-like
        Rows as they were given.
    name : str, default="X"
        What the message calls them.

    Raises
    ------
    InvalidInputError
        If a value is masked.

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.utils import refuse_masked
    >>> refuse_masked(np.ma.masked_array([[1.0, 2.0]], mask=False))
    """
    if isinstance(X, np.ma.MaskedArray) and np.ma.is_masked(X):
        raise InvalidInputError(
            f"Values of {name} must not be missing. Got "
            f"{np.ma.count_masked(X)} masked ones; fill them, for instance by "
            f"SimpleImputer on {name}.filled(np.nan), or drop the rows."
        )


def refuse_missing(name: str, error: ValueError) -> None:
    """Say what to do about missing values, where they were found.

    Parameters
    ----------
    name : str
        What the message calls the values.
    error : ValueError
        What scikit-learn raised.

    Raises
    ------
    InvalidInputError
        If the error is about missing values of X.

    Examples
    --------
    >>> from skcausalmeta.utils import refuse_missing
    >>> refuse_missing("X", ValueError("of another reason"))
    """
    found = f"Input {name} contains NaN"
    if name == "X" and str(error).startswith(found):
        raise InvalidInputError(
            f"{found}. Values must not be missing; fill them before the estimator, for "
            "instance with SimpleImputer in a ColumnTransformer before the learner, by "
            "make_meta_pipeline, or drop the rows."
        ) from error


def _first_text(X: Any) -> str | None:
    """The first entry that is text, and where; None if there is none."""
    values = _entries(X)
    for index in np.ndindex(values.shape):
        value = values[index]
        if isinstance(value, str | bytes) and not _is_number(value):
            return f"{value!r} in {_place(index, getattr(X, 'columns', None))}"
    return None


def _entries(X: Any) -> NDArray[Any]:
    """Entries as objects; none of an array that has a type of numbers."""
    try:
        if np.asarray(X).dtype.kind in "biufc":
            return np.empty(0, dtype=object)
        return np.asarray(X, dtype=object)
    except (TypeError, ValueError):  # rows of unequal lengths
        return np.empty(0, dtype=object)


def _entries_dtype(X: Any) -> np.dtype[Any] | None:
    """Type of the array that X makes; None where it makes none."""
    try:
        return np.asarray(X).dtype
    except (TypeError, ValueError):  # rows of unequal lengths, matrices of torch
        return None


def _shapes_of_entries(X: Any) -> set[tuple[int, ...]]:
    """Shapes of the arrays that stand in X one by one, as its rows or its cells."""
    if isinstance(X, list | tuple):
        rows = list(X)
    else:
        values = _entries(X)
        # A frame or a series may hold arrays too.
        rows = list(values.flat) if values.ndim == 1 or 1 in values.shape[1:] else []
    shapes = set()
    for row in rows:
        if not hasattr(row, "__len__") or isinstance(row, str | bytes | dict):
            return set()
        try:
            shapes.add(tuple(np.shape(row)))
        except (TypeError, ValueError):  # itself of unequal rows
            return set()
    if isinstance(X, list | tuple) and len(shapes) == 1:
        return set()  # an array that fails for another reason
    return shapes


def _is_number(value: str | bytes) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _place(index: tuple[int, ...], names: Any) -> str:
    """Row and column, the column by its name where it has one."""
    row = f"row {index[0]}"
    if len(index) != 2:
        return row
    column = index[1] if names is None else repr(list(names)[index[1]])
    return f"{row}, column {column}"
