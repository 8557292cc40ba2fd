"""One model of all rows of all tasks, the backbone of which is kept."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..backbones import is_frozen
from ..utils import isolated_torch_rng, read_rows
from ._base_net import check_finite_weights
from ._options import fused_on_cpu
from ._stream import RowReader, in_passes

_LR, _ROWS = 5e-4, 128
# Tasks that a model does not see say which: a strong one keeps a thousand sparse
# columns from being learned by heart, and few columns from being learned.
_WEIGHT_DECAYS = (0.1, 3.0)
# Kept is a running mean of the weights, over the last five hundred steps or so.
_MEAN = 0.998
_MOST_EPOCHS, _PATIENCE = 40, 3
# Few rows go by in smaller steps, so that an epoch has some.
_FEWEST_ROWS, _FEWEST_STEPS = 16, 32
# Training steps of one model at most: epochs over many rows are fewer.
_MOST_STEPS = 6000


class PooledModel(nn.Module):
    """Backbone f and scores ``f(x)'W + b``, the same in every task.

    Parameters
    ----------
    backbone : torch.nn.Module
        Maps samples to features (n, d).
    n_features : int
        Their number.
    n_scores : int
        Number of classes; 1 for real targets.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.training import PooledModel
    >>> PooledModel(torch.nn.Identity(), 3, 2)(torch.zeros(4, 3)).shape
    torch.Size([4, 2])
    """

    def __init__(self, backbone: nn.Module, n_features: int, n_scores: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.scores = nn.Linear(n_features, n_scores)
        nn.init.zeros_(self.scores.bias)

    def forward(self, rows: Tensor) -> Tensor:
        """Return the scores (n, n_scores) of rows."""
        return self.scores(self.backbone(rows))


@dataclass(frozen=True)
class PooledData:
    """Rows of all tasks together.

    Parameters
    ----------
    rows : ndarray of shape (n_samples, ...)
        Rows, in memory or on disk.
    targets : ndarray of shape (n_samples,)
        Class numbers, or real targets.
    tasks : ndarray of shape (n_samples,)
        Numbers of the tasks.
    n_classes : int
        Number of classes; 0 for real targets.
    reader : RowReader
        From rows to tensors.
    weights : ndarray of shape (n_samples,), default=None
        Weights of the rows in the loss, of which their mean is 1. None: all are.

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.training import PooledData, RowReader
    >>> rows, tasks = np.zeros((4, 3)), np.array([0, 0, 1, 1])
    >>> PooledData(rows, np.array([0, 1, 0, 1]), tasks, 2, RowReader((3,))).n_scores
    2
    """

    rows: NDArray[Any]
    targets: NDArray[Any]
    tasks: NDArray[Any]
    n_classes: int
    reader: RowReader
    weights: NDArray[Any] | None = None

    @property
    def n_scores(self) -> int:
        """Scores of a row."""
        return max(self.n_classes, 1)

    def read(self, index: NDArray[Any]) -> Tensor:
        """Return some rows as a tensor."""
        return self.reader(read_rows(self.rows, index))

    def loss(self, scores: Tensor, index: NDArray[Any]) -> Tensor:
        """Return the mean of the weighted losses of some rows."""
        targets = torch.as_tensor(self.targets[index], device=scores.device)
        if self.weights is not None:
            weights = torch.as_tensor(self.weights[index]).to(scores)
            return (weights * self._losses(scores, targets)).mean()
        if self.n_classes:
            return nn.functional.cross_entropy(scores, targets)
        return (scores[:, 0] - targets.to(scores)).square().mean() / 2

    def _losses(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Return the losses (n,) of rows."""
        if self.n_classes:
            return nn.functional.cross_entropy(scores, targets, reduction="none")
        return (scores[:, 0] - targets.to(scores)).square() / 2


