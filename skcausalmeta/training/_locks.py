"""Turns of threads at a module whose state changes while it runs."""

from __future__ import annotations

from threading import Lock, RLock
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

_LOCKS: WeakKeyDictionary[nn.Module, Any] = WeakKeyDictionary()
_CREATION = Lock()


def module_lock(module: nn.Module) -> Any:
    """The one lock of a module, which the thread that holds it may take again.

    Calls that exchange the parameters or the methods of a module for a moment
    (`torch.func.functional_call`, batch norm with statistics of its own) change what
    other threads see of it. The lock is kept apart from the module, so that copies
    and pickles of it need none.

    Parameters
    ----------
    module : torch.nn.Module
        Shared by threads.

    Returns
    -------
    context manager

    Examples
    --------
    >>> from torch import nn
    >>> from skcausalmeta.training import module_lock
    >>> layer = nn.Linear(2, 1)
    >>> module_lock(layer) is module_lock(layer)
    True
    """
    with _CREATION:
        lock = _LOCKS.get(module)
        if lock is None:
            lock = _LOCKS[module] = RLock()
        return lock
