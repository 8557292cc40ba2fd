"""What a hook needs of tasks that adapt by gradient steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...training import (
    EpisodeHook,
    EpisodeOutcome,
    EpisodeTensors,
    batch_norm_mode,
    still_statistics,
)
from ._batched_module import BatchedModule, can_run_together
from ._update_rule import Named


class SecondLevel(NamedTuple):
    """What the second level needs of a chunk of tasks."""

    tasks: list[EpisodeTensors]
    codes: Tensor  # with the graph to the hook
    cut: Tensor  # the same values, where the graph of the query loss ends
    adapted: Named
    features: Tensor  # of the query rows under the adapted parameters

    @classmethod
    def of(
        cls,
        tasks: list[EpisodeTensors],
        codes: Tensor,
        cut: Tensor,
        adapted: Named,
        features: Tensor,
    ) -> SecondLevel:
        """Adapted parameters and features as constants; their graph is let go."""
        return cls(tasks, codes, cut, _constants(adapted), features.detach())

    @property
    def through_codes(self) -> Tensor:
        """Gradient of the query loss in the codes."""
        return torch.zeros_like(self.cut) if self.cut.grad is None else self.cut.grad


class SecondLevelMixin:
    """Codes, outcomes and swapped tasks for the hook of a gradient-based net."""

    module_: Any
    n_steps: int
    batch_norm: str
    _hook: EpisodeHook | None
    _adaptation: Callable[..., tuple[BatchedModule, list[Named]]]
    _inputs: Callable[[list[Tensor]], Tensor]
    _loss: Callable[[Tensor, Tensor, int], Tensor]
    _normalisation: Callable[[int], Any]
    _follow_extra_loss: Callable[..., None]

    def _second_level(self, parts: list[SecondLevel]) -> None:
        """The gradient of the extra loss, and of the query loss through the codes."""
        through_codes = torch.cat([part.through_codes for part in parts])
        codes = torch.cat([part.codes for part in parts])
        episodes = [self._outcome_of(part) for part in parts]
        self._follow_extra_loss(codes, episodes, through_codes)

    def _outcome_of(self, part: SecondLevel) -> EpisodeOutcome:
        tasks, n_way = part.tasks, part.tasks[0].n_way

        def loss(scores: Tensor, targets: Tensor) -> Tensor:
            if not n_way:
                scores = scores[..., None]
            return self._loss(scores, targets, n_way) / len(targets)

        def swap(n_tasks: int) -> tuple[Tensor, Tensor]:
            turned = [task.swapped() for task in tasks[:n_tasks]]
            with still_statistics(self.module_):
                with torch.no_grad(), self._normalisation(n_tasks):
                    support = self._inputs([task.support for task in turned])
                codes = self._codes(turned, support)
                _, path = self._adaptation(
                    turned,
                    self.n_steps,
                    record=False,
                    support=support,
                    codes=None if codes is None else codes.detach(),
                )
                function = BatchedModule(self.module_, n_tasks, codes)
                with self._normalisation(n_tasks):
                    with torch.no_grad():
                        rows = self._inputs([task.query for task in turned])
                        features = function.features(path[-1], rows)
                    scores = function.outputs(_constants(path[-1]), features)
            targets = torch.stack([task.query_targets for task in turned])
            return _of_classes(scores, n_way), targets

        function = BatchedModule(self.module_, len(tasks), part.codes)
        scores = function.outputs(part.adapted, part.features)
        targets = torch.stack([task.query_targets for task in tasks])
        return EpisodeOutcome(_of_classes(scores, n_way), targets, loss, swap)

    def _codes(self, tasks: list[EpisodeTensors], support: Tensor) -> Tensor | None:
        """What the hook keeps of the tasks (n_tasks, n_code), theta a constant."""
        if self._hook is None:
            return None
        features = support
        if not self.module_.features_are_fixed:
            with torch.no_grad(), still_statistics(self.module_):
                features = self._start_features(support)
        targets = torch.stack([task.support_targets for task in tasks])
        return self._hook.task_code(features.detach(), targets, tasks[0].n_way)

    def _start_features(self, rows: Tensor) -> Tensor:
        """Features (n_tasks, n, d) at the start, where all tasks share the backbone."""
        alone = self.batch_norm == "episode" or not can_run_together(
            self.module_, self.batch_norm
        )
        if not alone:
            return self.module_(rows.flatten(0, 1)).unflatten(0, rows.shape[:2])
        with batch_norm_mode(self.module_, self.batch_norm):
            return torch.stack([self.module_(task) for task in rows])


def _constants(named: Named) -> Named:
    return {name: value.detach() for name, value in named.items()}


def _of_classes(scores: Tensor, n_way: int) -> Tensor:
    return scores[..., :n_way] if n_way else scores[..., 0]
