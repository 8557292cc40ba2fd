"""Terms of the MT-CRL objective, one small function each.

Modules have shape (K, n, h), the routing A (T, K), losses of rows (T, n). A
missing label has weight 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ...exceptions import InvalidInputError

Kinds = Sequence[tuple[str, int]]  # name of the kind and classes of every task

IRM_FORMS = ("norm", "variance", "unbiased")
IRM_SCALES = ("relative", "absolute", "logits", "outputs", "inputs")
_TINY = 1e-8
# Added to the variance of a unit, so that a constant one is correlated with nothing.
_LEAST_VARIANCE = 1e-6


def task_losses(outputs: Tensor, targets: Tensor, kinds: Kinds) -> Tensor:
    """Return the loss of every task and row, (n_tasks, n).

    Parameters
    ----------
    outputs : Tensor of shape (n_tasks, n, n_outputs)
        Outputs of the heads, which are as wide as the widest task.
    targets : Tensor of shape (n_tasks, n)
        Class numbers or values.
    kinds : sequence of (str, int)
        "binary", "multiclass" or "regression" of every task, and its classes.
    """
    if _alike(kinds):
        return row_losses(outputs, targets, kinds[0][0])
    return torch.stack(
        [
            row_losses(outputs[t, :, : _width(kind, n)], targets[t], kind)
            for t, (kind, n) in enumerate(kinds)
        ]
    )


def task_slopes(outputs: Tensor, targets: Tensor, kinds: Kinds) -> Tensor:
    """Return the gradients of `task_losses` in the outputs; differentiable."""
    if _alike(kinds):
        return row_slopes(outputs, targets, kinds[0][0])
    slopes = []
    for t, (kind, n) in enumerate(kinds):
        width = _width(kind, n)
        used = row_slopes(outputs[t, :, :width], targets[t], kind)
        slopes.append(functional.pad(used, (0, outputs.shape[-1] - width)))
    return torch.stack(slopes)


def row_losses(outputs: Tensor, targets: Tensor, kind: str) -> Tensor:
    """Return the loss of every row: outputs (..., n, width), targets (..., n)."""
    if kind == "multiclass":
        return functional.cross_entropy(outputs, targets.long(), reduction="none")
    if kind == "binary":
        return functional.binary_cross_entropy_with_logits(
            outputs[..., 0], targets, reduction="none"
        )
    return (outputs[..., 0] - targets).pow(2)


def row_slopes(outputs: Tensor, targets: Tensor, kind: str) -> Tensor:
    """Return the gradient of `row_losses` in the outputs; differentiable."""
    if kind == "multiclass":
        given = functional.one_hot(targets.long(), outputs.shape[-1])
        return outputs.softmax(dim=-1) - given
    if kind == "binary":
        return outputs.sigmoid() - targets[..., None]
    return 2 * (outputs - targets[..., None])


def _alike(kinds: Kinds) -> bool:
    """Tell whether one operation serves all tasks."""
    names = {kind for kind, _ in kinds}
    return len(names) == 1 and "multiclass" not in names


def _width(kind: str, n_classes: int) -> int:
    """Count the outputs that a task uses of a head."""
    return n_classes if kind == "multiclass" else 1


def correlations(modules: Tensor) -> Tensor:
    """Return the Pearson correlations of all units in the batch, (K, h, K, h)."""
    n_modules, n_rows, h = modules.shape
    units = modules.transpose(1, 2).flatten(0, 1)  # (K h, n)
    units = units - units.mean(dim=1, keepdim=True)
    products = units @ units.T / n_rows
    scale = products.diagonal().add(_LEAST_VARIANCE).rsqrt()
    found = products * scale[:, None] * scale
    return found.view(n_modules, h, n_modules, h)


def decorrelation(modules: Tensor) -> Tensor:
    """Return ``sum_{i<j} || corr(phi_i(X), phi_j(X)) ||_F^2``.

    With the units centred and scaled to length 1, ``z = u / r``, and C = Z'Z without
    the blocks of the modules themselves, it is ``||C||_F^2 / 2`` with the gradient ::

        d / du_a = 2 / r_a ( sum_b C_ab z_b - z_a sum_b C_ab^2 ),

    which takes a third of the operations that autograd needs.
    """
    n_modules, n_rows, h = modules.shape
    units = modules.transpose(0, 1).reshape(n_rows, n_modules * h)
    value, slopes = _decorrelation_and_slopes(units.detach(), n_modules)
    tangent = torch.dot(slopes.flatten(), units.flatten())
    return value + (tangent - tangent.detach())  # the value, with that gradient


def _decorrelation_and_slopes(units: Tensor, n_modules: int) -> tuple[Tensor, Tensor]:
    """Return the value and the gradient of `decorrelation` for units (n, K h)."""
    n_rows, n_units = units.shape
    centred = units - units.mean(dim=0)
    squares = centred.square().sum(dim=0)
    scale = squares.add_(_LEAST_VARIANCE * n_rows).rsqrt_()  # (K h,)
    centred *= scale
    shared = centred.T @ centred
    blocks = shared.view(n_modules, n_units // n_modules, n_modules, -1)
    blocks.diagonal(dim1=0, dim2=2).zero_()
    totals = shared.square().sum(dim=0)
    shared.diagonal().sub_(totals)
    return totals.sum() / 2, (centred @ shared).mul_(2 * scale)


def shares(routing: Tensor) -> Tensor:
    """Divide the rows of A by their sums: the shares of the modules in every task."""
    return routing / (routing.sum(dim=1, keepdim=True) + _TINY)


def sparsity(divided: Tensor) -> Tensor:
    """Return the mean entropy of the `shares` of a task: few modules per task."""
    return torch.special.entr(divided).sum() / len(divided)


def balance(divided: Tensor) -> Tensor:
    """Return minus the entropy of the average `shares`: no dead module."""
    return -torch.special.entr(divided.mean(dim=0)).sum()


def risk_weights(members: Tensor, known: Tensor) -> Tensor:
    """Return weights of rows: the weighted sum of losses is an environment's mean.

    Parameters
    ----------
    members : Tensor of shape (n_environments, n)
        Whether a row belongs to an environment.
    known : Tensor of shape (n_tasks, n)
        Weight of the row for a label, 0 for none.

    Returns
    -------
    Tensor of shape (n_environments, n_tasks, n)
        All 0 where a task has no label in an environment.
    """
    rows = torch.where(members[:, None, :], known, 0.0)
    return rows / rows.sum(dim=2, keepdim=True).clamp_min(_TINY)


def routing_gradients(slopes: Tensor, modules: Tensor, weights: Tensor) -> Tensor:
    """Return the gradient of every task's risk in every environment in its row of A.

    ``grad_{A_tk} R_t^e = mean over rows i of e of < d loss_ti / d s_ti, phi_k(x_i) >``
    with the routed sum ``s_ti = sum_k A_tk phi_k(x_i)``: one matrix product serves all
    environments.

    Parameters
    ----------
    slopes : Tensor of shape (n_tasks, n, h)
        Gradient of the loss of every row in its routed sum.
    modules : Tensor of shape (n_modules, n, h)
        Features of the modules.
    weights : Tensor of shape (n_environments, n_tasks, n)
        Weights of the rows in a risk, of `risk_weights`.

    Returns
    -------
    Tensor of shape (n_environments, n_tasks, n_modules)
    """
    weighted = (weights[..., None] * slopes).flatten(2).flatten(0, 1)  # (E T, n h)
    gradients = weighted @ modules.flatten(1).T
    return gradients.view(*weights.shape[:2], len(modules))


def in_variable(gradients: Tensor, routing: Tensor, scale: str) -> Tensor:
    """Turn gradients in A into those in another variable that A is a function of.

    "absolute": A itself; "relative": log A, with the factor A; "logits": Theta, with
    the factor A (1 - A).

    Raises
    ------
    InvalidInputError
        If there is no such variable.
    """
    if scale == "absolute":
        return gradients
    if scale == "relative":
        return routing * gradients
    if scale == "logits":
        return routing * (1 - routing) * gradients
    raise InvalidInputError(
        "The scale of the invariance of a routing must be 'relative', 'absolute' or "
        f"'logits'. Got {scale!r}."
    )


def output_gradients(slopes: Tensor, outputs: Tensor, weights: Tensor) -> Tensor:
    """Return the gradient of every risk in a factor on the outputs of its task, at 1.

    ``d R_t^e(w f_t) / dw = mean over rows i of e of < d loss_ti / d f_ti, f_ti >``,
    the derivative that invariant risk minimisation squares.

    Parameters
    ----------
    slopes, outputs : Tensor of shape (n_tasks, n, n_outputs)
        Gradients of the losses in the outputs, and the outputs.
    weights : Tensor of shape (n_environments, n_tasks, n)
        Weights of the rows in a risk, of `risk_weights`.

    Returns
    -------
    Tensor of shape (n_environments, n_tasks, 1)
    """
    inner = (slopes * outputs).sum(dim=-1)
    return (weights * inner).sum(dim=2, keepdim=True)


def input_gradients(losses: Tensor, rows: Tensor, centred: Tensor) -> Tensor:
    """Return products of inputs and gradients in them, (n_tasks, n, n_inputs).

    Their mean over an environment is the gradient of its risk in a factor g_tj, at 1,
    on input j of task t: a graph that routes inputs to tasks.

    Parameters
    ----------
    losses : Tensor of shape (n_tasks, n)
        Losses of the rows, a function of `rows`.
    rows : Tensor of shape (n, ...)
        Rows.
    centred : Tensor of shape (n, n_inputs)
        The rows minus the centre that factors leave where it is.
    """
    slopes = [
        torch.autograd.grad(loss.sum(), rows, create_graph=True)[0] for loss in losses
    ]
    return torch.stack(slopes).flatten(2) * centred


def invariance(
    gradients: Tensor,
    form: str,
    *,
    present: Tensor | None = None,
    other: Tensor | None = None,
) -> Tensor:
    """Return the penalty on routing gradients, zero where all environments agree.

    "norm": ``sum_e sum_t || g_te ||^2``; "variance": the same of the differences to
    the mean over environments; "unbiased": ``sum < g_te, g'_te >`` with `other` from
    the other half of the batch, whose expectation is that of the norm without the
    noise of the batch; it can be negative.

    Parameters
    ----------
    gradients : Tensor of shape (n_environments, n_tasks, n_modules)
        Gradients of one batch, or of its first half; 0 where there is no label.
    form : {"norm", "variance", "unbiased"}
        Form of the penalty.
    present : Tensor of shape (n_environments, n_tasks), default=None
        Whether a task has a label in an environment; the "variance" is that of the
        environments that have. None: in all.
    other : Tensor, default=None
        Gradients of the second half.

    Returns
    -------
    Tensor
        A number.
    """
    if form == "norm":
        entries = gradients.flatten()
        return torch.dot(entries, entries)
    if form == "variance":
        there = torch.ones_like(gradients[..., :1])
        there = there if present is None else there * present[..., None]
        mean = gradients.sum(dim=0) / there.sum(dim=0).clamp_min(1.0)
        return (there * (gradients - mean)).square().sum()
    if form == "unbiased" and other is not None:
        return (gradients * other).sum()
    raise InvalidInputError(
        f"The form of the invariance must be one of {IRM_FORMS}, the last with the "
        f"gradients of two half-batches. Got {form!r}."
    )
