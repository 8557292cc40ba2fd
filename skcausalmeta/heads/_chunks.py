"""How many tasks are solved together."""

from __future__ import annotations

from torch import Tensor

# Larger chunks fall out of the cache of a CPU and need more memory (measured: 2**23
# is as fast as half or twice of it); a GPU wants work for all its cores.
_CPU_BYTES, _GPU_BYTES = 2**23, 2**30
_FEWEST_TASKS = 4


def chunk_sizes(features: Tensor, entries: int) -> list[int]:
    """Sizes of consecutive chunks of tasks, bounded in memory.

    Parameters
    ----------
    features : Tensor of shape (n_tasks, ...)
        Support features, for their number, dtype and device.
    entries : int
        Numbers that solving one task keeps at a time.

    Returns
    -------
    list of int
        They sum to n_tasks; at least one chunk.
    """
    n_tasks = features.shape[0]
    limit = _CPU_BYTES if features.device.type == "cpu" else _GPU_BYTES
    size = max(_FEWEST_TASKS, limit // (entries * features.element_size()))
    whole, rest = divmod(n_tasks, size)
    sizes = [size] * whole + [rest] * (rest > 0)
    return sizes or [0]
