"""Training loop of learners whose tasks deviate from a common predictor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from ._base_net import check_features
from ._episode_hook import HookedFeatures
from ._episodic_net import HeadNet, TaskGroup
from ._stream import EpisodeTensors, MetaBatch
from ._strengths import Strengths

_LR = 0.03


class DeviationModule(nn.Module):
    """A backbone, and how far tasks may deviate in its features.

    Parameters
    ----------
    backbone : torch.nn.Module
        Maps samples to features (n, d).
    strengths : Strengths
        Of these features.
    hooked : HookedFeatures, default=None
        Stands between the backbone and the head. None: nothing does.

    Examples
    --------
    >>> from torch import nn
    >>> from skcausalmeta.training import DeviationModule, Strengths
    >>> DeviationModule(nn.Linear(3, 2), Strengths((2,), 2)).scale
    1.0
    """

    scale = 1.0

    def __init__(
        self,
        backbone: nn.Module,
        strengths: Strengths,
        hooked: HookedFeatures | None = None,
    ) -> None:
        super().__init__()
        self.backbone, self.strengths = backbone, strengths
        self.hooked = HookedFeatures() if hooked is None else hooked

    def forward(self, rows: Tensor) -> Tensor:
        """Return the features of rows."""
        return self.backbone(rows)


class DeviationNet(HeadNet):
    """skorch net that trains a backbone and `Strengths` under deviating heads.

    One step minimises the mean query loss of its tasks ::

        1 / T sum_t loss( z_t(query_t), targets_t )

    with z_t of `Strengths` and D_t, b_t solved by the head on the support rows. The
    loss is the cross-entropy of classes, or half the squared error. The derivative
    passes through the solution into features, variances, gain and trust.

    Parameters
    ----------
    module : DeviationModule
        Backbone and strengths.
    head : object
        Offers ``episode_logits``, or ``episode_predictions`` for real targets, with
        offsets.
    strengths_lr : float, default=0.03
        Learning rate of the strengths.
    relevance_decay : float, default=0.0
        Strength of ``decay / 2 ||log relevance||^2``, which is added to the loss: the
        fewer tasks, the less is known of one feature alone.
    **kwargs : dict
        Keywords of `HeadNet`, `BaseEpisodicNet` and `skorch.NeuralNet`.

    Examples
    --------
    >>> from torch import nn
    >>> from skcausalmeta.heads import GroupLassoLogistic
    >>> from skcausalmeta.training import DeviationModule, DeviationNet, Strengths
    >>> module = DeviationModule(nn.Linear(3, 2), Strengths((2,), 2))
    >>> net = DeviationNet(module, head=GroupLassoLogistic()).initialize()
    >>> net.initialized_
    True
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        head: Any,
        strengths_lr: float = _LR,
        relevance_decay: float = 0.0,
        **kwargs: Any,
    ) -> None:
        self.strengths_lr, self.relevance_decay = strengths_lr, relevance_decay
        given = kwargs.pop("optimizer__param_groups", None) or []
        # Adam's decay is the gradient of that square. The first pattern counts.
        slow = {"lr": strengths_lr, "weight_decay": relevance_decay}
        groups = [*given, ("strengths.relevance", slow)]
        groups.append(("strengths.*", {"lr": strengths_lr}))
        super().__init__(module, head=head, optimizer__param_groups=groups, **kwargs)

    def get_params_for_optimizer(
        self, prefix: str, named_parameters: Iterator[tuple[str, nn.Parameter]]
    ) -> Any:
        """Return what the optimiser is made with, also where nothing is learned."""
        named = list(named_parameters)
        if not named:  # fixed strengths on rows as they are: torch wants a parameter
            named = [("nothing", nn.Parameter(torch.zeros(0)))]
        return super().get_params_for_optimizer(prefix, iter(named))

    def _task_features(
        self, tasks: list[EpisodeTensors]
    ) -> tuple[list[Tensor], list[Tensor]]:
        supports, queries = super()._task_features(tasks)
        moving = self.module_.training and not self.frozen_
        if moving and not self.module_.hooked.is_active:
            self.module_.strengths.follow(torch.cat([*supports, *queries]))
        return supports, queries

    def _batch_loss(
        self, batch: MetaBatch, *, second_level: bool = False
    ) -> tuple[Tensor, float]:
        if self.module_.hooked.is_active:  # it sees tasks as they are
            return super()._batch_loss(batch, second_level=second_level)
        supports, queries = self._task_features(batch.tasks)
        check_features([*supports, *queries], self.history, self._remedy)
        losses, hits = self.task_losses(
            self.head, padded(batch.tasks, supports, queries), self.head_tol
        )
        return losses.sum() / len(batch), float(hits.sum()) / len(batch)

    def task_losses(
        self, head: Any, group: PaddedTasks, tol: float | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the mean query loss of every task, and its accuracy, (n_tasks,)."""
        scores = deviating_scores(
            head,
            self.module_.strengths,
            group.support,
            group.support_targets,
            group.support_scores,
            group.query,
            group.query_scores,
            weights=group.support_weights,
            tol=tol,
        )
        share = group.query_weights / group.query_weights.sum(-1, keepdim=True)
        if not self.module_.strengths.n_classes:
            errors = (scores - group.query_targets).square() / 2
            return (share * errors).sum(-1), torch.zeros(len(share))
        losses = nn.functional.cross_entropy(
            scores.mT, group.query_targets, reduction="none"
        )
        right = scores.detach().argmax(-1) == group.query_targets
        return (share * losses).sum(-1), (share * right).sum(-1)

    def _scores(self, group: TaskGroup, code: Tensor | None) -> Tensor:
        hooked, strengths = self.module_.hooked, self.module_.strengths
        support = hooked.transform(group.support, code)
        query = hooked.transform(group.query, code)
        if self.module_.training and hooked.is_active:  # which moves the features
            strengths.follow(torch.cat([support.flatten(0, 1), query.flatten(0, 1)]))
        return deviating_scores(
            self.head,
            strengths,
            support,
            group.support_targets,
            group.support_scores,
            query,
            group.query_scores,
            tol=self.head_tol,
        )

    def _head_scores(
        self, support: Tensor, targets: Tensor, query: Tensor, n_way: int
    ) -> Tensor:
        raise TypeError("Deviations need the common scores of rows; use _scores.")

    def _mean_loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        if not self.module_.strengths.n_classes:
            return (scores - targets).square().mean() / 2
        return self.get_loss(scores.flatten(0, 1), targets.flatten())


class PaddedTasks(NamedTuple):
    """Tasks of any sizes in tensors of one; rows of weight 0 fill them up."""

    support: Tensor  # (n_tasks, n_support, n_features)
    query: Tensor  # (n_tasks, n_query, n_features)
    support_targets: Tensor  # (n_tasks, n_support)
    query_targets: Tensor  # (n_tasks, n_query)
    support_scores: Tensor  # (n_tasks, n_support, n_scores)
    query_scores: Tensor  # (n_tasks, n_query, n_scores)
    support_weights: Tensor  # (n_tasks, n_support), 1 or 0
    query_weights: Tensor  # (n_tasks, n_query), 1 or 0


def padded(
    tasks: list[EpisodeTensors], supports: list[Tensor], queries: list[Tensor]
) -> PaddedTasks:
    """Put tasks and their features into tensors of one size.

    Parameters
    ----------
    tasks : list of EpisodeTensors
        With scores.
    supports, queries : list of Tensor of shape (n_rows, n_features)
        Features of their rows.

    Returns
    -------
    PaddedTasks

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.training import EpisodeTensors, padded
    >>> def task(n):
    ...     rows, numbers = torch.zeros(n, 2), torch.zeros(n, dtype=torch.int64)
    ...     return EpisodeTensors(rows, rows, numbers, numbers, 2, rows, rows)
    >>> tasks = [task(2), task(3)]
    >>> both = padded(tasks, [t.support for t in tasks], [t.query for t in tasks])
    >>> both.support.shape, both.support_weights.tolist()
    (torch.Size([2, 3, 2]), [[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    """

    def fill(parts: Sequence[Any]) -> Tensor:
        return pad_sequence(list(parts), batch_first=True)

    def there(parts: list[Tensor], filled: Tensor) -> Tensor:
        sizes = torch.tensor(list(map(len, parts)), device=filled.device)
        rows = torch.arange(filled.shape[1], device=filled.device)
        return (rows < sizes[:, None]).double()

    support, query = fill(supports), fill(queries)
    return PaddedTasks(
        support,
        query,
        fill([task.support_targets for task in tasks]),
        fill([task.query_targets for task in tasks]),
        fill([task.support_scores for task in tasks]),
        fill([task.query_scores for task in tasks]),
        there(supports, support),
        there(queries, query),
    )


def deviating_scores(
    head: Any,
    strengths: Strengths,
    support: Tensor,
    targets: Tensor,
    support_scores: Tensor,
    query: Tensor,
    query_scores: Tensor,
    *,
    weights: Tensor | None = None,
    tol: float | None = None,
) -> Tensor:
    """Scores of query rows of tasks, by heads around their common scores.

    Parameters
    ----------
    head : object
        As for `DeviationNet`.
    strengths : Strengths
        How far tasks deviate.
    support : Tensor of shape (n_tasks, n_support, n_features)
        Features of the support rows; heads are solved in double precision.
    targets : Tensor of shape (n_tasks, n_support)
        Class numbers, or real targets.
    support_scores : Tensor of shape (n_tasks, n_support, n_scores)
        Common scores of the support rows.
    query : Tensor of shape (n_tasks, n_query, n_features)
        Features of the query rows.
    query_scores : Tensor of shape (n_tasks, n_query, n_scores)
        Common scores of the query rows.
    weights : Tensor of shape (n_tasks, n_support), default=None
        1 for support rows that are there, 0 for those that pad a task. None: all are.
    tol : float, default=None
        Relative gap of the heads. None: their own.

    Returns
    -------
    Tensor of shape (n_tasks, n_query, n_classes), or (n_tasks, n_query)

    Examples
    --------
    Without any deviation the common scores answer:

    >>> import torch
    >>> from skcausalmeta.heads import GroupLassoLogistic
    >>> from skcausalmeta.training import Strengths, deviating_scores
    >>> rows, known = torch.zeros(1, 4, 3).double(), torch.zeros(1, 4, 2).double()
    >>> known[..., 1] = 1.0
    >>> numbers = torch.tensor([[0, 1, 0, 1]])
    >>> found = deviating_scores(
    ...     GroupLassoLogistic(), Strengths((3,), 2, learned=False), rows, numbers,
    ...     known, rows, known,
    ... )
    >>> found.shape
    torch.Size([1, 4, 2])
    """
    amount, balanced = strengths.labels(targets, weights)
    sizes = [support.shape[1], query.shape[1]]
    scores = torch.cat([support_scores, query_scores], dim=1)
    features = torch.cat([support, query], dim=1).double()
    rows = strengths.inputs(features, scores, amount)
    known, asked = strengths.offset(scores, amount).split(sizes, dim=1)
    one, two = rows.split(sizes, dim=1)
    # A row of zeros beside the query rows is answered by the intercept alone.
    two = nn.functional.pad(two, (0, 0, 0, 1))
    if strengths.n_classes:
        found = head.episode_logits(
            one,
            targets,
            two,
            strengths.n_classes,
            sample_weight=weights,
            tol=tol,
            support_offset=known,
        )
    else:
        found = head.episode_predictions(
            one,
            targets.double(),
            two,
            sample_weight=weights,
            tol=tol,
            support_offset=known[..., 0],
        )[..., None]
    trust = strengths.trust_of(amount, balanced)[:, None, None]
    scores = asked + found[:, :-1] - (1.0 - trust) * found[:, -1:]
    return scores if strengths.n_classes else scores[..., 0]
