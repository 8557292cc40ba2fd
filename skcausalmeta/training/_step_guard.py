"""Training steps that run out of memory or out of the finite numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..exceptions import DivergenceError, OutOfMemoryError
from ..utils import forget, is_out_of_memory
from ._stream import MetaBatch


class StepGuard:
    """Takes a step in smaller parts where memory runs out.

    The gradient of a step is a sum over tasks. Where the tasks of a meta-batch do not
    fit together, half of them are tried, and what fitted is kept for the steps to
    come; the gradient is the same up to rounding.

    Attributes
    ----------
    most_tasks : int or None
        Tasks that fit into memory at once. None: all of them, so far.

    Examples
    --------
    >>> from torch import nn
    >>> from skcausalmeta.training._step_guard import StepGuard
    >>> guard = StepGuard()
    >>> def step():
    ...     if guard.size(8) > 2:
    ...         raise MemoryError
    ...     return "done"
    >>> guard.run(step, nn.Identity(), 8, True, [])
    'done'
    >>> guard.most_tasks
    2
    """

    most_tasks: int | None = None

    def run(
        self,
        step: Callable[[], Any],
        module: nn.Module,
        n_tasks: int,
        divisible: bool,
        history: Any,
    ) -> Any:
        """Take a step, again with fewer tasks at a time where memory runs out.

        Parameters
        ----------
        step : callable
            Goes by `size`, as often as it is called.
        module : torch.nn.Module
            Its buffers are put back before the step is tried again.
        n_tasks : int
            Tasks of the step.
        divisible : bool
            Whether the step gives the same by parts.
        history : list
            History of the net, for the place of an error.

        Raises
        ------
        OutOfMemoryError
            If one task, or a step that is one whole, does not fit.
        """
        buffers = [value.clone() for value in module.buffers()]
        while True:
            try:
                return step()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._take_fewer(self.size(n_tasks), divisible, history, error)
                forget(error)
            for value, before in zip(module.buffers(), buffers, strict=True):
                value.copy_(before)

    def size(self, n_tasks: int) -> int:
        """Return how many of some tasks are taken at once."""
        return min(n_tasks, self.most_tasks or n_tasks)

    def parts(self, batch: MetaBatch) -> Iterator[MetaBatch]:
        """Yield the batch, or as many of its tasks at a time as memory holds."""
        size = self.size(len(batch.tasks))
        for begin in range(0, len(batch.tasks), size):
            yield MetaBatch(batch.tasks[begin : begin + size], len(batch))

    def _take_fewer(
        self, size: int, divisible: bool, history: Any, error: BaseException
    ) -> None:
        if size <= 1 or not divisible:
            whole = "A step on one task" if size <= 1 else "A step that is one whole"
            raise OutOfMemoryError(
                f"{whole} must fit into memory. Got {place_in(history)}, which does "
                f"not ({error}); lower tasks_per_batch or n_query, use a smaller "
                "backbone, or another device."
            ) from error
        self.most_tasks = size // 2


def place_in(history: Any) -> str:
    """Return the step and epoch that training is in."""
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


def check_features(features: list[Tensor], history: Any, remedy: str) -> None:
    """Refuse features that are not finite.

    Raises
    ------
    DivergenceError
        With the step and epoch, and what to do.
    """
    for part in features:
        if not bool(torch.isfinite(part.detach()).all()):
            raise DivergenceError(
                "The features of training must stay finite. Got NaN or infinity in "
                f"{place_in(history)}; {remedy}."
            )


def check_finite_weights(module: nn.Module) -> None:
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
