"""What an interrupted training keeps, and says so."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import EarlyStopping
from torch import nn
from torch.jit import ScriptModule
from torch.nn.modules.batchnorm import _BatchNorm

from ..exceptions import InterruptedFitWarning

_REMEDY = "fit again, or with a checkpoint_path, from which the next fit goes on"

# Exchanged for a moment, beside parameters.
_OF_BATCH_NORM = ("forward", "momentum")


class InterruptibleNet(NeuralNet):
    """skorch net that says what an interrupted training keeps.

    `KeyboardInterrupt` ends the training. Parameters, and methods and momenta of batch
    norm, that were exchanged for a moment when it came are back in their places.
    skorch's ``EarlyStopping`` raises the same to end a training that has stopped to
    improve, which is no interruption.

    Attributes
    ----------
    interrupted_ : bool
        Whether the last training was.

    Examples
    --------
    >>> import warnings
    >>> import torch
    >>> from torch import nn
    >>> from skcausalmeta.training._interruption import InterruptibleNet
    >>> class Impatient(InterruptibleNet):
    ...     def run_single_epoch(self, *args, **kwargs):
    ...         raise KeyboardInterrupt
    >>> net = Impatient(nn.Linear, module__in_features=2, module__out_features=1,
    ...                 criterion=nn.MSELoss, train_split=None, verbose=0)
    >>> with warnings.catch_warnings(record=True) as found:
    ...     warnings.simplefilter("always")
    ...     interrupted = net.fit(torch.zeros(1, 2), torch.zeros(1, 1)).interrupted_
    >>> interrupted, found[0].category.__name__
    (True, 'InterruptedFitWarning')
    """

    interrupted_: bool = False

    def fit_loop(
        self, X: Any, y: Any = None, epochs: int | None = None, **fit_params: Any
    ) -> InterruptibleNet:
        """Train for some epochs; a `KeyboardInterrupt` ends it with a warning.

        Warns
        -----
        InterruptedFitWarning
            With the place it came in, and what is kept.
        """
        places: list[tuple[nn.Module, dict[str, Any]]] = []
        try:
            places = _places(self.module_)
            super().fit_loop(X, y, epochs, **fit_params)
        except KeyboardInterrupt:
            for layer, own in places:
                _put_back(layer, own)
            if _ran_out_of_patience(self):
                return self
            self.interrupted_ = True
            self._tell()
        else:
            self.__dict__["interrupted_"] = False
        return self

    def partial_fit(
        self, X: Any, y: Any = None, classes: Any = None, **fit_params: Any
    ) -> InterruptibleNet:
        """Train, and say so where an interruption comes just before the epochs.

        Warns
        -----
        InterruptedFitWarning
            With the place it came in, and what is kept.
        """
        self.__dict__.pop("interrupted_", None)
        super().partial_fit(X, y, classes, **fit_params)
        # skorch hides an interruption on the way into its loop.
        if "interrupted_" not in self.__dict__:
            self.interrupted_ = True
            self._tell()
        elif not self.interrupted_:
            self.__dict__.pop("interrupted_")
        return self

    def _tell(self) -> None:
        warnings.warn(
            f"Training was interrupted {_moment(self)}. Kept are {_kept(self)}; "
            f"{_REMEDY}, to train longer.",
            InterruptedFitWarning,
            stacklevel=3,
        )


@contextmanager
def fitting(learner: Any) -> Iterator[None]:
    """Follow gradients in a block, and say so where an interruption leaves it.

    Gradients are followed whatever torch was told outside: `fit` may stand in a block
    of ``torch.no_grad()`` or ``torch.inference_mode()``, or come after a call whose
    interruption left torch in such a mode.

    Parameters
    ----------
    learner : estimator
        The one that is being fitted.

    Warns
    -----
    InterruptedFitWarning
        Before the `KeyboardInterrupt` goes on.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.training import fitting
    >>> with torch.no_grad(), fitting(None):
    ...     print(torch.is_grad_enabled())
    True
    """
    try:
        with torch.inference_mode(mode=False), torch.enable_grad():
            yield
    except KeyboardInterrupt:
        state = "fitted before" if hasattr(learner, "net_") else "not fitted"
        warnings.warn(
            "Training was interrupted before or after its epochs. Nothing of this fit "
            f"is kept: the {type(learner).__name__} is as it was, {state}; {_REMEDY}.",
            InterruptedFitWarning,
            stacklevel=4,
        )
        raise


def _places(module: nn.Module) -> list[tuple[nn.Module, dict[str, Any]]]:
    """Return what may be exchanged in every layer, as it stands before training."""
    return [(layer, _own(layer)) for layer in module.modules()]


def _own(layer: nn.Module) -> dict[str, Any]:
    if isinstance(layer, ScriptModule):
        return dict(layer.named_parameters(recurse=False))
    names = _OF_BATCH_NORM if isinstance(layer, _BatchNorm) else ()
    kept = {name: vars(layer)[name] for name in names if name in vars(layer)}
    return {"_parameters": dict(layer._parameters), **kept}


def _put_back(layer: nn.Module, own: dict[str, Any]) -> None:
    if isinstance(layer, ScriptModule):
        for name, parameter in own.items():
            setattr(layer, name, parameter)
        return
    if isinstance(layer, _BatchNorm):
        for name in _OF_BATCH_NORM:
            vars(layer).pop(name, None)
    vars(layer).update(own)


def _moment(net: NeuralNet) -> str:
    if not len(net.history):
        return "before its first epoch"
    steps = len(net.history[-1]["batches"])
    return f"in step {max(1, steps)} of epoch {len(net.history)} of {net.max_epochs}"


def _ran_out_of_patience(net: NeuralNet) -> bool:
    """Tell whether the training ended by itself, through an ``EarlyStopping``."""
    stopping = (c for _, c in net.callbacks_ if isinstance(c, EarlyStopping))
    return any(callback.misses_ >= callback.patience for callback in stopping)


def _kept(net: NeuralNet) -> str:
    for _, callback in net.callbacks_:
        restores = isinstance(callback, EarlyStopping) and callback.load_best
        if restores and getattr(callback, "best_model_weights_", None) is not None:
            return "the best weights of the validated epochs"
    return "the weights of that moment" if len(net.history) else "the first weights"
