"""Rows of sparse matrices: made dense a block at a time, never as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ..exceptions import InvalidInputError
from ._stored_rows import StoredRows

_BYTES_PER_BLOCK = 1 << 25
_MOST_BYTES = 1 << 32


class SparseRows(StoredRows):
    """Rows of a sparse matrix that are dense arrays where they are asked for.

    Parameters
    ----------
    matrix : sparse array or matrix of shape (n_samples, n_features)
        In any format; kept as CSR.

    Examples
    --------
    >>> from scipy import sparse
    >>> from skcausalmeta.utils import SparseRows
    >>> rows = SparseRows(sparse.csr_array([[0.0, 2.0], [1.0, 0.0]]))
    >>> rows[[1]]
    array([[1., 0.]])
    """

    def __init__(self, matrix: Any) -> None:
        found = sparse.csr_array(matrix)
        self.data, self.indices, self.indptr = found.data, found.indices, found.indptr
        self.shape: tuple[int, ...] = tuple(map(int, found.shape))

    @property
    def dtype(self) -> np.dtype[Any]:  # type: ignore[override]
        """Type of the values."""
        return self.data.dtype

    @property
    def ndim(self) -> int:  # type: ignore[override]
        """Number of axes, 2."""
        return len(self.shape)

    @property
    def itemsize(self) -> int:  # type: ignore[override]
        """Bytes of a value where rows are dense."""
        return self.data.dtype.itemsize

    def matrix(self) -> Any:
        """Return all rows as a CSR array that shares their values."""
        parts = (self.data, self.indices, self.indptr)
        return sparse.csr_array(parts, shape=self.shape)

    def copy(self) -> Self:
        """Return rows whose values are their own."""
        return type(self)(self.matrix().copy())

    def take(self, index: Any) -> Self:
        """Return some rows, still sparse."""
        return type(self)(self.matrix()[index])

    def blocks(self) -> Iterator[NDArray[Any]]:
        """Yield all rows in order, dense, some megabytes at a time."""
        size = max(1, _BYTES_PER_BLOCK // (self.shape[1] * self.itemsize))
        for begin in range(0, len(self), size):
            yield self[begin : begin + size]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self.matrix().toarray(), dtype=dtype)

    def __matmul__(self, other: NDArray[Any]) -> NDArray[Any]:
        return self.matrix() @ other  # type: ignore[no-any-return]

    def __getitem__(self, index: Any) -> NDArray[Any]:
        if not isinstance(index, slice) and np.ndim(index) == 0:
            row = int(index) % len(self)
            return self.matrix()[row : row + 1].toarray()[0]  # type: ignore[no-any-return]
        wanted = index if isinstance(index, slice) else np.asarray(index)
        return self.matrix()[wanted].toarray()  # type: ignore[no-any-return]


class SparseTasks:
    """Rows of tasks in sparse matrices, with a leading task axis.

    Parameters
    ----------
    tasks : sequence of sparse arrays of shape (n_rows, n_features)
        One a task, all with as many rows and features.

    Attributes
    ----------
    shape : tuple of int
        (n_tasks, n_rows, n_features).

    Raises
    ------
    InvalidInputError
        If the tasks differ in shape, or there is none.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy import sparse
    >>> from skcausalmeta.utils import SparseTasks
    >>> tasks = SparseTasks([sparse.csr_array(np.eye(2))] * 3)
    >>> tasks.shape, tasks[1:].shape
    ((3, 2, 2), (2, 2, 2))
    """

    def __init__(self, tasks: Sequence[Any]) -> None:
        shapes = {tuple(one.shape) for one in tasks}
        if len(shapes) != 1:
            raise InvalidInputError(
                "Sparse tasks must have as many rows and features each. Got shapes "
                f"{sorted(shapes)[:5]}; solve tasks of other sizes by adapt."
            )
        self.rows = SparseRows(sparse.vstack(list(tasks), format="csr"))
        self.shape: tuple[int, int, int] = (len(tasks), *shapes.pop())

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return self.rows.dtype

    @property
    def ndim(self) -> int:
        """Number of axes, 3."""
        return 3

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)

    def __getitem__(self, index: slice) -> NDArray[Any]:
        begin, stop, _ = index.indices(len(self))
        stop, n_rows = max(begin, stop), self.shape[1]
        dense = self.rows[begin * n_rows : stop * n_rows]
        return dense.reshape(stop - begin, *self.shape[1:])


def are_sparse_tasks(X: Any) -> bool:
    """Tell whether X is a sequence of sparse matrices, one a task.

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
    >>> from scipy import sparse
    >>> from skcausalmeta.utils import are_sparse_tasks
    >>> rows = sparse.csr_array(np.eye(2))
    >>> are_sparse_tasks([rows]), are_sparse_tasks(rows)
    (True, False)
    """
    is_sequence = isinstance(X, list | tuple) or (
        isinstance(X, np.ndarray) and X.dtype == object and X.ndim == 1
    )
    return is_sequence and len(X) > 0 and all(sparse.issparse(one) for one in X)


def dense_rows(X: Any, owner: str) -> NDArray[np.float64]:
    """Return all rows of a sparse matrix as one array, where they are to fit.

    Parameters
    ----------
    X : sparse array of shape (n_samples, n_features)
        Rows that are solved together.
    owner : str
        Who needs them, for the message.

    Returns
    -------
    ndarray of shape (n_samples, n_features)
        In C order and double precision.

    Raises
    ------
    InvalidInputError
        If they take more than 4 GB.

    Examples
    --------
    >>> from scipy import sparse
    >>> from skcausalmeta.utils import dense_rows
    >>> dense_rows(sparse.csr_array([[0.0, 2.0]]), "RidgeHead")
    array([[0., 2.]])
    """
    n_bytes = 8 * X.shape[0] * X.shape[1]
    if n_bytes > _MOST_BYTES:
        raise InvalidInputError(
            f"{owner} solves a problem on all rows at once, dense: at most "
            f"{_MOST_BYTES / 1e9:.1f} GB. Got a sparse matrix of shape {X.shape}, "
            f"{n_bytes / 1e9:.1f} GB; reduce its columns before, for instance with "
            "TruncatedSVD or SelectKBest, or let a learner with backbone='mlp' learn "
            "from it."
        )
    rows: NDArray[np.float64] = X.astype(np.float64).toarray(order="C")
    return rows
