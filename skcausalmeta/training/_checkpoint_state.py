"""What a checkpoint holds, looked at as a file from elsewhere has to be."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..exceptions import PersistenceError
from ..persistence import read_value

FORMAT = "training 2"
_ENTRIES: dict[str, type | tuple[type, ...]] = {
    "format": str,
    "facts": dict,
    "seeds": dict,
    "n_epochs": int,
    "history": np.ndarray,
    "module": dict,
    "optimizer": (dict, type(None)),
    "callbacks": dict,
    "generators": dict,
    "scaler": dict,
    "torch": Tensor,
    "cuda": list,
}
_MOST_SEED = 2**64


def read_checkpoint(path: Path, seeds: Mapping[str, int]) -> dict[str, Any]:
    """Read a checkpoint, whose entries are what training wrote.

    Parameters
    ----------
    path : Path
        The file.
    seeds : mapping of str to int
        Seeds of a training from the start, which has those of the same names.

    Returns
    -------
    dict
        Its entries; ``history`` is a list of rows.

    Raises
    ------
    PersistenceError
        If the file is damaged, no checkpoint, or forged.
    """
    try:
        state = read_value(path)
        _require(_is_checkpoint(state), "entries of another kind")
        _require(state["seeds"].keys() == seeds.keys(), "other seeds")
        numbers = [*state["seeds"].values()]
        _require(
            all(_is_count(k, _MOST_SEED) for k in numbers), "seeds of another kind"
        )
        facts = [*state["facts"], *state["facts"].values()]
        _require(all(isinstance(fact, str) for fact in facts), "facts that are no text")
        rows = unpacked(state["history"])
        _require(
            _is_count(state["n_epochs"], len(rows) + 1), "another number of epochs"
        )
        _require(state["n_epochs"] == len(rows), "another number of epochs")
    except PersistenceError as error:
        raise PersistenceError(
            f"Training cannot continue from {path}: {error} Delete it to train from "
            "the start."
        ) from error
    return {**state, "history": rows}


def _is_checkpoint(state: Any) -> bool:
    return (
        type(state) is dict
        and state.keys() == _ENTRIES.keys()
        and all(isinstance(state[name], kind) for name, kind in _ENTRIES.items())
        and state["format"] == FORMAT
    )


def packed(history: list[Any]) -> NDArray[np.uint8]:
    """A history as the bytes of its JSON: it has a row a step, in every file."""

    def number(value: Any) -> Any:
        if not hasattr(value, "item"):
            raise PersistenceError(
                "A history must hold numbers and text to be saved in a checkpoint. Got "
                f"{value!r}; record something else, or set checkpoint_path=None."
            )
        return value.item()

    text = json.dumps(list(history), default=number, separators=(",", ":"))
    return np.frombuffer(text.encode("ascii"), dtype=np.uint8)


def unpacked(values: NDArray[Any]) -> list[dict[str, Any]]:
    """The rows of a packed history.

    Raises
    ------
    PersistenceError
        If it is none.
    """
    is_text = values.dtype == np.uint8 and values.ndim == 1
    _require(is_text and bool((values < 128).all()), "a history that is no text")
    text = values.tobytes()
    # Short texts of many lists and objects would grow in memory.
    n_parts = text.count(b"[") + text.count(b"{")
    _require(n_parts <= 1000 + len(text) // 12, "a history of empty parts")
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _unsound("a history that is no JSON") from error
    _require(isinstance(rows, list) and all(map(_is_row, rows)), "odd rows of history")
    return rows


def _is_row(row: Any) -> bool:
    if not isinstance(row, dict) or "epoch" not in row:
        return False
    batches = row.get("batches", [])
    return isinstance(batches, list) and all(isinstance(b, dict) for b in batches)


def check_alike(saved: Any, own: Any, what: str) -> None:
    """Refuse a state that is not built as the one whose place it takes.

    Raises
    ------
    PersistenceError
        If keys, shapes or types differ.
    """
    if isinstance(own, Mapping):
        _require(isinstance(saved, Mapping) and saved.keys() == own.keys(), what)
        for key, value in own.items():
            check_alike(saved[key], value, what)
    elif isinstance(own, Tensor):
        _require(isinstance(saved, Tensor) and saved.shape == own.shape, what)
        _require(saved.dtype == own.dtype, what)
    elif isinstance(own, bool) or own is None:
        _require(saved is None or isinstance(saved, bool | Real), what)
    elif isinstance(own, Real):
        _require(isinstance(saved, Real) and not isinstance(saved, bool), what)
    elif isinstance(own, list | tuple):
        _require(type(saved) is type(own), what)
        _require(isinstance(own, list) or len(saved) == len(own), what)
        for value, before in zip(saved, own, strict=False):
            check_alike(value, before, what)
    else:
        _require(type(saved) is type(own), what)


def check_optimizer(saved: Any, own: dict[str, Any], sizes: list[int]) -> None:
    """Refuse the state of an optimiser of other parameters or settings.

    Parameters
    ----------
    saved : object
        State of a checkpoint.
    own : dict
        State of the optimiser that takes it over, at its start.
    sizes : list of int
        Numbers of values of its parameters.

    Raises
    ------
    PersistenceError
        If they are not alike.
    """
    what = "an optimiser of another kind"
    _require(isinstance(saved, dict) and saved.keys() == own.keys(), what)
    groups = saved["param_groups"]
    _require(isinstance(groups, list) and len(groups) == len(own["param_groups"]), what)
    for group, before in zip(groups, own["param_groups"], strict=True):
        _require(isinstance(group, dict) and group.keys() >= before.keys(), what)
        _require(group["params"] == before["params"], what)
        added = {k: v for k, v in group.items() if k not in before}
        _require(all(isinstance(v, Real) for v in added.values()), what)
        check_alike({k: group[k] for k in before}, before, what)
    moments = saved["state"]
    _require(isinstance(moments, dict), what)
    for number, moment in moments.items():
        _require(_is_count(number, len(sizes)) and isinstance(moment, dict), what)
        tensors = [v for v in moment.values() if isinstance(v, Tensor)]
        most = max(1, sizes[number])
        _require(all(isinstance(name, str) for name in moment), what)
        _require(all(tensor.numel() <= most for tensor in tensors), what)


def check_callback(name: str, callback: Any, saved: Any) -> None:
    """Refuse what is no state of a callback.

    Raises
    ------
    PersistenceError
        If it sets a method or a parameter, or a value of another kind.
    """
    what = f"another state of the callback {name!r}"
    _require(isinstance(saved, dict), what)
    params = callback.get_params(deep=False)
    for key, entry in saved.items():
        member = inspect.getattr_static(type(callback), str(key), None)
        is_code = callable(member) or hasattr(type(member), "__get__")
        free = isinstance(key, str) and key.isidentifier() and key not in params
        _require(free and not is_code and not key.startswith("__"), what)
        _require(isinstance(entry, dict) and len(entry) == 1, what)
        own: Any = getattr(callback, key, None)
        if "state_dict" in entry:
            _require(hasattr(own, "load_state_dict"), what)
            check_alike(entry["state_dict"], own.state_dict(), what)
        else:
            _require("value" in entry and not hasattr(own, "load_state_dict"), what)
            if isinstance(own, Real) and not isinstance(own, bool):
                _require(isinstance(entry["value"], Real), what)


def check_position(saved: Any, generator: Any) -> None:
    """Refuse the position of a random generator of another kind.

    Raises
    ------
    PersistenceError
        If it is of another kind.
    """
    what = "random generators of another kind"
    if isinstance(generator, torch.Generator):
        check_alike(saved, generator.get_state(), what)
        return
    # The file brings a generator, whose state was checked when it was made.
    _require(isinstance(saved, np.random.Generator), what)
    kinds = [type(one.bit_generator) for one in (saved, generator)]
    _require(kinds[0] is kinds[1], what)


def require_alike(saved: Any, own: Any, what: str) -> None:
    """Refuse mappings of other keys.

    Raises
    ------
    PersistenceError
        If one has a key that the other has not.
    """
    _require(saved.keys() == own.keys(), what)


def _is_count(value: Any, limit: int) -> bool:
    return type(value) is int and 0 <= value < limit


def _require(sound: bool, got: str) -> None:
    if not sound:
        raise _unsound(got)


def _unsound(got: str) -> PersistenceError:
    return PersistenceError(
        f"A checkpoint must have been written by this training. Got {got}; give "
        "another path."
    )
