"""Optimisers, from what a file says of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from torch import Tensor

from ..exceptions import PersistenceError


def optimizer_of(
    optimizer: Any,
    defaults: Any,
    groups: Any,
    moments: dict[Any, Any],
    spend: Callable[[int], None],
) -> Any:
    """Give an empty optimiser its state.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Made without its constructor.
    defaults : dict
        Default settings of a group.
    groups : list of dict
        Settings and parameters of each group.
    moments : dict of Parameter to dict
        What it has accumulated.
    spend : callable
        ``spend(n)``, called with the number of parameters before they are gone
        through.

    Raises
    ------
    PersistenceError
        If one is of another type.
    """
    # Many optimisers of a file may share what is gone through here.
    _check_names(defaults, "defaults", spend)
    _require(type(groups) is list, "groups")
    parameters: set[int] = set()
    for group in groups:
        _check_names(group, "groups", spend)
        _require(type(group.get("params")) is list, "groups")
        spend(len(group["params"]))
        _require(all(isinstance(p, Tensor) for p in group["params"]), "parameters")
        parameters.update(map(id, group["params"]))
    for key, state in moments.items():
        _require(isinstance(key, Tensor) and id(key) in parameters, "moments")
        _check_names(state, "moments", spend)
    found: Any = defaultdict(dict)
    found.update(moments)
    optimizer.__setstate__(
        {"defaults": defaults, "state": found, "param_groups": groups}
    )
    return optimizer


def _check_names(state: Any, what: str, spend: Callable[[int], None]) -> None:
    _require(type(state) is dict, what)
    spend(1 + len(state))
    _require(all(isinstance(name, str) for name in state), what)


def _require(sound: bool, what: str) -> None:
    if not sound:
        raise PersistenceError(
            f"The {what} of an optimiser must be sound. They are not; the file is "
            "damaged, get another copy."
        )
