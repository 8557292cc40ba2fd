"""Training loop over episodes, on skorch: the part common to all learners."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from skorch.callbacks import EpochTimer, PassthroughScoring
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn.modules.batchnorm import _BatchNorm

from ..backbones import PreparedBackbone, is_frozen
from ..exceptions import DivergenceError, InvalidInputError, OutOfMemoryError
from ..utils import forget, is_out_of_memory
from ._apart import apart
from ._batch_norm import batch_norm_mode
from ._options import fused_on_cpu
from ._portable_net import PortableNet
from ._processes import Processes
from ._stream import EpisodeStream, MetaBatch, in_parts, in_passes

_FUSED = (torch.optim.Adam, torch.optim.AdamW)
# Keywords by which it is told how to take a step.
_WAYS_OF_ADAM = frozenset({"capturable", "differentiable", "foreach", "fused"})


class StepGuard:
    """Takes a step in smaller parts where memory runs out.

    The gradient of a step is a sum over tasks. Where the tasks of a meta-batch do not
    fit together, half of them are tried, and what fitted is kept for the steps to
    come; the gradient is the same up to rounding.

    Attributes
    ----------
    most_tasks : int or None
        Tasks that fit into memory at once. None: all of them, so far.

    Examples
    --------
    >>> from torch import nn
    >>> from skcausalmeta.training._base_net import StepGuard
    >>> guard = StepGuard()
    >>> def step():
    ...     if guard.size(8) > 2:
    ...         raise MemoryError
    ...     return "done"
    >>> guard.run(step, nn.Identity(), 8, True, [])
    'done'
    >>> guard.most_tasks
    2
    """

    most_tasks: int | None = None

    def run(
        self,
        step: Callable[[], Any],
        module: nn.Module,
        n_tasks: int,
        divisible: bool,
        history: Any,
    ) -> Any:
        """Take a step, again with fewer tasks at a time where memory runs out.

        Parameters
        ----------
        step : callable
            Goes by `size`, as often as it is called.
        module : torch.nn.Module
            Its buffers are put back before the step is tried again.
        n_tasks : int
            Tasks of the step.
        divisible : bool
            Whether the step gives the same by parts.
        history : list
            History of the net, for the place of an error.

        Raises
        ------
        OutOfMemoryError
            If one task, or a step that is one whole, does not fit.
        """
        buffers = [value.clone() for value in module.buffers()]
        while True:
            try:
                return step()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._take_fewer(self.size(n_tasks), divisible, history, error)
                forget(error)
            for value, before in zip(module.buffers(), buffers, strict=True):
                value.copy_(before)

    def size(self, n_tasks: int) -> int:
        """Return how many of some tasks are taken at once."""
        return min(n_tasks, self.most_tasks or n_tasks)

    def parts(self, batch: MetaBatch) -> Iterator[MetaBatch]:
        """Yield the batch, or as many of its tasks at a time as memory holds."""
        n_tasks = len(batch.tasks)
        for part in in_parts(n_tasks, self.size(n_tasks)):
            yield MetaBatch(batch.tasks[part], len(batch))

    def _take_fewer(
        self, size: int, divisible: bool, history: Any, error: BaseException
    ) -> None:
        if size <= 1 or not divisible:
            whole = "A step on one task" if size <= 1 else "A step that is one whole"
            raise OutOfMemoryError(
                f"{whole} must fit into memory. Got {place_in(history)}, which does "
                f"not ({error}); lower tasks_per_batch or n_query, use a smaller "
                "backbone, or another device."
            ) from error
        self.most_tasks = size // 2


class BaseEpisodicNet(PortableNet, ABC):
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
        The steps are those of one process. Not with a hook or standardised features.
    **kwargs : dict
        Keywords of `skorch.NeuralNet`.

    Examples
    --------
    A net of one kind of learner supplies `_accumulate` and `_batch_loss`:

    >>> from skcausalmeta.training import BaseEpisodicNet
    >>> sorted(BaseEpisodicNet.__abstractmethods__)
    ['_accumulate', '_batch_loss', '_is_divisible']
    """

    # Advice where training diverges.
    _remedy: ClassVar[str] = "lower lr, or scale the rows"
    scaler_: GradScaler | None = None
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
        if self.batch_norm == "running":
            return self.module_.backbone(rows)
        module = self.module_
        if not torch.is_grad_enabled():  # what is not trained must not change
            module = apart(module, compiled=False)
        with batch_norm_mode(module, self.batch_norm):
            return module.backbone(rows)

    def features_of(
        self, reader: Callable[[NDArray[Any]], Tensor], rows: NDArray[Any]
    ) -> NDArray[np.float64]:
        """Return the features of rows as the trained net has them.

        Parameters
        ----------
        reader : callable
            ``reader(rows)``, the samples that the backbone takes.
        rows : ndarray of shape (n, ...)
            Rows of arrays, in memory or on disk.

        Returns
        -------
        ndarray of shape (n, d)

        Raises
        ------
        DivergenceError
            If one is not finite.
        """

        def run(part: NDArray[Any]) -> NDArray[Any]:
            return self.features(reader(part)).double().cpu().numpy()

        self._set_training(False)
        with torch.no_grad():
            whole = self.batch_norm == "episode"
            found = run(rows) if whole else in_passes(run, rows)
        if not np.isfinite(found).all():
            refuse_infinite_rows(found, "features")
        return found

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

    def get_params_for_optimizer(
        self, prefix: str, named_parameters: Iterator[tuple[str, nn.Parameter]]
    ) -> Any:
        """Return what the optimiser is made with; Adam takes a step in one call."""
        named = list(named_parameters)
        args, kwargs = super().get_params_for_optimizer(prefix, named)
        if self.optimizer in _FUSED and not kwargs.keys() & _WAYS_OF_ADAM:
            kwargs |= fused_on_cpu(parameter for _, parameter in named)
        return args, kwargs

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """Scale losses from here on, if the backbone runs in float16."""
        super().on_train_begin(*args, **kwargs)
        self.scaler_ = loss_scaler(self.module_.backbone, self.device)

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        """Drop the scale and the processes, which are no part of the trained net."""
        super().on_train_end(*args, **kwargs)
        self.scaler_ = self.processes_ = None
        self._set_training(False)  # as every prediction leaves it

    def on_grad_computed(self, *args: Any, **kwargs: Any) -> None:
        """Take the scale from the gradients, before callbacks see them."""
        if self.scaler_ is not None:
            self.scaler_.unscale_(self.optimizer_)
        super().on_grad_computed(*args, **kwargs)

    def _scaled(self, loss: Tensor) -> Tensor:
        return loss if self.scaler_ is None else self.scaler_.scale(loss)

    def _step_optimizer(self, step_fn: Callable[[], Any]) -> None:
        if self.scaler_ is None:
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
                "accelerate=True divides the tasks of a step, which are standardised "
                "together. Got normalize_codes=True; set it to False or train in one "
                "process."
            )
        processes.check_start(self.module_)
        stream.share(processes.rank, processes.number)
        self.processes_ = processes

    def get_iterator(self, dataset: EpisodeStream, training: bool = False) -> Any:
        """Return a stream as it is: it is its own iterator."""
        return dataset

    def check_data(self, X: Any, y: Any = None) -> None:
        """Check nothing: streams come ready."""


