"""Accelerated proximal gradient on the primal, all tasks at once."""

from __future__ import annotations

import torch
from torch import Tensor

from ._problem import Problem, Solution, require
from ._progress import Best, Momentum

_CHECK_EVERY = 10
CERTIFICATE_LOSS = ("value", "dual_value", "dual_point")
CERTIFICATE_PENALTY = ("value", "conjugate", "dual_scale")


@torch.no_grad()
def solve_proximal_gradient(
    problem: Problem,
    *,
    tol: float = 1e-6,
    max_iter: int = 10_000,
    start: Tensor | None = None,
) -> Solution:
    """Minimise P(W) by FISTA with adaptive restart, for any smooth loss.

    The penalty needs no ridge: a proximal operator will do. Every task has its
    own step, momentum, restarts [1]_ and stopping rule ``gap <= tol * P``; a task
    that has converged leaves the batch. The certificate is the gap to the dual
    point ``B = Y - c (Y - dual_point(FW + O))``, where the factor c of
    ``penalty.dual_scale`` makes B feasible.

    Parameters
    ----------
    problem : Problem
        The batch of problems.
    tol : float, default=1e-6
        Relative duality gap to reach.
    max_iter : int, default=10_000
        Largest number of iterations.
    start : Tensor of shape (n_tasks, n_features, n_classes), default=None
        Weights to start from. None: 0.

    Returns
    -------
    Solution
        Best point found, with its certificate. `coef` is the primal point itself
        and `dual` the dual point that certifies it.

    Raises
    ------
    TypeError
        If the loss is not smooth or the penalty has no proximal operator.

    References
    ----------
    .. [1] B. O'Donoghue, E. Candes (2015). Adaptive restart for accelerated
       gradient schemes. Found. Comput. Math. 15, 715-732.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.losses import Squared
    >>> from skcausalmeta.penalties import Lasso
    >>> from skcausalmeta.solvers import Problem, solve_proximal_gradient
    >>> targets = torch.tensor([[[3.0], [-0.5], [-2.0]]])
    >>> penalty = Lasso(torch.ones(1))
    >>> problem = Problem(
    ...     torch.eye(3)[None], targets, torch.ones(1, 3), Squared(), penalty
    ... )
    >>> solve_proximal_gradient(problem).coef[0, :, 0].tolist()
    [2.0, 0.0, -1.0]
    """
    require(
        problem,
        "solve_proximal_gradient",
        loss=(*CERTIFICATE_LOSS, "gradient", "smoothness"),
        penalty=(*CERTIFICATE_PENALTY, "prox", "select"),
    )
    coef = _zeros(problem) if start is None else start
    found = certify(problem, coef)
    best = Best(found.dual, found)
    alive = best.unfinished(tol)
    live, momentum = problem.select(alive), Momentum(coef[alive])
    step = _step(live)
    iteration = 0
    while len(alive) and iteration < max_iter:
        iteration += 1
        length = step[:, None, None]
        descent = momentum.ahead - length * _gradient(live, momentum.ahead)
        momentum.move(live.penalty.prox(descent, step), length)
        # Certify now and then; tasks that are done leave the batch.
        if iteration % _CHECK_EVERY == 0 or iteration == max_iter:
            found = certify(live, momentum.point)
            best.update(alive, found.dual, found, iteration)
            kept = (~(best.relative_gap[alive] <= tol)).nonzero().squeeze(-1)
            if len(kept) < len(alive):
                alive, live, step = alive[kept], live.select(kept), step[kept]
                momentum.select(kept)
    return best.solution()


def certify(problem: Problem, coef: Tensor) -> Solution:
    """Any weights W with a dual point and the gap between them.

    Rounding can leave a gap of a few units in the last place below 0; it is
    reported as 0.
    """
    scores = problem.scores(coef)
    weights, targets = problem.weights, problem.targets
    lacking = targets - problem.loss.dual_point(scores, targets)
    correlation = problem.features.mT @ (weights[..., None] * lacking)
    scale = problem.penalty.dual_scale(correlation)
    scale = scale.reshape(len(scale), 1, -1)
    dual = targets - scale * lacking
    losses = problem.loss.value(scores, targets)
    primal = (weights * losses).sum(-1) + problem.penalty.value(coef)
    lower = problem.dual_at(dual, scale * correlation)
    gap = (primal - lower).clamp_min(0.0)
    relative_gap = gap / primal.abs().clamp_min(torch.finfo(gap.dtype).tiny)
    n_iter = torch.zeros_like(gap, dtype=torch.int64)
    return Solution(coef, dual, gap, relative_gap, n_iter)


def _zeros(problem: Problem) -> Tensor:
    n_tasks, _, n_features = problem.features.shape
    return problem.targets.new_zeros(n_tasks, n_features, problem.targets.shape[-1])


def _gradient(problem: Problem, coef: Tensor) -> Tensor:
    """Gradient of the loss part of P in W."""
    slopes = problem.loss.gradient(problem.scores(coef), problem.targets)
    return problem.features.mT @ (problem.weights[..., None] * slopes)


def _step(problem: Problem) -> Tensor:
    """1 / Lipschitz constant ``smoothness * sigma_max(sqrt(S) F)^2``, (n_tasks,)."""
    rows = problem.weights.sqrt()[..., None] * problem.features
    gram = rows @ rows.mT if rows.shape[-2] <= rows.shape[-1] else rows.mT @ rows
    curvature = problem.loss.smoothness * torch.linalg.eigvalsh(gram)[..., -1]
    # Without any signal every step will do.
    return 1.0 / torch.where(curvature > 0, curvature, torch.ones_like(curvature))
