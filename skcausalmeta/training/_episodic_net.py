"""Training loop over episodes, on skorch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import EpochTimer, PassthroughScoring
from torch import Tensor, nn

from ..exceptions import InvalidInputError
from ._batch_norm import batch_norm_mode, has_batch_norm
from ._episode_hook import EpisodeHook, EpisodeOutcome
from ._hook_steps import HookStepsMixin
from ._logit_scale import head_logits
from ._loss_scaling import LossScalingMixin
from ._processes import Processes
from ._step_guard import StepGuardMixin
from ._stream import EpisodeStream, EpisodeTensors, MetaBatch, leading_rows


class EpisodicModule(nn.Module):
    """A backbone and the learned scale of the logits.

    Parameters
    ----------
    backbone : torch.nn.Module
        Maps samples to features (n, d).
    logit_scale : float, default=1.0
        First value of the scale, > 0; its logarithm is learned.
    hook : EpisodeHook, default=None
        Stands between the backbone and the head; built.

    Examples
    --------
    >>> from torch import nn
    >>> from skcausalmeta.training import EpisodicModule
    >>> print(f"{EpisodicModule(nn.Linear(3, 2), logit_scale=10.0).scale:.3f}")
    10.000
    """

    def __init__(
        self,
        backbone: nn.Module,
        logit_scale: float = 1.0,
        hook: EpisodeHook | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.hook = hook
        self.log_scale = nn.Parameter(torch.tensor(float(logit_scale)).log())

    def forward(self, rows: Tensor) -> Tensor:
        """Features of rows."""
        return self.backbone(rows)

    @property
    def scale(self) -> float:
        """Scale of the logits."""
        return float(self.log_scale.detach().exp())


class _Group:
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

    def swapped(self, n_tasks: int) -> _Group:
        """The first tasks with support and query in each other's role, as constants."""
        tasks = [task.swapped() for task in self.tasks[:n_tasks]]
        rows = leading_rows(
            self.query_targets[:n_tasks], self.n_way, self.support.shape[1]
        )
        index = rows[..., None].expand(-1, -1, self.query.shape[-1])
        query = self.query.detach()[:n_tasks].gather(1, index)
        return _Group(tasks, query, self.support.detach()[:n_tasks])


