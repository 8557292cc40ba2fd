"""Progress bar of the training loop."""

from __future__ import annotations

import time
from typing import Any

from skorch.callbacks import Callback
from tqdm.auto import tqdm


class TaskProgress(Callback):
    """One bar over all epochs: loss, validation accuracy, tasks per second.

    Parameters
    ----------
    n_batches : int
        Training steps of one epoch.

    Examples
    --------
    >>> from skcausalmeta.training import TaskProgress
    >>> TaskProgress(n_batches=50).n_batches
    50
    """

    def __init__(self, n_batches: int) -> None:
        self.n_batches = n_batches

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        """Open the bar."""
        self.bar_ = tqdm(total=net.max_epochs * self.n_batches, unit="step", leave=True)
        self.start_, self.n_tasks_ = time.perf_counter(), 0
        self.figures_: dict[str, str] = {}

    def skip(self, n_epochs: int) -> None:
        """Start behind epochs that were trained before."""
        self.bar_.update(n_epochs * self.n_batches)

    def on_batch_end(
        self, net: Any, batch: Any = None, training: bool = False, **kwargs: Any
    ) -> None:
        """Advance by one training step."""
        if not training:
            return
        self.n_tasks_ += len(batch)
        seconds = time.perf_counter() - self.start_
        self.figures_["loss"] = f"{float(kwargs['loss']):.3f}"
        self.figures_["tasks/s"] = f"{self.n_tasks_ / seconds:.1f}"
        self.bar_.set_postfix(self.figures_, refresh=False)
        self.bar_.update()

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Show the accuracy on held-out classes, or the loss on held-out tasks."""
        row = net.history[-1]
        if "valid_accuracy" in row:
            self.figures_["valid"] = f"{100 * row['valid_accuracy']:.1f}%"
        elif "valid_loss" in row:
            self.figures_["valid"] = f"{row['valid_loss']:.3f}"

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """Close the bar and drop it: it cannot be pickled with the net."""
        self.bar_.close()
        del self.bar_
