"""Random streams that are named by purpose, and torch's own kept apart."""

import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

import numpy as np
import torch
from numpy.random import RandomState
from sklearn.utils import check_random_state

from ..exceptions import InvalidInputError

_SEED_BOUND = 2**31
_TURNS = RLock()


def _new_turns() -> None:
    """Start a process without the turn that another thread of its parent had."""
    global _TURNS
    _TURNS = RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_turns)


def named_seeds(random_state: int | RandomState | None, *names: str) -> dict[str, int]:
    """Derive one independent seed per purpose from a single random state.

    The seed of a name depends on `random_state` and on the name alone, so a
    stream keeps its values when other names are added, dropped or reordered.

    Parameters
    ----------
    random_state : int, RandomState instance or None
        Source of the seeds. An instance is advanced by one draw whatever the
        number of names. ``None`` takes fresh entropy from the operating
        system; numpy's global state is neither read nor advanced.
    *names : str
        The purposes, for instance ``"episodes"`` and ``"weights"``, each once.

    Returns
    -------
    seeds : dict of str to int
        A seed in ``[0, 2**31)`` for each name, in the order of the names.

    Raises
    ------
    InvalidInputError
        If a name is given twice, since both uses would share one stream.

    Examples
    --------
    >>> from skcausalmeta.utils import named_seeds
    >>> alone = named_seeds(0, "episodes")
    >>> together = named_seeds(0, "weights", "episodes")
    >>> alone["episodes"] == together["episodes"]
    True
    """
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InvalidInputError(
            "Each name must be given once, since a seed belongs to one purpose. "
            f"Got {repeated} more than once; rename or drop the repetitions."
        )
    # check_random_state(None) would hand out, and advance, numpy's global state.
    rng = RandomState() if random_state is None else check_random_state(random_state)
    root = int(rng.randint(_SEED_BOUND, dtype=np.int64))
    return {name: _seed(root, name) for name in names}


def _seed(root: int, name: str) -> int:
    # crc32 is the same in every process, unlike the salted hash of a str.
    sequence = np.random.SeedSequence([root, zlib.crc32(name.encode())])
    return int(sequence.generate_state(1)[0]) % _SEED_BOUND


@contextmanager
def isolated_torch_rng(seed: int) -> Iterator[None]:
    """Seed torch's global random state inside a block and restore it after.

    For libraries that draw from the global state, such as the initialisation
    of `torch.nn` layers and dropout. The state of the CPU and, where CUDA has
    been initialised, of every CUDA device is restored on leaving the block,
    also when it is left by an error. There is one global state for all threads,
    which therefore take turns.

    Parameters
    ----------
    seed : int
        Seed of the block, for instance a value of `named_seeds`.

    Yields
    ------
    None
        The block runs under the seed.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.utils import isolated_torch_rng
    >>> before = torch.get_rng_state()
    >>> with isolated_torch_rng(0):
    ...     first = torch.rand(2)
    >>> with isolated_torch_rng(0):
    ...     second = torch.rand(2)
    >>> bool((first == second).all() and (before == torch.get_rng_state()).all())
    True
    """
    with _TURNS, _seeded(seed):
        yield


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    cuda_available = torch.cuda.is_available()
    cuda_has_state = cuda_available and torch.cuda.is_initialized()
    devices = range(torch.cuda.device_count()) if cuda_has_state else []
    try:
        with torch.random.fork_rng(devices=devices):
            torch.default_generator.manual_seed(seed)
            if cuda_available:
                torch.cuda.manual_seed_all(seed)
            yield
    finally:
        if cuda_available and not cuda_has_state:
            # A seed given before CUDA starts waits for the start. Replace ours by
            # the caller's, which torch.manual_seed gives to every device.
            torch.cuda.manual_seed_all(torch.initial_seed())
