"""Training that survives a crash: its whole state in a file after every epoch."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from types import BuiltinFunctionType, FunctionType
from typing import Any

import numpy as np
import torch
from skorch.callbacks import Callback
from torch import nn

from ..exceptions import InvalidInputError, PersistenceError
from ..persistence import write_value
from ._checkpoint_state import (
    FORMAT,
    check_alike,
    check_callback,
    check_optimizer,
    check_position,
    packed,
    read_checkpoint,
    require_alike,
)
from ._progress import TaskProgress

_PLAIN = (type(None), bool, int, float, complex, str, bytes, np.generic, np.ndarray)


class TrainingCheckpoint(Callback):
    """Saves the state of training after every epoch and continues from it.

    The file holds weights, optimiser, history, schedules, best weights, and the states
    of all random generators, so that a training that was cut short ends in the
    same weights, to the last bit, as one that was not. It holds numbers and names
    only, carries a checksum, and is replaced in one step.

    Parameters
    ----------
    path : str
        The file.
    facts : dict of str to str
        Facts that tell this training from others, such as digests of the parameters
        and of the data.

    Notes
    -----
    Callbacks are saved by the attributes that are not their parameters: numbers,
    text, arrays, tensors, and objects with ``state_dict``.

    Examples
    --------
    >>> from skcausalmeta.training import TrainingCheckpoint
    >>> TrainingCheckpoint("nowhere.ckpt", {"data": "1f0c"}).open({"weights": 7})
    {'weights': 7}
    """

    def __init__(self, path: str, facts: Mapping[str, str]) -> None:
        self.path = path
        self.facts = facts

    def open(self, seeds: dict[str, int]) -> dict[str, int]:
        """Read the file if there is one.

        Parameters
        ----------
        seeds : dict of str to int
            Seeds for a training from the start.

        Returns
        -------
        dict of str to int
            The seeds that the saved training began with, or `seeds`.

        Raises
        ------
        InvalidInputError
            If the file belongs to a training with other facts.
        PersistenceError
            If it is damaged, no checkpoint, or not as training writes it.
        """
        path = Path(self.path)
        self._state = read_checkpoint(path, seeds) if path.exists() else None
        if self._state is not None:
            self._check_facts(self._state["facts"])
            seeds = self._state["seeds"]
        self._seeds = dict(seeds)
        return self._seeds

    def train(self, net: Any, streams: Any) -> None:
        """Train a net on streams for the epochs that are left, after `open`.

        Raises
        ------
        PersistenceError
            If the file has more epochs than the training.
        """
        self._generators = streams[0].generators
        done = 0 if self._state is None else self._state["n_epochs"]
        if done > net.max_epochs:
            raise PersistenceError(
                f"A checkpoint must have at most max_epochs={net.max_epochs} epochs. "
                f"Got {done} in {self.path}; delete it to train from the start."
            )
        net.fit(streams, epochs=net.max_epochs - done)

    def _check_facts(self, saved: Mapping[str, str]) -> None:
        names = sorted(saved.keys() | self.facts.keys())
        other = [k for k in names if saved.get(k) != self.facts.get(k)]
        if other:
            raise InvalidInputError(
                f"The checkpoint {self.path} must be of this training. Got one with "
                f"another {', '.join(other)}; give a checkpoint of its own, or delete "
                "the file."
            )

    # -- callback ----------------------------------------------------------------------

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        """Continue from the file; comes after the other callbacks have begun."""
        if self._state is not None:
            self._restore(net, self._state)
        self._state = None

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Save the epoch; of several processes one does."""
        processes = getattr(net, "processes_", None)
        if processes is None or processes.rank == 0:
            write_value(Path(self.path), self._state_of(net))

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """Drop the state of this run."""
        del self._state, self._seeds, self._generators

    def _state_of(self, net: Any) -> dict[str, Any]:
        scaler = getattr(net, "scaler_", None)  # of float16
        optimizer = getattr(net, "optimizer_", None)  # none without parameters
        return {
            "format": FORMAT,
            "facts": dict(self.facts),
            "seeds": self._seeds,
            "n_epochs": len(net.history),
            "history": packed(net.history),
            "module": dict(net.module_.state_dict()),
            "optimizer": None if optimizer is None else optimizer.state_dict(),
            "callbacks": {
                name: _callback_state(name, one) for name, one in self._others(net)
            },
            "generators": {k: _position(g) for k, g in self._generators.items()},
            "scaler": {} if scaler is None else scaler.state_dict(),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if _on_cuda(net) else [],
        }

    def _restore(self, net: Any, state: dict[str, Any]) -> None:
        try:
            self._check(net, state)
            self._take_over(net, state)
        except (PersistenceError, RuntimeError, ValueError, KeyError, TypeError) as e:
            raise PersistenceError(
                f"Training cannot continue from {self.path}: {e} Delete it to train "
                "from the start."
            ) from e

    def _check(self, net: Any, state: dict[str, Any]) -> None:
        """Look at all of a state before any of it is used."""
        weights = dict(net.module_.state_dict())
        check_alike(state["module"], weights, "weights of another module")
        optimizer = getattr(net, "optimizer_", None)
        require_alike(
            dict.fromkeys(["optimizer"] * (state["optimizer"] is not None)),
            dict.fromkeys(["optimizer"] * (optimizer is not None)),
            "another optimiser",
        )
        if optimizer is not None:
            groups = optimizer.param_groups
            sizes = [p.numel() for group in groups for p in group["params"]]
            check_optimizer(state["optimizer"], optimizer.state_dict(), sizes)
        others = dict(self._others(net))
        for name, saved in state["callbacks"].items():
            if name in others:
                check_callback(name, others[name], saved)
        require_alike(state["generators"], self._generators, "other generators")
        for name, generator in self._generators.items():
            check_position(state["generators"][name], generator)
        scaler = getattr(net, "scaler_", None)
        if scaler is not None and state["scaler"]:
            check_alike(state["scaler"], scaler.state_dict(), "another scaler")
        check_alike(state["torch"], torch.get_rng_state(), "another state of torch")
        if _on_cuda(net) and state["cuda"]:
            own = torch.cuda.get_rng_state_all()
            check_alike(state["cuda"], own, "another state of torch")

    def _take_over(self, net: Any, state: dict[str, Any]) -> None:
        net.history.extend(state["history"])
        net.module_.load_state_dict(state["module"])
        if state["optimizer"] is not None:
            net.optimizer_.load_state_dict(state["optimizer"])
        for name, callback in self._others(net):
            _restore_callback(callback, state["callbacks"].get(name, {}))
        for name, generator in self._generators.items():
            _move_to(generator, state["generators"][name])
        if state["scaler"] and getattr(net, "scaler_", None) is not None:
            net.scaler_.load_state_dict(state["scaler"])
        torch.set_rng_state(state["torch"])
        if _on_cuda(net) and state["cuda"]:
            torch.cuda.set_rng_state_all(state["cuda"])
        for _, callback in net.callbacks_:
            if isinstance(callback, TaskProgress):
                callback.skip(state["n_epochs"])

    def _others(self, net: Any) -> list[tuple[str, Any]]:
        """Return the callbacks whose state is saved: not itself, nor the bar."""
        return [
            (name, callback)
            for name, callback in net.callbacks_
            if callback is not self and not isinstance(callback, TaskProgress)
        ]


