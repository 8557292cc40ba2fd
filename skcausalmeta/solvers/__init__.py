"""Solvers of the base-predictors: ``solve(problem) -> Solution``."""

from ._auto import solve_auto
from ._compiled_solver import (
    compiled_applies,
    compiled_gradients,
    has_compiled_solver,
    solve_compiled,
)
from ._conic import solve_cvxpy
from ._fista import solve_fista
from ._lasso import solve_lasso
from ._newton import solve_newton
from ._problem import Problem, Solution, narrow
from ._proximal_gradient import solve_proximal_gradient
from ._reduced_system import ReducedSystem
from ._ridge import RidgeCertificate, positive_per_task, ridge_certificate, solve_ridge
from ._softmax_newton import solve_softmax_newton
from ._softmax_system import SoftmaxSystem
from ._working_set import solve_working_set

__all__ = [
    "Problem",
    "ReducedSystem",
    "RidgeCertificate",
    "SoftmaxSystem",
    "Solution",
    "compiled_applies",
    "compiled_gradients",
    "has_compiled_solver",
    "narrow",
    "positive_per_task",
    "ridge_certificate",
    "solve_auto",
    "solve_compiled",
    "solve_cvxpy",
    "solve_fista",
    "solve_lasso",
    "solve_newton",
    "solve_proximal_gradient",
    "solve_ridge",
    "solve_softmax_newton",
    "solve_working_set",
]