@dataclass(frozen=True)
class PooledModels:
    """Cross-fitted models, their scores, and one trained on all rows.

    Parameters
    ----------
    members : list of PooledModel
        Those of the folds, then the one of all rows.
    scores : ndarray of shape (n_samples, n_scores)
        Scores of the training rows by models that did not see their task.
    folds : ndarray of shape (n_samples,)
        Fold of every row, which is the number of the member that did not see it.

    See Also
    --------
    fit_pooled : Returns them.

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.training import PooledModels
    >>> PooledModels([], np.zeros((4, 2)), np.array([0, 0, 1, 1])).folds.max()
    np.int64(1)
    """

    members: list[PooledModel]
    scores: NDArray[np.float64]
    folds: NDArray[np.int64]


def fit_pooled(
    make: Callable[[], PooledModel],
    data: PooledData,
    *,
    n_folds: int = 3,
    seed: int = 0,
    verbose: bool = False,
) -> PooledModels:
    """Train a model on all rows, for as long as it helps tasks that it does not see.

    The tasks are divided into folds. A model for each is trained on the other tasks;
    its epochs go on while its loss on its own fold falls, and its best weights are
    kept. The model of all rows is trained for the median of their epochs, by AdamW,
    whose weight decay, 0.1 or 3, is the better one of the first fold. What is kept and
    judged is the running mean of the weights of the steps.

    Parameters
    ----------
    make : callable
        ``make() -> PooledModel`` at its first weights.
    data : PooledData
        Rows, targets, tasks.
    n_folds : int, default=3
        Folds of the tasks, at most their number.
    seed : int, default=0
        Seed of folds, order of the rows and dropout.
    verbose : bool, default=False
        Whether a bar shows the epochs.

    Returns
    -------
    PooledModels

    Examples
    --------
    >>> import numpy as np
    >>> from torch import nn
    >>> from skcausalmeta.training import (
    ...     PooledData,
    ...     PooledModel,
    ...     RowReader,
    ...     fit_pooled,
    ... )
    >>> rng = np.random.default_rng(0)
    >>> rows, tasks = rng.normal(size=(60, 2)), np.repeat(np.arange(6), 10)
    >>> targets = (rows[:, 0] > 0).astype(int)
    >>> data = PooledData(rows, targets, tasks, 2, RowReader((2,)))
    >>> models = fit_pooled(lambda: PooledModel(nn.Linear(2, 2), 2, 2), data)
    >>> len(models.members), models.scores.shape
    (4, (60, 2))
    """
    n_tasks = int(data.tasks.max()) + 1
    order = np.random.default_rng(seed).permutation(n_tasks)
    fold_of_task = np.empty(n_tasks, dtype=np.int64)
    fold_of_task[order] = np.arange(n_tasks) % min(n_folds, n_tasks)
    fold_of_row = fold_of_task[data.tasks]
    scores = np.empty((len(data.tasks), data.n_scores))
    members, epochs = [], []
    bar = tqdm(total=min(n_folds, n_tasks) + 1, unit="model", disable=not verbose)
    with isolated_torch_rng(seed), bar:
        decays: tuple[float, ...] = _WEIGHT_DECAYS
        for fold in range(min(n_folds, n_tasks)):
            own = np.flatnonzero(fold_of_row == fold)
            others = np.flatnonzero(fold_of_row != fold)
            trials = [_fit(make(), data, others, own, seed, d) for d in decays]
            best = min(trials, key=attrgetter("loss"))
            decays = (best.weight_decay,)
            rows = read_rows(data.rows, own)
            scores[own] = scores_of([best.model], data.reader, rows)
            members.append(best.model)
            epochs.append(best.n_epochs)
            bar.update()
        n_epochs = int(np.median(epochs))
        every = np.arange(len(data.tasks))
        whole = _fit(make(), data, every, None, seed, decays[0], n_epochs)
        members.append(whole.model)
        bar.update()
    return PooledModels(members, scores, fold_of_row)


