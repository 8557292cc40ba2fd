"""Training loop over episodes, on skorch: what does not depend on the learner."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import torch
from skorch import NeuralNet
from skorch.callbacks import EpochTimer, PassthroughScoring
from torch import Tensor, nn
from torch.amp import GradScaler

from ..backbones import PreparedBackbone, is_frozen
from ..exceptions import InvalidInputError
from ._batch_norm import batch_norm_mode
from ._processes import Processes
from ._step_guard import StepGuard, check_finite_loss
from ._stream import EpisodeStream, MetaBatch


class BaseEpisodicNet(NeuralNet, ABC):
    """skorch net that trains on meta-batches of episodes.

    A step accumulates the gradient of the mean query loss of its tasks and follows
    it. Where memory runs out, it is taken in smaller parts; a loss that is not finite
    ends the training. A backbone in float16 is trained with a scaled loss. A backbone
    that has parameters, none of which is trained, runs in evaluation mode.

    Parameters
    ----------
    module : torch.nn.Module
        Has a ``backbone``, and ``hooked``, its `HookedFeatures`.
    criterion : type, default=torch.nn.CrossEntropyLoss
        Query loss.
    batch_norm : {"running", "episode"}, default="running"
        "running": batch statistics of the task in training, running averages in
        prediction. "episode": statistics of the rows given together, support
        and query apart, in training and in prediction.
    accelerate : bool, default=False
        Share the tasks of a step with the other processes of ``accelerate launch``
        or ``torchrun``.
        The steps are those of one process. Not with a hook or standardised codes.
    **kwargs : dict
        Keywords of `skorch.NeuralNet`.
    """

    # What to do where training diverges.
    _remedy: ClassVar[str] = "lower lr, or scale the rows"
    scaler_: GradScaler = GradScaler("cpu", enabled=False)
    processes_: Processes | None = None

    def __init__(
        self,
        module: nn.Module,
        *,
        criterion: type[nn.Module] = nn.CrossEntropyLoss,
        batch_norm: str = "running",
        accelerate: bool = False,
        **kwargs: Any,
    ) -> None:
        self.batch_norm = batch_norm
        self.accelerate = accelerate
        groups = module.hooked.param_groups()  # type: ignore[operator, union-attr]
        if groups:
            given = kwargs.get("optimizer__param_groups") or []
            kwargs["optimizer__param_groups"] = [*given, *groups]
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

    # -- what a net of one kind of learner does ----------------------------------------

    @abstractmethod
    def _accumulate(self, batch: MetaBatch) -> Tensor:
        """Accumulate the gradient of a step; return the loss."""

    @abstractmethod
    def _batch_loss(self, batch: MetaBatch) -> tuple[Tensor, float]:
        """Return the mean loss of tasks and their accuracy, 0 in regression."""

    @abstractmethod
    def _is_divisible(self) -> bool:
        """Tell whether parts of a step add up to the whole."""

    # -- steps -------------------------------------------------------------------------

    def train_step(self, batch: MetaBatch, **fit_params: Any) -> dict[str, Any]:
        """Take a step of the optimiser, by parts where memory runs out."""
        step: dict[str, Any] = self.guard_.run(
            partial(super().train_step, batch, **fit_params),
            self.module_,
            len(batch.tasks),
            self._is_divisible(),
            self.history,
        )
        check_finite_loss(step["loss"], self.history, self._remedy)
        return step

    def train_step_single(self, batch: MetaBatch, **fit_params: Any) -> dict[str, Any]:
        """Leave the gradient of a step at the parameters."""
        self._set_training(True)
        if self.processes_ is None:
            loss = self._accumulate(batch)
        else:
            own = partial(self._accumulate, batch)
            loss = self.processes_.run(own, self.module_)
        return {"loss": loss, "y_pred": None}

    def validation_step(self, batch: MetaBatch, **fit_params: Any) -> dict[str, Any]:
        """Return the mean query loss of held-out tasks; record their accuracy."""
        self._set_training(False)
        with torch.no_grad():
            loss, accuracy = self._batch_loss(batch)
        if batch.tasks[0].n_way:
            self.history.record_batch("valid_accuracy", accuracy)
        return {"loss": loss, "y_pred": None}

    def features(self, rows: Tensor) -> Tensor:
        """Return the features of rows (n, ...) as the module is, (n, d)."""
        with batch_norm_mode(self.module_, self.batch_norm):
            return self.module_(rows)

    def _set_training(self, training: bool = True) -> None:
        super()._set_training(training)
        if self.frozen_:
            self.module_.backbone.eval()

    # -- a training, from begin to end -------------------------------------------------

    def initialize_module(self) -> BaseEpisodicNet:
        """Create the module, and decide whether its backbone is frozen."""
        super().initialize_module()
        self.frozen_ = is_frozen(self.module_.backbone)
        self.guard_ = StepGuard()
        return self

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """Scale losses from here on, if the backbone runs in float16."""
        super().on_train_begin(*args, **kwargs)
        scaler = loss_scaler(self.module_.backbone, self.device)
        if scaler is not None:
            self.scaler_ = scaler

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        """Let go of what is no part of the trained net."""
        super().on_train_end(*args, **kwargs)
        for name in ("scaler_", "processes_"):
            self.__dict__.pop(name, None)

    def on_grad_computed(self, *args: Any, **kwargs: Any) -> None:
        """Take the scale from the gradients, before callbacks see them."""
        self.scaler_.unscale_(self.optimizer_)
        super().on_grad_computed(*args, **kwargs)

    def _step_optimizer(self, step_fn: Callable[[], Any]) -> None:
        if not self.scaler_.is_enabled():
            super()._step_optimizer(step_fn)
            return
        # A step with an infinite gradient is left out and the scale halved.
        step_fn()
        self.scaler_.step(self.optimizer_)
        self.scaler_.update()

    # -- streams -----------------------------------------------------------------------

    def get_split_datasets(self, X: Any, y: Any = None, **fit_params: Any) -> Any:
        """Return the streams of training and validation, which come ready."""
        if self.accelerate:
            self._share(X[0])
        return X

    def _share(self, stream: EpisodeStream) -> None:
        processes = Processes.launched(self.device)
        if processes.number == 1:
            return
        self.module_.hooked.refuse(
            "accelerate=True has no process with all tasks of a step",
            "train in one process",
        )
        if not self._is_divisible():
            raise InvalidInputError(
                "accelerate=True divides the tasks of a step, which standardised codes "
                "see together. Got normalize_codes=True; set it to False or train in "
                "one process."
            )
        processes.check_start(self.module_)
        stream.share(processes.rank, processes.number)
        self.processes_ = processes

    def get_iterator(self, dataset: EpisodeStream, training: bool = False) -> Any:
        """Return a stream as it is: it is its own iterator."""
        return dataset

    def check_data(self, X: Any, y: Any = None) -> None:
        """Check nothing: streams come ready."""


def loss_scaler(backbone: nn.Module, device: Any) -> GradScaler | None:
    """Return what scales the losses of a backbone in float16, None in other types."""
    if isinstance(backbone, PreparedBackbone) and backbone.precision == "float16":
        return GradScaler(torch.device(device).type)
    return None
