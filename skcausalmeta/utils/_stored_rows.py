"""Arrays that are kept elsewhere and read in parts: zarr, HDF5 and their like."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._rows_on_disk import RowsOnDisk


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
