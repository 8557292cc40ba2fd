"""How many epochs around a common predictor help tasks that are held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tqdm.auto import tqdm

from ...training import DeviationNet, EpisodeStream, padded

# An epoch that ends a search is followed by so many that are no better; what is found
# has to lower the loss by that much.
_PATIENCE, _WORTH = 5, 0.005


@dataclass(frozen=True)
class EpochTrial:
    """A training that leaves some tasks out.

    Parameters
    ----------
    net : DeviationNet
        Not trained.
    train, valid : EpisodeStream
        Episodes of its tasks, and of those that are left out.
    """

    net: DeviationNet
    train: EpisodeStream
    valid: EpisodeStream

    def take(self) -> bool:
        """Train one epoch, and tell whether it was interrupted."""
        self.net.partial_fit((self.train, None), epochs=1)
        return self.net.interrupted_

    def loss(self) -> float:
        """Return the mean loss of what is left out, as the net is."""
        self.net._set_training(False)
        with torch.no_grad():
            found = [
                self.net.task_losses(
                    self.net.head,
                    padded(batch.tasks, *self.net._task_features(batch.tasks)),
                )[0]
                for batch in self.valid
            ]
        return float(torch.cat(found).mean())


def helping_epochs(
    trials: Sequence[EpochTrial], most: int, n_folds: int, verbose: bool = False
) -> int | None:
    """Return the number of epochs after which held-out tasks are answered best.

    The trainings go on side by side, each with another fold of the tasks left out,
    until their mean loss has not fallen for five epochs. One fold alone says little: an
    epoch that helps some people may harm others. A training on all tasks has more of
    them, n / (n - 1) times as many with n folds, and goes on for as much longer.

    Parameters
    ----------
    trials : sequence of EpochTrial
        One a fold.
    most : int
        Epochs at most.
    n_folds : int
        Folds of the tasks, 2 at least; there may be fewer trials.
    verbose : bool, default=False
        Whether a bar shows the epochs.

    Returns
    -------
    int or None
        0, if the loss does not fall by half a percent; None, if a training was
        interrupted.
    """
    losses = [_mean_loss(trials)]
    best = 0
    for epoch in tqdm(range(1, most + 1), unit="trial epoch", disable=not verbose):
        if any(trial.take() for trial in trials):
            return None
        losses.append(_mean_loss(trials))
        if losses[epoch] < losses[best]:
            best = epoch
        elif epoch - best >= _PATIENCE:
            break
    if losses[best] > losses[0] * (1.0 - _WORTH):
        return 0
    return min(round(best * n_folds / (n_folds - 1)), most)


def _mean_loss(trials: Sequence[EpochTrial]) -> float:
    return float(np.mean([trial.loss() for trial in trials]))
