"""The table of a safetensors file: where its tensors lie, and of which type."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..exceptions import PersistenceError
from ._arrays import checked_shape

_TYPES = {
    name: getattr(torch, attribute)
    for name, attribute in {
        "BOOL": "bool",
        "U8": "uint8",
        "I8": "int8",
        "U16": "uint16",
        "I16": "int16",
        "U32": "uint32",
        "I32": "int32",
        "U64": "uint64",
        "I64": "int64",
        "F16": "float16",
        "BF16": "bfloat16",
        "F32": "float32",
        "F64": "float64",
        "C64": "complex64",
        "F8_E4M3": "float8_e4m3fn",
        "F8_E5M2": "float8_e5m2",
    }.items()
}
_NAMES = {dtype: name for name, dtype in _TYPES.items()}
_MOST_AXES = 64  # as numpy


class Place(NamedTuple):
    """Type, shape and number of bytes of a tensor in a file."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    n_bytes: int


def table_of(
    tensors: Mapping[str, Tensor],
) -> tuple[dict[str, dict[str, Any]], list[Tensor]]:
    """Table of tensors, and the tensors in the order in which they lie in a file.

    Raises
    ------
    PersistenceError
        If a type is none that a file has.
    """
    # Wide types first, so that each lies at a multiple of its width.
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    table, offset = {}, 0
    for name in names:
        tensor = tensors[name]
        if tensor.dtype not in _NAMES:
            raise PersistenceError(
                f"Tensors must be of a type among {sorted(_TYPES)}. Got {name!r} of "
                f"{tensor.dtype}; convert it."
            )
        end = offset + tensor.numel() * tensor.element_size()
        table[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    return table, [tensors[name] for name in names]


def places(table: Mapping[str, Any], n_bytes: int, path: Path) -> dict[str, Place]:
    """Places of all tensors, in the order in which they lie in the file.

    Raises
    ------
    PersistenceError
        If they are not side by side, from the first byte to the last.
    """
    found, end = {}, 0
    try:
        for name, entry in sorted(table.items(), key=lambda k: k[1]["data_offsets"]):
            begin, stop = checked_shape(entry["data_offsets"])
            shape, dtype = checked_shape(entry["shape"]), _TYPES[entry["dtype"]]
            size = math.prod(shape[: _MOST_AXES + 1]) * dtype.itemsize
            if (begin, stop) != (end, end + size) or len(shape) > _MOST_AXES:
                raise ValueError(f"{begin} to {stop} for {size} bytes")
            found[name], end = Place(dtype, shape, size), stop
        if end != n_bytes:
            raise ValueError(f"{n_bytes} bytes for {end}")
    except (ValueError, KeyError, TypeError) as error:
        raise PersistenceError(
            f"The file {path} must be an estimator saved by "
            "skcausalmeta.persistence.save. Got the sizes of its numbers wrong: "
            f"{str(error)[:100]!r}; it is damaged, get another copy."
        ) from error
    return found


def bytes_of(tensor: Tensor) -> memoryview:
    """The bytes of a contiguous tensor on the CPU, little-endian."""
    if not tensor.numel():
        return memoryview(b"")
    values = tensor.reshape(-1).view(torch.uint8).numpy()
    if sys.byteorder == "big":
        values = values.copy()
        _swap(values, tensor.dtype)
    return values.data


def tensor_at(place: Place, values: NDArray[np.uint8]) -> Tensor:
    """The tensor whose bytes were read from a file, without a copy."""
    if not place.n_bytes:
        return torch.empty(place.shape, dtype=place.dtype)
    if sys.byteorder == "big":
        _swap(values, place.dtype)
    return torch.from_numpy(values).view(place.dtype).reshape(place.shape)


def _swap(values: NDArray[np.uint8], dtype: torch.dtype) -> None:
    width = dtype.itemsize // 2 if dtype.is_complex else dtype.itemsize
    values.view(f"u{width}").byteswap(inplace=True)