def has_batch_norm(module: nn.Module) -> bool:
    """Tell whether a module holds a batch-norm layer anywhere.

    Parameters
    ----------
    module : torch.nn.Module
        Searched at any depth.

    Returns
    -------
    found : bool

    Examples
    --------
    >>> from torch import nn
    >>> from skcausalmeta.training import has_batch_norm
    >>> has_batch_norm(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)))
    True
    """
    return any(isinstance(layer, _BatchNorm) for layer in module.modules())


def loss_scaler(backbone: nn.Module, device: Any) -> GradScaler | None:
    """Return what scales the losses of a backbone in float16, None in other types."""
    if isinstance(backbone, PreparedBackbone) and backbone.precision == "float16":
        return GradScaler(torch.device(device).type)
    return None


def refuse_infinite_rows(values: NDArray[Any], what: str) -> None:
    """Refuse what a net gave for rows, with the number of those that are not finite.

    Parameters
    ----------
    values : ndarray of shape (n, ...)
        Features or scores of rows.
    what : str
        What they are.

    Raises
    ------
    DivergenceError
        If one is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.training import refuse_infinite_rows
    >>> refuse_infinite_rows(np.ones((2, 3)), "features")
    """
    lost = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))
    if len(lost):
        raise DivergenceError(
            f"The {what} of every row must be finite. Got NaN or infinity for "
            f"{len(lost)} of {len(values)} rows (first: row {lost[0]}); scale the rows "
            "to those of fit, or fit again with a lower lr."
        )


