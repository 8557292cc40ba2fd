"""Tools that every other room may use: discovery and random streams."""

from ._discovery import all_estimators
from ._random import isolated_torch_rng, named_seeds

__all__ = ["all_estimators", "isolated_torch_rng", "named_seeds"]
