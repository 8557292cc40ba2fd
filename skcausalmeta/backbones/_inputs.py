"""Statistics that standardise the columns of a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..exceptions import InvalidInputError

# Doubles of these are what statistics are computed from at a time.
_ROWS_PER_BLOCK, _COLUMNS_PER_PART = 4096, 512
# A column of doubles that varies less, relative to its mean, is a constant one whose
# values were computed on different ways.
_ROUNDING = 1e-12
# Of what is far away: share of the values that may be, how far, and what the scale
# has to fall by for them to be left out.
_FAR_SHARE, _FAR, _FALL = 0.01, 30.0, 10.0
# Error of single precision that a column may have, in its own scales.
_LOST = 0.25
_MOST_NAMED = 5
# Range of single precision, of which the lower end keeps digits to standardise by.
_LEAST, _MOST = 1e-37, float(np.finfo(np.float32).max)


def input_statistics(rows: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the centre and the scale of every column, outliers left out.

    The mean and the standard deviation of a column, in double precision. Values more
    than 30 times as far from the median as 99% of all are left out where that lowers
    the standard deviation more than tenfold: one typing error of 1e30 must not flatten
    the other rows. A constant column has scale 1.

    Parameters
    ----------
    rows : ndarray of shape (n, p)
        Finite numbers of any type.

    Returns
    -------
    center : ndarray of shape (p,)
        In the units of the columns, float64.
    scale : ndarray of shape (p,)
        In the units of the columns, float64, > 0.

    Raises
    ------
    InvalidInputError
        If `rows` is no table with rows, holds NaN or infinity, or a column loses what
        varies in it when it becomes single precision: because its values are beyond
        3.4e38 or below 1e-38, or vary by less than about 1e-7 of their mean.

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.backbones import input_statistics
    >>> rows = np.array([[1e5, 7.0], [1e5 + 2, 7.0]])
    >>> center, scale = input_statistics(rows)
    >>> center.tolist(), scale.tolist()
    ([100001.0, 7.0], [1.0, 1.0])
    """
    if rows.ndim != 2 or not len(rows):
        raise InvalidInputError(
            "The inputs are standardised by a table (n, p) with at least one row. Got "
            f"shape {rows.shape}; flatten the rows."
        )
    # Even parts: the sum of a single column is taken in another order.
    n_parts = max(1, -(-rows.shape[1] // _COLUMNS_PER_PART))
    parts = np.array_split(rows, n_parts, axis=1)
    if rows.dtype.kind == "f":
        _refuse_unheld(np.concatenate([_largest(part) for part in parts]))
    found = [_of_columns(part) for part in parts]
    center, scale, lost = map(np.concatenate, zip(*found, strict=True))
    if lost.any():
        raise InvalidInputError(
            "What varies in a column must fit single precision: it must be more than "
            f"about 1e-7 of the mean. Got less in {_named(lost)}; subtract a typical "
            "value, for instance with StandardScaler in make_meta_pipeline."
        )
    return center, scale


def _of_columns(
    rows: NDArray[Any],
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_]]:
    """Return centre, scale, and which columns lose what varies in them."""
    center, scale = _moments(rows, np.full(rows.shape[1], np.inf))
    far = _far_values(rows, center, scale)
    if np.isfinite(far).any():
        near_center, near_scale = _moments(rows, far)
        lower = (near_scale > 0) & (near_scale * _FALL < scale)
        center = np.where(lower, near_center, center)
        scale = np.where(lower, near_scale, scale)
    single = rows.dtype.itemsize <= 4 and rows.dtype.kind == "f"
    noise = 0.0  # of integers
    if rows.dtype.kind == "f":
        noise = float(np.finfo(rows.dtype).eps) if single else _ROUNDING
    constant = scale <= noise * np.abs(center)
    lost = np.zeros_like(constant)
    if not single:
        lost = _are_lost(rows, center, scale, constant)
    return center, np.where(constant, 1.0, scale), lost


def _blocks(rows: NDArray[Any]) -> Iterator[NDArray[np.float64]]:
    for begin in range(0, len(rows), _ROWS_PER_BLOCK):
        yield rows[begin : begin + _ROWS_PER_BLOCK].astype(np.float64)


def _moments(
    rows: NDArray[Any], far: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return means and standard deviations of the values within `far` of medians."""
    middle = _medians(rows, np.isfinite(far))

    def sums(of: Callable[[NDArray[Any]], NDArray[Any]]) -> NDArray[Any]:
        total = np.zeros(rows.shape[1])
        for block in _blocks(rows):
            total += (of(block) * (np.abs(block - middle) <= far)).sum(axis=0)
        return total

    number = sums(np.ones_like)
    shift = rows[0].astype(np.float64)  # sums of what is left lose less
    shift = np.where(np.abs(shift - middle) <= far, shift, middle)
    center = shift + sums(lambda block: block - shift) / number
    squares = sums(lambda block: (block - center) ** 2)
    return center, np.sqrt(squares / number)


def _medians(rows: NDArray[Any], wanted: NDArray[np.bool_]) -> NDArray[Any]:
    """Return the medians of the columns wanted, 0 for the others."""
    found = np.zeros(rows.shape[1])
    for column in np.flatnonzero(wanted):
        found[column] = np.median(rows[:, column].astype(np.float64))
    return found


def _far_values(
    rows: NDArray[Any], center: NDArray[Any], scale: NDArray[Any]
) -> NDArray[Any]:
    """Return the distance from the median at which a value of a column is far."""
    far = np.full(rows.shape[1], np.inf)
    n = len(rows)
    largest = np.zeros(rows.shape[1])
    for block in _blocks(rows):
        np.maximum(largest, np.abs(block - center).max(axis=0), out=largest)
    # Few values make up a scale only if they are that far from the mean.
    suspect = largest > min(0.9 / np.sqrt(_FAR_SHARE), 0.9 * np.sqrt(n)) * scale
    for column in np.flatnonzero(suspect & (scale > 0)):
        values = rows[:, column].astype(np.float64)
        distances = np.abs(values - np.median(values))
        place = int((1 - _FAR_SHARE) * (n - 1))
        usual = np.partition(distances, place)[place]
        if usual > 0:
            far[column] = _FAR * usual
    return far


def _largest(rows: NDArray[Any]) -> NDArray[Any]:
    """Return the largest absolute value of every column."""
    largest = np.zeros(rows.shape[1])
    for block in _blocks(rows):
        np.maximum(largest, np.abs(block).max(axis=0), out=largest)
    return largest


def _refuse_unheld(largest: NDArray[Any]) -> None:
    """Refuse columns whose largest values leave the range of single precision."""
    beyond = ~(largest <= _MOST)  # NaN as well
    if beyond.any():
        raise InvalidInputError(
            "Rows must fit single precision, up to 3.4e38. Got a larger value, NaN or "
            f"infinity in {_named(beyond)}; scale the features, or fill them in."
        )
    below = (largest > 0) & (largest < _LEAST)
    if below.any():
        raise InvalidInputError(
            "Rows must fit single precision: the largest value of a column must be 0 "
            f"or above 1e-37. Got less in {_named(below)}; scale the features, for "
            "instance with StandardScaler in make_meta_pipeline."
        )


def _are_lost(
    rows: NDArray[Any],
    center: NDArray[Any],
    scale: NDArray[Any],
    constant: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Tell of which columns single precision keeps what is constant only."""
    squares, number = np.zeros(rows.shape[1]), np.zeros(rows.shape[1])
    for block in _blocks(rows):
        near = np.abs(block - center) <= _FAR * scale
        errors = (block - block.astype(np.float32)) / np.where(constant, 1.0, scale)
        squares += (errors**2 * near).sum(axis=0)
        number += near.sum(axis=0)
    lost: NDArray[np.bool_] = ~constant & (squares > _LOST**2 * number)
    return lost


def _named(columns: NDArray[np.bool_]) -> str:
    numbers = np.flatnonzero(columns)
    shown = ", ".join(str(number) for number in numbers[:_MOST_NAMED])
    more = len(numbers) - _MOST_NAMED
    noun = "column" if len(numbers) == 1 else "columns"
    return f"{noun} {shown}" + (f" and {more} more" if more > 0 else "")
