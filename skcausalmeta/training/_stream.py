"""Streams of meta-batches of episodes, from rows in memory or on disk."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..backbones import Augmentation
from ..episodes import Episode
from ..exceptions import InvalidInputError
from ..utils import read_rows, release_pages

_CHANNEL_COUNTS = (1, 3, 4)
_ROWS_PER_PASS = 256
_ROWS_PER_BLOCK = 4
_ROWS_LOOKED_AT = 1000
# Whole number from which on floats of so many bytes stand for its neighbours too.
_FIRST_ROUNDED = {2: 2**11, 4: 2**24, 8: 2**53}


class RowReader:
    """Turns rows of arrays into tensors of one sample shape.

    Parameters
    ----------
    row_shape : tuple of int
        Shape of a row of the arrays to come.
    input_shape : tuple of int, default=None
        Shape (channels, height, width), (height, width) or any other that the
        rows are reshaped to. None: images (height, width) get a channel axis;
        of (a, b, c) the channels are the last axis if only that one has 1, 3 or
        4 entries, else the first.
    device : str or torch.device, default="cpu"
        Where the tensors live.
    images : bool, default=True
        Whether samples of two or three axes are images. If not, they stay as they
        are: no axis is added or moved.
    integers : bool, default=False
        Whether samples are whole numbers, int64, and stay exact. Else they are float32.
    seen_dtype : dtype, default=None
        Type of the rows that a learner was fitted on.

    Attributes
    ----------
    seen_most : float or None
        Largest value of the images that a learner was fitted on, if not bytes.
    sample_shape : tuple of int
        What the backbone gets: (p,), (channels, height, width) or as given.

    Raises
    ------
    InvalidInputError
        If `input_shape` has another number of entries than a row.

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.training import RowReader
    >>> reader = RowReader((32, 32, 3))
    >>> reader(np.zeros((2, 32, 32, 3), dtype=np.uint8)).shape
    torch.Size([2, 3, 32, 32])
    """

    seen_most: float | None = None

    def __init__(
        self,
        row_shape: tuple[int, ...],
        input_shape: Sequence[int] | None = None,
        device: str | torch.device = "cpu",
        *,
        images: bool = True,
        integers: bool = False,
        seen_dtype: np.dtype[Any] | None = None,
    ) -> None:
        self.row_shape = tuple(row_shape)
        self.device = torch.device(device)
        self.integers, self.seen_dtype = integers, seen_dtype
        shape = self.row_shape if input_shape is None else tuple(input_shape)
        if math.prod(shape) != math.prod(self.row_shape):
            raise InvalidInputError(
                "The 'input_shape' parameter must have as many entries as a row of X. "
                f"Got input_shape={shape} ({math.prod(shape)} entries) for rows of "
                f"shape {self.row_shape} ({math.prod(self.row_shape)} entries)."
            )
        self._shape = shape
        self._channels_last = (
            images
            and len(shape) == 3
            and shape[2] in _CHANNEL_COUNTS
            and shape[0] not in _CHANNEL_COUNTS
        )
        self.sample_shape = shape
        if images and len(shape) == 2:
            self.sample_shape = (1, *shape)
        elif self._channels_last:
            self.sample_shape = (shape[2], *shape[:2])

    def check(self, X: NDArray[Any]) -> None:
        """Refuse rows of another shape.

        Raises
        ------
        ValueError
            With the shape expected and the one found.
        """
        if X.shape[1:] != self.row_shape:
            raise InvalidInputError(
                f"Rows must have the shape seen in fit, {self.row_shape}. "
                f"Got {X.shape[1:]}."
            )

    def __call__(self, X: NDArray[Any]) -> Tensor:
        """Return a tensor (n, *sample_shape); bytes of images are scaled to 0 to 1.

        Raises
        ------
        InvalidInputError
            If a value is beyond single precision, or no whole number where samples
            are integers.
        """
        rows = _whole_numbers(X) if self.integers else _single_precision(X)
        tensor = torch.from_numpy(rows if rows.flags.writeable else rows.copy())
        tensor = tensor.to(self.device)
        if self.scales_bytes and X.dtype == np.uint8:
            tensor = tensor / 255.0
        return self.arranged(tensor)

    @property
    def scales_bytes(self) -> bool:
        """Whether bytes are pixels, which are scaled to the range 0 to 1.

        Rows of images that were seen as other numbers stay in their units.
        """
        images = not self.integers and len(self._shape) in (2, 3)
        # By identity first: numpy takes None for the name of float64.
        return images and (self.seen_dtype is None or self.seen_dtype == np.uint8)

    def remember(self, rows: Any) -> None:
        """Take the rows of a fit for those that others are compared with."""
        self.seen_dtype = rows.dtype
        if rows.ndim > 2 and rows.dtype != np.uint8:
            self.seen_most = largest(rows)

    def of_seen_kind(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return rows of images in the kind and the units of those that were seen.

        After bytes, whole numbers from 0 to 255 are bytes too, and fractions from 0 to
        1 are pixels that are scaled already. After other numbers, bytes are the
        numbers that they are. What could be either is refused.

        Raises
        ------
        InvalidInputError
            With the values expected and those found.
        """
        seen = self.seen_dtype
        if seen is None or self.integers or len(self._shape) not in (2, 3):
            return rows
        if (rows.dtype == np.uint8) == (seen == np.uint8):
            return rows
        if seen == np.uint8:
            return _as_pixels(rows)
        most = self.seen_most
        if most is not None and most <= 1.0 and largest(rows) > 1.0:
            raise InvalidInputError(
                f"Rows must be in the units of those seen in fit, {seen} up to "
                f"{most:g}. Got bytes (uint8) up to {largest(rows):g}; pass them as "
                "X / 255, or as in fit."
            )
        return rows

    def arranged(self, rows: Tensor) -> Tensor:
        """Return rows in the shape of samples, ``(n, *sample_shape)``."""
        n_rows = rows.shape[0]  # a symbol while a graph is drawn, where len is a number
        rows = rows.reshape(n_rows, *self._shape)
        if self._channels_last:
            return rows.permute(0, 3, 1, 2).contiguous()
        return rows.reshape(n_rows, *self.sample_shape)


