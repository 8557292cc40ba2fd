"""Which solver of a group-Lasso classifier, by a measured rule."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ._compiled_solver import compiled_applies, solve_compiled, solver_by_tensors
from ._fista import solve_fista
from ._newton import solve_newton
from ._problem import Problem, Solution

# Measured on two cores: FISTA wins only where the dual has many entries and little
# accuracy is asked for, or the rows outnumber the features many times.
_MANY_ENTRIES = 2500
_LOOSE_TOL = 1e-4
_ROWS_PER_FEATURE = 60


def solve_auto(
    problem: Problem,
    *,
    tol: float = 1e-6,
    max_iter: int = 10_000,
    start: Tensor | None = None,
) -> Solution:
    """`solve_compiled`, `solve_newton` or `solve_fista`, by a measured rule.

    The compiled solver where it applies (`compiled_applies`). Elsewhere Newton
    (`solve_softmax_newton` for the loss `Logistic`), except that for `CrammerSinger`
    `solve_fista` is taken from 2500 dual entries (n_samples times n_classes) a task on,
    where `tol` is 1e-4 or more or there are 60 rows or more a feature.

    Parameters
    ----------
    problem : Problem
        The batch of problems, with loss `CrammerSinger` or `Logistic`, penalty
        `GroupLasso`.
    tol : float, default=1e-6
        Relative duality gap to reach.
    max_iter : int, default=10_000
        Largest number of iterations.
    start : Tensor of shape (n_tasks, n_samples, n_classes), default=None
        Feasible dual point to start from. None: ``problem.start()``.

    Returns
    -------
    Solution
        Best point found, with its certificate.

    Raises
    ------
    TypeError
        If the loss or the penalty does not offer what the solver needs.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.losses import CrammerSinger
    >>> from skcausalmeta.penalties import GroupLasso
    >>> from skcausalmeta.solvers import Problem, solve_auto
    >>> penalty = GroupLasso(torch.full((1,), 0.1), torch.ones(1))
    >>> eye = torch.eye(3)[None]
    >>> problem = Problem(eye, eye, torch.ones(1, 3), CrammerSinger(), penalty)
    >>> bool(solve_auto(problem, tol=1e-4).relative_gap <= 1e-4)
    True
    """
    solve = _choose(problem, tol)
    return solve(problem, tol=tol, max_iter=max_iter, start=start)


def _choose(problem: Problem, tol: float) -> Callable[..., Solution]:
    if compiled_applies(problem):
        return solve_compiled
    newton = solver_by_tensors(problem)
    if newton is not solve_newton:
        return newton
    _, n_samples, n_features = problem.features.shape
    if n_samples * problem.targets.shape[-1] < _MANY_ENTRIES:
        return solve_newton
    tall = n_samples >= _ROWS_PER_FEATURE * n_features
    return solve_fista if tol >= _LOOSE_TOL or tall else solve_newton
