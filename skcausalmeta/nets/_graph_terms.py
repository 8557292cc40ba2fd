"""Terms of the MT-CRL objective, one small function each.

Modules have shape (K, n, h), the routing A (T, K), losses of rows (T, n). A
missing label has weight 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..exceptions import InvalidInputError

IRM_FORMS = ("norm", "variance", "unbiased")
_TINY = 1e-8


def correlations(modules: Tensor) -> Tensor:
    """Pearson correlations of all units in the batch, (K, h, K, h)."""
    n_modules, n_rows, h = modules.shape
    units = modules.transpose(1, 2).flatten(0, 1)  # (K h, n)
    units = units - units.mean(dim=1, keepdim=True)
    products = units @ units.T / n_rows
    scale = products.diagonal().add(1e-6).rsqrt()
    found = products * scale[:, None] * scale
    return found.view(n_modules, h, n_modules, h)


def decorrelation(modules: Tensor) -> Tensor:
    """``sum_{i<j} || corr(phi_i(X), phi_j(X)) ||_F^2``."""
    shared = correlations(modules).pow(2).sum(dim=(1, 3))  # (K, K)
    return (shared.sum() - shared.diagonal().sum()) / 2


def sparsity(routing: Tensor) -> Tensor:
    """Mean entropy of the normalised rows of A: few modules per task."""
    return torch.special.entr(_rows_to_one(routing)).sum() / len(routing)


def balance(routing: Tensor) -> Tensor:
    """Minus the entropy of the average normalised row: no dead module."""
    return -torch.special.entr(_rows_to_one(routing).mean(dim=0)).sum()


def _rows_to_one(routing: Tensor) -> Tensor:
    return routing / routing.sum(dim=1, keepdim=True).clamp_min(_TINY)


def routing_gradients(
    losses: Tensor,
    weights: Tensor,
    routed: Tensor,
    modules: Tensor,
    members: Tensor,
) -> Tensor:
    """Gradient of the risk of every task in every environment in its row of A.

    ``grad_{A_tk} R_t^e = mean over rows i of e of < d loss_ti / d s_ti, phi_k(x_i) >``
    with the routed sum ``s_ti = sum_k A_tk phi_k(x_i)``: one backward pass through
    the heads serves all environments, and none goes through the modules.

    Parameters
    ----------
    losses : Tensor of shape (n_tasks, n)
        Loss of every row.
    weights : Tensor of shape (n_tasks, n)
        1 for a label, 0 for none.
    routed : Tensor of shape (n_tasks, n, h)
        The routed sums that `losses` were computed from.
    modules : Tensor of shape (n_modules, n, h)
        Features of the modules.
    members : Tensor of shape (n_environments, n)
        1 where a row belongs to an environment.

    Returns
    -------
    Tensor of shape (n_environments, n_tasks, n_modules)
    """
    (slope,) = torch.autograd.grad((losses * weights).sum(), routed, create_graph=True)
    rows = members[:, None, :] * weights  # (E, T, n)
    rows = rows / rows.sum(dim=2, keepdim=True).clamp_min(1.0)
    weighted = (rows[..., None] * slope).flatten(2).flatten(0, 1)  # (E T, n h)
    gradients = weighted @ modules.flatten(1).T
    return gradients.view(len(members), len(losses), len(modules))


def invariance(gradients: Tensor, form: str, other: Tensor | None = None) -> Tensor:
    """Penalty on the gradients of the routing, zero where all environments agree.

    "norm": ``sum_e sum_t || g_te ||^2``; "variance": the same of the differences to
    the mean over environments; "unbiased": ``sum < g_te, g'_te >`` with `other` from
    the other half of the batch, whose expectation is that of the norm without the
    noise of the batch; it can be negative.

    Parameters
    ----------
    gradients : Tensor of shape (n_environments, n_tasks, n_modules)
        Gradients of one batch, or of its first half.
    form : {"norm", "variance", "unbiased"}
        Form of the penalty.
    other : Tensor, default=None
        Gradients of the second half.

    Returns
    -------
    Tensor
        A number.
    """
    if form == "norm":
        return gradients.pow(2).sum()
    if form == "variance":
        return (gradients - gradients.mean(dim=0)).pow(2).sum()
    if form == "unbiased" and other is not None:
        return (gradients * other).sum()
    raise InvalidInputError(
        f"The form of the invariance must be one of {IRM_FORMS}, the last with the "
        f"gradients of two half-batches. Got {form!r}."
    )
