"""Training loop of the gradient-based learners."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...backbones import differentiated_twice
from ...training import (
    BaseEpisodicNet,
    EpisodeOutcome,
    EpisodeTensors,
    MetaBatch,
    apart,
    batch_norm_mode,
    check_finite_loss,
    in_parts,
    still_statistics,
)
from ._inner_loop import inner_loop
from ._module import BatchedModule, can_run_together, has_convolutions
from ._update_rule import Named

# Most tasks that run at once with task_chunk_size="auto".
_MOST_TASKS = 64


class SecondLevel(NamedTuple):
    """A chunk of tasks with the codes and features that the second level needs."""

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
        """Keep adapted parameters and features as constants, without their graph."""
        return cls(tasks, codes, cut, _constants(adapted), features.detach())

    @property
    def through_codes(self) -> Tensor:
        """Gradient of the query loss in the codes."""
        return torch.zeros_like(self.cut) if self.cut.grad is None else self.cut.grad


class GradientNet(BaseEpisodicNet):
    """skorch net that trains where adaptation starts, and how it steps.

    With theta_K(task) after the inner loop on the support rows, one step of the
    optimiser follows the gradient of the mean query loss ::

        1 / T sum_t L_q(theta_K(t))               outer="gradient"
        sum_k v_k 1 / T sum_t L_q(theta_k(t))     in the first `multi_step_epochs`

    or, with outer="reptile", the mean move ``theta - theta_K``, with support and
    query rows together in the inner loop. Gradients are accumulated by chunks of
    tasks.

    Parameters
    ----------
    module : AdaptedModule
        Network and update rule.
    n_steps : int, default=5
        Steps of the inner loop.
    first_order : bool, default=False
        Drop the dependence of the inner gradients on the parameters.
    outer : {"gradient", "reptile"}, default="gradient"
        Direction of the outer step.
    multi_step_epochs : int, default=0
        Epochs in which the loss after every inner step counts.
    task_chunk_size : int or "auto", default="auto"
        Tasks that run at once. "auto": one where a CPU convolves, up to 64
        elsewhere.
    recompute : bool, default=False
        Compute inner steps again in the backward pass instead of keeping them.
    **kwargs : dict
        Keywords of `BaseEpisodicNet` and `skorch.NeuralNet`.

    Notes
    -----
    What "auto" rests on: a second-order training step of 5 inner steps, 1 thread of
    a CPU, torch 2.13, medians in milliseconds. Conv4 with 32 filters, 1 x 28 x 28,
    16 tasks of 5 ways, 1 shot and 15 queries: 1918 one by one, 2067 in chunks of 4,
    3132 all at once. `MLP` of 1-40-40, 25 tasks of 10 support and 10 query rows: 166
    one by one, 60 in chunks of 5, 16 all at once.

    Examples
    --------
    >>> from torch import nn
    >>> from skcausalmeta.learners import SGDUpdate
    >>> from skcausalmeta.learners._maml._module import AdaptedModule
    >>> from skcausalmeta.learners._maml._net import GradientNet
    >>> module = AdaptedModule(nn.Linear(3, 4), 4, 2, SGDUpdate(), 5, 0.1)
    >>> GradientNet(module, n_steps=5).initialize().initialized_
    True
    """

    _remedy = "lower inner_lr or lr, take fewer inner_steps, or scale the rows"

    def __init__(
        self,
        module: nn.Module,
        *,
        n_steps: int = 5,
        first_order: bool = False,
        outer: str = "gradient",
        multi_step_epochs: int = 0,
        task_chunk_size: int | str = "auto",
        recompute: bool = False,
        **kwargs: Any,
    ) -> None:
        self.n_steps = n_steps
        self.first_order = first_order
        self.outer = outer
        self.multi_step_epochs = multi_step_epochs
        self.task_chunk_size = task_chunk_size
        self.recompute = recompute
        super().__init__(module, **kwargs)

    # -- steps -------------------------------------------------------------------------

    def _accumulate(self, batch: MetaBatch) -> Tensor:
        """Accumulate the outer direction over chunks; return the mean query loss."""
        hooked, total = self.module_.hooked, torch.zeros((), device=self.device)
        second_level: list[SecondLevel] | None = None
        if hooked.has_turn(self.history):
            second_level = []
        for tasks in self._task_chunks(batch):
            if self.outer == "reptile":
                loss = self._reptile(tasks, len(batch))
            else:
                loss = self._query_loss(tasks, second_level)
                self._scaled(loss / len(batch)).backward()
            total = total + loss.detach()
        loss = total / len(batch)
        if second_level is None:
            hooked.rest()
        else:
            check_finite_loss(loss, self.history, self._remedy)
            self._follow_second_level(second_level)
        return loss

    def _batch_loss(self, batch: MetaBatch) -> tuple[Tensor, float]:
        loss, hits = torch.zeros((), device=self.device), 0.0
        for tasks in self._task_chunks(batch):
            n_way = tasks[0].n_way
            targets = torch.stack([task.query_targets for task in tasks])
            (scores,) = self.query_scores(tasks, self.n_steps)
            loss = loss + self._loss(scores, targets, n_way)
            if n_way:
                correct = scores[..., :n_way].argmax(-1) == targets
                hits += float(correct.double().mean(-1).sum())
        return loss / len(batch), hits / len(batch)

    def _is_divisible(self) -> bool:
        return True

    def _set_training(self, training: bool = True) -> None:
        super()._set_training(training)
        # Layers that standardise the input keep the statistics fixed before training.
        if self.batch_norm == "running":
            for layer in self.module_.modules():
                if isinstance(layer, _BatchNorm) and not layer.affine:
                    layer.eval()

    # -- tasks -------------------------------------------------------------------------

    @contextmanager
    def _in_use(self) -> Iterator[GradientNet]:
        """Yield a net to predict with, whose module may be interrupted at any moment.

        Parameters take the place of others in a module of its own, never in that which
        was trained.
        """
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        # Compiled code stays where nothing in its layers is exchanged.
        compiled = self.batch_norm == "running" and self.module_.features_are_fixed
        twin.__dict__["module_"] = apart(self.module_, compiled=compiled)
        with torch.no_grad():
            twin._set_training(False)
            yield twin

    def adapted(
        self,
        support: Tensor,
        targets: Tensor,
        n_steps: int,
        n_way: int | None = None,
    ) -> tuple[Named, Tensor | None]:
        """Return the parameters adapted to one task and its code.

        Parameters
        ----------
        support : Tensor of shape (n, *sample_shape)
            Rows of the task.
        targets : Tensor of shape (n,)
            Class numbers, or real targets.
        n_steps : int
            Steps of the inner loop.
        n_way : int, default=None
            Number of classes. None: those that occur; 0 for real targets.

        Returns
        -------
        adapted : dict of str to Tensor
            Adapted in evaluation mode.
        code : Tensor of shape (1, n_code) or None
            None without a hook.
        """
        if n_way is None:
            n_way = 0 if targets.is_floating_point() else int(targets.max()) + 1
        task = EpisodeTensors(support, support[:0], targets, targets[:0], n_way)
        with self._in_use() as net:
            function, path = net._adaptation([task], n_steps, record=False)
        return {name: v.detach() for name, v in path[-1].items()}, function.codes

    def scores(
        self, parameters: Named, rows: Tensor, code: Tensor | None = None
    ) -> Tensor:
        """Return the scores (n, n_outputs) of rows under adapted parameters."""
        with self._in_use() as net, batch_norm_mode(net.module_, self.batch_norm):
            function = BatchedModule(net.module_, 1, code)
            return function.scores(parameters, net._inputs([rows]))[0]

    def query_scores(
        self, tasks: list[EpisodeTensors], n_steps: int, *, staged: bool = False
    ) -> list[Tensor]:
        """Return the query scores (n_tasks, n_query, n_outputs) after adaptation.

        Parameters
        ----------
        tasks : list of EpisodeTensors
            Tasks of one shape; their query targets are not used.
        n_steps : int
            Steps of the inner loop.
        staged : bool, default=False
            Before the first and after every step, not after the last alone.
        """
        with self._in_use() as net:
            function, path = net._adaptation(tasks, n_steps, record=False)
            with net._normalisation(len(tasks)):
                query = net._inputs([task.query for task in tasks])
                points = path if staged else path[-1:]
                return [function.scores(point, query) for point in points]

    def parts(self, n_tasks: int) -> Iterator[slice]:
        """Yield the places of tasks that run at once, of tasks of one shape."""
        return in_parts(n_tasks, self._chunk_size(n_tasks))

    def _task_chunks(self, batch: MetaBatch) -> Iterator[list[EpisodeTensors]]:
        for positions in batch.groups():
            for part in self.parts(len(positions)):
                yield [batch.tasks[k] for k in positions[part]]

    def _chunk_size(self, n_tasks: int) -> int:
        if not can_run_together(self.module_, self.batch_norm):
            return 1
        n_tasks = self.guard_.size(n_tasks)
        if self.task_chunk_size != "auto":
            return min(n_tasks, int(self.task_chunk_size))
        on_cpu = str(self.device).startswith("cpu")
        alone = on_cpu and has_convolutions(self.module_)
        return 1 if alone else min(n_tasks, _MOST_TASKS)

    def _query_loss(
        self, tasks: list[EpisodeTensors], second_level: list[SecondLevel] | None = None
    ) -> Tensor:
        """Return the sum over tasks of their query loss, with its graph.

        A `SecondLevel` of the tasks is appended to `second_level`.
        """
        cut: Tensor | None = None
        with self._normalisation(len(tasks)):
            support = self._inputs([task.support for task in tasks])
        codes = self._codes(tasks, support)
        if codes is not None:
            # The graph of the query loss ends here, so that chunks stay apart.
            cut = codes.detach().requires_grad_(second_level is not None)
        function, path = self._adaptation(
            tasks, self.n_steps, record=True, support=support, codes=cut
        )
        targets = torch.stack([task.query_targets for task in tasks])
        n_way = tasks[0].n_way
        with self._normalisation(len(tasks)):
            query = self._inputs([task.query for task in tasks])
            losses = []
            for point, weight in zip(path, self._step_weights(), strict=True):
                if weight:
                    features = function.features(point, query)
                    scores = function.outputs(point, features)
                    losses.append(weight * self._loss(scores, targets, n_way))
            if second_level is not None and codes is not None and cut is not None:
                part = SecondLevel.of(tasks, codes, cut, path[-1], features)
                second_level.append(part)
        return torch.stack(losses).sum()

    def _step_weights(self) -> list[float]:
        """Return the weights of the query loss before and after every inner step.

        Equal after all steps in the first epoch; all on the last step once the
        epochs that count every step are over.
        """
        epoch = len(self.history) - 1
        share = max(0.0, 1.0 - epoch / max(1, self.multi_step_epochs))
        if self.n_steps == 0 or not self.multi_step_epochs:
            share = 0.0
        early = share / max(1, self.n_steps)
        weights = [0.0, *[early] * self.n_steps][: self.n_steps + 1]
        weights[-1] += 1.0 - share
        return weights

    def _reptile(self, tasks: list[EpisodeTensors], n_tasks: int) -> Tensor:
        """Accumulate the mean move from the start; return the query loss after it."""
        whole = [_undivided(task) for task in tasks]
        function, path = self._adaptation(whole, self.n_steps, record=False)
        with torch.no_grad(), self._normalisation(len(tasks)):
            for name, parameter in self.module_.start().items():
                moves = parameter - path[-1][name]
                if len(tasks) > 1:
                    moves = moves.sum(0)
                _accumulate(parameter, moves / n_tasks)
            rows = self._inputs([task.query for task in whole])
            scores = function.scores(path[-1], rows)
            targets = torch.stack([task.query_targets for task in whole])
            return self._loss(scores, targets, tasks[0].n_way)

    def _adaptation(
        self,
        tasks: list[EpisodeTensors],
        n_steps: int,
        *,
        record: bool,
        support: Tensor | None = None,
        codes: Tensor | None = None,
    ) -> tuple[BatchedModule, list[Named]]:
        """Return the tasks as functions of parameters, and the path of these."""
        targets = torch.stack([task.support_targets for task in tasks])
        n_way = tasks[0].n_way
        if support is None:
            with self._normalisation(len(tasks)):
                support = self._inputs([task.support for task in tasks])
            if self.module_.hooked.is_active:
                codes = self._codes(tasks, support)
        function = BatchedModule(self.module_, len(tasks), codes)
        second_order = record and not self.first_order
        twice = differentiated_twice if second_order else nullcontext

        def loss(parameters: Named) -> Tensor:
            # Inside, because it may run again in the backward pass.
            with self._normalisation(len(tasks)), twice():
                scores = function.scores(parameters, support)
            return self._loss(scores, targets, n_way)

        path = inner_loop(
            loss,
            function.parameters(),
            self.module_.rule if len(tasks) == 1 else function,
            n_steps,
            first_order=self.first_order,
            record=record,
            # Steps on features keep little, and share the graph of the features.
            recompute=self.recompute and not self.module_.features_are_fixed,
        )
        return function, path

    def _inputs(self, parts: list[Tensor]) -> Tensor:
        """Return the rows of tasks, or features if the backbone is not adapted."""
        if not self.module_.features_are_fixed:
            return torch.stack(parts)
        keep = torch.is_grad_enabled() and not self.frozen_
        with torch.set_grad_enabled(keep):
            return torch.stack([self.module_(rows) for rows in parts])

    def _normalisation(self, n_tasks: int) -> Any:
        if self.batch_norm == "running":
            return nullcontext()
        many = n_tasks > 1
        return batch_norm_mode(self.module_, self.batch_norm, vectorized=many)

    def _loss(self, scores: Tensor, targets: Tensor, n_way: int) -> Tensor:
        """Return the sum over tasks of the mean loss over their rows."""
        if n_way:
            scores = scores[..., :n_way].flatten(0, 1)
            return len(targets) * self.get_loss(scores, targets.flatten())
        return len(targets) * self.get_loss(scores[..., 0], targets.to(scores.dtype))

    # -- second level ------------------------------------------------------------------

    def _follow_second_level(self, parts: list[SecondLevel]) -> None:
        """Follow the extra loss, and the query loss through the codes."""
        through_codes = torch.cat([part.through_codes for part in parts])
        codes = torch.cat([part.codes for part in parts])
        episodes = [self._outcome_of(part) for part in parts]
        self.module_.hooked.follow_extra_loss(
            self.history, codes, episodes, through_codes
        )

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
        """Return the codes of the tasks (n_tasks, n_code), theta a constant."""
        hooked, features = self.module_.hooked, support
        if not hooked.is_active:
            return None
        if not self.module_.features_are_fixed:
            with torch.no_grad(), still_statistics(self.module_):
                features = self._start_features(support)
        targets = torch.stack([task.support_targets for task in tasks])
        return hooked.task_code(features, targets, tasks[0].n_way)

    def _start_features(self, rows: Tensor) -> Tensor:
        """Return features (n_tasks, n, d) at the start, where tasks share theta."""
        alone = self.batch_norm == "episode" or not can_run_together(
            self.module_, self.batch_norm
        )
        if not alone:
            return self.module_(rows.flatten(0, 1)).unflatten(0, rows.shape[:2])
        with batch_norm_mode(self.module_, self.batch_norm):
            return torch.stack([self.module_(task) for task in rows])


def _undivided(task: EpisodeTensors) -> EpisodeTensors:
    """Return a task with support and query rows together, as both."""
    rows = torch.cat([task.support, task.query])
    targets = torch.cat([task.support_targets, task.query_targets])
    return EpisodeTensors(rows, rows, targets, targets, task.n_way)


def _accumulate(parameter: Tensor, gradient: Tensor) -> None:
    # Left where a backward pass would, for the optimiser to subtract.
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    parameter.grad += gradient


def _constants(named: Named) -> Named:
    return {name: value.detach() for name, value in named.items()}


def _of_classes(scores: Tensor, n_way: int) -> Tensor:
    return scores[..., :n_way] if n_way else scores[..., 0]
