"""Tools that every other room may use: discovery, random streams, stored arrays."""

from ._discovery import all_estimators
from ._memory_map import all_finite, is_memory_map, release_pages
from ._random import isolated_torch_rng, named_seeds
from ._stored_rows import StoredRows, is_stored

__all__ = [
    "StoredRows",
    "all_estimators",
    "all_finite",
    "is_memory_map",
    "is_stored",
    "isolated_torch_rng",
    "named_seeds",
    "release_pages",
]