def scores_of(
    members: Sequence[PooledModel], reader: RowReader, rows: NDArray[Any]
) -> NDArray[np.float64]:
    """Return the mean scores (n, n_scores) of some models for rows.

    Parameters
    ----------
    members : sequence of PooledModel
        The models.
    reader : RowReader
        From rows to tensors.
    rows : ndarray of shape (n, ...)
        In memory or on disk.

    Returns
    -------
    ndarray of shape (n, n_scores)
        In double precision.

    Examples
    --------
    >>> import numpy as np
    >>> from torch import nn
    >>> from skcausalmeta.training import PooledModel, RowReader, scores_of
    >>> model = PooledModel(nn.Identity(), 3, 2)
    >>> scores_of([model, model], RowReader((3,)), np.zeros((4, 3))).shape
    (4, 2)
    """

    def run(part: NDArray[Any]) -> NDArray[Any]:
        samples = reader(part)
        with torch.no_grad():
            found = torch.stack([member(samples).double() for member in members])
        return found.mean(0).cpu().numpy()

    for member in members:
        member.eval()
    return in_passes(run, rows)


class _Trained(NamedTuple):
    """A model, its epochs, and its loss on what was held out."""

    model: PooledModel
    n_epochs: int
    loss: float
    weight_decay: float


def _fit(
    model: PooledModel,
    data: PooledData,
    index: NDArray[Any],
    held_out: NDArray[Any] | None,
    seed: int,
    weight_decay: float,
    n_epochs: int = _MOST_EPOCHS,
) -> _Trained:
    """Train on some rows; with others held out, as long as their loss falls."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        trained, lr=_LR, weight_decay=weight_decay, **fused_on_cpu(trained)
    )
    rng = np.random.default_rng(seed)
    size = min(_ROWS, max(_FEWEST_ROWS, len(index) // _FEWEST_STEPS))
    n_steps = -(-len(index) // size)
    mean = _RunningMean(model)
    best, best_loss, best_weights = 0, np.inf, copy.deepcopy(model.state_dict())
    for epoch in range(1, min(n_epochs, max(1, _MOST_STEPS // n_steps)) + 1):
        _set_training(model)
        for part in np.array_split(rng.permutation(index), n_steps):
            optimizer.zero_grad()
            data.loss(model(data.read(part)), part).backward()
            optimizer.step()
            mean.follow()
        if held_out is None:
            continue
        rows = read_rows(data.rows, held_out)
        found = torch.from_numpy(scores_of([mean.model], data.reader, rows))
        loss = float(data.loss(found, held_out))
        if loss < best_loss:
            best, best_loss = epoch, loss
            best_weights = copy.deepcopy(mean.model.state_dict())
        elif epoch - best >= _PATIENCE:
            break
    model.load_state_dict(mean.model.state_dict() if held_out is None else best_weights)
    check_finite_weights(model)
    return _Trained(model.eval(), best, best_loss, weight_decay)


class _RunningMean:
    """A copy of a model at the running mean of its weights.

    Parameters
    ----------
    model : PooledModel
        As it is before the first step; its tensors must stay the same objects.
    """

    def __init__(self, model: PooledModel) -> None:
        self.model, self.n_steps = copy.deepcopy(model), 0
        # Listed once: to go through the modules takes longer than a small step.
        pairs = zip(self.model.parameters(), model.parameters(), strict=True)
        self._weights = list(pairs)
        self._states = list(zip(self.model.buffers(), model.buffers(), strict=True))

    def follow(self) -> None:
        """Take a step of the model into the mean; the first ones count more."""
        self.n_steps += 1
        share = 1.0 - min(_MEAN, self.n_steps / (self.n_steps + 9))
        with torch.no_grad():
            for mean, now in self._weights:
                mean.lerp_(now, share)
            for kept, state in self._states:  # such as the statistics of a batch norm
                kept.copy_(state)


def _set_training(model: PooledModel) -> None:
    model.train()
    if is_frozen(model.backbone):
        model.backbone.eval()
