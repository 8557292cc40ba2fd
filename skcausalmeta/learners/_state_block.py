"""Blocks of solved tasks whose arrays have the same shapes."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ._task_blocks import CopiesBlock, TaskBlock, copy_facts, without_rows
from ._task_rows import TaskRows
from ._task_state import NotNumbersError, State, state_of, task_of

# A block is read as a whole.
_BYTES = 2**24


@dataclass(frozen=True, eq=False)
class StateBlock(TaskBlock):
    """Tasks of any learner as dense arrays, such as the parameters of a net.

    Parameters
    ----------
    ids : ndarray of shape (n_tasks,)
        Ids of the tasks.
    n_labels : ndarray of shape (n_tasks,)
        Support rows.
    plan : JSON
        How a task is put together from its arrays.
    state : dict of str to ndarray of shape (n_tasks, ...)
        Arrays of all tasks.

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.learners import StateBlock
    >>> state = {"weights": np.eye(2, dtype=np.float32)}
    >>> block = StateBlock(
    ...     np.array(["a", "b"]), np.array([5, 6]), ["array", "weights"], state
    ... )
    >>> block.bytes_a_task, block.select(np.array([1])).state["weights"].tolist()
    (8, [[0.0, 1.0]])
    """

    kind: ClassVar[str] = "states"
    ids: NDArray[Any]
    n_labels: NDArray[np.int64]
    plan: Any
    state: State

    @property
    def n_bytes(self) -> int:
        return sum(values.nbytes for values in self.state.values())

    @property
    def bytes_a_task(self) -> int:
        """Bytes of the arrays of a task."""
        return sum(values[:1].nbytes for values in self.state.values())

    def adapted(self, learner: Any, position: int) -> Any:
        state = {name: values[position] for name, values in self.state.items()}
        found = copy.copy(learner)
        found.task_ = task_of(self.plan, state, learner, int(self.n_labels[position]))
        return found

    def select(self, positions: NDArray[Any]) -> StateBlock:
        state = {name: values[positions] for name, values in self.state.items()}
        return replace(
            self,
            ids=self.ids[positions],
            n_labels=self.n_labels[positions],
            state=state,
        )

    def facts(self, learner: Any) -> dict[str, Any]:
        return copy_facts(self.adapted(learner, k) for k in range(len(self)))


def pack_states(tasks: TaskRows, copies: list[Any]) -> list[TaskBlock]:
    """Pack adapted copies as arrays; as they are where they are more than numbers.

    Parameters
    ----------
    tasks : TaskRows
    copies : list of estimators
    """
    alike: dict[Any, tuple[Any, list[tuple[int, State]]]] = {}
    others: list[int] = []
    for k, one in enumerate(copies):
        if "task_" not in vars(one):
            others.append(k)
            continue
        task = without_rows(one).task_
        try:
            plan, state = state_of(task, one, int(tasks.sizes[k]))
        except NotNumbersError:
            others.append(k)
            continue
        looks = [(name, v.shape, v.dtype.kind) for name, v in state.items()]
        key = json.dumps([plan, looks])
        alike.setdefault(key, (plan, []))[1].append((k, state))
    blocks = [
        block for plan, some in alike.values() for block in _stacked(tasks, plan, some)
    ]
    if others:
        kept = np.array(others)
        rest = [without_rows(copies[k]) for k in others]
        blocks.append(CopiesBlock(tasks.ids[kept], tasks.sizes[kept], rest))
    return blocks


def _stacked(
    tasks: TaskRows, plan: Any, some: list[tuple[int, State]]
) -> Iterator[TaskBlock]:
    each = max(1, sum(values.nbytes for values in some[0][1].values()))
    size = max(1, _BYTES // each)
    for begin in range(0, len(some), size):
        part = some[begin : begin + size]
        kept = np.array([k for k, _ in part])
        state = {name: np.stack([own[name] for _, own in part]) for name in part[0][1]}
        yield StateBlock(tasks.ids[kept], tasks.sizes[kept], plan, state)
