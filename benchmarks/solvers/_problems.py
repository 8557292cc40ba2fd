"""Problems of the solver benchmark: sizes, features, strengths, accuracy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from skcausalmeta.heads import GroupLassoSVC
from skcausalmeta.losses import CrammerSinger
from skcausalmeta.penalties import GroupLasso
from skcausalmeta.solvers import Problem, solve_newton

LAMBDA2 = 0.1
KINDS = ("relu", "gaussian")
N_QUERY = 6
_TUNING_TASKS = 4
_TUNING_STEPS = 16
_REFERENCE_TOL = 1e-12
_STEP = 1e-5


class Size(NamedTuple):
    """Classes, rows a class and features of a task."""

    way: int
    shot: int
    features: int

    @property
    def entries(self) -> int:
        """n C d, by which the cost of the conic programs grows."""
        return self.way**2 * self.shot * self.features

    def __str__(self) -> str:
        return f"({self.way},{self.shot},{self.features})"


SIZES = (
    Size(5, 1, 64),
    Size(5, 5, 64),
    Size(5, 5, 512),
    Size(5, 5, 1600),
    Size(5, 15, 1600),
    Size(20, 5, 512),
)
SMOKE_SIZES = (Size(3, 2, 8),)


@dataclass(frozen=True)
class Batch:
    """Tasks of one size with the strengths as written in the objective.

    Parameters
    ----------
    support : Tensor of shape (n_tasks, n_support, n_features)
    labels : Tensor of shape (n_tasks, n_support)
    query : Tensor of shape (n_tasks, n_query, n_features)
    query_labels : Tensor of shape (n_tasks, n_query)
    n_classes : int
    lambda1, lambda2 : float
    """

    support: Tensor
    labels: Tensor
    query: Tensor
    query_labels: Tensor
    n_classes: int
    lambda1: float
    lambda2: float = LAMBDA2

    @property
    def n_tasks(self) -> int:
        return self.support.shape[0]

    @property
    def targets(self) -> Tensor:
        """One-hot labels, (n_tasks, n_support, n_classes)."""
        return one_hot(self.labels, self.n_classes).to(self.support.dtype)

    def first(self, n_tasks: int) -> Batch:
        """The first tasks only."""
        return replace(
            self,
            support=self.support[:n_tasks],
            labels=self.labels[:n_tasks],
            query=self.query[:n_tasks],
            query_labels=self.query_labels[:n_tasks],
        )

    def to(self, where: torch.dtype | torch.device | str) -> Batch:
        """Features in another precision, or everything on another device."""
        labels = (self.labels, self.query_labels)
        if not isinstance(where, torch.dtype):
            labels = (self.labels.to(where), self.query_labels.to(where))
        return replace(
            self,
            support=self.support.to(where),
            query=self.query.to(where),
            labels=labels[0],
            query_labels=labels[1],
        )

    def head(self, solver: str, tol: float) -> GroupLassoSVC:
        """The estimator for `problem`: strengths as tensors, no intercept."""
        return GroupLassoSVC(
            self.support.new_tensor(self.lambda1),
            self.support.new_tensor(self.lambda2),
            reg_scale="absolute",
            fit_intercept=False,
            class_weight=None,
            solver=solver,
            tol=tol,
        )

    def problem(self) -> Problem:
        """The same tasks for the solvers, in float64."""
        double = self.to(torch.float64)
        ones = double.support.new_ones(self.n_tasks)
        return Problem(
            double.support,
            double.targets,
            double.support.new_ones(self.labels.shape),
            CrammerSinger(),
            GroupLasso(self.lambda1 * ones, self.lambda2 * ones),
        )


def draw_batch(
    size: Size,
    n_tasks: int,
    lambda1: float = 0.0,
    *,
    kind: str = "relu",
    n_useful: int | None = None,
) -> Batch:
    """Features like those of a network: class means and noise, rows of norm about 1.

    The use of the features for the classes falls off smoothly, or is the same
    for the first `n_useful` and none for the others. With ``kind="relu"`` they
    pass through a ReLU, so that some are 0 on all rows of a task. A task is the
    same in every batch that holds it.
    """
    order = np.arange(size.features)
    if n_useful is None:
        strength = 2.0 / (1.0 + order / 50.0)
    else:
        strength = np.where(order < n_useful, 2.0, 0.0)
    unit = np.sqrt((1.0 + strength**2).sum() / (2 if kind == "relu" else 1))
    labels = [np.repeat(np.arange(size.way), rows) for rows in (size.shot, N_QUERY)]
    support: list[Any] = []
    query: list[Any] = []
    for seed in range(n_tasks):
        rng = np.random.RandomState(seed)
        means = strength * rng.randn(size.way, size.features)
        for rows, y in zip((support, query), labels, strict=True):
            drawn = (means[y] + rng.randn(len(y), size.features)) / unit
            rows.append(np.maximum(drawn, 0.0) if kind == "relu" else drawn)
    one, two = (torch.from_numpy(y).expand(n_tasks, -1) for y in labels)
    return Batch(
        torch.from_numpy(np.stack(support)),
        one,
        torch.from_numpy(np.stack(query)),
        two,
        size.way,
        lambda1,
    )


def tune_lambda1(
    size: Size, share: float, kind: str = "relu", n_useful: int | None = None
) -> dict[str, float]:
    """lambda1 that leaves about this share of the features on, and the share."""
    batch = draw_batch(size, _TUNING_TASKS, kind=kind, n_useful=n_useful)
    problem = batch.problem()
    start = problem.correlation(problem.loss.start(problem.targets))
    low, high = 0.0, float(problem.penalty.group_norms(start).max())
    found = (0.0, 1.0)
    for _ in range(_TUNING_STEPS if share < 1 else 0):
        middle = (low + high) / 2
        active = _share_on(replace(batch, lambda1=middle).problem())
        found = min(found, (middle, active), key=lambda pair: abs(pair[1] - share))
        low, high = (middle, high) if active > share else (low, middle)
    return {"lambda1": found[0], "active": found[1]}


def _share_on(problem: Problem) -> float:
    coef = solve_newton(problem, tol=1e-4).coef
    return float((coef != 0).any(-1).double().mean())


# -- accuracy ---------------------------------------------------------------------


def query_loss(logits: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy of the query rows, summed over rows and tasks."""
    labels = batch.query_labels.flatten()
    return cross_entropy(logits.flatten(0, 1), labels, reduction="sum")


