"""Implicit differentiation: optimality conditions instead of iterations."""

from ._linear_solve import solve_psd
from ._root import implicit_root

__all__ = ["implicit_root", "solve_psd"]
