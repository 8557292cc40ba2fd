"""Where the learned scale of the logits begins."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor

from ..backbones import PreparedBackbone
from ._batch_norm import batch_norm_mode
from ._stream import EpisodeTensors, MetaBatch

_SPREAD = 1.0
_LEAST, _MOST = 1e-3, 1e3


def head_logits(
    head: Any,
    support: Tensor,
    targets: Tensor,
    query: Tensor,
    n_way: int,
    *,
    center: bool,
    tol: float,
) -> Tensor:
    """Logits of heads solved on the support features of tasks, not scaled.

    Parameters
    ----------
    head : object
        Offers ``episode_logits``.
    support, query : Tensor of shape (n_tasks, n, d)
        Features.
    targets : Tensor of shape (n_tasks, n_support)
        Labels of the support rows.
    n_way : int
        Number of classes.
    center : bool
        Whether the mean support feature of a task is subtracted.
    tol : float
        Relative gap of the heads.

    Returns
    -------
    Tensor of shape (n_tasks, n_query, n_way)

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.heads import PrototypeHead
    >>> from skcausalmeta.training._logit_scale import head_logits
    >>> rows, labels = torch.eye(2)[None], torch.arange(2)[None]
    >>> query = torch.tensor([[[3.0, 0.0], [0.0, 3.0]]])
    >>> settings = {"center": True, "tol": 1e-3}
    >>> head_logits(PrototypeHead(), rows, labels, query, 2, **settings)
    tensor([[[ -4., -10.],
             [-10.,  -4.]]])
    """
    if center:
        middle = support.mean(dim=1, keepdim=True)
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
    """Scale at which the logits of an untrained backbone vary by about 1.

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
        Whether the mean support feature is subtracted.
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
    with torch.no_grad(), batch_norm_mode(module, batch_norm):
        logits = [_logits(module, head, task, center, tol) for task in batch.tasks]
    spread = torch.cat([(one - one.mean(-1, keepdim=True)).flatten() for one in logits])
    size = float(spread.square().mean().sqrt())
    if not math.isfinite(size) or size == 0.0:
        return 1.0
    return min(max(_SPREAD / size, _LEAST), _MOST)


def _logits(
    module: torch.nn.Module, head: Any, task: EpisodeTensors, center: bool, tol: float
) -> Tensor:
    features = module(torch.cat([task.support, task.query])).double()
    if not features.isfinite().all():  # training will say so
        return features.new_full((1, 1), torch.nan)
    support, query = features[None].split([len(task.support), len(task.query)], dim=1)
    targets = task.support_targets[None]
    return head_logits(
        head, support, targets, query, task.n_way, center=center, tol=tol
    )[0]
