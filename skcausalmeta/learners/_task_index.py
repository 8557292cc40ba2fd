"""Where the tasks of blocks are, by their ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._task_ids import as_ids, find_ids, joined_ids


class DroppedTasks(NamedTuple):
    """Ids of tasks that earlier blocks hold, and that shall be forgotten.

    Parameters
    ----------
    ids : ndarray of shape (n_tasks,)
        Their ids.

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.learners import DroppedTasks
    >>> DroppedTasks(np.array([3, 4])).ids.tolist()
    [3, 4]
    """

    ids: NDArray[Any]


class TaskIndex:
    """Places of tasks in blocks; of a task in several blocks that in the last.

    Parameters
    ----------
    blocks : sequence
        Each with ``ids``; `DroppedTasks` hide tasks of earlier ones.

    Attributes
    ----------
    ids : ndarray of shape (n_tasks,)
        Sorted.

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.learners import DroppedTasks, TaskIndex
    >>> index = TaskIndex([DroppedTasks(np.array([2])), DroppedTasks(np.array([3]))])
    >>> len(index.ids), index.find(np.array([2])).tolist()
    (0, [-1])
    """

    def __init__(self, blocks: Sequence[Any]) -> None:
        self.all_blocks = list(blocks)
        joined = joined_ids([block.ids for block in self.all_blocks])
        sizes = [len(block.ids) for block in self.all_blocks]
        number = np.repeat(np.arange(len(sizes)), sizes)
        position = np.concatenate([np.arange(size) for size in (*sizes, 0)])
        # Of equal ids the last comes first, and is kept.
        self.ids, first = np.unique(joined[::-1], return_index=True)
        last = len(joined) - 1 - first
        gone = np.array([isinstance(b, DroppedTasks) for b in blocks], dtype=bool)
        if gone.any():
            kept = ~gone[number[last]]
            self.ids, last = self.ids[kept], last[kept]
        self._block, self._position = number[last], position[last].astype(np.int64)

    def with_blocks(self, blocks: Sequence[Any]) -> TaskIndex:
        """Add blocks, whose tasks take the place of those with their ids."""
        return TaskIndex([*self._live(), *blocks])

    def without(self, ids: NDArray[Any]) -> TaskIndex:
        """Leave out tasks."""
        left = TaskIndex([*self._live(), DroppedTasks(ids)])
        return TaskIndex(list(left._live()))

    def _live(self) -> Iterator[Any]:
        """Yield blocks of the tasks that count, without those that do not."""
        for block, positions in self.blocks():
            whole = len(positions) == len(block.ids)
            yield block if whole else block.select(positions)

    def find(self, ids: Any) -> NDArray[np.int64]:
        """Return places of tasks, -1 of unknown ones."""
        return find_ids(as_ids(ids), self.ids)

    def place(self, place: int) -> tuple[Any, int]:
        """Return the block of a task and its position there."""
        return self.all_blocks[self._block[place]], int(self._position[place])

    def groups(
        self, places: NDArray[np.int64]
    ) -> Iterator[tuple[Any, NDArray[np.int64], NDArray[np.int64]]]:
        """Yield blocks, which of the places are there, and the positions.

        Unknown tasks come as None, with positions of 0.
        """
        number = (
            np.where(places < 0, -1, self._block[places])
            if len(self.ids)
            else (np.full(len(places), -1))
        )
        order = np.argsort(number, kind="stable")
        begins = np.flatnonzero(np.diff(number[order], prepend=-2))
        for some in np.split(order, begins[1:]):
            if not len(some):
                continue
            block = number[some[0]]
            if block < 0:
                yield None, some, np.zeros(len(some), dtype=np.int64)
            else:
                yield self.all_blocks[block], some, self._position[places[some]]

    def blocks(self) -> Iterator[tuple[Any, NDArray[np.int64]]]:
        """Yield blocks with the positions of their tasks that count."""
        for block, _, positions in self.groups(np.arange(len(self.ids))):
            yield block, np.sort(positions)
