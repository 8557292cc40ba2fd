"""Euclidean projection onto the probability simplex."""

from __future__ import annotations

import torch
from torch import Tensor


def project_simplex(point: Tensor) -> Tensor:
    """Nearest rows with entries >= 0 that sum to 1.

    Parameters
    ----------
    point : Tensor of shape (..., n_classes)
        Any point.

    Returns
    -------
    Tensor of shape (..., n_classes)
    """
    ordered = point.sort(dim=-1, descending=True).values
    ranks = torch.arange(1, point.shape[-1] + 1, dtype=point.dtype, device=point.device)
    # The threshold is the largest candidate (Held, Wolfe, Crowder 1974).
    threshold = ((ordered.cumsum(-1) - 1.0) / ranks).amax(-1, keepdim=True)
    return (point - threshold).clamp_min_(0.0)
