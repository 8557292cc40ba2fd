"""States of random generators, of which numpy trusts some without a look."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ..exceptions import PersistenceError
from ..utils import printable

_BIT_GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")
# Words of the arrays of a state: name -> (type, length).
_ARRAYS: dict[str, dict[str, tuple[Any, int]]] = {
    "MT19937": {"key": (np.uint32, 624)},
    "Philox": {"counter": (np.uint64, 4), "key": (np.uint64, 2)},
    "SFC64": {"state": (np.uint64, 4)},
}
# Whole numbers of a state: name -> one beyond the largest.
_NUMBERS: dict[str, dict[str, int]] = {
    "MT19937": {"pos": 625},
    "PCG64": {"state": 2**128, "inc": 2**128},
    "PCG64DXSM": {"state": 2**128, "inc": 2**128},
}
_LEFT_OVER = {"has_uint32": 2, "uinteger": 2**32}
_OF_LEGACY = frozenset({"has_gauss", "gauss"})


def random_state_of(state: Any) -> np.random.RandomState:
    """Generator of numpy's older kind in a state.

    Raises
    ------
    PersistenceError
        If the state is not sound.
    """
    _require(isinstance(state, dict) and state.keys() >= _OF_LEGACY, state)
    _check_number(state["has_gauss"], 2)
    _require(type(state["gauss"]) is float, state["gauss"])
    found = np.random.RandomState(_bit_generator(state))
    found.set_state(state)
    return found


def generator_of(state: Any) -> np.random.Generator:
    """Generator of numpy in a state.

    Raises
    ------
    PersistenceError
        If the state is not sound.
    """
    _require(isinstance(state, dict), state)
    generator = _bit_generator(state)
    generator.state = state
    return np.random.Generator(generator)


def torch_generator_of(state: Any) -> torch.Generator:
    """Generator of torch, on the CPU, in a state.

    Raises
    ------
    PersistenceError
        If the state is not sound.
    """
    found = torch.Generator()
    own = found.get_state()
    is_state = isinstance(state, torch.Tensor) and state.dtype == own.dtype
    _require(is_state and state.shape == own.shape, type(state))
    found.set_state(state)
    return found


def _bit_generator(state: dict[str, Any]) -> Any:
    """Bit generator of the kind that a state names, once the state is checked."""
    name = state.get("bit_generator")
    if not isinstance(name, str) or name not in _BIT_GENERATORS:
        raise PersistenceError(
            f"Random states must be of {_BIT_GENERATORS}. Got {_told(name)}; the "
            "file is damaged, get another copy."
        )
    _check_inner(name, state.get("state"))
    if name != "MT19937":
        for key, limit in _LEFT_OVER.items():
            _check_number(state.get(key), limit)
    if name == "Philox":
        _check_array(state.get("buffer"), np.uint64, 4)
        # numpy reads at this position without a look at it.
        _check_number(state.get("buffer_pos"), 5)
    # Of a fixed seed: the state replaces it, and fresh entropy is slow.
    return getattr(np.random, name)(0)


def _check_inner(name: str, state: Any) -> None:
    arrays, numbers = _ARRAYS.get(name, {}), _NUMBERS.get(name, {})
    names = arrays.keys() | numbers.keys()
    _require(isinstance(state, Mapping) and state.keys() == names, state)
    for key, (dtype, length) in arrays.items():
        _check_array(state[key], dtype, length)
    for key, limit in numbers.items():
        _check_number(state[key], limit)


def _check_array(values: Any, dtype: Any, length: int) -> None:
    is_array = type(values) is np.ndarray and values.dtype == np.dtype(dtype)
    _require(is_array and values.shape == (length,), type(values))


def _check_number(value: Any, limit: int) -> None:
    _require(type(value) is int and 0 <= value < limit, value)


def _require(sound: bool, got: Any) -> None:
    if not sound:
        raise PersistenceError(
            "Random states must be sound. Got "
            f"{_told(got)}; the file is damaged, get another copy."
        )


def _told(got: Any) -> str:
    """What a file holds, in one line: arrays and tensors print as many."""
    if isinstance(got, Mapping):
        names = [key if isinstance(key, (str, int)) else type(key) for key in got]
        return printable(f"a state with {names}"[:80])
    if got is None or isinstance(got, (bool, int, float, str, type)):
        return printable(repr(got)[:80])
    return type(got).__name__
