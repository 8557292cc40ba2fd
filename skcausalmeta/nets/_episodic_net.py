"""Training loop over episodes, on skorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import EpochTimer, PassthroughScoring
from torch import Tensor, nn

from ._batch_norm import batch_norm_mode, has_batch_norm
from ._stream import EpisodeStream, MetaBatch, Task


class EpisodicModule(nn.Module):
    """A backbone and the learned scale of the logits.

    Parameters
    ----------
    backbone : torch.nn.Module
        Maps samples to features (n, d).
    logit_scale : float, default=1.0
        First value of the scale, > 0; its logarithm is learned.

    Examples
    --------
    >>> from torch import nn
    >>> from skcausalmeta.nets import EpisodicModule
    >>> print(f"{EpisodicModule(nn.Linear(3, 2), logit_scale=10.0).scale:.3f}")
    10.000
    """

    def __init__(self, backbone: nn.Module, logit_scale: float = 1.0) -> None:
        super().__init__()
        self.backbone = backbone
        self.log_scale = nn.Parameter(torch.tensor(float(logit_scale)).log())

    def forward(self, rows: Tensor) -> Tensor:
        """Features of rows."""
        return self.backbone(rows)

    @property
    def scale(self) -> float:
        """Scale of the logits."""
        return float(self.log_scale.detach().exp())


class EpisodicNet(NeuralNet):
    """skorch net that trains on meta-batches of episodes.

    One step minimises the mean over tasks of the query loss ::

        1 / T sum_t cross_entropy( scale * head(support_t)(query_t), labels_t )

    The backbone runs on micro-batches of tasks, the heads of all tasks are
    solved at once, and one backward pass runs through both, so the gradient
    does not depend on the size of the micro-batches. Layers of batch norm
    always see one task at a time.

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
    **kwargs : dict
        Keywords of `skorch.NeuralNet`.

    Examples
    --------
    >>> from torch import nn
    >>> from skcausalmeta.heads import GroupLassoSVC
    >>> from skcausalmeta.nets import EpisodicModule, EpisodicNet
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
        **kwargs: Any,
    ) -> None:
        self.head = head
        self.head_tol = head_tol
        self.batch_norm = batch_norm
        self.micro_batch = micro_batch
        self.center = center
        self.frozen = frozen
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

    # -- skorch steps ---------------------------------------------------------------

    def get_split_datasets(self, X: Any, y: Any = None, **fit_params: Any) -> Any:
        """Streams of episodes come ready: (training, validation or None)."""
        return X

    def get_iterator(self, dataset: EpisodeStream, training: bool = False) -> Any:
        """A stream is its own iterator."""
        return dataset

    def check_data(self, X: Any, y: Any = None) -> None:
        """Streams need no check."""

    def train_step_single(self, batch: MetaBatch, **fit_params: Any) -> dict[str, Any]:
        """Gradient of the mean query loss of the tasks."""
        self._set_training(True)
        loss, _ = self._batch_loss(batch)
        loss.backward()
        return {"loss": loss.detach(), "y_pred": None}

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

    def _batch_loss(self, batch: MetaBatch) -> tuple[Tensor, float]:
        """Mean loss of the tasks and their mean score."""
        supports, queries = self._task_features(batch.tasks)
        judge = self._judge()
        losses, scores = [], 0.0
        for positions in batch.groups():
            tasks = [batch.tasks[k] for k in positions]
            support = torch.stack([supports[k] for k in positions]).double()
            query = torch.stack([queries[k] for k in positions]).double()
            loss, score = judge(tasks, support, query)
            losses.append(loss * len(tasks))
            scores += score * len(tasks)
        return torch.stack(losses).sum() / len(batch), scores / len(batch)

    def _judge(self) -> Callable[[list[Task], Tensor, Tensor], tuple[Tensor, float]]:
        """Mean query loss and score of tasks of one shape, given their features."""
        scale = self.module_.log_scale.exp()

        def judge(
            tasks: list[Task], support: Tensor, query: Tensor
        ) -> tuple[Tensor, float]:
            targets = torch.stack([task.query_targets for task in tasks])
            if self.center:
                middle = support.mean(dim=1, keepdim=True)
                support, query = support - middle, query - middle
            logits = scale * self.head.episode_logits(
                support,
                torch.stack([task.support_targets for task in tasks]),
                query,
                tasks[0].n_way,
                tol=self.head_tol,
            )  # (n_tasks, n_query, n_way)
            loss = self.get_loss(logits.flatten(0, 1), targets.flatten())
            correct = (logits.detach().argmax(-1) == targets).double().mean()
            return loss, float(correct)

        return judge

    def _task_features(self, tasks: list[Task]) -> tuple[list[Tensor], list[Tensor]]:
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

    def _chunks(self, tasks: list[Task]) -> Iterator[list[Task]]:
        size = self.micro_batch
        if has_batch_norm(self.module_.backbone):
            size = 1
        elif size == "auto":
            size = 1 if str(self.device).startswith("cpu") else len(tasks)
        for begin in range(0, len(tasks), int(size)):
            yield tasks[begin : begin + int(size)]
