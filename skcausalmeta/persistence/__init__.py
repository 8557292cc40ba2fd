"""Fitted estimators in files that hold numbers and settings, and no code."""

from ._drafts import in_one_step
from ._file import describe, installed_versions, load, read_value, save, write_value

__all__ = [
    "describe",
    "in_one_step",
    "installed_versions",
    "load",
    "read_value",
    "save",
    "write_value",
]
