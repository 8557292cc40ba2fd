"""Layers from features to the scores of a solved head."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..exceptions import InvalidInputError
from ..heads import GroupLassoSVC, GroupLassoSVCCV, PrototypeHead, RelaxedHead

# What another engine makes of features in single precision: the optimum often gives
# classes equal scores, and its rounding must not choose between them.
_TIE = 1e-6


def score_layer(head: Any) -> nn.Module:
    """Return the scores of a fitted head as a layer.

    Parameters
    ----------
    head : estimator
        Fitted. A head of one's own that is not linear in its features offers a method
        ``score_layer()``, which returns such a layer.

    Returns
    -------
    torch.nn.Module
        From features (n, d) in double precision to scores (n, n_classes), (n, 1) of
        the second class minus the first, or targets (n,).

    Raises
    ------
    InvalidInputError
        If the head has neither weights nor a layer.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_iris
    >>> from skcausalmeta.export._scores import score_layer
    >>> from skcausalmeta.heads import RidgeHead
    >>> X, y = load_iris(return_X_y=True)
    >>> score_layer(RidgeHead().fit(X, y))(torch.from_numpy(X)).shape
    torch.Size([150, 3])
    """
    if hasattr(head, "score_layer"):
        layer: nn.Module = head.score_layer()
        return layer
    if isinstance(head, RelaxedHead):
        width, used = head.n_features_in_, head.support_features_
        return nn.Sequential(_Chosen(width, used), score_layer(head.head_))
    if isinstance(head, PrototypeHead):
        return _Nearness(head.prototypes_, head.metric, head.temperature)
    if not hasattr(head, "coef_"):
        raise InvalidInputError(
            "A head must be linear in its features to be exported, with coef_ and "
            f"intercept_, or offer score_layer(), a torch.nn.Module. Got "
            f"{type(head).__name__}; give it that method."
        )
    linear = _Linear(head.coef_, head.intercept_)
    ties = isinstance(head, GroupLassoSVC | GroupLassoSVCCV)
    return nn.Sequential(linear, _WithoutTies()) if ties else linear


class _Linear(nn.Module):
    """``F W + intercept``; one target has no axis."""

    weight: Tensor
    bias: Tensor

    def __init__(self, coef: Any, intercept: Any) -> None:
        super().__init__()
        self.register_buffer("weight", _double(np.transpose(coef)))
        self.register_buffer("bias", _double(intercept))

    def forward(self, features: Tensor) -> Tensor:
        return features @ self.weight + self.bias


class _WithoutTies(nn.Module):
    """Scores in which differences at the level of rounding are ties."""

    def forward(self, scores: Tensor) -> Tensor:
        top = scores.amax(dim=1, keepdim=True)
        return torch.where(top - scores <= _TIE * (1.0 + top.abs()), top, scores)


class _Chosen(nn.Module):
    """Features with those that are not used at 0."""

    mask: Tensor

    def __init__(self, width: int, used: Any) -> None:
        super().__init__()
        mask = np.zeros(width)
        mask[used] = 1.0
        self.register_buffer("mask", _double(mask))

    def forward(self, features: Tensor) -> Tensor:
        return features * self.mask


class _Nearness(nn.Module):
    """How near features are to prototypes."""

    middle: Tensor
    means: Tensor

    def __init__(self, prototypes: Any, metric: str, temperature: float) -> None:
        super().__init__()
        means = _double(prototypes)
        self.cosine, self.temperature = metric == "cosine", float(temperature)
        # Around their middle the squares are small and lose few digits.
        middle = torch.zeros_like(means[0]) if self.cosine else means.mean(dim=0)
        means = _unit_rows(means) if self.cosine else means - middle
        self.register_buffer("middle", middle)
        self.register_buffer("means", means)

    def forward(self, features: Tensor) -> Tensor:
        means = self.means
        if self.cosine:
            return _unit_rows(features) @ means.T / self.temperature
        rows = features - self.middle
        squares = rows.square().sum(-1, keepdim=True) + means.square().sum(-1)
        return (2 * rows @ means.T - squares) / self.temperature


def _unit_rows(rows: Tensor) -> Tensor:
    """Return rows of length 1; rows of zeros stay."""
    squares = rows.square().sum(-1, keepdim=True)
    return rows * torch.where(squares > 0, squares, torch.ones_like(squares)).rsqrt()


def _double(values: Any) -> Tensor:
    return torch.from_numpy(np.array(values, dtype=np.float64))
