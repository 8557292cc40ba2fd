"""Statistics of the factors of a support set that no order of the classes changes."""

from __future__ import annotations

import torch
from torch import Tensor

N_STATISTICS = 4
_RIDGE = 0.1


def label_statistics(factors: Tensor, targets: Tensor, n_way: int) -> Tensor:
    """Return statistics (n_tasks, n_factors, 4) of the factors of support rows.

    With a the factors, standardised over tasks, and y the classes, as centred
    indicators, or the standardised targets: the mean of a_j and its square; the
    share of the variance of a_j that y explains (the correlation ratio, squared);
    and the partial effect of a_j, the norm of its coefficients in the ridge
    regression of y on all factors.

    Parameters
    ----------
    factors : Tensor of shape (n_tasks, n, n_factors)
        Standardised factors.
    targets : Tensor of shape (n_tasks, n)
        Class numbers or real targets.
    n_way : int
        Number of classes, 0 in regression.

    Examples
    --------
    The first factor is the label, the second is noise that is balanced in it:

    >>> import torch
    >>> from skcausalmeta.learners._metacrl._label_statistics import label_statistics
    >>> factors = torch.tensor([[[-1.0, 1], [-1, -1], [1, 1], [1, -1]]])
    >>> found = label_statistics(factors, torch.tensor([[0, 0, 1, 1]]), 2)
    >>> [round(value, 2) for value in found[0, 0].tolist()]
    [0.0, 0.0, 1.0, 0.91]
    >>> [round(value, 2) for value in found[0, 1].tolist()]
    [0.0, 0.0, 0.0, 0.0]
    """
    n = factors.shape[1]
    mean = factors.mean(dim=1, keepdim=True)
    rows = factors - mean
    wanted = _indicators(targets, n_way).to(factors.dtype)  # (n_tasks, n, c)
    between = rows.mT @ wanted / n  # (n_tasks, k, c)
    within = rows.square().mean(dim=1).clamp_min(1e-12)
    # Orthonormal indicators give the correlation ratio as a squared norm.
    ratio = between.square().sum(-1) / within
    effect = _ridge(rows, wanted).square().sum(-1).sqrt()
    mean = mean[:, 0].clamp(-5.0, 5.0)
    return torch.stack([mean, mean.square(), ratio, effect], dim=-1)


def _indicators(targets: Tensor, n_way: int) -> Tensor:
    """Return targets as columns with mean 0 and unit covariance, up to a rotation."""
    if not n_way:
        centred = targets - targets.mean(dim=1, keepdim=True)
        spread = centred.square().mean(dim=1, keepdim=True).sqrt().clamp_min(1e-12)
        return (centred / spread)[..., None]
    members = torch.nn.functional.one_hot(targets, n_way).to(torch.float32)
    share = members.mean(dim=1, keepdim=True).clamp_min(1e-12)
    # Columns scaled by their share: the sum of squares is the explained variance.
    return members / share.sqrt() - share.sqrt()


def _ridge(rows: Tensor, wanted: Tensor) -> Tensor:
    """Return ridge coefficients (n_tasks, k, c), solved in the smaller dimension."""
    n, k = rows.shape[1:]
    if k <= n:
        gram = rows.mT @ rows / n
        eye = torch.eye(k, dtype=rows.dtype, device=rows.device)
        return torch.linalg.solve(gram + _RIDGE * eye, rows.mT @ wanted / n)
    gram = rows @ rows.mT / n
    eye = torch.eye(n, dtype=rows.dtype, device=rows.device)
    return rows.mT @ torch.linalg.solve(gram + _RIDGE * eye, wanted) / n
