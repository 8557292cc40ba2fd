"""What learners hand to skorch."""

from __future__ import annotations

from typing import Any

import torch
from skorch.callbacks import EarlyStopping

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


def _silent(*args: Any) -> None:
    """Sink of messages."""
