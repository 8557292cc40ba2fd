"""Keys of dictionaries and members of sets, which a file must not make costly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from types import BuiltinFunctionType, FunctionType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..exceptions import PersistenceError

_SCALARS = (
    *(type(None), bool, int, float, complex, str, bytes, np.generic),
    *(type, FunctionType, BuiltinFunctionType, torch.dtype, torch.device),
)
_MOST_IN_TUPLE = 32
# Keys of one hash are compared with each other, every one with all.
_MOST_OF_ONE_HASH = 32


def check_keys(keys: Iterable[Any]) -> None:
    """Refuse keys that are no scalars, or are there twice, or collide.

    A tuple hashes all that it holds again and again, so it may hold scalars only.

    Raises
    ------
    PersistenceError
        If one is of another kind.
    """
    found = list(keys)
    for key in found:
        if not is_key(key):
            raise PersistenceError(
                "Keys must be numbers, text, or tuples of at most "
                f"{_MOST_IN_TUPLE} of them. Got a {type(key).__name__}; the file is "
                "damaged, get another copy."
            )
    hashes = Counter(map(hash, found))
    if hashes and max(hashes.values()) > _MOST_OF_ONE_HASH:
        raise PersistenceError(
            f"At most {_MOST_OF_ONE_HASH} keys may share a hash. Got "
            f"{max(hashes.values())}; the file was not written by skcausalmeta."
        )
    if len(set(found)) < len(found):
        raise PersistenceError(
            "Keys must be there once. Got one twice; the file is damaged, get another "
            "copy."
        )


def is_key(key: Any) -> bool:
    """Whether a file may have it as a key."""
    if isinstance(key, tuple):
        return len(key) <= _MOST_IN_TUPLE and all(map(_is_scalar, key))
    return _is_scalar(key)


def _is_scalar(key: Any) -> bool:
    return isinstance(key, _SCALARS) or type(key) in (Tensor, torch.nn.Parameter)
