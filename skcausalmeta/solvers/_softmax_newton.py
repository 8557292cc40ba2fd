"""Newton's method on the scores of a logistic loss, all tasks at once."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ._problem import Problem, Solution, require
from ._progress import Best
from ._proximal_gradient import solve_proximal_gradient
from ._softmax_system import SoftmaxSystem

_LENGTHS = (1.0, 0.5, 0.2, 0.05, 0.01)
# A linear step takes at most this share of a probability away.
_MOST_SHRINKAGE = 0.99
# Factors on the ridge after a short and after a long step.
_STRONGER, _WEAKER = 3.0, 0.3
# A dense system beyond this size costs more than many gradient steps.
_LARGEST_SYSTEM = 3000
# Newton steps needed are 1 to 50; whoever needs more gets gradient steps.
_MOST_NEWTON_STEPS = 100


@torch.no_grad()
def solve_softmax_newton(
    problem: Problem,
    *,
    tol: float = 1e-6,
    max_iter: int = 10_000,
    start: Tensor | None = None,
    apart: bool = False,
) -> Solution:
    """Maximise D(B) of a logistic loss by Newton steps on the scores Z.

    With B = softmax(Z), the optimum is where ``Z = F W(B) + O`` up to a constant in
    every row.

    1. Newton direction of ``r(Z) = F W(softmax(Z)) + O - Z``: in the terms of
       `SoftmaxSystem` ``dZ = r - A y``, ``y = (I + P A)^-1 P r``. It ascends: the
       slope of D along it is ``r'y >= 0``.
    2. Line search: the best point by D of two curves in B that leave in this
       direction, evaluated in one product. ``b exp(t u)`` (straight in the scores)
       suits probabilities that grow, ``b (1 + t u)`` (straight in B) those that
       vanish, ``u = dZ - b'dZ``; rows are scaled to the sum 1.
    3. With a weak ridge, W(B) is nearly a step function and Newton's direction
       holds for short steps only. Then the step is made for a stronger ridge,
       which falls back to lambda2 as the steps get longer.
    4. Certificate for lambda2; a task with ``gap <= tol * P`` leaves the batch.
       Tasks whose system has more than 3000 unknowns, or that 100 Newton steps
       did not solve, are left to `solve_proximal_gradient`.

    Parameters
    ----------
    problem : Problem
        The batch of problems, with loss `Logistic` and a penalty with a ridge.
    tol : float, default=1e-6
        Relative duality gap to reach.
    max_iter : int, default=10_000
        Largest number of Newton steps, and of gradient steps after them.
    start : Tensor of shape (n_tasks, n_samples, n_classes), default=None
        Feasible dual point to start from. None: ``problem.start()``.
    apart : bool, default=False
        Solve every task as if it were alone, to the last bit: systems are formed for
        tasks with as many features in use together, not padded to the largest. Costs
        up to twice the time of a batch, a small part of that of single calls.

    Returns
    -------
    Solution
        Best point found, with its certificate; ``n_iter`` counts Newton steps and
        gradient steps.

    Raises
    ------
    TypeError
        If the loss is not a logistic one or the penalty has no ridge.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.losses import Logistic
    >>> from skcausalmeta.penalties import GroupLasso
    >>> from skcausalmeta.solvers import Problem, solve_softmax_newton
    >>> penalty = GroupLasso(torch.full((1,), 0.1), torch.ones(1))
    >>> eye = torch.eye(3)[None]
    >>> problem = Problem(eye, eye, torch.ones(1, 3), Logistic(), penalty)
    >>> bool(solve_softmax_newton(problem, tol=1e-4).relative_gap <= 1e-4)
    True
    """
    require(
        problem,
        "solve_softmax_newton",
        loss=("value", "dual_value", "dual_point", "curvature", "start"),
        penalty=("conjugate", "conjugate_gradient", "jacobian", "lambda2"),
    )
    dual = problem.start() if start is None else start
    best = Best(dual, problem.evaluate(dual))
    alive = best.unfinished(tol)
    live = problem.select(alive)
    scores = dual[alive].clamp_min(torch.finfo(dual.dtype).tiny).log()
    easing = torch.ones_like(live.penalty.lambda2)
    iteration = 0
    while len(alive) and iteration < min(max_iter, _MOST_NEWTON_STEPS):
        moved = _newton_step(live, scores, easing, apart)
        if moved is None:
            break
        iteration += 1
        scores, easing = moved
        found = live.loss.dual_point(scores, live.targets)
        best.update(alive, found, live.evaluate(found), iteration)
        kept = (best.relative_gap[alive] > tol).nonzero().squeeze(-1)
        if len(kept) < len(alive):
            alive, live = alive[kept], live.select(kept)
            scores, easing = scores[kept], easing[kept]
    if len(alive) and iteration < max_iter:
        for part in range(len(alive)) if apart else (slice(None),):
            own = torch.arange(len(alive))[part].reshape(-1).to(alive.device)
            _finish(live.select(own), best, alive[own], tol, max_iter)
    return best.solution()


def _newton_step(
    problem: Problem, scores: Tensor, easing: Tensor, apart: bool = False
) -> tuple[Tensor, Tensor] | None:
    """Next scores and easing, None where the system is too large."""
    penalty = replace(problem.penalty, lambda2=problem.penalty.lambda2 * easing)
    eased = replace(problem, penalty=penalty)
    dual = problem.loss.dual_point(scores, problem.targets)
    correlation = problem.correlation(dual)
    residual = problem.scores(penalty.conjugate_gradient(correlation)) - scores
    solve = _apart_directions if apart else _directions
    direction = solve(eased, scores, correlation, residual)
    if direction is None:
        return None
    # Moves of a whole row are none; weightless rows may have any scores.
    direction = direction - (dual * direction).sum(-1, keepdim=True)
    scores, lengths = _line_search(eased, scores, direction)
    factor = torch.where(lengths >= 0.5, _WEAKER, 1.0)
    factor = torch.where(lengths <= 0.05, _STRONGER, factor)
    return scores, (easing * factor.to(easing)).clamp_min(1.0)


def _directions(
    problem: Problem, scores: Tensor, correlation: Tensor, residual: Tensor
) -> Tensor | None:
    """Newton's directions dZ, None where the system is too large."""
    system = SoftmaxSystem(problem, scores, correlation)
    if system.size > _LARGEST_SYSTEM:
        return None
    return residual - system.couple(system.solve(residual))


