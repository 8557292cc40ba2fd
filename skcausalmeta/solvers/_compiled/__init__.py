"""The compiled kernel of the group-Lasso SVM, where setup.py could build it."""

from __future__ import annotations

from types import ModuleType

kernel: ModuleType | None
try:
    from . import _kernel as kernel
except ImportError:
    kernel = None

__all__ = ["kernel"]
