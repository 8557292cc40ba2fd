"""The dual of the group-Lasso SVM as a disciplined convex program.

Imported when a program is built, since it imports cvxpy.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from threading import get_ident
from typing import Any

import cvxpy as cp
import numpy as np

from ._problem import Problem

# Up to so many entries of F, a parametrised program solves faster again than a
# fresh one is built; above, canonicalising the parameters costs more than it saves.
_PARAMETER_LIMIT = 512


def installed_solvers() -> list[str]:
    """Names of the solvers that cvxpy finds."""
    return list(cp.installed_solvers())


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


def dual_program(problem: Problem) -> _Program:
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
    """S G, G'S Y, t w, s (1 - Y + O) in float64 and the sizes of the groups."""
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
    cost = 1.0 - targets
    if problem.offset is not None:
        cost = cost + problem.offset[0].double().cpu().numpy()
    cost = weights[:, None] * cost
    radius = np.broadcast_to(thresholds, n_groups)
    return features, features.T @ targets, radius, cost, sizes
