"""Training loop of learners whose tasks deviate from a common predictor."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ._episode_hook import HookedFeatures
from ._episodic_net import HeadNet, TaskGroup
from ._strengths import Strengths
from ._stream import EpisodeTensors

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
        **kwargs: Any,
    ) -> None:
        self.strengths_lr = strengths_lr
        given = kwargs.pop("optimizer__param_groups", None) or []
        groups = [*given, ("strengths.*", {"lr": strengths_lr})]
        super().__init__(module, head=head, optimizer__param_groups=groups, **kwargs)

    def _task_features(
        self, tasks: list[EpisodeTensors]
    ) -> tuple[list[Tensor], list[Tensor]]:
        supports, queries = super()._task_features(tasks)
        if self.module_.training and not self.frozen_:
            self.module_.strengths.follow(torch.cat([*supports, *queries]))
        return supports, queries

    def _scores(self, group: TaskGroup, code: Tensor | None) -> Tensor:
        hooked = self.module_.hooked
        return deviating_scores(
            self.head,
            self.module_.strengths,
            hooked.transform(group.support, code).double(),
            group.support_targets,
            group.support_scores,
            hooked.transform(group.query, code).double(),
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


def deviating_scores(
    head: Any,
    strengths: Strengths,
    support: Tensor,
    targets: Tensor,
    support_scores: Tensor,
    query: Tensor,
    query_scores: Tensor,
    *,
    tol: float | None = None,
) -> Tensor:
    """Scores of query rows of tasks, by heads around their common scores.

    Parameters
    ----------
    head : object
        As for `DeviationNet`.
    strengths : Strengths
        How far tasks deviate.
    support, query : Tensor of shape (n_tasks, n_rows, n_features)
        Features.
    targets : Tensor of shape (n_tasks, n_support)
        Class numbers, or real targets.
    support_scores, query_scores : Tensor of shape (n_tasks, n_rows, n_scores)
        Common scores of the rows.
    tol : float, default=None
        Relative gap of the heads. None: their own.

    Returns
    -------
    Tensor of shape (n_tasks, n_query, n_classes), or (n_tasks, n_query)
    """
    amount = strengths.amount(targets)
    one = strengths.inputs(support, support_scores, amount)
    two = strengths.inputs(query, query_scores, amount)
    known = strengths.offset(support_scores, amount)
    asked = strengths.offset(query_scores, amount)
    # A row of zeros beside the query rows is answered by the intercept alone.
    two = torch.cat([two, torch.zeros_like(two[:, :1])], dim=1)
    if strengths.n_classes:
        found = head.episode_logits(
            one, targets, two, strengths.n_classes, tol=tol, support_offset=known
        )
    else:
        found = head.episode_predictions(
            one, targets.double(), two, tol=tol, support_offset=known[..., 0]
        )[..., None]
    trust = strengths.trust_of(amount, strengths.balanced(targets))[:, None, None]
    scores = asked + found[:, :-1] - (1.0 - trust) * found[:, -1:]
    return scores if strengths.n_classes else scores[..., 0]
