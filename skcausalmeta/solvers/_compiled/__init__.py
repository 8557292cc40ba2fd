"""The compiled kernel of the group-Lasso SVM, None where it was not built."""

from __future__ import annotations

from importlib import import_module
from typing import Any

kernel: Any
try:
    kernel = import_module("._kernel", __name__)
except ImportError:
    kernel = None

__all__ = ["kernel"]
