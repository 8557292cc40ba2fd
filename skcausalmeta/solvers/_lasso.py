"""Lasso and elastic-net regressions, all tasks and outputs at once, exactly."""

from __future__ import annotations

import torch
from torch import Tensor

from ._active_set import minimise_gram
from ._compiled_lasso import compiled_lasso
from ._problem import Problem, Solution, require
from ._progress import Best
from ._proximal_gradient import (
    CERTIFICATE_LOSS,
    CERTIFICATE_PENALTY,
    certify,
    solve_proximal_gradient,
)

# Up to so many features, the Gram matrix of all of them is cheap.
_FEW = 100
_FIRST_SET = 64
_MAX_ROUNDS = 12
# Weight of the proximal term, in units of the mean curvature. It makes systems
# with equal columns definite, and the iteration over it removes its bias.
_PROXIMAL = 1e-9
_PROXIMAL_STEPS = 2
# Smallest pivot, in the same units, that needs no proximal term.
_DEFINITE = 1e-6


@torch.no_grad()
def solve_lasso(
    problem: Problem,
    *,
    tol: float = 1e-10,
    max_iter: int = 10_000,
    start: Tensor | None = None,
) -> Solution:
    """Minimise P(W) for the squared loss with a Lasso or an elastic net.

    Every output of every task is a problem of its own, with its own stopping
    rule; problems that are solved leave the batch.

    1. Features are chosen: all of them if they are few or fewer than rows, else
       those with the largest ``|F_j'R|``, a working set.
    2. On these, an active-set method on the Gram matrix steps from sign pattern
       to sign pattern and ends with an exact solve on the support. A tiny
       proximal term, iterated, makes equal or dependent columns harmless.
    3. The duality gap on *all* features is the certificate. Problems without one
       take up the features that violate their optimality condition.

    On the CPU, and up to 512 features, a compiled kernel takes the first step, where it
    was built: sweeps over the coordinates find the signs, exact solves on the support
    follow. What it has solved leaves after step 3.

    Problems that stall are handed to `solve_proximal_gradient`. An offset O of the
    scores is the same as targets Y - O, and dual points B - O.

    Parameters
    ----------
    problem : Problem
        The batch of problems, with loss `Squared`, penalty `Lasso` or
        `ElasticNet`.
    tol : float, default=1e-10
        Relative duality gap to reach, for every output.
    max_iter : int, default=10_000
        Largest number of steps of one active-set search, and of gradient steps.
    start : Tensor of shape (n_tasks, n_features, n_outputs), default=None
        Weights to start from. None: 0.

    Returns
    -------
    Solution
        `coef` is the primal point itself and `dual` the dual point that certifies
        it; `relative_gap` is the largest one over the outputs, `gap` their sum.

    Raises
    ------
    TypeError
        If the loss or the penalty is another one.

    References
    ----------
    .. [1] H. Lee, A. Battle, R. Raina, A. Ng (2006). Efficient sparse coding
       algorithms. NIPS 19.
    .. [2] M. Massias, A. Gramfort, J. Salmon (2018). Celer: a fast solver for the
       Lasso with dual extrapolation. ICML.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.losses import Squared
    >>> from skcausalmeta.penalties import Lasso
    >>> from skcausalmeta.solvers import Problem, solve_lasso
    >>> targets = torch.tensor([[[3.0], [-0.5], [-2.0]]])
    >>> penalty = Lasso(torch.ones(1))
    >>> problem = Problem(
    ...     torch.eye(3)[None], targets, torch.ones(1, 3), Squared(), penalty
    ... )
    >>> print([f"{w:.3f}" for w in solve_lasso(problem).coef[0, :, 0].tolist()])
    ['2.000', '0.000', '-1.000']
    """
    require(
        problem,
        "solve_lasso",
        loss=(*CERTIFICATE_LOSS, "smoothness", "dual_curvature"),
        penalty=(*CERTIFICATE_PENALTY, "prox", "select", "per_output", "lambda1"),
    )
    n_outputs = problem.targets.shape[-1]
    columns = _one_output_each(problem)
    n_features = columns.features.shape[-1]
    coef = columns.targets.new_zeros(columns.n_tasks, n_features, 1)
    steps = torch.zeros(columns.n_tasks, dtype=torch.int64, device=coef.device)
    found = None
    if start is not None:
        coef = _columns_of(start)
    elif max_iter > 1:
        found = compiled_lasso(columns)
    if found is not None:
        coef, steps = found
    # Below the level of rounding no gap can be told from 0.
    tol = max(tol, 64 * torch.finfo(coef.dtype).eps)
    best = _search(columns, coef, steps, tol, max_iter)
    _finish_by_gradient_steps(columns, best, tol, max_iter)
    return _joined(best.solution(), n_outputs, problem.offset)


