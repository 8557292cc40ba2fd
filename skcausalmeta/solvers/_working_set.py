"""cvxpy on the features that matter, certified on all of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ._conic import solve_cvxpy
from ._newton import solve_newton
from ._problem import Problem, Solution

_SCOUT_TOL = 1e-5
_SCOUT_STEPS = 10
_MARGIN = 0.02
_MAX_ROUNDS = 10


def solve_working_set(
    problem: Problem,
    *,
    tol: float = 1e-6,
    solver_options: dict[str, Any] | None = None,
) -> Solution:
    """Maximise D(B) with cvxpy on a working set of features.

    1. A few cheap dual steps (`solve_newton`) find the groups g with
       ``||(F'R)_g||`` near or above their threshold: the working set.
    2. cvxpy solves the program restricted to them.
    3. The certificate P(W(B)) - D(B) of the *whole* problem is computed at
       that point. Groups outside the set that it switches on join the set,
       until the certificate holds.

    A group that is off at the solution adds nothing to the dual, so the
    restricted solution is the solution once no group outside is switched on.

    Parameters
    ----------
    problem : Problem
        The batch of problems, with loss `CrammerSinger`, penalty `GroupLasso`.
    tol : float, default=1e-6
        Relative duality gap to reach.
    solver_options : dict, default=None
        See `solve_cvxpy`.

    Returns
    -------
    Solution
        ``n_iter`` counts the restricted programs.

    Raises
    ------
    SolverError
        If no installed solver returns a point.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.losses import CrammerSinger
    >>> from skcausalmeta.penalties import GroupLasso
    >>> from skcausalmeta.solvers import Problem, solve_working_set
    >>> one = torch.ones(1, dtype=torch.float64)
    >>> eye = torch.eye(3, dtype=torch.float64)[None]
    >>> penalty = GroupLasso(0.1 * one, one)
    >>> problem = Problem(eye, eye, one.expand(1, 3), CrammerSinger(), penalty)
    >>> bool(solve_working_set(problem).relative_gap <= 1e-6)
    True
    """
    parts = [
        _solve_one(problem.select(torch.tensor([task])), tol, solver_options)
        for task in range(problem.n_tasks)
    ]
    dual = torch.cat([part.dual for part in parts])
    return _whole(problem, dual, torch.cat([part.n_iter for part in parts]))


def _solve_one(
    problem: Problem, tol: float, solver_options: dict[str, Any] | None
) -> Solution:
    start = problem.start()
    best = _whole(problem, start, torch.zeros(1, dtype=torch.int64))
    rounds = 0
    if float(best.relative_gap) > tol:
        best = solve_newton(problem, tol=_SCOUT_TOL, max_iter=_SCOUT_STEPS)
        chosen = _groups_above(problem, best.dual, 1.0 - _MARGIN)
        while rounds < _MAX_ROUNDS:
            rounds += 1
            found = _solve_restricted(problem, chosen, tol, solver_options)
            certified = float(found.relative_gap) <= tol
            if certified or bool(found.relative_gap < best.relative_gap):
                best = found
            missed = _groups_above(problem, found.dual, 1.0) & ~chosen
            if certified or not bool(missed.any()):
                break
            chosen = chosen | missed
    return replace(best, n_iter=torch.tensor([max(1, rounds)]))


def _groups_above(problem: Problem, dual: Tensor, share: float) -> Tensor:
    """Mask (n_groups,) of the groups at ``share`` of their threshold or more."""
    penalty = problem.penalty
    norms = penalty.group_norms(problem.correlation(dual))[0]
    return norms >= share * penalty.thresholds()[0]


def _solve_restricted(
    problem: Problem,
    chosen: Tensor,
    tol: float,
    solver_options: dict[str, Any] | None,
) -> Solution:
    """cvxpy on the chosen groups; gap and coef belong to the whole problem."""
    if not bool(chosen.any()):
        # Nothing to restrict to: any largest `dual_value` is optimal.
        dual = problem.start()
        return _whole(problem, dual, torch.zeros(1, dtype=torch.int64))
    penalty = problem.penalty
    groups = penalty.groups
    features = chosen if groups is None else chosen[groups]
    restricted = replace(
        penalty,
        groups=None if groups is None else _renumbered(groups[features]),
        group_weights=None
        if penalty.group_weights is None
        else penalty.group_weights[..., chosen],
    )
    part = replace(
        problem, features=problem.features[..., features], penalty=restricted
    )
    solution = solve_cvxpy(part, tol=tol, solver_options=solver_options)
    return _whole(problem, solution.dual, solution.n_iter)


def _whole(problem: Problem, dual: Tensor, n_iter: Tensor) -> Solution:
    gap, relative_gap, coef = problem.certificate(dual)
    return Solution(coef, dual, gap, relative_gap, n_iter)


def _renumbered(groups: Tensor) -> Tensor:
    """Group numbers without holes."""
    return torch.unique(groups, return_inverse=True)[1]
