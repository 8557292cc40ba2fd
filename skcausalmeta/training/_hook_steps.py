"""The training step of a hook."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ._episode_hook import EpisodeHook, EpisodeOutcome

# Names in the history of a net, so that they collide with none of skorch.
FACT_PREFIX = "hook_"


class HookStepsMixin:
    """Extra losses of a hook, for nets whose module has one."""

    history: Any
    module_: Any

    @property
    def _hook(self) -> EpisodeHook | None:
        return self.module_.hook

    def _hook_has_turn(self) -> bool:
        """Tell whether the parameters of the hook move in this step."""
        hook = self._hook
        if hook is None or not hook.every:
            return False
        epoch = self.history[-1]["batches"] if len(self.history) else [{}]
        return (len(epoch) - 1) % hook.every == 0

    def _follow_extra_loss(
        self,
        codes: Tensor,
        episodes: Sequence[EpisodeOutcome],
        through_codes: Tensor | None = None,
    ) -> None:
        """Add the gradient of the extra loss to that of the hook's parameters.

        `through_codes` is the gradient of the query loss in the codes, where the
        graph of the query loss ends there.
        """
        hook = self._hook
        if hook is None:
            return
        loss, facts = hook.extra_loss(codes, episodes)
        for name, value in facts.items():
            self.history.record_batch(FACT_PREFIX + name, value)
        outputs, weights = [], []
        if loss is not None and loss.requires_grad:
            outputs.append(loss)
            weights.append(torch.ones_like(loss))
        if through_codes is not None and codes.requires_grad:
            outputs.append(codes)
            weights.append(through_codes)
        parameters = [p for p in hook.parameters() if p.requires_grad]
        if not outputs or not parameters:
            return
        gradients = torch.autograd.grad(
            outputs, parameters, weights, retain_graph=True, allow_unused=True
        )
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                parameter.grad = (
                    gradient if parameter.grad is None else parameter.grad + gradient
                )

    def _rest_hook(self) -> None:
        """Keep the optimiser away from the hook in this step."""
        if self._hook is not None:
            for parameter in self._hook.parameters():
                parameter.grad = None