def support_gradient(logits: Callable[[Batch, Tensor], Tensor], batch: Batch) -> Tensor:
    """Gradient of the query loss in the support features: forward + backward."""
    support = batch.support.detach().clone().requires_grad_()
    loss = query_loss(logits(batch, support), batch)
    (gradient,) = torch.autograd.grad(loss, support)
    return gradient


def relative_gaps(batch: Batch, dual: Tensor) -> Tensor:
    """Certificate of every task at any dual point, computed in float64."""
    problem = batch.problem()
    return problem.certificate(problem.loss.project(dual.detach().double()))[1]


def gradient_errors(gradient: Tensor, reference: Tensor) -> Tensor:
    """||g - reference|| / ||reference|| of every task."""
    difference = gradient.double() - reference
    return difference.flatten(1).norm(dim=1) / reference.flatten(1).norm(dim=1)


def reference_logits(batch: Batch, support: Tensor) -> Tensor:
    """Scores of query rows, solved to the limit of rounding."""
    return batch.head("newton", _REFERENCE_TOL).episode_logits(
        support, batch.labels, batch.query, batch.n_classes
    )


def check_reference(batch: Batch, gradient: Tensor, n_entries: int = 3) -> float:
    """Error of the reference against central differences on a few large entries.

    Only the entries of the first task are moved.
    """
    task = batch.first(1)
    flat = gradient[0].flatten()
    entries = flat.abs().topk(n_entries).indices
    differences = []
    with torch.no_grad():
        for entry in entries.tolist():
            move = torch.zeros_like(flat)
            move[entry] = _STEP
            move = move.view_as(task.support)
            up, down = (
                float(query_loss(reference_logits(task, support), task))
                for support in (task.support + move, task.support - move)
            )
            differences.append((up - down) / (2 * _STEP))
    expected = flat.new_tensor(differences)
    return float((flat[entries] - expected).norm() / expected.norm())
