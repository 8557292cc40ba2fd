"""Rows that stay on disk and become tensors when a batch asks for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..utils import read_rows
from ._rows import RowReader


class ReadRows:
    """Some rows of an array on disk, indexed like a tensor of samples.

    Parameters
    ----------
    X : array of shape (n, ...)
        A memory map, or `StoredRows`.
    reader : RowReader
        From rows to tensors.
    where : ndarray of shape (n_rows,), default=None
        Rows to show, in this order. None: all.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from skcausalmeta.training import RowReader
    >>> from skcausalmeta.training import ReadRows
    >>> rows = ReadRows(np.arange(8.0).reshape(4, 2), RowReader((2,)), np.array([3, 1]))
    >>> rows[torch.tensor([0])]
    tensor([[6., 7.]])
    """

    def __init__(
        self, X: Any, reader: RowReader, where: NDArray[Any] | None = None
    ) -> None:
        self._X, self._reader = X, reader
        self._where = np.arange(len(X)) if where is None else where
        self.device: torch.device = reader.device

    def __len__(self) -> int:
        return len(self._where)

    def __getitem__(self, index: Tensor) -> Tensor:
        return self._reader(read_rows(self._X, self._where[index.cpu().numpy()]))

    def part(self, where: NDArray[Any]) -> ReadRows:
        """Some of these rows, by position, still on disk."""
        return ReadRows(self._X, self._reader, self._where[where])
