"""What every head offers to the learners."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..exceptions import InvalidInputError


class HeadSolution(NamedTuple):
    """Solved heads of a batch of tasks.

    Parameters
    ----------
    coef : Tensor of shape (n_tasks, n_features, n_classes)
        Weights W; scores are ``F W + intercept``.
    dual : Tensor of shape (n_tasks, n_samples, n_classes)
        Dual point B.
    gap : Tensor of shape (n_tasks,)
        Certificate P(W) - D(B).
    n_iter : Tensor of shape (n_tasks,)
        Iterations of the solver.
    intercept : Tensor of shape (n_tasks, n_classes)
        Intercepts, 0 without one.
    relative_gap : Tensor of shape (n_tasks,)
        ``gap / P(W)``.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.heads import GroupLassoSVC
    >>> features = torch.eye(4, dtype=torch.float64)[None]
    >>> labels = torch.tensor([[0, 0, 1, 1]])
    >>> solution = GroupLassoSVC(solver="fista").solve_episodes(features, labels, 2)
    >>> solution.coef.shape
    torch.Size([1, 4, 2])
    """

    coef: Tensor
    dual: Tensor
    gap: Tensor
    n_iter: Tensor
    intercept: Tensor
    relative_gap: Tensor


def check_episodes(
    features: Tensor,
    targets: Tensor,
    n_classes: int,
    sample_weight: Tensor | None = None,
) -> None:
    """Refuse support sets that no head can be solved on.

    Raises
    ------
    InvalidInputError
        If shapes do not agree, a feature is not finite, a label is outside
        0..n_classes-1 or a task has no row of positive weight.
    """
    if features.ndim != 3 or targets.shape != features.shape[:2]:
        raise InvalidInputError(
            "Support features must have shape (n_tasks, n_support, n_features) and "
            f"targets (n_tasks, n_support). Got {tuple(features.shape)} and "
            f"{tuple(targets.shape)}."
        )
    if n_classes < 2:
        raise InvalidInputError(
            f"A head needs at least 2 classes. Got n_classes={n_classes}."
        )
    if (
        targets.numel()
        and not 0 <= int(targets.min()) <= int(targets.max()) < n_classes
    ):
        raise InvalidInputError(
            f"Targets must be class numbers 0..{n_classes - 1}. Got values from "
            f"{int(targets.min())} to {int(targets.max())}."
        )
    if not bool(torch.isfinite(features.detach()).all()):
        raise InvalidInputError(
            "Support features must be finite. Got NaN or infinity; if they come "
            "from a backbone, its training diverged: lower its learning rate."
        )
    if sample_weight is not None:
        check_weights(sample_weight.detach(), features)


def check_weights(weights: Tensor, features: Tensor) -> None:
    """Refuse row weights that do not fit the rows or leave a task without any.

    Raises
    ------
    InvalidInputError
    """
    if weights.shape != features.shape[:2]:
        raise InvalidInputError(
            "sample_weight must have one weight for every row. Got shape "
            f"{tuple(weights.shape)}, expected {tuple(features.shape[:2])}."
        )
    if bool((weights < 0).any()) or not bool((weights > 0).any(-1).all()):
        raise InvalidInputError(
            "sample_weight must be >= 0, with a row > 0 in every task. Got a "
            "negative weight or a task of zeros; drop that task."
        )
