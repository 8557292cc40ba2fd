"""Losses scaled so that small gradients survive float16."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.amp import GradScaler

from ..backbones import PreparedBackbone


class LossScalingMixin:
    """Backward passes and steps of a net whose backbone runs in float16.

    Callbacks see gradients without the scale. A step with an infinite gradient is
    left out and the scale halved, as `torch.amp.GradScaler` does. Other nets train
    as they would without this class.
    """

    device: Any
    module_: Any
    optimizer_: torch.optim.Optimizer
    _scaler: GradScaler | None = None

    def _new_scaler(self) -> GradScaler | None:
        backbone = self.module_.backbone
        if isinstance(backbone, PreparedBackbone) and backbone.precision == "float16":
            return GradScaler(torch.device(self.device).type)
        return None

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """Begin with a scale, if there is need of one."""
        super().on_train_begin(*args, **kwargs)  # type: ignore[misc]
        scaler = self._new_scaler()
        if scaler is not None:
            self._scaler = scaler

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        """Let go of the scale: it is no part of the trained net."""
        super().on_train_end(*args, **kwargs)  # type: ignore[misc]
        self.__dict__.pop("_scaler", None)

    def on_grad_computed(self, *args: Any, **kwargs: Any) -> None:
        """Gradients as they are, before callbacks see them."""
        if self._scaler is not None:
            self._scaler.unscale_(self.optimizer_)
        super().on_grad_computed(*args, **kwargs)  # type: ignore[misc]

    def _backward(self, loss: Tensor) -> None:
        """Accumulate the gradient of a loss."""
        (loss if self._scaler is None else self._scaler.scale(loss)).backward()

    def _step_optimizer(self, step_fn: Callable[[], Any]) -> None:
        if self._scaler is None:
            super()._step_optimizer(step_fn)  # type: ignore[misc]
            return
        step_fn()
        self._scaler.step(self.optimizer_)
        self._scaler.update()