def _apart_directions(
    problem: Problem, scores: Tensor, correlation: Tensor, residual: Tensor
) -> Tensor | None:
    """The same, free of what other tasks are in the batch.

    The number of features in use decides the form and the size of a system.
    """
    found = torch.empty_like(scores)
    counts = (problem.penalty.jacobian(correlation)[0] > 0).sum(-1)
    for count in counts.unique():
        own = (counts == count).nonzero().squeeze(-1)
        part = _directions(
            problem.select(own), scores[own], correlation[own], residual[own]
        )
        if part is None:
            return None
        found[own] = part
    return found


def _line_search(
    problem: Problem, scores: Tensor, direction: Tensor
) -> tuple[Tensor, Tensor]:
    """Best of the points on both curves and Z itself, with its length t."""
    lengths = torch.tensor((*_LENGTHS, 0.0), dtype=scores.dtype, device=scores.device)
    moves = lengths[:, None, None] * direction[:, None]
    straight = moves[:, :-1].clamp_min(-_MOST_SHRINKAGE).log1p()
    # (n_tasks, n_points, n_samples, n_classes), full steps first, Z itself last
    points = scores[:, None] + torch.cat([straight, moves], dim=1)
    duals = problem.loss.dual_point(points, problem.targets[:, None])
    values = problem.dual_of_many(duals)
    values = torch.where(torch.isfinite(values), values, -torch.inf)
    # Differences at the level of rounding must not stop the last full steps.
    top = values.amax(-1, keepdim=True)
    slack = 4 * torch.finfo(values.dtype).eps * top.abs()
    chosen = (values >= top - slack).to(torch.int8).argmax(-1)
    tasks = torch.arange(len(chosen), device=scores.device)
    return points[tasks, chosen], torch.cat([lengths[:-1], lengths])[chosen]


def _finish(
    live: Problem, best: Best, alive: Tensor, tol: float, max_iter: int
) -> None:
    """Gradient steps from W(B), or from 0 if that is lower; keep what is better."""
    coef = best.coef[alive]
    lower = live.primal(coef) < live.primal(torch.zeros_like(coef))
    first = torch.where(lower[:, None, None], coef, 0.0)
    rest = solve_proximal_gradient(live, tol=tol, max_iter=max_iter, start=first)
    best.update(alive, rest.dual, rest, best.n_iter[alive] + rest.n_iter)
