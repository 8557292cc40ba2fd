"""Losses of rows and their gradients, for tasks of different kinds."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

Kinds = Sequence[tuple[str, int]]  # name of the kind and classes of every task


def task_losses(outputs: Tensor, targets: Tensor, kinds: Kinds) -> Tensor:
    """Loss of every task and row, (n_tasks, n).

    Parameters
    ----------
    outputs : Tensor of shape (n_tasks, n, n_outputs)
        Outputs of the heads, which are as wide as the widest task.
    targets : Tensor of shape (n_tasks, n)
        Class codes or values.
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
    """Gradients of `task_losses` in the outputs, in their shape; differentiable."""
    if _alike(kinds):
        return row_slopes(outputs, targets, kinds[0][0])
    slopes = []
    for t, (kind, n) in enumerate(kinds):
        width = _width(kind, n)
        used = row_slopes(outputs[t, :, :width], targets[t], kind)
        slopes.append(functional.pad(used, (0, outputs.shape[-1] - width)))
    return torch.stack(slopes)


def row_losses(outputs: Tensor, targets: Tensor, kind: str) -> Tensor:
    """Loss of every row: outputs (..., n, width), targets (..., n)."""
    if kind == "multiclass":
        return functional.cross_entropy(outputs, targets.long(), reduction="none")
    if kind == "binary":
        return functional.binary_cross_entropy_with_logits(
            outputs[..., 0], targets, reduction="none"
        )
    return (outputs[..., 0] - targets).pow(2)


def row_slopes(outputs: Tensor, targets: Tensor, kind: str) -> Tensor:
    """Gradient of `row_losses` in the outputs, in their shape; differentiable."""
    if kind == "multiclass":
        given = functional.one_hot(targets.long(), outputs.shape[-1])
        return outputs.softmax(dim=-1) - given
    if kind == "binary":
        return outputs.sigmoid() - targets[..., None]
    return 2 * (outputs - targets[..., None])


def _alike(kinds: Kinds) -> bool:
    """Whether one operation serves all tasks."""
    names = {kind for kind, _ in kinds}
    return len(names) == 1 and "multiclass" not in names


def _width(kind: str, n_classes: int) -> int:
    """Outputs that a task uses of a head."""
    return n_classes if kind == "multiclass" else 1
