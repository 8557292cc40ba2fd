"""Tools that every other room may use: discovery, random streams, memory maps."""

from ._discovery import all_estimators
from ._memory_map import all_finite, is_memory_map, release_pages
from ._random import isolated_torch_rng, named_seeds

__all__ = [
    "all_estimators",
    "all_finite",
    "is_memory_map",
    "isolated_torch_rng",
    "named_seeds",
    "release_pages",
]
