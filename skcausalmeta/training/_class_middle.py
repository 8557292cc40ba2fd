"""The middle of the classes of a task."""

from __future__ import annotations

import torch
from torch import Tensor


def class_middle(features: Tensor, targets: Tensor) -> Tensor:
    """Mean of the class means, which no class moves by having many rows.

    Parameters
    ----------
    features : Tensor of shape (n_tasks, n_support, n_features)
        Support features.
    targets : Tensor of shape (n_tasks, n_support)
        Class numbers from 0; a number without rows is no class.

    Returns
    -------
    Tensor of shape (n_tasks, 1, n_features)

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.training import class_middle
    >>> rows = torch.tensor([[[0.0], [0.0], [0.0], [2.0]]])
    >>> class_middle(rows, torch.tensor([[0, 0, 0, 1]]))
    tensor([[[1.]]])
    """
    targets = targets.long()
    rows = torch.ones_like(features[..., 0])
    n_classes = int(targets.max()) + 1
    counts = rows.new_zeros(len(rows), n_classes).scatter_add_(1, targets, rows)
    n_present = (counts > 0).sum(-1, keepdim=True)
    shares = 1.0 / (n_present * counts.gather(1, targets))
    return shares[:, None] @ features
