"""The dual of the group-Lasso SVM, solved by the conic solvers of cvxpy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..exceptions import SolverError
from ._problem import Problem, Solution

# Interior point first: it reaches 1e-9 where first-order solvers stop at 1e-5.
_PREFERENCE = ("CLARABEL", "ECOS", "MOSEK", "SCS")
# The defaults of these solvers stop close to a relative gap of 1e-6, and one that
# misses it costs a second solver.
_TIGHT: dict[str, dict[str, Any]] = {
    "CLARABEL": {"tol_gap_abs": 1e-9, "tol_gap_rel": 1e-9, "tol_feas": 1e-9},
    "SCS": {"eps": 1e-8, "max_iters": 50_000},
}


def solve_cvxpy(
    problem: Problem,
    *,
    tol: float = 1e-6,
    solver_options: dict[str, Any] | None = None,
) -> Solution:
    """Maximise D(B) of a group-Lasso SVM with cvxpy, one task after the other.

    With ``G = F / sqrt(lambda2)``, ``t = lambda1 / sqrt(lambda2)`` the dual is ::

        max_B  <s (1 - Y + O), B> - 1/2 sum_g max(0, ||(G'S(Y - B))_g||_F - t w_g)^2
        s.t.   every row of B in the probability simplex

    written as the projection of G'S(Y - B) onto the balls of radius t w_g. Small
    programs are canonicalised once per shape and solved again with new
    parameters; larger ones are built afresh. An answer is judged by its own
    certificate, not by the status word; as long as the certificate does not
    hold, the next installed conic solver is tried.

    Parameters
    ----------
    problem : Problem
        The batch of problems, with loss `CrammerSinger`, penalty `GroupLasso`.
    tol : float, default=1e-6
        Relative duality gap to reach.
    solver_options : dict, default=None
        ``{"solver": name, ...}``: the conic solver to try first and the
        keywords of ``cvxpy.Problem.solve`` for it. None: the first installed of
        CLARABEL, ECOS, MOSEK, SCS, at tight tolerances.

    Returns
    -------
    Solution
        ``n_iter`` counts the programs solved.

    Raises
    ------
    SolverError
        If no installed solver returns a point; `statuses` says why.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.losses import CrammerSinger
    >>> from skcausalmeta.penalties import GroupLasso
    >>> from skcausalmeta.solvers import Problem, solve_cvxpy
    >>> one = torch.ones(1, dtype=torch.float64)
    >>> eye = torch.eye(3, dtype=torch.float64)[None]
    >>> penalty = GroupLasso(0.1 * one, one)
    >>> problem = Problem(eye, eye, one.expand(1, 3), CrammerSinger(), penalty)
    >>> bool(solve_cvxpy(problem).relative_gap <= 1e-6)
    True
    """
    parts = [
        _solve_one(problem.select(torch.tensor([task])), tol, solver_options or {})
        for task in range(problem.n_tasks)
    ]
    duals, counts = zip(*parts, strict=True)
    dual = torch.cat(duals)
    gap, relative_gap, coef = problem.certificate(dual)
    return Solution(coef, dual, gap, relative_gap, torch.tensor(counts))


def _solve_one(
    problem: Problem, tol: float, options: dict[str, Any]
) -> tuple[Tensor, int]:
    """Best dual point of a batch of one and the number of programs solved."""
    # Importing cvxpy takes longer than many a problem; most solvers need none.
    from ._cvxpy import dual_program, installed_solvers

    program = dual_program(problem)
    best, best_gap = None, np.inf
    statuses: dict[str, str] = {}
    for name, keywords in _attempts(options, installed_solvers()):
        value, statuses[name] = program.solve(name, keywords)
        if value is None or not np.isfinite(value).all():
            continue
        point = problem.targets.new_tensor(value)[None]
        dual = problem.loss.project(point)
        relative_gap = float(problem.certificate(dual)[1])
        if relative_gap < best_gap:
            best, best_gap = dual, relative_gap
        if best_gap <= tol:
            break
    if best is None:
        raise SolverError(
            "No installed conic solver returned a point for the dual program. "
            f"Got the statuses {statuses}; rescale the features, or set "
            "solver_options={'solver': ...} to another installed solver, or use "
            "solver='fista'.",
            statuses,
        )
    return best, len(statuses)


def _attempts(
    options: dict[str, Any], installed: list[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The user's solver with its options, then the other installed ones."""
    keywords = dict(options)
    first = keywords.pop("solver", None)
    if first is not None and first not in installed:
        raise ValueError(
            "solver_options['solver'] must be an installed cvxpy solver. Got "
            f"{first!r}, installed are {installed}."
        )
    order = [name for name in _PREFERENCE if name in installed]
    if first is not None:
        order = [first, *(name for name in order if name != first)]
    for rank, name in enumerate(order):
        yield name, _TIGHT.get(name, {}) | (keywords if rank == 0 else {})
