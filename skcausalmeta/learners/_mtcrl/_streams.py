"""Rows, targets and environments of a multi-task training, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...exceptions import InvalidInputError
from ...training import ReadRows, Validation
from ...utils import stays_on_disk

# Values that the standardisation of rows on disk is computed from, at most.
_MOST_VALUES = 2**25
# Rows on disk that are validated at once.
_ROWS_AT_ONCE = 2000
_N_FOLDS = 2


class RowBatch(NamedTuple):
    """Some rows with targets and environments."""

    rows: Tensor  # (n, *sample_shape)
    targets: Tensor  # (n_tasks, n, n_pixels), NaN: missing
    envs: Tensor  # (n,)
    weights: Tensor | None = None  # (n,), None: all are 1

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def n_pixels(self) -> int:
        """Number of targets of a row for every task."""
        return self.targets.shape[2]

    def known_targets(self) -> tuple[Tensor, Tensor]:
        """Return targets (n_tasks, n * n_pixels), and weights; both 0 if missing."""
        targets = self.targets.flatten(1)
        known = targets.isfinite()
        weights = known.to(targets.dtype)
        if self.weights is not None:
            weights = weights * self.weights.repeat_interleave(self.n_pixels)
        return torch.where(known, targets, 0.0), weights


class RowStream:
    """Source of mini-batches, one pass of which is an epoch.

    Parameters
    ----------
    rows : Tensor of shape (n, ...), or ReadRows
        Rows; those on disk are read by batch.
    targets : Tensor of shape (n_tasks, n, n_pixels)
        Class numbers or standardised values, NaN where a label is missing.
    envs : Tensor of shape (n,)
        Environment numbers 0..E-1.
    batch_size : int
        Most rows of a batch; those of an epoch are equal but for one row.
    seed : int, default=None
        Seed of the order. None: rows stay in order.
    weights : Tensor of shape (n,), default=None
        Weights of the rows in the losses. None: 1.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.learners._mtcrl._streams import RowStream
    >>> rows, envs = torch.zeros(10, 3), torch.zeros(10, dtype=torch.long)
    >>> [len(b) for b in RowStream(rows, torch.zeros(1, 10, 1), envs, 4, seed=0)]
    [4, 3, 3]
    """

    def __init__(
        self,
        rows: Tensor | ReadRows,
        targets: Tensor,
        envs: Tensor,
        batch_size: int,
        seed: int | None = None,
        weights: Tensor | None = None,
    ) -> None:
        self._rows, self._targets, self._envs = rows, targets, envs
        self._weights = weights
        self.batch_size = min(batch_size, len(rows))
        self._generator = (
            None if seed is None else torch.Generator(device="cpu").manual_seed(seed)
        )
        self.n_envs = int(envs.max()) + 1
        # (n_tasks,): share of labelled rows, which the loss of a task is divided by.
        known = targets.isfinite().float()
        if weights is not None:
            known = known * weights[:, None]
        self.labelled = known.mean(dim=(1, 2))

    @property
    def generators(self) -> dict[str, Any]:
        """Random generator of the order, by name."""
        return {} if self._generator is None else {"order": self._generator}

    def __len__(self) -> int:
        return -(-len(self._rows) // self.batch_size)

    def __iter__(self) -> Iterator[RowBatch]:
        rows, targets, envs = self._rows, self._targets, self._envs
        n = len(rows)
        order = (
            torch.arange(n)
            if self._generator is None
            else torch.randperm(n, generator=self._generator)
        ).to(rows.device)
        # Equal parts: a short last batch would make the invariance a noisy one.
        for index in order.tensor_split(len(self)):
            weights = None if self._weights is None else self._weights[index]
            yield RowBatch(rows[index], targets[:, index], envs[index], weights)


def row_streams(
    rows: Tensor | ReadRows,
    encoded: NDArray[np.float32],
    envs: NDArray[Any],
    held_out: NDArray[Any],
    batch_size: int,
    seed: int,
    weights: NDArray[Any] | None = None,
) -> tuple[RowStream, RowStream | None]:
    """Return streams of the rows to train on, and of those held out, if there are.

    Parameters
    ----------
    rows : Tensor of shape (n, ...), or ReadRows
        Samples.
    encoded : ndarray of shape (n_tasks, n, n_pixels)
        Encoded targets.
    envs : ndarray of shape (n,)
        Environment numbers.
    held_out : ndarray of shape (n,)
        Whether a row is held out.
    batch_size : int
        Most rows of a training step.
    seed : int
        Decides the order of the training rows.
    weights : ndarray of shape (n,), default=None
        Weights of the rows, of any scale. None: all weigh the same.
    """
    targets = torch.from_numpy(encoded).to(rows.device)
    numbers = torch.from_numpy(envs).to(rows.device)

    def part(index: NDArray[Any], seed: int | None) -> RowStream:
        places = np.flatnonzero(index)
        where = torch.from_numpy(places).to(rows.device)
        some = rows[where] if isinstance(rows, Tensor) else rows.part(places)
        size = batch_size if seed is not None else len(where)
        if not isinstance(rows, Tensor):
            size = min(size, max(batch_size, _ROWS_AT_ONCE))
        own = None
        if weights is not None:
            own = torch.from_numpy(weights[places] / weights[places].mean())
            own = own.to(some.device, torch.float32)
        return RowStream(some, targets[:, where], numbers[where], size, seed, own)

    train = part(~held_out, seed)
    return train, part(held_out, None) if held_out.any() else None


def held_out_rows(
    validation: Validation | None, n_rows: int, seed: int
) -> NDArray[np.bool_]:
    """Tell which rows are held out of training.

    Raises
    ------
    InvalidInputError
        If the validation names what to hold out, or leaves no row on a side.
    """
    held_out = np.zeros(n_rows, dtype=bool)
    if validation is None:
        return held_out
    if validation.share is None:
        raise InvalidInputError(
            "A multi-task learner holds out rows, so 'held_out' of its validation must "
            f"be a share in (0, 1). Got {validation.held_out!r}."
        )
    size = round(validation.share * n_rows)
    if not 1 <= size < n_rows:
        raise InvalidInputError(
            "The share held out for validation must leave rows on both sides. Got "
            f"{validation.share} of {n_rows} rows."
        )
    order = np.random.RandomState(seed).permutation(n_rows)
    held_out[order[:size]] = True
    return held_out


def env_numbers(ids: NDArray[Any] | None, n_rows: int, seed: int) -> NDArray[Any]:
    """Number the environments of rows; without ids those of random folds."""
    if ids is not None:
        return np.unique(ids, return_inverse=True)[1].astype(np.int64)
    folds = np.arange(n_rows) % min(_N_FOLDS, n_rows)
    return np.random.RandomState(seed).permutation(folds)


def statistics_rows(rows: NDArray[Any], chosen: NDArray[Any]) -> NDArray[np.intp]:
    """Return the positions of the rows to standardise inputs by: all, if they fit."""
    index = np.flatnonzero(chosen)
    most = max(1, _MOST_VALUES // int(np.prod(rows.shape[1:])))
    if len(index) > most and stays_on_disk(rows):
        index = index[np.linspace(0, len(index) - 1, most).astype(np.intp)]
    return index
