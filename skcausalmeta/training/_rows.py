"""Rows of arrays, in memory or on disk, as tensors that a backbone takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..exceptions import InvalidInputError
from ..utils import read_rows

_CHANNEL_COUNTS = (1, 3, 4)


class RowReader:
    """Turns rows of arrays into float32 tensors of one sample shape.

    Parameters
    ----------
    row_shape : tuple of int
        Shape of a row of the arrays to come.
    input_shape : tuple of int, default=None
        Shape (channels, height, width), (height, width) or any other that the
        rows are reshaped to. None: images (height, width) get a channel axis;
        of (a, b, c) the channels are the last axis if only that one has 1, 3 or
        4 entries, else the first.
    device : str or torch.device, default="cpu"
        Where the tensors live.

    Attributes
    ----------
    sample_shape : tuple of int
        What the backbone gets: (p,), (channels, height, width) or as given.

    Raises
    ------
    InvalidInputError
        If `input_shape` has another number of entries than a row.

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.training import RowReader
    >>> reader = RowReader((32, 32, 3))
    >>> reader(np.zeros((2, 32, 32, 3), dtype=np.uint8)).shape
    torch.Size([2, 3, 32, 32])
    """

    def __init__(
        self,
        row_shape: tuple[int, ...],
        input_shape: Sequence[int] | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        self.row_shape = tuple(row_shape)
        self.device = torch.device(device)
        shape = self.row_shape if input_shape is None else tuple(input_shape)
        if math.prod(shape) != math.prod(self.row_shape):
            raise InvalidInputError(
                "The 'input_shape' parameter must have as many entries as a row of X. "
                f"Got input_shape={shape} ({math.prod(shape)} entries) for rows of "
                f"shape {self.row_shape} ({math.prod(self.row_shape)} entries)."
            )
        self._shape = shape
        self._channels_last = (
            len(shape) == 3
            and shape[2] in _CHANNEL_COUNTS
            and shape[0] not in _CHANNEL_COUNTS
        )
        self.sample_shape = self._sample_shape()

    def _sample_shape(self) -> tuple[int, ...]:
        if len(self._shape) == 2:
            return (1, *self._shape)
        if self._channels_last:
            height, width, channels = self._shape
            return (channels, height, width)
        return self._shape

    def check(self, X: NDArray[Any]) -> None:
        """Refuse rows of another shape.

        Raises
        ------
        ValueError
            With the shape expected and the one found.
        """
        if X.shape[1:] != self.row_shape:
            raise InvalidInputError(
                f"Rows must have the shape seen in fit, {self.row_shape}. "
                f"Got {X.shape[1:]}."
            )

    def __call__(self, X: NDArray[Any]) -> Tensor:
        """Tensor (n, *sample_shape); bytes are scaled to the range 0 to 1."""
        scale = 255.0 if X.dtype == np.uint8 and len(self.sample_shape) == 3 else 1.0
        rows = _to_single(X).reshape(len(X), *self._shape)
        tensor = torch.from_numpy(rows if rows.flags.writeable else rows.copy())
        tensor = tensor.to(self.device)
        if scale != 1.0:
            tensor = tensor / scale
        if self._channels_last:
            return tensor.permute(0, 3, 1, 2).contiguous()
        return tensor.reshape(len(X), *self.sample_shape)


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
    >>> from skcausalmeta.training import ReadRows, RowReader
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


def _to_single(X: NDArray[Any]) -> NDArray[np.float32]:
    try:
        with np.errstate(over="raise"):
            return np.ascontiguousarray(X, dtype=np.float32)
    except FloatingPointError as error:
        raise InvalidInputError(
            "Rows must fit single precision, up to 3.4e38. Got a larger value; scale "
            "the features."
        ) from error
