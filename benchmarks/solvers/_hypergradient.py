"""Random problems where the solution is differentiable, and finite differences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from skcausalmeta.heads import GroupLassoSVC
from skcausalmeta.losses import CrammerSinger
from skcausalmeta.penalties import GroupLasso
from skcausalmeta.solvers import Problem, solve_newton

TOL = 1e-13
MARGIN = 1e-4
STEP = 1e-5
# Enough for 1e-13; at the limit of rounding more steps change nothing.
MAX_ITER = 60


class Draw(NamedTuple):
    """One random task: its problem, query rows and a linear functional."""

    seed: int
    problem: Problem
    query: Tensor
    functional: Tensor

    def head(self) -> GroupLassoSVC:
        """The estimator with the strengths of the problem, as tensors."""
        penalty = self.problem.penalty
        return GroupLassoSVC(
            penalty.lambda1[0],
            penalty.lambda2[0],
            reg_scale="absolute",
            solver="newton",
            tol=TOL,
            max_iter=MAX_ITER,
        )

    def value(self, support: Tensor) -> Tensor:
        """The functional of the query logits, for supports (n, rows, features)."""
        targets = self.problem.targets.argmax(-1)
        logits = self.head().episode_logits(
            support,
            targets.expand(len(support), -1),
            self.query.expand(len(support), -1, -1),
            self.problem.targets.shape[-1],
        )
        return (logits * self.functional).sum((-2, -1))


def draw_problem(seed: int) -> Draw:
    """2-4 classes, 1-3 shots, 2-8 features, lambda1 up to 0.7 of all-off."""
    rng = np.random.RandomState(seed)
    n_classes, n_shot = rng.randint(2, 5), rng.randint(1, 4)
    n_features = rng.randint(2, 9)
    targets = torch.eye(n_classes).double().repeat(n_shot, 1)[None]
    features = torch.from_numpy(rng.randn(1, n_classes * n_shot, n_features))
    query = torch.from_numpy(rng.randn(1, 3, n_features))
    functional = torch.from_numpy(rng.randn(3, n_classes))
    weights = torch.ones(targets.shape[:2]).double()
    one = torch.ones(1).double()
    penalty = GroupLasso(one, float(np.exp(rng.uniform(-1, 2))) * one)
    problem = Problem(features, targets, weights, CrammerSinger(), penalty)
    largest = penalty.group_norms(problem.correlation(problem.loss.start(targets)))
    lambda1 = float(rng.uniform(0.02, 0.7)) * largest.amax(-1)
    penalty = GroupLasso(lambda1, penalty.lambda2)
    problem = Problem(features, targets, weights, CrammerSinger(), penalty)
    return Draw(seed, problem, query, functional)


def margin(problem: Problem) -> float:
    """How far the solution is from a change of its free entries or support.

    The least of: free entries of B, multipliers of the entries at 0 and
    ``| ||V_g|| - lambda1 | / lambda1``. Where it is 0, strict complementarity
    fails and W need not be differentiable.
    """
    dual = solve_newton(problem, tol=TOL, max_iter=MAX_ITER).dual
    slope = problem.dual_gradient(dual)
    free = dual > 0
    multipliers = slope.masked_fill(~free, -np.inf).amax(-1, keepdim=True) - slope
    norms = problem.penalty.group_norms(problem.correlation(dual))
    distance = (norms / problem.penalty.lambda1[:, None] - 1.0).abs()
    candidates = [dual[free], multipliers[~free], distance.flatten()]
    return min(float(part.min()) for part in candidates if part.numel())


def regular_draws(n_problems: int, n_draws: int) -> Iterator[Draw]:
    """The first `n_problems` of at most `n_draws` draws with a margin.

    Raises
    ------
    RuntimeError
        If that many draws hold too few.
    """
    found = 0
    for seed in range(n_draws):
        draw = draw_problem(seed)
        if margin(draw.problem) > MARGIN:
            found += 1
            yield draw
        if found == n_problems:
            return
    raise RuntimeError(
        f"{n_problems} regular problems were asked for. Got {found} of {n_draws} draws."
    )


def relative_error(draw: Draw) -> float:
    """||implicit gradient - central differences|| / ||central differences||."""
    support = draw.problem.features.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(draw.value(support).sum(), support)
    size = support.numel()
    moves = STEP * torch.eye(size).double().view(size, *support.shape[1:])
    with torch.no_grad():
        up, down = draw.value(support + moves), draw.value(support - moves)
    differences = ((up - down) / (2 * STEP)).view(support.shape)
    error = (gradient - differences).norm() / differences.norm().clamp_min(1e-12)
    return float(error)
