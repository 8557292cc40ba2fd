"""Fitted estimators in files that hold numbers and settings, and no code."""

from ._file import describe, load, save

__all__ = ["describe", "load", "save"]
