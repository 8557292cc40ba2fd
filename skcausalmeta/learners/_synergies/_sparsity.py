"""Strengths of a head that are learned: ``ridge_reg="learn"``, ``group_reg="learn"``.

The variances of deviations are learned by their gradient, with a dense head
(`skcausalmeta.training.Strengths`). Sparsity has no gradient that would keep it: it is
chosen afterwards, as the largest share of the strength that switches all features off
which costs at most a quarter of what deviations are worth on query rows, and at most
two per cent of the loss. Where they are not worth one standard error, it is all of it,
and tasks differ in their intercepts alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from torch import Tensor

from ...exceptions import InvalidInputError
from ...heads import RidgeRegressionHead
from ...training import DeviationNet, EpisodeStream, MetaBatch, padded
from .._episode_plan import EpisodePlan
from .._training import FitStage

LEARN: Any = "learn"
# Shares of the strength that switches all features off. Where deviations are worth
# much, a few hundredths of it leave out most features and cost nothing.
GRID = (0.0, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_N_BATCHES, _TASKS = 12, 10
_OF_WORTH, _OF_LOSS = 0.25, 0.02


def learns(head: Any, name: str) -> bool:
    """Tell whether a head leaves a strength to be learned."""
    return isinstance(getattr(head, name, None), str) and getattr(head, name) == LEARN


def sparse_name(head: Any) -> str | None:
    """Return the name of the sparse strength that is to be learned, if one is."""
    return next((n for n in ("group_reg", "lasso_reg") if learns(head, n)), None)


def refuse_learned(head: Any) -> None:
    """Refuse strengths to be learned where nothing learns them.

    Raises
    ------
    InvalidInputError
    """
    for name in ("group_reg", "lasso_reg", "ridge_reg"):
        if learns(head, name):
            raise InvalidInputError(
                f'{name}="learn" is learned around a common predictor. Got a fit '
                "without one; give a number, or fit with tasks that share their "
                "labels."
            )


def dense_head(head: Any) -> Any:
    """Return the head that training solves: of ridge 1, without sparsity."""
    if not learns(head, "ridge_reg"):
        return with_numbers(head, 0.0, 1)
    if sparse_name(head) == "lasso_reg":  # the same solution, in closed form
        return RidgeRegressionHead(1.0, reg_scale="absolute")
    return with_numbers(head, 0.0, 1)


def with_numbers(head: Any, sparse_reg: float, n_support: float) -> Any:
    """Return an unfitted head with numbers in the place of "learn".

    Parameters
    ----------
    head : estimator
        As given to the learner.
    sparse_reg : float
        Share of the strength that switches all features off.
    n_support : float
        Rows of the task, or their weights in all: a Lasso counts its ridge by row.
    """
    return set_numbers(clone(head), sparse_reg, n_support)


def set_numbers(head: Any, sparse_reg: float, n_support: float) -> Any:
    """Return a head of one's own, changed in place as by `with_numbers`."""
    name = sparse_name(head)
    values: dict[str, Any] = {} if name is None else {name: sparse_reg}
    if name is not None and not sparse_reg and getattr(head, "refit", False):
        values["refit"] = False  # nothing is left out
    if learns(head, "ridge_reg"):
        by_row = hasattr(head, "lasso_reg")
        values["ridge_reg"] = 1.0 / n_support if by_row else 1.0
        if getattr(head, "reg_scale", None) == "relative":
            sparse = hasattr(head, "group_reg") or by_row
            values["reg_scale"] = "ridge-absolute" if sparse else "absolute"
    return head.set_params(**values)


def choose_sparsity(
    head: Any,
    net: DeviationNet,
    stage: FitStage,
    plan: EpisodePlan,
    scores: NDArray[Any],
) -> float:
    """Return the largest share that costs little of what deviations are worth.

    With L(s) the mean loss on the query rows of training tasks at the share s of the
    strength that switches all features off, it is ::

        max { s : L(s) - L(s*) <= min((L(1) - L(s*)) / 4, L(s*) / 50) },  s* = argmin L

    or 1 where L(1) - L(s*) is within one standard error of 0, by episode.

    Parameters
    ----------
    head : estimator
        With a sparse strength that is to be learned.
    net : DeviationNet
        Trained.
    stage : FitStage
        Rows.
    plan : EpisodePlan
        Episodes to choose by.
    scores : ndarray of shape (n_samples, n_scores)
        Common scores by models that did not see the task of the row.
    """
    stream = EpisodeStream(
        stage.rows, stage.reader, plan.train, _N_BATCHES, _TASKS, scores=scores
    )
    net._set_training(False)
    with torch.no_grad():
        losses = torch.cat([_losses(head, net, batch) for batch in stream])
    return GRID[_largest(losses.cpu().numpy())]


def _largest(losses: NDArray[Any]) -> int:
    """Return the number of the share, by losses (n_episodes, n_shares)."""
    means = losses.mean(axis=0)
    best = int(means.argmin())
    worth = losses[:, -1] - losses[:, best]
    if worth.mean() <= worth.std(ddof=1) / np.sqrt(len(worth)):
        return len(GRID) - 1
    allowed = min(_OF_WORTH * worth.mean(), _OF_LOSS * means[best])
    return int(np.flatnonzero(means - means[best] <= allowed).max())


def _losses(head: Any, net: DeviationNet, batch: MetaBatch) -> Tensor:
    """Return the query losses (n_tasks, n_shares) of the tasks of a step."""
    supports, queries = net._task_features(batch.tasks)
    hooked = net.module_.hooked
    for k, task in enumerate(batch.tasks if hooked.is_active else ()):
        one, two = supports[k][None], queries[k][None]
        code = hooked.task_code(one, task.support_targets[None], task.n_way)
        supports[k] = hooked.transform(one, code)[0]
        queries[k] = hooked.transform(two, code)[0]
    group = padded(batch.tasks, supports, queries)
    n_support = group.support.shape[1]
    columns = [
        net.task_losses(with_numbers(head, share, n_support), group)[0]
        for share in GRID
    ]
    return torch.stack(columns, dim=1)
