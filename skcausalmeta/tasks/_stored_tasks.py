"""Solved tasks in a store, read as they are asked for."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Self

from numpy.typing import ArrayLike, NDArray

from ..exceptions import InvalidInputError, PersistenceError
from ..learners import (
    DroppedTasks,
    SolvedTasks,
    TaskBlock,
    TaskIndex,
    names_of,
)
from ..persistence import load, save
from ._manifest import LEARNER
from ._parquet import arrow, read_block, read_failed, read_ids
from ._store import Store

_BLOCKS_PER_PART = 4
_CACHED_BYTES = 2**29


class StoredBlock:
    """A row group of a part; its numbers are read when they are asked for."""

    def __init__(
        self, path: Path, group: int, ids: NDArray[Any], cache: _Cache
    ) -> None:
        self.path, self.group, self.ids, self._cache = path, group, ids, cache

    def __len__(self) -> int:
        return len(self.ids)

    def load(self) -> TaskBlock:
        """Return the block, from the cache if it was read lately."""
        return self._cache.read(self.path, self.group)

    def select(self, positions: NDArray[Any]) -> TaskBlock:
        """Return some of its tasks."""
        return self.load().select(positions)


class _Cache:
    """Blocks that were read lately, up to some bytes."""

    def __init__(self) -> None:
        self._blocks: OrderedDict[tuple[Path, int], TaskBlock] = OrderedDict()
        self._bytes = 0

    def read(self, path: Path, group: int) -> TaskBlock:
        key = path, group
        found = self._blocks.pop(key, None)
        if found is None:
            found = read_block(path, group)
            self._bytes += found.n_bytes
        self._blocks[key] = found
        while self._bytes > _CACHED_BYTES and len(self._blocks) > 1:
            self._bytes -= self._blocks.popitem(last=False)[1].n_bytes
        return found


class StoredTasks(SolvedTasks):
    """Solved tasks of a folder: asked by id like `SolvedTasks`, changed on disk.

    Opening reads the ids alone; a block of tasks is read when one of them is asked
    for. What other processes write later is seen after `refresh`.

    Parameters
    ----------
    store : Store
        Files.
    learner : estimator
        That solved the tasks.

    Attributes
    ----------
    path : Path
        The folder.

    See Also
    --------
    open_tasks : Opens a folder.

    Examples
    --------
    >>> from skcausalmeta.tasks import StoredTasks, open_tasks
    >>> StoredTasks.refresh.__doc__
    'Read the list of parts again, and return itself.'
    """

    def __init__(self, store: Store, learner: Any) -> None:
        super().__init__(learner, [])
        self._store = store
        self._cache = _Cache()
        self._parts: dict[str, list[Any] | dict[Any, str]] = {}
        self.refresh()

    @property
    def path(self) -> Path:
        """The folder."""
        return self._store.path

    def refresh(self) -> Self:
        """Read the list of parts again, and return itself."""
        known, self._parts = self._parts, {}
        failed: dict[Any, str] = {}
        for part in self._store.read()["parts"]:
            name = part["file"]  # a part never changes
            found = known[name] if name in known else self._read(part)
            self._parts[name] = found
            if isinstance(found, dict):
                failed.update(found)
            elif failed:
                for task in (task for block in found for task in names_of(block.ids)):
                    failed.pop(task, None)
        parts = (part for part in self._parts.values() if isinstance(part, list))
        self._index = TaskIndex([block for part in parts for block in part])
        self.failed_ = failed
        return self

    def _read(self, part: dict[str, Any]) -> list[Any] | dict[Any, str]:
        """Return the blocks of a part, or of failed tasks the reasons."""
        path = self.path / part["file"]
        if part["kind"] == "failed":
            return read_failed(path)
        groups = read_ids(path)
        if part["kind"] == "dropped":
            return [DroppedTasks(ids) for ids in groups]
        return [StoredBlock(path, k, ids, self._cache) for k, ids in enumerate(groups)]

    def update(self, X: ArrayLike, y: ArrayLike, tasks: ArrayLike) -> Self:
        """Solve anew the tasks that these rows are of, and add them to the store.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            All rows of the tasks to solve anew, old and new ones.
        y : array-like of shape (n_samples,)
            Their labels or targets.
        tasks : array-like of shape (n_samples,)
            Their tasks, known or new.

        Returns
        -------
        self : StoredTasks
            Itself. The new part counts as a whole or, after a crash, not at all.

        Raises
        ------
        PersistenceError
            If another process writes to the store.
        """
        new = self.learner.adapt_tasks(X, y, tasks)
        with self._store.writing():
            self._store.add(list(new.blocks()), failed=new.failed_)
        return self.refresh()

    def drop(self, ids: Iterable[Any]) -> Self:
        """Forget tasks; their numbers go when `compact` is called.

        Parameters
        ----------
        ids : sequence
            Ids of solved tasks.

        Returns
        -------
        self : StoredTasks
            Itself.

        Raises
        ------
        InvalidInputError
            If an id is unknown; nothing is dropped then.
        PersistenceError
            If another process writes to the store.
        """
        wanted = self._known(ids, "drop")
        with self._store.writing():
            self._store.add([DroppedTasks(wanted)])
        return self.refresh()

    def compact(self) -> Self:
        """Write the store anew without tasks that were solved again or dropped.

        Old parts are deleted by the next writer: a reader that has the old list
        should call `refresh` before.

        Returns
        -------
        self : StoredTasks
            Itself.

        Raises
        ------
        PersistenceError
            If another process writes to the store.
        """
        with self._store.writing():
            self.refresh()
            self._store.replace(_in_parts(self.blocks()), self.failed_)
        return self.refresh()


def _in_parts(blocks: Iterator[Any]) -> Iterator[list[Any]]:
    part: list[Any] = []
    for block in blocks:
        part.append(block)
        if len(part) == _BLOCKS_PER_PART:
            yield part
            part = []
    if part:
        yield part


def save_tasks(solved: SolvedTasks, path: str | PathLike[str]) -> StoredTasks:
    """Write solved tasks to a new folder, with the learner beside them.

    Parameters
    ----------
    solved : SolvedTasks
        Of a learner with a linear head.
    path : str or path-like
        Folder, without a store.

    Returns
    -------
    StoredTasks
        The same tasks, read from there.

    Raises
    ------
    InvalidInputError
        If there is a store already, or tasks are more than the weights of a head.
    ImportError
        If pyarrow is not installed.

    Warns
    -----
    UserWarning
        If the learner cannot be saved: `open_tasks` asks for it then.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skcausalmeta.datasets import make_shared_tasks
    >>> from skcausalmeta.learners import SparseMetaClassifier
    >>> from skcausalmeta.tasks import open_tasks, save_tasks
    >>> data = make_shared_tasks(n_tasks=12, random_state=0)
    >>> learner = SparseMetaClassifier(
    ...     backbone="identity", max_epochs=1, verbose=0, random_state=0
    ... )
    >>> learner = learner.fit(data.data, data.target, tasks=data.tasks)
    >>> solved = learner.adapt_tasks(data.data, data.target, data.tasks)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = save_tasks(solved, Path(folder) / "store")
    ...     print(len(open_tasks(Path(folder) / "store")))
    12
    """
    arrow()
    store = Store(Path(path))
    with store.writing():
        if store.exists:
            store.create({})  # refuses
        store.create(keep_learner(store, solved.learner))
        for blocks in _in_parts(solved.blocks()):
            store.add(blocks)
        store.add([], failed=solved.failed_)
    return StoredTasks(store, solved.learner)


def keep_learner(store: Store, learner: Any) -> dict[str, Any]:
    """Save the learner in the folder of a store; return what its list says of it."""
    try:
        save(learner, store.path / LEARNER, optimizer_state=False)
    except PersistenceError as error:
        warnings.warn(
            f"The store holds no learner, since it cannot be saved ({error}); pass it "
            "to open_tasks.",
            UserWarning,
            stacklevel=3,
        )
        return {"learner": None}
    return {"learner": LEARNER}


def open_tasks(
    path: str | PathLike[str],
    learner: Any = None,
    *,
    modules: Mapping[str, Any] | None = None,
) -> StoredTasks:
    """Open a folder of solved tasks; their numbers are read as they are asked for.

    Parameters
    ----------
    path : str or path-like
        Folder that `save_tasks` or `adapt_table` has written.
    learner : estimator, default=None
        That solved the tasks. None: the one in the folder.
    modules : mapping of str to type or function, default=None
        Your own classes that the learner needs, as `persistence.load` takes them.

    Returns
    -------
    StoredTasks

    Raises
    ------
    PersistenceError
        If the folder is no store, or damaged.
    InvalidInputError
        If it holds no learner and none is given.

    Examples
    --------
    >>> from skcausalmeta.exceptions import PersistenceError
    >>> from skcausalmeta.tasks import open_tasks
    >>> try:
    ...     open_tasks("nowhere")
    ... except PersistenceError as error:
    ...     print(str(error)[:47])
    A store of tasks is a folder with manifest.json
    """
    arrow()
    store = Store(Path(path))
    manifest = store.read()
    if learner is None:
        if not manifest.get("learner"):
            raise InvalidInputError(
                f"The store {path} holds no learner. Got learner=None; pass the one "
                "that solved its tasks."
            )
        learner = load(store.path / LEARNER, modules=modules)
    return StoredTasks(store, learner)
