"""The dual of the group-Lasso SVM as a disciplined convex program."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import lru_cache
from threading import get_ident
from typing import Any

import cvxpy as cp
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
# Up to so many entries of F, a parametrised program solves faster again than a
# fresh one is built; above, canonicalising the parameters costs more than it saves.
_PARAMETER_LIMIT = 512


def solve_cvxpy(
    problem: Problem,
    *,
    tol: float = 1e-6,
    solver_options: dict[str, Any] | None = None,
) -> Solution:
    """Maximise D(B) of a group-Lasso SVM with cvxpy, one task after the other.

    With ``G = F / sqrt(lambda2)``, ``t = lambda1 / sqrt(lambda2)`` the dual is ::

        max_B  <s (1 - Y), B> - 1/2 sum_g max(0, ||(G'S(Y - B))_g||_F - t w_g)^2
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
    program = _program(problem)
    best, best_gap = None, np.inf
    statuses: dict[str, str] = {}
    for name, keywords in _attempts(options):
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


def _attempts(options: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The user's solver with its options, then the other installed ones."""
    keywords = dict(options)
    first = keywords.pop("solver", None)
    installed = cp.installed_solvers()
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


class _Program:
    """A dual program whose data enter as numbers or as parameters."""

    def __init__(self, features: Any, offset: Any, radius: Any, cost: Any, sizes: Any):
        n_samples, n_classes = cost.shape
        self.variable = cp.Variable((n_samples, n_classes), nonneg=True)
        inside = cp.Variable(offset.shape)
        outside = offset - features.T @ self.variable - inside
        objective = cp.sum(cp.multiply(cost, self.variable)) - 0.5 * cp.sum_squares(
            outside
        )
        constraints = [
            cp.sum(self.variable, axis=1) == 1,
            *_balls(inside, radius, sizes),
        ]
        self.program = cp.Problem(cp.Maximize(objective), constraints)

    def solve(self, name: str, keywords: dict[str, Any]) -> tuple[Any, str]:
        """Value of B (None if there is none) and the status word."""
        try:
            with warnings.catch_warnings():
                # The certificate judges the answer, not cvxpy's status word.
                warnings.filterwarnings("ignore", "Solution may be inaccurate")
                self.program.solve(solver=name, **keywords)
        except cp.error.SolverError as error:
            return None, str(error)
        return self.variable.value, str(self.program.status)


def _balls(inside: Any, radius: Any, sizes: tuple[int, ...] | None) -> list[Any]:
    """||inside_g||_F <= radius_g; features come sorted by group."""
    if sizes is None:
        return [cp.norm(inside, 2, axis=1) <= radius]
    stops = np.cumsum(sizes)
    blocks = zip(stops - sizes, stops, strict=True)
    norms = [cp.norm(cp.vec(inside[a:b], order="C"), 2) for a, b in blocks]
    return [cp.hstack(norms) <= radius]


def _program(problem: Problem) -> _Program:
    """The program of a batch of one, parametrised if that pays."""
    data = _numbers(problem)
    features, offset, radius, cost, sizes = data
    if features.size > _PARAMETER_LIMIT or sizes is not None:
        return _Program(*data)
    # Programs are mutable, so threads must not share one.
    program, parameters = _parametrised(features.shape, cost.shape[1], get_ident())
    for parameter, value in zip(
        parameters, (features, offset, radius, cost), strict=True
    ):
        parameter.value = value
    return program


@lru_cache(maxsize=32)
def _parametrised(
    shape: tuple[int, int], n_classes: int, thread: int
) -> tuple[_Program, tuple[Any, ...]]:
    n_samples, n_features = shape
    parameters = (
        cp.Parameter(shape),
        cp.Parameter((n_features, n_classes)),
        cp.Parameter(n_features, nonneg=True),
        cp.Parameter((n_samples, n_classes)),
    )
    return _Program(*parameters, None), parameters


def _numbers(problem: Problem) -> tuple[Any, ...]:
    """S G, G'S Y, t w, s (1 - Y) in float64 and the sizes of the groups."""
    penalty = problem.penalty
    root = float(penalty.lambda2[0]) ** 0.5
    weights = problem.weights[0].double().cpu().numpy()
    targets = problem.targets[0].double().cpu().numpy()
    features = problem.features[0].double().cpu().numpy() * weights[:, None] / root
    thresholds = penalty.thresholds()[0].double().cpu().numpy() / root
    if penalty.groups is None:
        sizes, n_groups = None, features.shape[1]
    else:
        groups = penalty.groups.cpu().numpy()
        features = features[:, np.argsort(groups, kind="stable")]
        sizes = tuple(np.bincount(groups))
        n_groups = len(sizes)
    cost = weights[:, None] * (1.0 - targets)
    radius = np.broadcast_to(thresholds, n_groups)
    return features, features.T @ targets, radius, cost, sizes