def place_in(history: Any) -> str:
    """Return the step and epoch that training is in."""
    return f"step {len(history[-1]['batches'])} of epoch {len(history)}"


def check_finite_loss(loss: Tensor, history: Any, remedy: str) -> None:
    """Refuse a loss that is not finite.

    Parameters
    ----------
    loss : Tensor of shape ()
        Loss of a training step.
    history : skorch.history.History
        History of the net, which tells the step and epoch.
    remedy : str
        What to do, for the message.

    Raises
    ------
    DivergenceError
        With the step and epoch, and what to do.

    Examples
    --------
    >>> import torch
    >>> from skorch.history import History
    >>> from skcausalmeta.exceptions import DivergenceError
    >>> from skcausalmeta.training import check_finite_loss
    >>> history = History()
    >>> history.new_epoch()
    >>> history.new_batch()
    >>> try:
    ...     check_finite_loss(torch.tensor(torch.inf), history, "lower lr")
    ... except DivergenceError as error:
    ...     print(error)
    The loss of training must stay finite. Got inf in step 1 of epoch 1; lower lr.
    """
    value = float(loss.detach())
    if not math.isfinite(value):
        raise DivergenceError(
            f"The loss of training must stay finite. Got {value} in "
            f"{place_in(history)}; {remedy}."
        )


def check_features(features: list[Tensor], history: Any, remedy: str) -> None:
    """Refuse features that are not finite.

    Raises
    ------
    DivergenceError
        With the step and epoch, and what to do.
    """
    with torch.no_grad():
        every = torch.cat(features)
        # Their sum is finite where all are, unless it overflows.
        finite = math.isfinite(every.sum()) or bool(torch.isfinite(every).all())
    if not finite:
        raise DivergenceError(
            "The features of training must stay finite. Got NaN or infinity in "
            f"{place_in(history)}; {remedy}."
        )


def check_finite_weights(module: nn.Module) -> None:
    """Refuse a module that the last step of training left without finite weights.

    Parameters
    ----------
    module : torch.nn.Module
        The trained module.

    Raises
    ------
    DivergenceError
        With the name of the first parameter that is not finite.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.exceptions import DivergenceError
    >>> from skcausalmeta.training import check_finite_weights
    >>> layer = torch.nn.Linear(1, 1)
    >>> check_finite_weights(layer)
    >>> _ = torch.nn.init.constant_(layer.bias, torch.nan)
    >>> try:
    ...     check_finite_weights(layer)
    ... except DivergenceError as error:
    ...     print(str(error)[:59])
    The weights must stay finite. Got NaN or infinity in 'bias'
    """
    for name, value in module.named_parameters():
        if not bool(torch.isfinite(value.detach()).all()):
            raise DivergenceError(
                "The weights must stay finite. Got NaN or infinity in "
                f"{name!r} after the last step of training; lower lr, or scale the "
                "rows."
            )
