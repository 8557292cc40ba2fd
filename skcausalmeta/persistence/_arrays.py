"""Arrays and tensors of any layout as the plain tensors that files hold."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..exceptions import PersistenceError

# One type by its letters: numpy evaluates what else a text may hold, such as counts.
_PLAIN_TEXT = re.compile(r"[<>|=]?[A-Za-z]+[0-9]*(\[[0-9]*[A-Za-z]+\])?")
# Kinds of numpy that are numbers or text: anything but references to objects.
_PLAIN_KINDS = frozenset("biufcSUmM")
_AS_THEY_ARE = frozenset(
    np.dtype(name)
    for name in (
        *("bool", "int8", "int16", "int32", "int64", "float16", "float32", "float64"),
        *("uint8", "uint16", "uint32", "uint64"),
    )
)
_AS_BYTES = frozenset({torch.complex128, torch.complex32})


def plain_dtype(text: Any) -> np.dtype[Any]:
    """The numpy type that a text stands for, if its values are numbers or text.

    Raises
    ------
    PersistenceError
        If it is another type.
    """
    plain = isinstance(text, str) and _PLAIN_TEXT.fullmatch(text) is not None
    dtype = np.dtype(text) if plain else np.dtype(object)
    if dtype.kind not in _PLAIN_KINDS or dtype.fields is not None:
        raise PersistenceError(
            "Arrays must hold numbers, text or times. Got the type "
            f"{text!r}; convert the array, or drop it."
        )
    return dtype


def axes_in_memory(strides: Sequence[int]) -> list[int]:
    """Axes from the slowest to the fastest, as a copy would keep them."""
    return sorted(range(len(strides)), key=lambda axis: -strides[axis])


def flat_array(array: NDArray[Any]) -> tuple[Tensor, dict[str, Any]]:
    """Tensor with the values of an array, and what is needed to get it back."""
    dtype = plain_dtype(array.dtype.str)
    axes = axes_in_memory(array.strides)
    ordered = np.ascontiguousarray(array.transpose(axes)).reshape(
        [array.shape[axis] for axis in axes]
    )
    facts = {"dtype": dtype.str, "shape": list(ordered.shape), "axes": axes}
    if dtype in _AS_THEY_ARE:
        return torch.from_numpy(_writeable(ordered)), facts
    return torch.from_numpy(np.frombuffer(bytearray(ordered.tobytes()), "u1")), facts


def _writeable(array: NDArray[Any]) -> NDArray[Any]:
    # torch warns of arrays that are not, such as memory maps.
    return array if array.flags.writeable else array.copy()


def array_of(flat: Tensor, facts: dict[str, Any]) -> NDArray[Any]:
    """The array again, in the memory of the tensor.

    Raises
    ------
    ValueError
        If the facts do not fit the tensor.
    """
    dtype, shape = plain_dtype(facts["dtype"]), checked_shape(facts["shape"])
    if dtype in _AS_THEY_ARE:
        _check_flags(flat)
        values = flat.numpy()
        if values.dtype != dtype:
            raise ValueError(f"an array of type {values.dtype} said to be {dtype}")
    elif dtype.itemsize and flat.numel():
        if flat.dtype != torch.uint8 or flat.ndim != 1:
            raise ValueError(f"bytes of type {flat.dtype}")
        values = flat.numpy().view(dtype)
        _check_letters(values)
    else:
        values = np.empty(shape, dtype) if not math.prod(shape) else np.zeros(0)
    values = values.reshape(shape)
    return values.transpose(np.argsort(_permutation(facts["axes"], values.ndim)))


def flat_tensor(tensor: Tensor) -> tuple[Tensor, dict[str, Any]]:
    """Contiguous tensor on the CPU, and what is needed to get the tensor back."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
        raise PersistenceError(
            f"Tensors must be dense. Got one of layout {tensor.layout} on "
            f"{tensor.device}; convert it, or drop it."
        )
    plain = tensor.detach().resolve_conj().resolve_neg()
    axes = axes_in_memory(plain.stride())
    facts = {
        "axes": axes,
        "device": str(tensor.device),
        "requires_grad": bool(tensor.requires_grad and tensor.is_leaf),
    }
    flat = plain.permute(axes).contiguous().cpu()
    if tensor.dtype in _AS_BYTES:
        facts["view"] = str(tensor.dtype).removeprefix("torch.")
        flat = torch.view_as_real(flat)
    return flat, facts


def tensor_of(flat: Tensor, facts: dict[str, Any], device: torch.device) -> Tensor:
    """The tensor again, in the memory of that of the file.

    Raises
    ------
    ValueError
        If the facts do not fit the tensor.
    """
    _check_flags(flat)
    values = torch.view_as_complex(flat) if "view" in facts else flat
    axes = _permutation(facts["axes"], values.ndim)
    return values.permute(np.argsort(axes).tolist()).to(device)


def checked_shape(shape: Any) -> tuple[int, ...]:
    """Shape that a file claims.

    Raises
    ------
    ValueError
        If it is not a list of lengths; numpy would take -1 for "the rest".
    """
    are_lengths = isinstance(shape, list) and all(
        type(length) is int and length >= 0 for length in shape
    )
    if not are_lengths:
        raise ValueError(f"{shape!r} is no shape")
    return tuple(shape)


def _check_flags(flat: Tensor) -> None:
    """Refuse booleans that are neither 0 nor 1, which no array has."""
    if flat.dtype == torch.bool and bool((flat.view(torch.uint8) > 1).any()):
        raise ValueError("a boolean that is neither true nor false")


def _check_letters(values: NDArray[Any]) -> None:
    """Refuse text with codes that stand for no letter."""
    if values.dtype.kind == "U":
        codes = values.view(np.dtype("u4").newbyteorder(values.dtype.byteorder))
        if codes.size and int(codes.max()) > sys.maxunicode:
            raise ValueError("a text with a code that is no letter")


def _permutation(axes: Any, n_axes: int) -> list[int]:
    if not isinstance(axes, list) or sorted(axes) != list(range(n_axes)):
        raise ValueError(f"{axes!r} is no order of {n_axes} axes")
    return axes