def _search(
    columns: Problem, coef: Tensor, n_iter: Tensor, tol: float, max_iter: int
) -> Best:
    """Rounds of active-set searches on working sets, certified on all features."""
    _, n_rows, n_features = columns.features.shape
    first = certify(columns, coef)
    best = Best(first.dual, first)
    best.n_iter += n_iter
    few = n_features <= max(_FEW, n_rows)
    size = n_features if few else _FIRST_SET
    alive = best.unfinished(tol)
    for _ in range(_MAX_ROUNDS):
        if not len(alive):
            break
        live = columns.select(alive)
        current = best.coef[alive, :, 0]
        found, steps = _restricted(live, current, size, max_iter)
        before = best.relative_gap[alive]
        certified = certify(live, found[..., None])
        best.update(alive, certified.dual, certified, best.n_iter[alive] + steps)
        after = best.relative_gap[alive]
        # On all features, a round that brings nothing would not the next time.
        going = (after > tol) & ((size < n_features) | (after < before / 2))
        alive = alive[going]
        size = min(2 * size, n_features)
    return best


def _restricted(
    live: Problem, current: Tensor, size: int, max_iter: int
) -> tuple[Tensor, Tensor]:
    """The problems on `size` features each, from the current weights on."""
    features, weights = live.features, live.weights[..., None]
    chosen = None
    if size < features.shape[-1]:
        lacking = live.targets - features @ current[..., None]
        correlation = (features.mT @ (weights * lacking))[..., 0].abs()
        # Features in use stay; then those that miss their condition by most.
        rank = torch.where(current != 0, torch.inf, correlation)
        chosen = rank.topk(size, dim=-1).indices
        features = features.gather(
            -1, chosen[:, None, :].expand(-1, weights.shape[1], -1)
        )
    weighted = weights * features
    gram = weighted.mT @ features
    linear = (weighted.mT @ live.targets)[..., 0]
    point = current if chosen is None else current.gather(-1, chosen)
    found, steps = _proximal_steps(live, gram, linear, point, max_iter)
    if chosen is None:
        return found, steps
    return torch.zeros_like(current).scatter(-1, chosen, found), steps


def _proximal_steps(
    live: Problem, gram: Tensor, linear: Tensor, point: Tensor, max_iter: int
) -> tuple[Tensor, Tensor]:
    diagonal = gram.diagonal(dim1=-2, dim2=-1)
    if hasattr(live.penalty, "lambda2"):
        diagonal += live.penalty.lambda2[:, None]
    extra = _proximal_weight(gram)
    diagonal += extra
    n_rows, n_chosen = live.weights.shape[-1], point.shape[-1]
    # With many features for the rows, too many at once would interpolate.
    share = 0.0 if 2 * n_chosen <= n_rows else 0.5
    total = torch.zeros(len(point), dtype=torch.int64, device=point.device)
    for _ in range(_PROXIMAL_STEPS if bool(extra.any()) else 1):
        pulled = linear + extra * point
        point, steps = minimise_gram(
            gram, pulled, live.penalty.lambda1[:, None], point, max_iter, share
        )
        total += steps
    return point, total


def _proximal_weight(gram: Tensor) -> Tensor:
    """0 where the Gram matrix is definite far above rounding, (n_problems, 1)."""
    scale = gram.diagonal(dim1=-2, dim2=-1).mean(-1, keepdim=True)
    factor, info = torch.linalg.cholesky_ex(gram)
    pivots = factor.diagonal(dim1=-2, dim2=-1).square()
    definite = (info == 0)[:, None] & (pivots > _DEFINITE * scale).all(-1, keepdim=True)
    # Features without any signal: every weight will do.
    extra = torch.where(scale > 0, _PROXIMAL * scale, 1.0)
    return torch.where(definite, 0.0, extra)


def _finish_by_gradient_steps(
    columns: Problem, best: Best, tol: float, max_iter: int
) -> None:
    alive = best.unfinished(tol)
    if not len(alive):
        return
    live = columns.select(alive)
    rescue = solve_proximal_gradient(
        live, tol=tol, max_iter=max_iter, start=best.coef[alive]
    )
    best.update(alive, rescue.dual, rescue, best.n_iter[alive] + rescue.n_iter)


def _one_output_each(problem: Problem) -> Problem:
    """The outputs of all tasks, one problem each."""
    n_outputs = problem.targets.shape[-1]
    features, weights, targets = problem.features, problem.weights, problem.targets
    if problem.offset is not None:
        targets = targets - problem.offset
    if n_outputs > 1:
        features = features.repeat_interleave(n_outputs, dim=0)
        weights = weights.repeat_interleave(n_outputs, dim=0)
    return Problem(
        features,
        _columns_of(targets),
        weights,
        problem.loss,
        problem.penalty.per_output(n_outputs),
    )


def _columns_of(matrix: Tensor) -> Tensor:
    """(n_tasks, rows, n_outputs) -> (n_tasks * n_outputs, rows, 1)."""
    return matrix.mT.reshape(-1, matrix.shape[1], 1)


def _joined(solution: Solution, n_outputs: int, offset: Tensor | None) -> Solution:
    """One problem an output -> one problem a task."""

    def matrix(columns: Tensor) -> Tensor:
        return columns.view(-1, n_outputs, columns.shape[1]).mT

    def of_task(values: Tensor) -> Tensor:
        return values.view(-1, n_outputs)

    dual = matrix(solution.dual)
    return Solution(
        matrix(solution.coef),
        dual if offset is None else dual + offset,
        of_task(solution.gap).sum(-1),
        of_task(solution.relative_gap).amax(-1),
        of_task(solution.n_iter).amax(-1),
    )
