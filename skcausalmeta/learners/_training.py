"""What learners hand to skorch."""

from __future__ import annotations

import copy
from os import fspath
from typing import Any

import torch
from numpy.typing import NDArray
from skorch.callbacks import EarlyStopping

from ..training import TrainingCheckpoint, WarmStart, check_weights
from ._fit_facts import fit_facts

OPTIMIZERS: dict[Any, Any] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}


def best_weights(
    monitor: str, patience: int, *, lower_is_better: bool = True
) -> tuple[str, EarlyStopping]:
    """Callback that stops without progress and restores the best weights."""
    stopping = EarlyStopping(
        monitor=monitor,
        lower_is_better=lower_is_better,
        patience=patience,
        threshold=0.0,
        load_best=True,
        sink=_silent,
    )
    return "best_weights", stopping


def copied_callbacks(given: list[Any] | None) -> list[Any]:
    """Copies, since skorch changes callbacks and parameters must stay as given.

    Not deep ones: what a callback writes to is the caller's.
    """
    return [
        (one[0], copy.copy(one[1])) if isinstance(one, tuple) else copy.copy(one)
        for one in given or []
    ]


def checkpoint_of(
    learner: Any, rows: NDArray[Any], *others: NDArray[Any] | None
) -> TrainingCheckpoint | None:
    """The checkpoint that a learner asks for, if it does, for its fit on this data."""
    if learner.checkpoint_path is None:
        return None
    path = fspath(learner.checkpoint_path)
    return TrainingCheckpoint(path, fit_facts(learner, rows, *others))


def train(
    learner: Any, net: Any, streams: Any, checkpoint: TrainingCheckpoint | None
) -> None:
    """Train the net of a learner, on from its fit before or from its checkpoint.

    Raises
    ------
    InvalidInputError
        If the weights of the fit before have other sizes.
    DivergenceError
        If the last step left weights that are not finite.
    """
    if learner.warm_start and hasattr(learner, "net_"):
        warm_start = WarmStart(learner.net_.module_)
        net.callbacks = [*(net.callbacks or []), ("warm_start", warm_start)]
    if checkpoint is None:
        net.fit(streams)
    else:
        net.callbacks = [*(net.callbacks or []), ("checkpoint", checkpoint)]
        checkpoint.train(net, streams)
    check_weights(net.module_)


def _silent(*args: Any) -> None:
    """Sink of messages."""
