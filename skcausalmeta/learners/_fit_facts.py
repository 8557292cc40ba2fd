"""What tells one fit from another, so that a checkpoint is not taken for another's."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from torch import nn
from torch.nn.parameter import is_lazy

# What a training may be continued with although it began with another.
_FREE = frozenset({"checkpoint_path", "device", "verbose"})
_MOST_ROWS = 1000
_MOST_NESTED = 20
_SIMPLE = (type(None), bool, int, float, str, list, tuple, np.ndarray)


def fit_facts(
    estimator: BaseEstimator, rows: NDArray[Any], *others: NDArray[Any] | None
) -> dict[str, str]:
    """Digests of the parameters that decide a fit, by name, and of its data.

    Of the rows about a thousand are read, of everything else all.
    """
    step = max(1, len(rows) // _MOST_ROWS)
    data = [rows.shape, str(rows.dtype), rows[::step], *others]
    params = estimator.get_params(deep=False)
    facts = {k: digest(v) for k, v in params.items() if k not in _FREE}
    return {**facts, "data": digest(data)}


def digest(value: Any) -> str:
    """Digest of what a value says, the same in every process."""
    found = hashlib.blake2b(digest_size=16)
    _tell(value, found, 0)
    return found.hexdigest()


def _tell(value: Any, found: Any, depth: int) -> None:
    def told(*parts: Any) -> None:
        found.update(f"{type(value).__name__}(".encode())
        for part in parts:
            if isinstance(part, bytes):
                found.update(part)
            elif depth < _MOST_NESTED:
                _tell(part, found, depth + 1)
        found.update(b")")

    if value is None or isinstance(value, bool | int | float | str | np.generic):
        told(repr(value).encode())
    elif isinstance(value, np.ndarray):
        plain = value.tolist() if value.dtype == object else None
        content = repr(plain).encode() if plain is not None else value.tobytes()
        told(str(value.dtype).encode(), str(value.shape).encode(), content)
    elif isinstance(value, torch.Tensor):
        told(b"" if is_lazy(value) else value.detach().cpu().numpy())
    elif isinstance(value, Mapping):
        names = sorted(value, key=repr)
        told(*(part for name in names for part in (name, value[name])))
    elif isinstance(value, list | tuple | set | frozenset):
        told(
            *(sorted(value, key=repr) if isinstance(value, set | frozenset) else value)
        )
    elif isinstance(value, nn.Module):
        own = {k: v for k, v in vars(value).items() if not k.startswith("_")}
        told(own, dict(value.state_dict()), *value.children())
    elif isinstance(value, type) or hasattr(value, "__qualname__"):
        told(f"{value.__module__}.{value.__qualname__}".encode())
    elif isinstance(value, np.random.RandomState):
        told()  # its seeds are in the checkpoint, and drawing them moved it
    elif hasattr(value, "get_params"):
        told(value.get_params(deep=False))
    else:
        own = vars(value) if hasattr(value, "__dict__") else {}
        told({k: v for k, v in own.items() if isinstance(v, _SIMPLE)})
