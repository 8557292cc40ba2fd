"""Layers of a task that deviates from a common predictor."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..exceptions import InvalidInputError
from ._features import HeadFeatures, copied, plain_backbone


class CommonScores(nn.Module):
    """Scores of pooled nets and of the deviation of a task, in double precision.

    Parameters
    ----------
    learner : estimator
        Fitted around a common predictor of nets.
    task : CommonTask
        Has the solved head, or none without labels.

    Raises
    ------
    InvalidInputError
        If the common predictor is an estimator.
    """

    weight: Tensor
    bias: Tensor
    gain: Tensor

    def __init__(self, learner: Any, task: Any) -> None:
        super().__init__()
        common = learner.common_
        if not hasattr(common, "members"):
            raise InvalidInputError(
                "A graph holds nets, and so must the common predictor. Got "
                f"{type(common.estimator).__name__}; fit a learner with a trained "
                'backbone and common="linear".'
            )
        members = [copied(member) for member in common.members]
        for member in members:
            member.backbone = plain_backbone(member.backbone)
        self.members = nn.ModuleList(members)
        self.is_regression = task.classes is None
        units = (
            (learner.target_center_, learner.target_scale_)
            if self.is_regression
            else (0.0, 1.0)
        )
        self.target_center, self.target_scale = map(float, units)
        strengths = copied(learner.net_.module_.strengths)
        n_scores = len(strengths.score_center)
        self.features = HeadFeatures(learner.net_, task)
        size = len(strengths.center)
        weight, gain = np.zeros((size, n_scores)), np.eye(n_scores)
        bias = np.zeros(n_scores)
        if task.head is not None:
            weight, gain, bias = _affine(strengths, task, n_scores)
        shift = learner._class_shift
        bias = bias if shift is None else bias + shift
        self.register_buffer("weight", torch.from_numpy(weight))
        self.register_buffer("gain", torch.from_numpy(gain))
        self.register_buffer("bias", torch.from_numpy(bias))

    def forward(self, samples: Tensor) -> Tensor:
        """Return scores (n, n_classes), or targets (n,)."""
        known = torch.stack([member(samples).double() for member in self.members])
        found = known.mean(0) @ self.gain + self.features(samples) @ self.weight
        found = found + self.bias
        if self.is_regression:
            return self.target_center + self.target_scale * found[:, 0]
        return found


def _affine(
    strengths: Any, task: Any, n_scores: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the scores as ``c(x) @ gain + f(x) @ weight + bias``."""
    amount = torch.tensor([task.amount], dtype=torch.float64)
    size = len(strengths.center)
    with torch.no_grad():
        scale = strengths.scale(amount)[0].double().numpy()
        middle = strengths.score_center.double()
        # The offset is affine in the scores.
        zero = strengths.offset(torch.zeros(1, 1, n_scores).double(), amount)[0, 0]
        eye = torch.eye(n_scores).double()[None]
        gain = (strengths.offset(eye, amount)[0] - zero).numpy()
    coef = np.atleast_2d(task.head.coef_)
    intercept = np.atleast_1d(task.head.intercept_).astype(float)
    if n_scores == 2:  # the second class minus the first, halved between them
        difference = coef[-1] - (coef[0] if len(coef) == 2 else 0.0)
        moved = intercept[-1] - (intercept[0] if len(intercept) == 2 else 0.0)
        coef = np.stack([-difference, difference]) / 2
        intercept = np.array([-moved, moved]) / 2
    coef = coef * scale
    weight = (coef[:, :size] / strengths.spread.double().numpy()).T
    bias = zero.numpy() + task.trust * intercept
    bias = bias - strengths.center.double().numpy() @ weight
    of_scores = coef[:, size:].T  # (n_own, n_scores)
    if n_scores == 2:
        of_scores = np.array([[-1.0], [1.0]]) @ of_scores
    gain = gain + of_scores
    bias = bias - middle.numpy() @ of_scores
    return weight, gain, bias
