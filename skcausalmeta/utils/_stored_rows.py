"""Rows that are not in memory: memory maps, zarr, HDF5 and their like."""

from __future__ import annotations

import mmap
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from ._rows_on_disk import RowsOnDisk

_BYTES_PER_BLOCK = 1 << 25
# One row of a file can bring two megabytes around it into memory.
_ROWS_PER_READ = 64


class StoredRows:
    """Rows of an array that has a shape, a dtype and ``[...]`` but is not in memory.

    Rows are read when they are asked for, each of a request once and in the order of
    storage, as such arrays want it.

    Parameters
    ----------
    source : object
        Anything that `is_stored` says yes to.

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.utils import StoredRows
    >>> StoredRows(np.arange(6.0).reshape(3, 2))[[2, 0]]
    array([[4., 5.],
           [0., 1.]])
    """

    def __init__(self, source: Any) -> None:
        self._source = source
        self.shape: tuple[int, ...] = tuple(source.shape)
        self.dtype: np.dtype[Any] = source.dtype
        self.ndim: int = len(self.shape)
        self.itemsize: int = self.dtype.itemsize
        self._takes_numbers = isinstance(source, RowsOnDisk)

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self._source[:], dtype=dtype)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        if isinstance(index, slice):
            begin, stop, step = index.indices(len(self))
            if step == 1:
                return np.asarray(self._source[begin:stop])
            return self[np.arange(begin, stop, step)]
        if np.ndim(index) == 0:
            return np.asarray(self._source[int(index)])
        wanted = np.asarray(index)
        if wanted.dtype == bool:
            wanted = np.flatnonzero(wanted)
        if self._takes_numbers:
            return np.asarray(self._source[wanted][:])
        rows, places = np.unique(wanted % max(1, len(self)), return_inverse=True)
        return self._read(rows)[places]

    def _read(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Rows in ascending order, one slice per run: what every store can do."""
        if not len(rows):
            return np.empty((0, *self.shape[1:]), self.dtype)
        runs = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)
        parts = [self._source[int(run[0]) : int(run[-1]) + 1] for run in runs]
        return np.concatenate([np.asarray(part) for part in parts])


def is_stored(X: Any) -> bool:
    """Tell whether an array of numbers is to be read in parts.

    Parameters
    ----------
    X : object
        Anything. Arrays in memory (numpy's, those of the array API standard, sparse
        matrices, frames) are not stored elsewhere.

    Returns
    -------
    bool

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.utils import is_stored
    >>> class Disk:
    ...     shape, dtype = (4, 3), np.dtype("f4")
    ...     def __getitem__(self, index):
    ...         return np.zeros(self.shape, self.dtype)[index]
    >>> is_stored(Disk()), is_stored(np.zeros((4, 3)))
    (True, False)
    """
    if isinstance(X, np.ndarray | np.generic) or not hasattr(type(X), "__getitem__"):
        return False
    if any(hasattr(X, name) for name in ("__array_namespace__", "iloc", "nnz")):
        return False
    shape, dtype = getattr(X, "shape", None), getattr(X, "dtype", None)
    return (
        isinstance(shape, tuple)
        and len(shape) >= 2
        and isinstance(dtype, np.dtype)
        and dtype.kind in "fiub"
        and all(side > 0 for side in shape)
    )


def is_memory_map(X: Any) -> TypeGuard[np.memmap]:
    """Tell whether an array is a memory map of numbers, with rows of values.

    Parameters
    ----------
    X : object
        Anything.

    Returns
    -------
    bool

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.utils import is_memory_map
    >>> is_memory_map(np.zeros((2, 3)))
    False
    """
    return (
        isinstance(X, np.memmap)
        and X.dtype.kind in "fiub"
        and X.ndim >= 2
        and X.size > 0
    )


def stays_on_disk(rows: Any) -> bool:
    """Tell whether checked rows are read in parts rather than held in memory.

    Parameters
    ----------
    rows : array of shape (n_samples, ...)
        As the checks of a learner return them.

    Returns
    -------
    bool
        True for memory maps of numbers and `StoredRows`, sparse ones among them.

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.utils import StoredRows, stays_on_disk
    >>> rows = np.zeros((4, 3))
    >>> stays_on_disk(rows), stays_on_disk(StoredRows(rows))
    (False, True)
    """
    return isinstance(rows, StoredRows) or is_memory_map(rows)


def all_finite(X: np.memmap | StoredRows) -> bool:
    """Tell whether all values are finite, a block of rows at a time.

    Parameters
    ----------
    X : memmap or StoredRows of shape (n_samples, ...)
        Of integers nothing is read.

    Returns
    -------
    bool

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from skcausalmeta.utils import all_finite
    >>> with tempfile.TemporaryFile() as file:
    ...     X = np.memmap(file, dtype=np.float32, mode="w+", shape=(4, 3))
    ...     X[2, 1] = np.nan
    ...     print(all_finite(X))
    False
    """
    if X.dtype.kind != "f":
        return True
    step = max(1, _BYTES_PER_BLOCK // (X[0].size * X.itemsize))
    for begin in range(0, len(X), step):
        finite = bool(np.isfinite(X[begin : begin + step]).all())
        release_pages(X)
        if not finite:
            return False
    return True


def read_rows(X: Any, index: NDArray[np.integer]) -> NDArray[Any]:
    """Some rows of an array; a memory map keeps little of its file in memory.

    Parameters
    ----------
    X : array of shape (n_samples, ...)
        In memory or on disk.
    index : ndarray of shape (n_rows,)
        Numbers of rows, in any order.

    Returns
    -------
    rows : ndarray of shape (n_rows, ...)
        In memory.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from skcausalmeta.utils import read_rows
    >>> with tempfile.TemporaryFile() as file:
    ...     X = np.memmap(file, dtype=np.uint8, mode="w+", shape=(4, 2))
    ...     X[:] = np.arange(8).reshape(4, 2)
    ...     print(read_rows(X, np.array([3, 0])))
    [[6 7]
     [0 1]]
    """
    if not isinstance(X, np.memmap):
        return np.asarray(X[index])
    rows = np.empty((len(index), *X.shape[1:]), X.dtype)
    for begin in range(0, len(index), _ROWS_PER_READ):
        part = slice(begin, begin + _ROWS_PER_READ)
        rows[part] = X[index[part]]
        release_pages(X)
    return rows


def release_pages(X: Any) -> None:
    """Give the memory of rows that were read back; they stay on disk.

    The operating system drops pages that it read from a file only when memory runs
    short, and until then they count as memory of the process. Other arrays are left
    alone, and so are maps that are copied on write, whose changes would be lost.

    Parameters
    ----------
    X : object
        Anything.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from skcausalmeta.utils import release_pages
    >>> with tempfile.TemporaryFile() as file:
    ...     X = np.memmap(file, dtype=np.uint8, mode="w+", shape=(4, 3))
    ...     X[1] = 7
    ...     release_pages(X)
    ...     print(X.sum())
    21
    """
    if not isinstance(X, np.memmap) or X.mode == "c":
        return
    pages = getattr(X, "_mmap", None)
    if pages is not None and hasattr(mmap, "MADV_DONTNEED"):
        pages.madvise(mmap.MADV_DONTNEED)