def largest(rows: Any) -> float:
    """Return the largest value of rows; of those on disk, that of a thousand."""
    if type(rows) is not np.ndarray:
        step = -(-len(rows) // _ROWS_LOOKED_AT)
        rows = read_rows(rows, np.arange(0, len(rows), step))
    return float(rows.max())


def _as_pixels(rows: Any) -> NDArray[Any]:
    """Return numbers as bytes of pixels, or as fractions of the brightest.

    Raises
    ------
    InvalidInputError
        If they could be either, or neither.
    """
    on_disk = type(rows) is not np.ndarray
    values = rows
    if on_disk:
        step = -(-len(rows) // _ROWS_LOOKED_AT)
        values = read_rows(rows, np.arange(0, len(rows), step))
    low, high = float(values.min()), float(values.max())
    whole = values.dtype.kind in "iub" or bool((values == np.trunc(values)).all())
    if low == high == 0.0 or (low >= 0.0 and high <= 1.0 and not whole):
        kept: NDArray[Any] = rows
        return kept
    bytes_too = whole and low >= 0.0 and 1.0 < high <= 255.0
    if bytes_too and not on_disk:
        return values.astype(np.uint8)
    raise InvalidInputError(
        "Images must come as in fit, as bytes (uint8) from 0 to 255; whole numbers in "
        "memory with a value above 1 are taken for such, and fractions from 0 to 1 for "
        f"bytes / 255. Got {values.dtype} from {low:g} to {high:g}; convert them to "
        "uint8."
    )


def _single_precision(X: NDArray[Any]) -> NDArray[np.float32]:
    try:
        with np.errstate(over="raise"):
            return np.ascontiguousarray(X, dtype=np.float32)
    except FloatingPointError as error:
        raise InvalidInputError(
            "Rows must fit single precision, up to 3.4e38. Got a larger value; "
            "scale the features."
        ) from error


def _whole_numbers(X: NDArray[Any]) -> NDArray[np.int64]:
    """Return rows as int64, none of them rounded, by this or by what came before."""
    values = np.asarray(X)
    lost = np.zeros(0, dtype=bool)
    if values.dtype.kind == "f":
        most = _FIRST_ROUNDED.get(values.dtype.itemsize, 2**53)
        lost = (values != np.trunc(values)) | (np.abs(values) >= most)
    elif values.dtype == np.uint64:
        lost = values > np.iinfo(np.int64).max
    if lost.any():
        raise InvalidInputError(
            "The backbone takes rows of integers. Got "
            f"{values[lost].flat[0]} of type {values.dtype}, which is no whole number "
            "or may have been rounded to one; pass integers, or give the backbone the "
            "attribute integer_rows = False."
        )
    return np.ascontiguousarray(values, dtype=np.int64)


def in_blocks(
    function: Callable[[NDArray[Any]], NDArray[Any]], rows: NDArray[Any], size: int
) -> NDArray[Any]:
    """Apply a function of rows to whole blocks of `size` rows.

    A product with one row takes another path through the processor than one with
    many. Filled up with copies of a row, the last digits of a result, and the
    class where two are tied, do not depend on which rows come together.

    Parameters
    ----------
    function : callable
        ``function(rows)``, an array with as many rows.
    rows : ndarray of shape (n, ...)
        Any number of rows.
    size : int
        Rows of a block.

    Returns
    -------
    ndarray of shape (n, ...)

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.training import in_blocks
    >>> in_blocks(lambda rows: rows * len(rows), np.ones(3), 4)
    array([4., 4., 4.])
    """
    missing = -len(rows) % size
    if missing == 0:
        return function(rows)
    filled = np.concatenate([rows, np.repeat(rows[:1], missing, axis=0)])
    return function(filled)[: len(rows)]


def in_parts(n: int, size: int) -> Iterator[slice]:
    """Yield slices that cut n items into parts of `size`, the last one shorter.

    Parameters
    ----------
    n : int
        Number of items: rows or tasks.
    size : int
        Most items of a part.

    Yields
    ------
    slice

    Examples
    --------
    >>> from skcausalmeta.training import in_parts
    >>> list(in_parts(5, 3))
    [slice(0, 3, None), slice(3, 5, None)]
    """
    for begin in range(0, n, size):
        yield slice(begin, min(begin + size, n))


def in_passes(
    function: Callable[[NDArray[Any]], NDArray[Any]], rows: NDArray[Any]
) -> NDArray[Any]:
    """Apply a function of rows, each on its own, to some rows at a time.

    Parameters
    ----------
    function : callable
        ``function(rows)``, an array with as many rows.
    rows : ndarray of shape (n, ...)
        In memory, or a memory map, which is read by parts.

    Returns
    -------
    ndarray of shape (n, ...)

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.training import in_passes
    >>> in_passes(np.sqrt, np.array([1.0, 4.0]))
    array([1., 2.])
    """
    parts = []
    for begin in range(0, len(rows), _ROWS_PER_PASS):
        part = rows[begin : begin + _ROWS_PER_PASS]
        whole = len(part) % _ROWS_PER_BLOCK == 0
        found = function(part) if whole else in_blocks(function, part, _ROWS_PER_BLOCK)
        parts.append(found)
        if isinstance(rows, np.memmap):
            release_pages(rows)
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


class ReadRows:
    """Some rows of an array on disk, indexed like a tensor of samples.

    Parameters
    ----------
    X : array of shape (n, ...)
        A memory map, or `StoredRows`.
    reader : RowReader
        From rows to tensors.
    where : ndarray of shape (n_rows,), default=None
        Rows to show, in this order. None: all.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from skcausalmeta.training import ReadRows, RowReader
    >>> rows = ReadRows(np.arange(8.0).reshape(4, 2), RowReader((2,)), np.array([3, 1]))
    >>> rows[torch.tensor([0])]
    tensor([[6., 7.]])
    """

    def __init__(
        self, X: Any, reader: RowReader, where: NDArray[Any] | None = None
    ) -> None:
        self._X, self._reader = X, reader
        self._where = np.arange(len(X)) if where is None else where
        self.device: torch.device = reader.device

    def __len__(self) -> int:
        return len(self._where)

    def __getitem__(self, index: Tensor) -> Tensor:
        return self._reader(read_rows(self._X, self._where[index.cpu().numpy()]))

    def part(self, where: NDArray[Any]) -> ReadRows:
        """Return some of these rows, by position, still on disk."""
        return ReadRows(self._X, self._reader, self._where[where])


class EpisodeTensors(NamedTuple):
    """One episode as tensors.

    Parameters
    ----------
    support : Tensor of shape (n_support, ...)
        Rows to learn from.
    query : Tensor of shape (n_query, ...)
        Rows to predict.
    support_targets : Tensor of shape (n_support,)
        Classes 0, ..., n_way - 1 of the support rows, or their real targets.
    query_targets : Tensor of shape (n_query,)
        Those of the query rows.
    n_way : int
        Number of classes; 0 for real targets.
    support_scores, query_scores : Tensor of shape (n_rows, n_scores), default=None
        Scores of the rows that are known beforehand, by a common predictor.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.training import EpisodeTensors
    >>> rows, labels = torch.eye(4), torch.tensor([0, 1, 0, 1])
    >>> EpisodeTensors(rows[:2], rows, labels[:2], labels, 2).shape
    (2, 4, 2)
    """

    support: Tensor
    query: Tensor
    support_targets: Tensor
    query_targets: Tensor
    n_way: int
    support_scores: Tensor | None = None
    query_scores: Tensor | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Support rows, query rows and classes; one shape is solved together."""
        return len(self.support_targets), len(self.query_targets), self.n_way

    def swapped(self) -> EpisodeTensors:
        """Exchange support and query, with as many rows to learn from."""
        index = leading_rows(
            self.query_targets[None], self.n_way, len(self.support_targets)
        )[0]
        return EpisodeTensors(
            self.query[index],
            self.support,
            self.query_targets[index],
            self.support_targets,
            self.n_way,
            None if self.query_scores is None else self.query_scores[index],
            self.support_scores,
        )


def leading_rows(targets: Tensor, n_way: int, n_rows: int) -> Tensor:
    """Return positions (n_tasks, n_rows) of rows, classes as even as possible."""
    if not n_way:
        n_tasks = len(targets)
        n_rows = min(n_rows, targets.shape[1])
        return torch.arange(n_rows, device=targets.device).expand(n_tasks, n_rows)
    members = torch.nn.functional.one_hot(targets, n_way)  # (n_tasks, n, n_way)
    rank = members.cumsum(1).gather(2, targets[..., None])[..., 0]
    return rank.argsort(dim=1, stable=True)[:, :n_rows]


class MetaBatch:
    """The tasks of one training step, or a part of them.

    Its length is the number of tasks of the whole step, which their mean is over.

    Parameters
    ----------
    tasks : sequence of EpisodeTensors
        The tasks at hand.
    n_tasks : int, default=None
        Number of tasks of the whole step. None: those at hand are all.

    Attributes
    ----------
    tasks : list of EpisodeTensors
        The tasks at hand.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.training import EpisodeTensors, MetaBatch
    >>> rows, labels = torch.eye(2), torch.arange(2)
    >>> task = EpisodeTensors(rows, rows, labels, labels, 2)
    >>> batch = MetaBatch([task, task], n_tasks=8)
    >>> len(batch), list(batch.groups())
    (8, [[0, 1]])
    """

    def __init__(
        self, tasks: Sequence[EpisodeTensors], n_tasks: int | None = None
    ) -> None:
        self.tasks = list(tasks)
        self._n_tasks = len(self.tasks) if n_tasks is None else n_tasks

    def __len__(self) -> int:
        return self._n_tasks

    def groups(self) -> Iterator[list[int]]:
        """Yield the positions of the tasks that have one shape."""
        positions: dict[tuple[int, int, int], list[int]] = {}
        for position, task in enumerate(self.tasks):
            positions.setdefault(task.shape, []).append(position)
        yield from positions.values()


class EpisodeStream:
    """Endless source of meta-batches, one pass of which is an epoch.

    Parameters
    ----------
    X : ndarray of shape (n_samples, ...)
        Rows; read by episode, so a memory map stays on disk.
    reader : RowReader
        From rows to tensors.
    draw : callable
        ``draw(n) -> list of Episode``.
    n_batches : int
        Meta-batches of one pass.
    tasks_per_batch : int
        Episodes of one meta-batch.
    augment : callable, default=None
        ``augment(images, generator) -> images``.
    seed : int, default=0
        Seed of the augmentation.
    scores : ndarray of shape (n_samples, n_scores), default=None
        Scores of the rows that are known beforehand. None: there are none.

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.episodes import EpisodeSampler
    >>> from skcausalmeta.training import EpisodeStream, RowReader
    >>> X, y = np.zeros((40, 3)), np.repeat(np.arange(4), 10)
    >>> draw = EpisodeSampler(y, n_way=2, n_shot=1, n_query=3, random_state=0).draw
    >>> stream = EpisodeStream(X, RowReader((3,)), draw, 5, 2)
    >>> [len(batch) for batch in stream]
    [2, 2, 2, 2, 2]
    """

    def __init__(
        self,
        X: NDArray[Any],
        reader: RowReader,
        draw: Callable[[int], list[Episode]],
        n_batches: int,
        tasks_per_batch: int,
        *,
        augment: Augmentation | None = None,
        seed: int = 0,
        scores: NDArray[Any] | None = None,
    ) -> None:
        self._scores = scores
        self._X, self._reader, self._draw = X, reader, draw
        self._n_batches, self._tasks_per_batch = n_batches, tasks_per_batch
        self._begin, self._end = 0, tasks_per_batch
        self._augment = augment
        self._generator = torch.Generator(device=reader.device).manual_seed(seed)

    @property
    def generators(self) -> dict[str, Any]:
        """Random generators of the augmentation, and of the draws if `draw` has one."""
        episodes = getattr(self._draw, "generator", None)
        found = {"augmentation": self._generator, "episodes": episodes}
        return {name: source for name, source in found.items() if source is not None}

    def __len__(self) -> int:
        return self._n_batches

    def __iter__(self) -> Iterator[MetaBatch]:
        for _ in range(self._n_batches):
            episodes = self._draw(self._tasks_per_batch)
            own = episodes[self._begin : self._end]
            yield MetaBatch(self._tasks(own), len(episodes))

    def share(self, rank: int, number: int) -> None:
        """Read the episodes of one of several processes only.

        Raises
        ------
        InvalidInputError
            If there are fewer tasks in a meta-batch than processes.
        """
        if self._tasks_per_batch < number:
            raise InvalidInputError(
                "tasks_per_batch must be at least the number of processes. Got "
                f"{self._tasks_per_batch} for {number} processes; raise it."
            )
        self._begin = rank * self._tasks_per_batch // number
        self._end = (rank + 1) * self._tasks_per_batch // number
        if rank:  # other augmentations than the first process draws
            self._generator.manual_seed(self._generator.initial_seed() + rank)

    def _tasks(self, episodes: Sequence[Episode]) -> list[EpisodeTensors]:
        """Return episodes as tensors; all of their rows are read at once."""
        device, parts = self._reader.device, []
        for episode in episodes:
            parts.append((episode.support, episode.support_targets))
            if episode.query is not episode.support:
                parts.append((episode.query, episode.query_targets))
        if not parts:
            return []
        sizes = [len(index) for index, _ in parts]
        index = np.concatenate([rows for rows, _ in parts])
        targets = np.concatenate([values for _, values in parts])
        numbers = torch.as_tensor(targets, device=device).split(sizes)
        scores: Sequence[Any] = [None] * len(sizes)
        if self._scores is not None:
            scores = torch.as_tensor(self._scores[index], device=device).split(sizes)
        divided = iter(zip(self._samples(index, sizes), numbers, scores, strict=True))
        tasks = []
        for episode in episodes:
            support, labels, known = next(divided)
            query, asked, known_of_query = support, labels, known
            if episode.query is not episode.support:
                query, asked, known_of_query = next(divided)
            n_way = 0 if episode.classes is None else len(episode.classes)
            tasks.append(
                EpisodeTensors(
                    support, query, labels, asked, n_way, known, known_of_query
                )
            )
        return tasks

    def _samples(self, index: NDArray[Any], sizes: list[int]) -> Sequence[Tensor]:
        """Return rows in parts of these sizes; each is augmented by itself."""
        on_disk = not isinstance(self._X, np.ndarray) or isinstance(self._X, np.memmap)
        rows = self._reader(read_rows(self._X, index) if on_disk else self._X[index])
        parts = rows.split(sizes)
        if self._augment is None:
            return parts
        return [self._augment(part, self._generator) for part in parts]
