"""How a net travels: pickles, copies, and other processes."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

import skorch
import torch
from skorch.utils import get_map_location
from torch import Tensor, nn

from ..exceptions import PersistenceError
from ._interruption import InterruptibleNet

_WRITTEN_BY = "__written_by_skorch__"
_FIRST_VERSION = (1, 2)


class PortableNet(InterruptibleNet):
    """skorch net whose modules are pickled as everything else is.

    skorch pickles modules and optimisers apart, into bytes, by the plain pickle, which
    knows a class by its name only. Here they are part of the state, so that whoever
    pickles the net decides: the plain pickle names classes, and those that send a
    notebook's classes along (joblib's loky, Dask, cloudpickle) send these too. What
    lives on another device is written as on a CPU, and goes back where it was if the
    device is there.

    Examples
    --------
    >>> import pickle
    >>> from torch import nn
    >>> from skcausalmeta.training import PortableNet
    >>> net = PortableNet(nn.Linear, module__in_features=2, module__out_features=1,
    ...                   criterion=nn.MSELoss).initialize()
    >>> pickle.loads(pickle.dumps(net)).module_
    Linear(in_features=2, out_features=1, bias=True)
    """

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes, those of another device as on a CPU."""
        state = {**self.__dict__, _WRITTEN_BY: skorch.__version__}
        device = getattr(self, "device", None)
        if device is not None and torch.device(device).type != "cpu":
            # Copied together, so that an optimiser keeps the parameters of its module.
            parts = copy.deepcopy({name: state[name] for name in self._on_device()})
            _move(parts, torch.device("cpu"))
            state.update(parts)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over attributes, on their device if it is there.

        Raises
        ------
        PersistenceError
            If skorch wrote them before version 1.2, or in a layout of its own.
        """
        state = dict(state)
        version = state.pop(_WRITTEN_BY, None)
        found = re.match(r"(\d+)\.(\d+)", version or "")
        if found is None or tuple(map(int, found.groups())) < _FIRST_VERSION:
            old = "an older layout" if version is None else f"one of skorch {version}"
            raise PersistenceError(
                "A pickled learner must come from skorch "
                f"{'.'.join(map(str, _FIRST_VERSION))} or later: before, modules were "
                f"written in a form that newer versions of torch do not load. Got {old}"
                "; load it where it was written and pass it on by "
                "skcausalmeta.persistence.save, or fit again."
            )
        place = get_map_location(state["device"])
        state["device"] = self._check_device(state["device"], place)
        self.__dict__.update(state)
        if place.type != "cpu":
            _move({name: state[name] for name in self._on_device()}, place)

    def _on_device(self) -> Iterator[str]:
        """Yield the names of the attributes that live on the device."""
        prefixes = tuple(self.cuda_dependent_attributes_)
        return (name for name in self.__dict__ if name.startswith(prefixes))


def _move(parts: dict[str, Any], device: torch.device) -> None:
    """Move modules and the state of optimisers in place."""
    for part in parts.values():
        if isinstance(part, nn.Module):
            part.to(device)
        moments = part.state if isinstance(part, torch.optim.Optimizer) else {}
        for values in moments.values():
            for name, value in values.items():
                if isinstance(value, Tensor):
                    values[name] = value.to(device)
