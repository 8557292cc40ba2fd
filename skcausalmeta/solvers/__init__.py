"""Solvers of the base-predictors: ``solve(problem) -> Solution``."""

from ._cvxpy import solve_cvxpy
from ._fista import solve_fista
from ._newton import solve_newton
from ._problem import Problem, Solution
from ._reduced_system import ReducedSystem
from ._working_set import solve_working_set

__all__ = [
    "Problem",
    "ReducedSystem",
    "Solution",
    "solve_cvxpy",
    "solve_fista",
    "solve_newton",
    "solve_working_set",
]
