"""Training loop over regression tasks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ._base_net import check_finite_loss
from ._episode_hook import HookedFeatures
from ._episodic_net import HeadNet
from ._stream import EpisodeTensors, MetaBatch


class CodeModule(nn.Module):
    """A backbone whose features can be standardised.

    Parameters
    ----------
    backbone : torch.nn.Module
        Maps samples to features (n, d).
    n_codes : int, default=None
        Number d of features to standardise by a batch norm without weights. None
        leaves the features as they are.
    hooked : HookedFeatures, default=None
        Stands between the features and the head. None: nothing does.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skcausalmeta.training import CodeModule
    >>> module = CodeModule(nn.Identity(), n_codes=1)
    >>> module.standardize(module(torch.tensor([[10.0], [30.0]]))).round().tolist()
    [[-1.0], [1.0]]
    """

    def __init__(
        self,
        backbone: nn.Module,
        n_codes: int | None = None,
        hooked: HookedFeatures | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.hooked = HookedFeatures() if hooked is None else hooked
        self.standardize = (
            nn.Identity() if n_codes is None else nn.BatchNorm1d(n_codes, affine=False)
        )

    def forward(self, rows: Tensor) -> Tensor:
        """Return the features of rows, as the backbone gives them."""
        return self.backbone(rows)


class RegressionNet(HeadNet):
    """skorch net that trains a backbone under heads that predict values.

    One step minimises the mean over tasks of half the mean squared error ::

        1 / T sum_t 1 / (2 n) || head(support_t)(query_t) - targets_t ||^2

    Where features are standardised, it is over all rows of the meta-batch at once in
    training, whatever the micro-batch, and by fixed statistics in prediction.

    Parameters
    ----------
    module : CodeModule
        Backbone and standardisation.
    head : object
        Offers ``episode_predictions(support_features, support_targets,
        query_features, tol=...)``.
    **kwargs : dict
        Keywords of `HeadNet`, `BaseEpisodicNet` and `skorch.NeuralNet`.

    Examples
    --------
    >>> from torch import nn
    >>> from skcausalmeta.heads import LassoHead
    >>> from skcausalmeta.training import CodeModule, RegressionNet
    >>> net = RegressionNet(CodeModule(nn.Linear(3, 2), 2), head=LassoHead())
    >>> net.initialize().initialized_
    True
    """

    def __init__(self, module: nn.Module, *, head: Any, **kwargs: Any) -> None:
        super().__init__(module, head=head, **{"criterion": nn.MSELoss, **kwargs})

    # -- a backbone without parameters -----------------------------------------------

    def _is_trained(self) -> bool:
        return any(p.requires_grad for p in self.module_.parameters())

    def initialize_optimizer(self, *args: Any, **kwargs: Any) -> RegressionNet:
        """Create no optimiser where there is nothing to optimise."""
        if self._is_trained():
            super().initialize_optimizer(*args, **kwargs)
        else:
            self._register_attribute("optimizer", None)  # its keywords are known
        return self

    def train_step(self, batch: MetaBatch, **fit_params: Any) -> dict[str, Any]:
        """Take a step of the optimiser, or the loss alone without parameters."""
        if self._is_trained():
            return super().train_step(batch, **fit_params)
        self._set_training(True)
        with torch.no_grad():
            loss = self._batch_loss(batch)[0]
        check_finite_loss(loss, self.history, self._remedy)
        return {"loss": loss, "y_pred": None}

    def _is_divisible(self) -> bool:
        # The features of all tasks of a step are standardised together.
        alone = isinstance(self.module_.standardize, nn.Identity)
        return alone and super()._is_divisible()

    # -- tasks -------------------------------------------------------------------------

    def features(self, rows: Tensor) -> Tensor:
        """Return the features of rows (n, ...), standardised if asked for, (n, d)."""
        return self.module_.standardize(super().features(rows))

    def settle(self, parts: Iterable[Tensor]) -> None:
        """Fix the statistics of the features to those of some rows.

        Parameters
        ----------
        parts : iterable of Tensor of shape (n, ...)
            All rows, in parts.
        """
        layer = self.module_.standardize
        if isinstance(layer, nn.Identity):
            return
        self._set_training(False)
        count, first, second = 0, torch.zeros(()), torch.zeros(())
        origin = layer.running_mean.double()
        with torch.no_grad():
            for rows in parts:
                moved = super().features(rows).double() - origin
                count += len(moved)
                first = first + moved.sum(0)
                second = second + moved.square().sum(0)
            mean = first / count
            layer.running_mean.copy_(origin + mean)
            layer.running_var.copy_((second / count - mean.square()).clamp_min(0.0))

    def _task_features(
        self, tasks: list[EpisodeTensors]
    ) -> tuple[list[Tensor], list[Tensor]]:
        supports, queries = super()._task_features(tasks)
        if all(task.query is task.support for task in tasks):
            supports = self._standardized(supports)
            return supports, supports
        both = self._standardized([*supports, *queries])
        return both[: len(tasks)], both[len(tasks) :]

    def _standardized(self, parts: list[Tensor]) -> list[Tensor]:
        features = self.module_.standardize(torch.cat(parts))
        return list(features.split([len(part) for part in parts]))

    def _head_scores(
        self, support: Tensor, targets: Tensor, query: Tensor, n_way: int
    ) -> Tensor:
        """Return the predictions (n_tasks, n_query) of the head."""
        return self.head.episode_predictions(support, targets, query, tol=self.head_tol)

    def _mean_loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        return self.get_loss(scores, targets) / 2
