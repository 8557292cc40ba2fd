"""Data sets as npz files, and one split of a set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from ..exceptions import InvalidInputError
from ..utils import read_npz_arrays

_FREE_BYTES, _EXPANSION = 1 << 26, 100
SPLITS = ("train", "val", "test")


def read_npz(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """All arrays of a file that must hold some; objects in it are refused.

    Raises
    ------
    InvalidInputError
        If the file is damaged, holds objects, lacks an array, or unpacks to more than
        64 MB and a hundred times its size.
    """
    # Data sets with a shape of many zeros pack well.
    most = _FREE_BYTES + _EXPANSION * path.stat().st_size
    arrays = read_npz_arrays(path, max_bytes=most)
    absent = [name for name in names if name not in arrays]
    if absent:
        raise InvalidInputError(
            f"{path.name} must hold the arrays {list(names)}. Got {sorted(arrays)}, "
            f"without {absent}; take a file of this data set."
        )
    return arrays


def check_split(split: str | None, splits: Sequence[str] = SPLITS) -> None:
    """Refuse an unknown split before anything is read."""
    if split is not None and split not in splits:
        raise InvalidInputError(
            f"split must be one of {tuple(splits)} or None. Got {split!r}."
        )


def finish(
    bunch: Bunch,
    split: str | None,
    return_X_y: bool,
    *,
    y: str = "target",
    per_row: Sequence[str] = ("data", "target", "split"),
) -> Any:
    """The rows of a split, as a Bunch or as arrays.

    Raises
    ------
    InvalidInputError
        If the set has no row of the split.
    """
    if split is not None:
        rows = bunch.split == split
        if not rows.any():
            raise InvalidInputError(
                f"split must be one of {tuple(np.unique(bunch.split).tolist())} or "
                f"None for this copy of the data. Got {split!r}."
            )
        for name in per_row:
            bunch[name] = _take(bunch[name], rows)
    return (bunch.data, bunch[y]) if return_X_y else bunch


def _take(values: NDArray[Any], rows: NDArray[np.bool_]) -> NDArray[Any]:
    """Marked rows; a view if they lie side by side, so that a map stays on disk."""
    index = np.flatnonzero(rows)
    begin, end = int(index[0]), int(index[-1]) + 1
    return values[begin:end] if len(index) == end - begin else values[index]


def class_numbers(
    classes: NDArray[Any], split: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Names of the classes and the number of every row, training classes first."""
    names, first, numbers = np.unique(classes, return_index=True, return_inverse=True)
    rank = [SPLITS.index(part) for part in split[first]]
    order = np.argsort(rank, kind="stable")
    return names[order], np.argsort(order)[numbers].astype(np.int64)
