"""Fitted estimators in files that hold numbers and settings, and no code."""

from ._file import describe, load, read_value, save, versions, write_value

__all__ = [
    "describe",
    "load",
    "read_value",
    "save",
    "versions",
    "write_value",
]
