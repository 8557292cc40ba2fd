"""Processes that share the tasks of a step, through Hugging Face Accelerate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..exceptions import InvalidInputError


class Processes(NamedTuple):
    """Rank of this process, and the number of processes.

    Every process draws all episodes of a step and reads those of its own. Gradients
    are those of the mean over all tasks, so their sum over processes is the gradient
    that one process would have, and so are the running averages of batch norm.

    Attributes
    ----------
    rank : int
        Number of this process, from 0.
    number : int
        Number of processes.
    """

    rank: int = 0
    number: int = 1

    @classmethod
    def launched(cls, device: Any) -> Processes:
        """Return the processes of ``accelerate launch``, or this one alone without it.

        Raises
        ------
        ImportError
            If Accelerate is not installed.
        """
        try:
            from accelerate import PartialState
        except ImportError as error:
            raise ImportError(
                "accelerate=True needs Hugging Face Accelerate. Got an environment "
                "without it; install it by 'pip install skcausalmeta[dist]'."
            ) from error
        state = PartialState(cpu=str(device).startswith("cpu"))
        return cls(int(state.process_index), int(state.num_processes))

    def check_start(self, module: nn.Module) -> None:
        """Refuse to train where processes do not start from the same weights.

        Raises
        ------
        InvalidInputError
            In every process.
        """
        own = _flat([parameter.detach() for parameter in module.parameters()])
        if not torch.allclose(self._sum(own) / self.number, own, rtol=1e-5, atol=1e-7):
            raise InvalidInputError(
                "All processes must start alike and draw the same episodes. Got other "
                "weights in another process; set random_state to an integer."
            )

    def run(self, step: Callable[[], Tensor], module: nn.Module) -> Tensor:
        """Take a step on the tasks of all processes; return the loss of all.

        Parameters
        ----------
        step : callable
            Leaves the gradient of the tasks of this process at the parameters and
            returns their share in the mean loss.
        module : torch.nn.Module
            Gets the sum of the gradients, and the averages of batch norm.
        """
        averages = [_averages_of(layer) for layer in _averaging(module)]
        loss = self._sum_gradients(module, step())
        for layer, before in zip(_averaging(module), averages, strict=True):
            self._merge_averages(layer, *before)
        return loss

    def _sum_gradients(self, module: nn.Module, loss: Tensor) -> Tensor:
        """Sum the gradients, in one exchange with the loss, which is returned."""
        parameters = [p for p in module.parameters() if p.requires_grad]
        filled = [
            torch.zeros_like(p) if p.grad is None else p.grad.detach()
            for p in parameters
        ]
        total = self._sum(_flat([*filled, loss.detach().reshape(1)]))
        begin = 0
        for parameter, gradient in zip(parameters, filled, strict=True):
            if parameter.grad is not None:
                found = total[begin : begin + gradient.numel()]
                parameter.grad = found.reshape(gradient.shape).to(gradient.dtype)
            begin += gradient.numel()
        return total[-1]

    def _merge_averages(
        self, layer: Any, mean: Tensor, variance: Tensor, count: int
    ) -> None:
        """Set the averages as if the tasks had come one process after the other."""
        own = int(layer.num_batches_tracked) - count
        counts = torch.zeros(self.number, dtype=torch.float64, device=mean.device)
        counts[self.rank] = own
        counts = self._sum(counts)
        keep = 1.0 - float(layer.momentum or 0.0)
        later = keep ** float(counts[self.rank + 1 :].sum())
        whole = keep ** float(counts.sum())
        for value, old in ((layer.running_mean, mean), (layer.running_var, variance)):
            added = (value - keep**own * old) * later
            value.copy_(whole * old + self._sum(added))
        layer.num_batches_tracked.fill_(count + int(counts.sum()))

    def _sum(self, values: Tensor) -> Tensor:
        from accelerate.utils import reduce

        summed: Tensor = reduce(values, "sum")
        return summed


def _flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.double().flatten() for tensor in tensors])


def _averages_of(layer: Any) -> tuple[Tensor, Tensor, int]:
    return (
        layer.running_mean.clone(),
        layer.running_var.clone(),
        int(layer.num_batches_tracked),
    )


def _averaging(module: nn.Module) -> list[Any]:
    """Return the layers of batch norm whose averages move in training."""
    return [
        layer
        for layer in module.modules()
        if isinstance(layer, _BatchNorm)
        and layer.running_mean is not None
        and layer.momentum is not None
    ]
