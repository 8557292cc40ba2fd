"""A file of rows that processes share by its name."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray


class RowsOnDisk:
    """Rows of a file that travel between processes as the name of the file.

    A `numpy.memmap` is copied whole where it is pickled, as Dask and `multiprocessing`
    do, and where rows are selected from it, as a grid search does for every fold. This
    does neither: pickles hold the name of the file, and selected rows stay on disk,
    until a learner reads the rows of an episode or a batch. All processes have to see
    the file under that name.

    Parameters
    ----------
    X : memmap of shape (n_samples, ...)
        A whole file, or what follows its header: ``np.load(name, mmap_mode="r")`` or
        ``np.memmap(name, ...)``. Not a part of another memory map.
    index : ndarray of shape (n_rows,), default=None
        Rows to show, in this order. None: all.

    Attributes
    ----------
    shape : tuple of int
    dtype : dtype

    Raises
    ------
    TypeError
        If X is not a memory map of a whole file in C order.

    Examples
    --------
    >>> import pickle
    >>> import tempfile
    >>> import numpy as np
    >>> from skcausalmeta.utils import RowsOnDisk
    >>> with tempfile.NamedTemporaryFile(suffix=".npy") as file:
    ...     np.save(file.name, np.arange(80_000.0).reshape(-1, 4))
    ...     X = RowsOnDisk(np.load(file.name, mmap_mode="r"))
    ...     fold = X[np.array([7, 2])]
    ...     print(fold.shape, fold[0], len(pickle.dumps(X)) < 1000)
    (2, 4) [28. 29. 30. 31.] True
    """

    def __init__(self, X: np.memmap, index: NDArray[Any] | None = None) -> None:
        whole = isinstance(X, np.memmap) and not isinstance(X.base, np.ndarray)
        if not whole or X.filename is None or not X.flags.c_contiguous:
            raise TypeError(
                "RowsOnDisk takes a memory map of a whole file in C order. Got "
                f"{type(X).__name__}; save the rows with numpy.save and pass "
                "numpy.load(name, mmap_mode='r')."
            )
        self._name, self._offset = os.path.abspath(X.filename), int(X.offset)
        self._whole, self.dtype, self._index = X.shape, X.dtype, index
        self._map: np.memmap | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of rows, and the shape of a row."""
        n_rows = self._whole[0] if self._index is None else len(self._index)
        return (n_rows, *self._whole[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Any:
        """One row or a slice of them as an array; rows by number stay on disk."""
        if isinstance(index, tuple) and index[1:] == (Ellipsis,):
            index = index[0]  # as scikit-learn asks for rows
        if isinstance(index, slice):
            places = range(len(self))[index]
            if self._index is not None:
                return self._read(self._index[index])
            if places.step == 1:
                return self._read(slice(places.start, max(places.start, places.stop)))
            return self._read(np.array(places, dtype=np.intp))
        if np.ndim(index) == 0:
            return self[int(index) : int(index) + 1 or None][0]
        every = np.arange(len(self)) if self._index is None else self._index
        twin = object.__new__(type(self))
        twin.__dict__ = {**self.__dict__, "_index": every[np.asarray(index)]}
        return twin

    def _read(self, rows: Any) -> NDArray[Any]:
        if self._map is None:
            self._map = np.memmap(
                self._name,
                dtype=self.dtype,
                mode="r",
                offset=self._offset,
                shape=self._whole,
            )
        return np.array(self._map[rows])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_map": None}