class WarmStart(Callback):
    """Begins training with the weights of another module.

    Parameters
    ----------
    module : torch.nn.Module
        Of the same sizes, as a fit before left it. Let go of once training begins.

    Raises
    ------
    InvalidInputError
        In ``fit``, before any step, if the weights have other sizes.

    Examples
    --------
    >>> from torch import nn
    >>> from skcausalmeta.training import WarmStart
    >>> WarmStart(nn.Linear(3, 2)).module
    Linear(in_features=3, out_features=2, bias=True)
    """

    def __init__(self, module: nn.Module | None) -> None:
        self.module = module

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        """Take over the weights."""
        module, self.module = self.module, None
        if module is None:
            return
        try:
            net.module_.load_state_dict(module.state_dict())
        except RuntimeError as error:
            raise InvalidInputError(
                "warm_start=True begins with the weights of the fit before, so the "
                "rows and all learned parts must have the same sizes. Got others; "
                f"set warm_start=False. {error}"
            ) from error


def _on_cuda(net: Any) -> bool:
    return str(net.device).startswith("cuda")


def _position(generator: Any) -> Any:
    return (
        generator.get_state() if isinstance(generator, torch.Generator) else generator
    )


def _move_to(generator: Any, position: Any) -> None:
    if isinstance(generator, torch.Generator):
        generator.set_state(position)
    else:
        generator.bit_generator.state = position.bit_generator.state


# -- states of callbacks ---------------------------------------------------------------


def _callback_state(name: str, callback: Any) -> dict[str, Any]:
    """Return the attributes of a callback that training set, functions left out."""
    params = callback.get_params(deep=False)
    state = {}
    for key, value in vars(callback).items():
        if key in params or isinstance(
            value, FunctionType | BuiltinFunctionType | type
        ):
            continue
        if hasattr(value, "state_dict"):
            state[key] = {"state_dict": value.state_dict()}
        elif _is_plain(value):
            state[key] = {"value": value}
        else:
            raise PersistenceError(
                "Callbacks must hold numbers, text, arrays, tensors or objects with "
                f"state_dict to be saved in a checkpoint. Got {key}={value!r} of "
                f"{name!r}; make it a parameter of the callback, or set "
                "checkpoint_path=None."
            )
    return state


def _restore_callback(callback: Any, state: dict[str, Any]) -> None:
    for key, saved in state.items():
        if "state_dict" in saved:
            getattr(callback, key).load_state_dict(saved["state_dict"])
        else:
            setattr(callback, key, saved["value"])


def _is_plain(value: Any) -> bool:
    if isinstance(value, _PLAIN):
        return not (isinstance(value, np.ndarray) and value.dtype == object)
    if type(value) in (dict, OrderedDict):
        return all(_is_plain(k) and _is_plain(v) for k, v in value.items())
    if type(value) in (list, tuple, set):
        return all(map(_is_plain, value))
    return type(value) is torch.Tensor
