"""Gradients of several tasks in shared weights, put together without conflicts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...exceptions import InvalidInputError

GRADIENTS = ("sum", "pcgrad", "gradvac")
_TINY = 1e-12


class PCGrad(nn.Module):
    """Projection of conflicting gradients.

    The gradient g_i of a task meets those of the other tasks j in random order, and
    loses what opposes them ::

        g_i <- g_i - <g_i, g_j> / ||g_j||^2 g_j     where <g_i, g_j> < 0

    with the g_j as they were. Training follows the sum of what is left.

    References
    ----------
    .. [1] T. Yu, S. Kumar, A. Gupta, S. Levine, K. Hausman, C. Finn (2020). Gradient
       surgery for multi-task learning. NeurIPS.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.learners._mtcrl._gradients import PCGrad
    >>> PCGrad()(torch.tensor([[1.0, 0.0], [-1.0, 1.0]]))
    tensor([[0.5000, 0.5000],
            [0.0000, 1.0000]])
    """

    def forward(self, gradients: Tensor) -> Tensor:
        """Return what is left of gradients (n_tasks, n_weights)."""
        squares = gradients.square().sum(dim=1)
        changed = gradients
        for _, others in _meetings(len(gradients)):
            given = gradients[others]
            inner = (changed * given).sum(dim=1)
            share = inner.clamp_max(0.0) / squares[others].clamp_min(_TINY)
            changed = changed - share[:, None] * given
        return changed


class GradVac(nn.Module):
    """Gradients turned towards the angles that they had before.

    The gradient g_i of a task meets those of the other tasks j in random order. With
    the cosine c of g_i and g_j and its running mean m of the pair (0 at first) ::

        g_i <- g_i + ||g_i|| (m sqrt(1 - c^2) - c sqrt(1 - m^2))
                     / (||g_j|| sqrt(1 - m^2)) g_j           where c < m
        m   <- (1 - decay) m + decay c

    which makes the cosine m. With m = 0 it is `PCGrad`. The angles are those of the
    weights of all modules together.

    Parameters
    ----------
    n_tasks : int
        Number of tasks.
    decay : float, default=0.01
        Share of a new cosine in the running mean.

    Attributes
    ----------
    cosines : Tensor of shape (n_tasks, n_tasks)
        Running means.

    References
    ----------
    .. [1] Z. Wang, Y. Tsvetkov, O. Firat, Y. Cao (2021). Gradient vaccine:
       investigating and improving multi-task optimization in massively multilingual
       models. ICLR.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.learners._mtcrl._gradients import GradVac
    >>> surgery = GradVac(2)
    >>> turned = surgery(torch.tensor([[1.0, 0.0], [-1.0, 1.0]]))
    >>> torch.allclose(turned, torch.tensor([[0.5, 0.5], [0.0, 1.0]]), atol=1e-3)
    True
    >>> print(f"{surgery.cosines[0, 1]:.4f}")
    -0.0071
    """

    cosines: Tensor

    def __init__(self, n_tasks: int, decay: float = 0.01) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("cosines", torch.zeros(n_tasks, n_tasks))

    def forward(self, gradients: Tensor) -> Tensor:
        """Return turned gradients (n_tasks, n_weights), and move the running means."""
        norms = torch.linalg.vector_norm(gradients, dim=1)
        changed = gradients
        for tasks, others in _meetings(len(gradients)):
            given, length = gradients[others], norms[others].clamp_min(_TINY)
            own = torch.linalg.vector_norm(changed, dim=1)
            inner = (changed * given).sum(dim=1)
            cosine = (inner / (own.clamp_min(_TINY) * length)).clamp(-1.0, 1.0)
            mean = self.cosines[tasks, others]
            across, level = (1 - cosine.square()).sqrt(), (1 - mean.square()).sqrt()
            share = own * (mean * across - cosine * level) / (length * level)
            # A task without a label in the batch has no direction.
            turns = (cosine < mean) & (own > 0) & (norms[others] > 0)
            changed = changed + torch.where(turns, share, 0.0)[:, None] * given
            self.cosines[tasks, others] = mean.lerp(cosine, self.decay)
        return changed


def make_surgery(name: str, n_tasks: int) -> PCGrad | GradVac | None:
    """Return what changes the gradients of tasks, None for their plain sum.

    Raises
    ------
    InvalidInputError
        If there is no such name.
    """
    if name not in GRADIENTS:
        raise InvalidInputError(
            f"The 'gradients' parameter must be one of {GRADIENTS}. Got {name!r}."
        )
    if name == "sum":
        return None
    return PCGrad() if name == "pcgrad" else GradVac(n_tasks)


def task_gradients(losses: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Return the gradient of every loss in some weights, (n_losses, n_weights)."""
    rows = [
        torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
        for loss in losses
    ]
    return torch.stack(
        [
            torch.cat(
                [
                    torch.zeros_like(weight).flatten()
                    if part is None
                    else part.flatten()
                    for part, weight in zip(row, weights, strict=True)
                ]
            )
            for row in rows
        ]
    )


def add_flat(weights: Sequence[Tensor], change: Tensor) -> None:
    """Add a change (n_weights,) to the gradients that lie at some weights."""
    sizes = [weight.numel() for weight in weights]
    for weight, part in zip(weights, change.split(sizes), strict=True):
        part = part.view_as(weight)
        weight.grad = part.clone() if weight.grad is None else weight.grad + part


def _meetings(n_tasks: int) -> list[tuple[Tensor, Tensor]]:
    """Return tasks and whom each of them meets, time after time, in random order."""
    tasks = torch.arange(n_tasks)
    others = torch.stack(
        [torch.randperm(n_tasks - 1) for _ in range(n_tasks)]
    )  # (n_tasks, n_tasks - 1)
    others = others + (others >= tasks[:, None])  # leave out the task itself
    return [(tasks, column) for column in others.T]
