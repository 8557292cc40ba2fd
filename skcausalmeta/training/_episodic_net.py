"""Training loop of the learners that solve a head in every task."""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from ..backbones import MLPModule, PreparedBackbone
from ._base_net import BaseEpisodicNet, check_features, has_batch_norm
from ._batch_norm import batch_norm_mode
from ._class_middle import class_middle
from ._episode_hook import EpisodeOutcome, HookedFeatures
from ._stream import EpisodeTensors, MetaBatch, in_parts, leading_rows

_SPREAD = 1.0
_LEAST, _MOST = 1e-3, 1e3
# Values of tasks that pass through a perceptron on a CPU together.
_SMALL = 2**16


class EpisodicModule(nn.Module):
    """A backbone and the learned scale of the logits.

    Parameters
    ----------
    backbone : torch.nn.Module
        Maps samples to features (n, d).
    hooked : HookedFeatures, default=None
        Stands between the backbone and the head. None: nothing does.

    Examples
    --------
    >>> from torch import nn
    >>> from skcausalmeta.training import EpisodicModule
    >>> EpisodicModule(nn.Linear(3, 2)).scale
    1.0
    """

    def __init__(
        self, backbone: nn.Module, hooked: HookedFeatures | None = None
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.hooked = HookedFeatures() if hooked is None else hooked
        self.log_scale = nn.Parameter(torch.zeros(()))

    def forward(self, rows: Tensor) -> Tensor:
        """Return the features of rows."""
        return self.backbone(rows)

    @property
    def scale(self) -> float:
        """Scale of the logits."""
        return float(self.log_scale.detach().exp())


class TaskGroup:
    """Tasks of one shape with their features."""

    def __init__(
        self, tasks: list[EpisodeTensors], support: Tensor, query: Tensor
    ) -> None:
        self.tasks, self.support = tasks, support
        undivided = tasks[0].query is tasks[0].support
        self.query = support if undivided else query
        self.support_targets = torch.stack([task.support_targets for task in tasks])
        self.query_targets = torch.stack([task.query_targets for task in tasks])
        self.n_way = tasks[0].n_way
        self.support_scores = _stacked([task.support_scores for task in tasks])
        self.query_scores = _stacked([task.query_scores for task in tasks])

    def swapped(self, n_tasks: int) -> TaskGroup:
        """Return the first tasks with support and query exchanged, as constants."""
        tasks = [task.swapped() for task in self.tasks[:n_tasks]]
        rows = leading_rows(
            self.query_targets[:n_tasks], self.n_way, self.support.shape[1]
        )
        index = rows[..., None].expand(-1, -1, self.query.shape[-1])
        query = self.query.detach()[:n_tasks].gather(1, index)
        return TaskGroup(tasks, query, self.support.detach()[:n_tasks])


def _stacked(parts: list[Tensor | None]) -> Any:
    """One tensor of the known scores of all tasks, None where there are none."""
    return None if parts[0] is None else torch.stack(parts)  # type: ignore[arg-type]


class HeadNet(BaseEpisodicNet):
    """Net whose tasks are solved by a head on the features of a backbone.

    The backbone runs on micro-batches of tasks, the heads of all tasks are
    solved at once, and one backward pass runs through both, so the gradient
    does not depend on the size of the micro-batches. Layers of batch norm
    always see one task at a time. A hook of the module (`EpisodeHook`) transforms
    the features of every task, and its parameters follow its extra loss as well.

    Parameters
    ----------
    module : torch.nn.Module
        As for `BaseEpisodicNet`.
    head : object
        Solves tasks, as the subclass says.
    head_tol : float, default=1e-3
        Relative gap to which heads are solved in training.
    micro_batch : int or "auto", default="auto"
        Tasks in one pass of the backbone. "auto": 1 on CPU, all on other devices,
        and small ones on CPU if the backbone is an `MLPModule`.
    **kwargs : dict
        Keywords of `BaseEpisodicNet`.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        head: Any,
        head_tol: float = 1e-3,
        micro_batch: int | str = "auto",
        **kwargs: Any,
    ) -> None:
        self.head = head
        self.head_tol = head_tol
        self.micro_batch = micro_batch
        super().__init__(module, **kwargs)

    @abstractmethod
    def _head_scores(
        self, support: Tensor, targets: Tensor, query: Tensor, n_way: int
    ) -> Tensor:
        """Return the query scores of heads solved on support features."""

    @abstractmethod
    def _mean_loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Return the mean query loss of tasks."""

    def _is_divisible(self) -> bool:
        return not self.module_.hooked.is_active  # it sees all tasks of a step at once

    def _accumulate(self, batch: MetaBatch) -> Tensor:
        turn = self.module_.hooked.has_turn(self.history)
        total = torch.zeros((), device=self.device)
        for part in self.guard_.parts(batch):
            loss, _ = self._batch_loss(part, second_level=turn)
            self._scaled(loss).backward()
            total = total + loss.detach()
        if not turn:
            self.module_.hooked.rest()
        return total

    def _batch_loss(
        self, batch: MetaBatch, *, second_level: bool = False
    ) -> tuple[Tensor, float]:
        """Return the mean loss of tasks and their accuracy; follow an extra loss."""
        supports, queries = self._task_features(batch.tasks)
        check_features([*supports, *queries], self.history, self._remedy)
        hooked, losses, hits = self.module_.hooked, [], 0.0
        codes: list[Tensor] = []
        episodes: list[EpisodeOutcome] = []
        for positions in batch.groups():
            group = self.group(batch, supports, queries, positions)
            code = hooked.task_code(group.support, group.support_targets, group.n_way)
            scores = self._scores(group, code)
            loss = self._mean_loss(scores, group.query_targets)
            losses.append(loss * len(positions))
            if group.n_way:
                correct = scores.detach().argmax(-1) == group.query_targets
                hits += float(correct.double().mean()) * len(positions)
            if code is not None and second_level:
                codes.append(code)
                episodes.append(self._outcome(group, scores))
        if codes:
            hooked.follow_extra_loss(self.history, torch.cat(codes), episodes)
        return torch.stack(losses).sum() / len(batch), hits / len(batch)

    def group(
        self,
        batch: MetaBatch,
        supports: list[Tensor],
        queries: list[Tensor],
        positions: list[int],
    ) -> TaskGroup:
        """Return the tasks at some positions, which have one shape."""
        return TaskGroup(
            [batch.tasks[k] for k in positions],
            torch.stack([supports[k] for k in positions]),
            torch.stack([queries[k] for k in positions]),
        )

    def _scores(self, group: TaskGroup, code: Tensor | None) -> Tensor:
        """Return the query scores of tasks of one shape."""
        support = self.module_.hooked.transform(group.support, code)
        query = support
        if group.query is not group.support:
            query = self.module_.hooked.transform(group.query, code)
        return self._head_scores(
            support.double(), group.support_targets, query.double(), group.n_way
        )

    def _outcome(self, group: TaskGroup, scores: Tensor) -> EpisodeOutcome:
        def swap(n_tasks: int) -> tuple[Tensor, Tensor]:
            turned = group.swapped(n_tasks)
            code = self.module_.hooked.task_code(
                turned.support, turned.support_targets, turned.n_way
            )
            return self._scores(turned, code), turned.query_targets

        divided = group.tasks[0].query is not group.tasks[0].support
        return EpisodeOutcome(
            scores, group.query_targets, self._mean_loss, swap if divided else None
        )

    def _task_features(
        self, tasks: list[EpisodeTensors]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return the support and the query features of every task."""
        supports: list[Tensor] = []
        queries: list[Tensor] = []
        apart = self.batch_norm == "episode"
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen_):
            for chunk in self._chunks(tasks):
                if all(task.query is task.support for task in chunk):
                    one = two = self._run([task.support for task in chunk])
                elif apart:
                    one = self._run([task.support for task in chunk])
                    two = self._run([task.query for task in chunk])
                else:
                    both = self._run([part for t in chunk for part in t[:2]])
                    one, two = both[::2], both[1::2]
                supports += one
                queries += two
        return supports, queries

    def _goes_by_rows(self, tasks: list[EpisodeTensors]) -> bool:
        """Tell whether small tasks may pass together: the calls are what takes time.

        A perceptron treats rows one by one, and drops units of each by themselves.
        """
        if type(self.module_.backbone) not in (MLPModule, nn.Identity):
            return False
        n_values = sum(task.support.numel() + task.query.numel() for task in tasks)
        return n_values <= _SMALL

    def _run(self, parts: list[Tensor]) -> list[Tensor]:
        features = BaseEpisodicNet.features(self, torch.cat(parts))  # not standardised
        return list(features.split(list(map(len, parts))))

    def _chunks(self, tasks: list[EpisodeTensors]) -> Iterator[list[EpisodeTensors]]:
        size = self.micro_batch
        if has_batch_norm(self.module_.backbone):
            size = 1
        elif size == "auto":
            size = len(tasks)
            if str(self.device).startswith("cpu") and not self._goes_by_rows(tasks):
                size = 1
        for part in in_parts(len(tasks), int(size)):
            yield tasks[part]


class EpisodicNet(HeadNet):
    """skorch net that trains a backbone under heads that classify.

    One step minimises the mean over tasks of the query loss ::

        1 / T sum_t cross_entropy( scale * head(support_t)(query_t), labels_t )

    Parameters
    ----------
    module : EpisodicModule
        Backbone and logit scale.
    head : object
        Offers ``episode_logits(support_features, support_targets,
        query_features, n_classes, tol=...)``.
    center : bool, default=True
        Subtract the mean of a task's class means from all its features.
    logit_scale : float or "auto", default="auto"
        Scale of the logits that training begins with, > 0. "auto": that of
        `first_scale` on a meta-batch which is drawn before the first step.
    **kwargs : dict
        Keywords of `HeadNet`, `BaseEpisodicNet` and `skorch.NeuralNet`.

    Examples
    --------
    >>> from torch import nn
    >>> from skcausalmeta.heads import GroupLassoSVC
    >>> from skcausalmeta.training import EpisodicModule, EpisodicNet
    >>> module = EpisodicModule(nn.Linear(3, 2))
    >>> net = EpisodicNet(module, head=GroupLassoSVC(), logit_scale=10.0).initialize()
    >>> print(f"{net.module_.scale:.3f}")
    10.000
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        head: Any,
        center: bool = True,
        logit_scale: float | str = "auto",
        **kwargs: Any,
    ) -> None:
        self.center = center
        self.logit_scale = logit_scale
        super().__init__(module, head=head, **kwargs)

    def initialize_module(self) -> EpisodicNet:
        """Create the module, with the scale that was given."""
        super().initialize_module()
        if self.logit_scale != "auto":
            given = torch.tensor(float(self.logit_scale)).log()
            self.module_.log_scale.data.copy_(given)
        return self

    def on_train_begin(
        self, net: Any, X: Any = None, y: Any = None, **kwargs: Any
    ) -> None:
        """Set the first scale from a meta-batch, before any callback begins."""
        super().on_train_begin(net, X=X, y=y, **kwargs)
        if self.logit_scale != "auto":
            return
        scale = first_scale(
            self.module_.backbone,
            self.head,
            next(iter(X[0])),
            training=not self.frozen_,
            batch_norm=self.batch_norm,
            center=self.center,
            tol=self.head_tol,
        )
        self.module_.log_scale.data.fill_(math.log(scale))

    def _head_scores(
        self, support: Tensor, targets: Tensor, query: Tensor, n_way: int
    ) -> Tensor:
        """Return the scaled logits (n_tasks, n_query, n_way) of the head."""
        logits = _head_logits(
            self.head, support, targets, query, n_way, self.center, self.head_tol
        )
        return self.module_.log_scale.exp() * logits

    def _mean_loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        return self.get_loss(scores.flatten(0, 1), targets.flatten())


def _head_logits(
    head: Any,
    support: Tensor,
    targets: Tensor,
    query: Tensor,
    n_way: int,
    center: bool,
    tol: float,
) -> Tensor:
    """Return the logits (n_tasks, n_query, n_way) of heads, not scaled."""
    if center:
        middle = class_middle(support, targets)
        support, query = support - middle, query - middle
    logits: Tensor = head.episode_logits(support, targets, query, n_way, tol=tol)
    return logits


def first_scale(
    backbone: torch.nn.Module,
    head: Any,
    batch: MetaBatch,
    *,
    training: bool = True,
    batch_norm: str = "running",
    center: bool = True,
    tol: float = 1e-3,
) -> float:
    """Return the scale at which logits of an untrained backbone vary by about 1.

    The logits of heads differ by orders of magnitude: squared distances grow with the
    number of features, margins of a support vector machine stay below 1 and shrink
    with its penalty. With the scale ::

        1 / std( l_qk - mean_k l_qk )

    over all query rows q and classes k of the first tasks, the cross-entropy starts
    neither flat nor saturated for any of them. A hook is not asked:
    what it does to features begins close to nothing.

    Parameters
    ----------
    backbone : torch.nn.Module
        Not trained; stays as it is.
    head : object
        Offers ``episode_logits``, as for `EpisodicNet`.
    batch : MetaBatch
        Tasks.
    training : bool, default=True
        Whether the backbone will be trained.
    batch_norm : {"running", "episode"}, default="running"
        Statistics of batch norm.
    center : bool, default=True
        Whether the mean of the class means of the support rows is subtracted.
    tol : float, default=1e-3
        Relative gap of the heads.

    Returns
    -------
    float
        Between 0.001 and 1000.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skcausalmeta.heads import PrototypeHead
    >>> from skcausalmeta.training import EpisodeTensors, MetaBatch, first_scale
    >>> rows, labels = torch.eye(2), torch.arange(2)
    >>> batch = MetaBatch([EpisodeTensors(rows, rows, labels, labels, 2)])
    >>> print(first_scale(nn.Identity(), PrototypeHead(), batch))
    1.0
    """
    if isinstance(backbone, PreparedBackbone):  # one pass is not worth compiling
        backbone = backbone.backbone
    # Statistics of batch norm are updated in a copy.
    module = copy.deepcopy(backbone).to(batch.tasks[0].support.device).train(training)
    running = batch_norm == "running"
    mode = nullcontext() if running else batch_norm_mode(module, batch_norm)
    with torch.no_grad(), mode:
        logits = [_task_logits(module, head, task, center, tol) for task in batch.tasks]
    spread = torch.cat([(one - one.mean(-1, keepdim=True)).flatten() for one in logits])
    size = float(spread.square().mean().sqrt())
    if not math.isfinite(size) or size == 0.0:
        return 1.0
    return min(max(_SPREAD / size, _LEAST), _MOST)


def _task_logits(
    module: torch.nn.Module, head: Any, task: EpisodeTensors, center: bool, tol: float
) -> Tensor:
    features = module(torch.cat([task.support, task.query])).double()
    if not features.isfinite().all():  # training will say so
        return features.new_full((1, 1), torch.nan)
    support, query = features[None].split([len(task.support), len(task.query)], dim=1)
    targets = task.support_targets[None]
    return _head_logits(head, support, targets, query, task.n_way, center, tol)[0]
