"""Training steps that run out of memory or out of the finite numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ..exceptions import DivergenceError, OutOfMemoryError
from ..utils import forget, is_out_of_memory
from ._stream import MetaBatch


class StepGuardMixin:
    """Steps in smaller parts where memory runs out, and an end where they diverge.

    The gradient of a step is a sum over tasks. Where the tasks of a meta-batch do not
    fit together, half of them are tried, and what fitted is kept for the steps to
    come; the gradient is the same up to rounding. A hook sees all tasks of a step at
    once, so steps with a hook are not divided.
    """

    history: Any
    module_: Any
    _most_tasks: int | None = None

    def train_step(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """A step of the optimiser, tried again with fewer tasks at a time."""
        buffers = [value.clone() for value in self.module_.buffers()]
        while True:
            try:
                step: dict[str, Any] = super().train_step(  # type: ignore[misc]
                    batch, **fit_params
                )
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._take_fewer(len(batch.tasks), error)
                forget(error)
            else:
                self._check_finite(step["loss"])
                return step
            for value, before in zip(self.module_.buffers(), buffers, strict=True):
                value.copy_(before)

    def _take_fewer(self, n_tasks: int, error: BaseException) -> None:
        size = min(n_tasks, self._most_tasks or n_tasks)
        if size <= 1 or not self._is_divisible():
            whole = "A step on one task" if size <= 1 else "A step that is one whole"
            raise OutOfMemoryError(
                f"{whole} must fit into memory. Got {self._where()}, which does not "
                f"({error}); lower tasks_per_batch or n_query, use a smaller backbone, "
                "or another device."
            ) from error
        self._most_tasks = size // 2

    def _is_divisible(self) -> bool:
        return self.module_.hook is None

    def _parts(self, batch: MetaBatch) -> Iterator[MetaBatch]:
        """The batch, or as many of its tasks at a time as memory holds."""
        size = min(len(batch.tasks), self._most_tasks or len(batch.tasks))
        for begin in range(0, len(batch.tasks), size):
            yield MetaBatch(batch.tasks[begin : begin + size], len(batch))

    def _where(self) -> str:
        return place_in(self.history)

    def _check_finite(self, loss: Tensor) -> None:
        check_finite_loss(loss, self.history, self._remedy())

    def _check_features(self, features: list[Tensor]) -> None:
        if not all(bool(torch.isfinite(part.detach()).all()) for part in features):
            raise DivergenceError(
                "The features of training must stay finite. Got NaN or infinity in "
                f"{self._where()}; {self._remedy()}."
            )

    def _remedy(self) -> str:
        return "lower lr, or scale the rows"


def place_in(history: Any) -> str:
    """The step and epoch that training is in."""
    return f"step {len(history[-1]['batches'])} of epoch {len(history)}"


def check_finite_loss(loss: Tensor, history: Any, remedy: str) -> None:
    """Refuse a loss that is not finite.

    Parameters
    ----------
    loss : Tensor of shape ()
        Loss of a training step.
    history : skorch.history.History
        History of the net, which tells the step and epoch.
    remedy : str
        What to do, for the message.

    Raises
    ------
    DivergenceError
        With the step and epoch, and what to do.

    Examples
    --------
    >>> import torch
    >>> from skorch.history import History
    >>> from skcausalmeta.exceptions import DivergenceError
    >>> from skcausalmeta.training import check_finite_loss
    >>> history = History()
    >>> history.new_epoch()
    >>> history.new_batch()
    >>> try:
    ...     check_finite_loss(torch.tensor(torch.inf), history, "lower lr")
    ... except DivergenceError as error:
    ...     print(error)
    The loss of training must stay finite. Got inf in step 1 of epoch 1; lower lr.
    """
    value = float(loss.detach())
    if not math.isfinite(value):
        raise DivergenceError(
            f"The loss of training must stay finite. Got {value} in "
            f"{place_in(history)}; {remedy}."
        )


def check_finite_weights(module: torch.nn.Module) -> None:
    """Refuse a module that the last step of training left without finite weights.

    Parameters
    ----------
    module : torch.nn.Module
        The trained module.

    Raises
    ------
    DivergenceError
        With the name of the first parameter that is not finite.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.exceptions import DivergenceError
    >>> from skcausalmeta.training import check_finite_weights
    >>> layer = torch.nn.Linear(1, 1)
    >>> check_finite_weights(layer)
    >>> _ = torch.nn.init.constant_(layer.bias, torch.nan)
    >>> try:
    ...     check_finite_weights(layer)
    ... except DivergenceError as error:
    ...     print(str(error)[:59])
    The weights must stay finite. Got NaN or infinity in 'bias'
    """
    for name, value in module.named_parameters():
        if not bool(torch.isfinite(value.detach()).all()):
            raise DivergenceError(
                "The weights must stay finite. Got NaN or infinity in "
                f"{name!r} after the last step of training; lower lr, or scale the "
                "rows."
            )
