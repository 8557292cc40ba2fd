"""The command line, ``python -m skcausalmeta``."""

from ._main import main

__all__ = ["main"]