class EpisodicNet(StepGuardMixin, HookStepsMixin, LossScalingMixin, NeuralNet):
    """skorch net that trains on meta-batches of episodes.

    One step minimises the mean over tasks of the query loss ::

        1 / T sum_t cross_entropy( scale * head(support_t)(query_t), labels_t )

    The backbone runs on micro-batches of tasks, the heads of all tasks are
    solved at once, and one backward pass runs through both, so the gradient
    does not depend on the size of the micro-batches. Layers of batch norm
    always see one task at a time. A hook of the module (`EpisodeHook`) transforms
    the features of every task, and its parameters follow its extra loss as well.

    Parameters
    ----------
    module : EpisodicModule
        Backbone and logit scale.
    head : object
        Offers ``episode_logits(support_features, support_targets,
        query_features, n_classes, tol=...)``.
    criterion : type, default=torch.nn.CrossEntropyLoss
        Query loss on scaled logits.
    head_tol : float, default=1e-3
        Relative gap to which heads are solved in training.
    batch_norm : {"running", "episode"}, default="running"
        "running": batch statistics of the task in training, running averages in
        prediction. "episode": statistics of the rows given together, support
        and query apart, in training and in prediction.
    micro_batch : int or "auto", default="auto"
        Tasks in one pass of the backbone. "auto": 1 on CPU, all on other
        devices.
    center : bool, default=True
        Subtract the mean support feature of a task from all its features.
    frozen : bool, default=False
        Run the backbone in evaluation mode and leave its weights alone.
    accelerate : bool, default=False
        Share the tasks of a step with the other processes of ``accelerate launch``
        or ``torchrun``.
        The steps are those of one process. Not with a hook or standardised codes.
    **kwargs : dict
        Keywords of `skorch.NeuralNet`.

    Examples
    --------
    >>> from torch import nn
    >>> from skcausalmeta.heads import GroupLassoSVC
    >>> from skcausalmeta.training import EpisodicModule, EpisodicNet
    >>> module = EpisodicModule(nn.Linear(3, 2))
    >>> net = EpisodicNet(module, head=GroupLassoSVC()).initialize()
    >>> net.initialized_
    True
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        head: Any,
        criterion: type[nn.Module] = nn.CrossEntropyLoss,
        head_tol: float = 1e-3,
        batch_norm: str = "running",
        micro_batch: int | str = "auto",
        center: bool = True,
        frozen: bool = False,
        accelerate: bool = False,
        **kwargs: Any,
    ) -> None:
        self.head = head
        self.head_tol = head_tol
        self.batch_norm = batch_norm
        self.micro_batch = micro_batch
        self.center = center
        self.frozen = frozen
        self.accelerate = accelerate
        super().__init__(module, criterion=criterion, **kwargs)

    @property
    def _default_callbacks(self) -> list[tuple[str, Any]]:
        return [
            ("epoch_timer", EpochTimer()),
            ("train_loss", PassthroughScoring("train_loss", on_train=True)),
            ("valid_loss", PassthroughScoring("valid_loss")),
            (
                "valid_accuracy",
                PassthroughScoring("valid_accuracy", lower_is_better=False),
            ),
        ]

    processes_ = Processes()

    # -- skorch steps ---------------------------------------------------------------

    def get_split_datasets(self, X: Any, y: Any = None, **fit_params: Any) -> Any:
        """Streams of episodes come ready: (training, validation or None)."""
        if self.accelerate:
            self._share(X[0])
        return X

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        """Processes part; what was learned is the same in all of them."""
        super().on_train_end(*args, **kwargs)
        self.__dict__.pop("processes_", None)

    def _share(self, stream: EpisodeStream) -> None:
        self.processes_ = Processes.launched(self.device)
        whole = self.module_.hook is not None or not self._is_divisible()
        if whole and self.processes_.number > 1:
            raise InvalidInputError(
                "accelerate=True divides the tasks of a step, which a hook and "
                "normalize_codes=True see together. Got one of them; leave it out or "
                "train in one process."
            )
        self.processes_.check_start(self.module_)
        stream.share(self.processes_.rank, self.processes_.number)

    def get_iterator(self, dataset: EpisodeStream, training: bool = False) -> Any:
        """A stream is its own iterator."""
        return dataset

    def check_data(self, X: Any, y: Any = None) -> None:
        """Streams need no check."""

    def train_step_single(self, batch: MetaBatch, **fit_params: Any) -> dict[str, Any]:
        """Gradient of the mean query loss of the tasks."""
        self._set_training(True)
        turn = self._hook_has_turn()
        total = torch.zeros((), device=self.device)
        before = self.processes_.statistics(self.module_)
        for part in self._parts(batch):
            loss, _ = self._batch_loss(part, second_level=turn)
            self._backward(loss)
            total = total + loss.detach()
        if not turn:
            self._rest_hook()
        total = self.processes_.merge(self.module_, before, total)
        return {"loss": total, "y_pred": None}

    def validation_step(self, batch: MetaBatch, **fit_params: Any) -> dict[str, Any]:
        """Mean query loss and accuracy of held-out tasks."""
        self._set_training(False)
        with torch.no_grad():
            loss, accuracy = self._batch_loss(batch)
        self.history.record_batch("valid_accuracy", accuracy)
        return {"loss": loss, "y_pred": None}

    def _set_training(self, training: bool = True) -> None:
        super()._set_training(training)
        if self.frozen:
            self.module_.backbone.eval()

    # -- episodes --------------------------------------------------------------------

    def features(self, rows: Tensor) -> Tensor:
        """Features of rows (n, ...) as the module is, (n, d)."""
        return self._backbone_features(rows)

    def _backbone_features(self, rows: Tensor) -> Tensor:
        with batch_norm_mode(self.module_, self.batch_norm):
            return self.module_(rows)

    def _batch_loss(
        self, batch: MetaBatch, *, second_level: bool = False
    ) -> tuple[Tensor, float]:
        """Mean loss of the tasks and their mean score."""
        supports, queries = self._task_features(batch.tasks)
        self._check_features([*supports, *queries])
        losses, scores = [], 0.0
        codes: list[Tensor] = []
        episodes: list[EpisodeOutcome] = []
        for positions in batch.groups():
            group = _Group(
                [batch.tasks[k] for k in positions],
                torch.stack([supports[k] for k in positions]),
                torch.stack([queries[k] for k in positions]),
            )
            code = self._code(group.support, group.support_targets, group.n_way)
            found = self._scores(group, code)
            loss = self._mean_loss(found, group.query_targets)
            losses.append(loss * len(positions))
            scores += self._score(found, group.query_targets) * len(positions)
            if code is not None and second_level:
                codes.append(code)
                episodes.append(self._outcome(group, found))
        if codes:
            self._follow_extra_loss(torch.cat(codes), episodes)
        return torch.stack(losses).sum() / len(batch), scores / len(batch)

    def _code(self, support: Tensor, targets: Tensor, n_way: int) -> Tensor | None:
        """What the hook keeps of tasks, given their support features."""
        if self._hook is None:
            return None
        return self._hook.task_code(support.detach(), targets, n_way)

    def _scores(self, group: _Group, code: Tensor | None) -> Tensor:
        """Query scores of tasks of one shape."""
        support, query = group.support, group.query
        if self._hook is not None and code is not None:
            support = self._hook.transform(support, code)
            undivided = group.query is group.support
            query = support if undivided else self._hook.transform(query, code)
        return self._head_scores(
            support.double(), group.support_targets, query.double(), group.n_way
        )

    def _head_scores(
        self, support: Tensor, targets: Tensor, query: Tensor, n_way: int
    ) -> Tensor:
        """Scaled logits (n_tasks, n_query, n_way) of the head."""
        logits = head_logits(
            self.head,
            support,
            targets,
            query,
            n_way,
            center=self.center,
            tol=self.head_tol,
        )
        return self.module_.log_scale.exp() * logits

    def _mean_loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        return self.get_loss(scores.flatten(0, 1), targets.flatten())

    def _score(self, scores: Tensor, targets: Tensor) -> float:
        return float((scores.detach().argmax(-1) == targets).double().mean())

    def _outcome(self, group: _Group, scores: Tensor) -> EpisodeOutcome:
        def swap(n_tasks: int) -> tuple[Tensor, Tensor]:
            turned = group.swapped(n_tasks)
            code = self._code(turned.support, turned.support_targets, turned.n_way)
            return self._scores(turned, code), turned.query_targets

        divided = group.tasks[0].query is not group.tasks[0].support
        return EpisodeOutcome(
            scores, group.query_targets, self._mean_loss, swap if divided else None
        )

    def _task_features(
        self, tasks: list[EpisodeTensors]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Support and query features of every task."""
        supports: list[Tensor] = []
        queries: list[Tensor] = []
        apart = self.batch_norm == "episode"
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
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

    def _run(self, parts: list[Tensor]) -> list[Tensor]:
        features = self._backbone_features(torch.cat(parts))
        return list(features.split([len(part) for part in parts]))

    def _chunks(self, tasks: list[EpisodeTensors]) -> Iterator[list[EpisodeTensors]]:
        size = self.micro_batch
        if has_batch_norm(self.module_.backbone):
            size = 1
        elif size == "auto":
            size = 1 if str(self.device).startswith("cpu") else len(tasks)
        for begin in range(0, len(tasks), int(size)):
            yield tasks[begin : begin + int(size)]
