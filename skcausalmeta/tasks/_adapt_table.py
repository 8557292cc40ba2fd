"""Tables of tasks, adapted to in parts and streamed into a folder."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from joblib import Parallel, delayed
from sklearn.utils.validation import check_is_fitted
from tqdm import tqdm

from ..exceptions import InvalidInputError, PersistenceError
from ..learners import solve_batch, tell_failed
from ..persistence import save
from ._manifest import LEARNER
from ._parquet import arrow
from ._sources import Columns, Part, Partitions, Source, source_of, whole_tasks
from ._store import Store
from ._stored_tasks import StoredTasks, keep_learner, open_tasks

TASKS_PER_PART = 8192
# Parts that a client is given ahead of those that are done, for every thread.
_AHEAD = 2
_RETRIES = 3
Found = tuple[str, int, list[Any], dict[Any, str]]

# What reading a file that is none may raise.
_DAMAGE = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError)


def adapt_table(
    learner: Any,
    table: Any,
    path: str | PathLike[str],
    *,
    task: str = "task",
    target: str = "y",
    features: list[str] | None = None,
    tasks_per_part: int = TASKS_PER_PART,
    n_jobs: int | None = None,
    client: Any = None,
    verbose: int = 0,
) -> StoredTasks:
    """Solve all tasks of a table, and stream them into a folder.

    The table is cut into parts of whole tasks. A part that is solved is in the store
    for good: the same call after a crash goes on with the others. After changes by
    another call it solves all parts, so that the latest call counts.

    Parameters
    ----------
    learner : estimator
        Fitted, with a linear head.
    table : DataFrame, pyarrow Table or Dataset, path, Dask DataFrame or tuple
        A path names a Parquet file or a folder of such. In files the rows of a task
        lie together. A tuple holds arrays X, y and tasks.
    path : str or path-like
        Folder of the store, new or from an earlier call with this learner.
    task, target : str, default="task", "y"
        Columns of the ids and of the labels or targets.
    features : list of str, default=None
        Columns of X. None: those that the learner was fitted with, or all others.
    tasks_per_part : int, default=8192
        Tasks of a part. Those of a Dask DataFrame are its partitions.
    n_jobs : int, default=None
        Processes of joblib, or workers of its Dask backend. None: 1.
    client : dask.distributed.Client, default=None
        Where parts are solved; workers read the files themselves. None: here.
    verbose : int, default=0
        Whether a progress bar is shown.

    Returns
    -------
    StoredTasks
        All tasks, read from the folder.

    Raises
    ------
    NotFittedError
        If the learner is not fitted.
    InvalidInputError
        If a column is missing, the rows of a task do not lie together in the files, or
        the store is of another learner.
    PersistenceError
        If another process writes to the store.
    ImportError
        If pyarrow is not installed.

    Warns
    -----
    UserWarning
        If tasks cannot be solved: named in `failed_`, all others are.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skcausalmeta.datasets import make_shared_tasks
    >>> from skcausalmeta.learners import SparseMetaClassifier
    >>> from skcausalmeta.tasks import adapt_table
    >>> data = make_shared_tasks(n_tasks=12, random_state=0)
    >>> learner = SparseMetaClassifier(
    ...     backbone="identity", max_epochs=1, verbose=0, random_state=0
    ... )
    >>> learner = learner.fit(data.data, data.target, tasks=data.tasks)
    >>> table = data.data, data.target, data.tasks
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     stored = adapt_table(learner, table, Path(folder) / "store")
    ...     print(len(stored), stored.predict(data.data[:2], [3, 4]).shape)
    12 (2,)
    """
    arrow()
    check_is_fitted(learner)
    store = Store(Path(path))
    source = source_of(table, Columns.of(learner, task, target, features))
    run = _runner(learner, source, n_jobs, client)
    with store.writing():
        if store.exists:
            _check_learner(store, learner)
        else:
            store.create(keep_learner(store, learner))
        _stream(store, source, run, tasks_per_part, bool(verbose))
    stored = StoredTasks(store, learner)
    tell_failed(learner, stored.failed_, len(stored))
    return stored


def update_table(
    path: str | PathLike[str],
    table: Any,
    *,
    learner: Any = None,
    modules: Mapping[str, Any] | None = None,
    task: str = "task",
    target: str = "y",
    features: list[str] | None = None,
    **options: Any,
) -> StoredTasks:
    """Solve anew the tasks of a table, and add them to a folder.

    Parameters
    ----------
    path : str or path-like
        Folder of a store.
    table : DataFrame, pyarrow Table or Dataset, path, Dask DataFrame or tuple
        All rows of the tasks to solve anew, old and new ones, as in `adapt_table`.
    learner : estimator, default=None
        That solved the tasks. None: the one in the folder.
    modules : mapping of str to type or function, default=None
        Your own classes that the learner in the folder needs.
    task, target : str, default="task", "y"
        Columns of the ids and of the labels or targets.
    features : list of str, default=None
        Columns of X.
    **options : dict
        `tasks_per_part`, `n_jobs`, `client` and `verbose` of `adapt_table`.

    Returns
    -------
    StoredTasks
        All tasks, read from the folder. The same call again changes nothing.

    Raises
    ------
    PersistenceError
        If there is no store, or another process writes to it.

    Examples
    --------
    >>> from skcausalmeta.exceptions import PersistenceError
    >>> from skcausalmeta.tasks import update_table
    >>> try:
    ...     update_table("nowhere", ([[0.0]], [0], ["a"]))
    ... except PersistenceError as error:
    ...     print(str(error)[:47])
    A store of tasks is a folder with manifest.json
    """
    Store(Path(path)).read()  # tells that there is none
    if learner is None:
        learner = open_tasks(path, modules=modules).learner
    return adapt_table(
        learner,
        table,
        path,
        task=task,
        target=target,
        features=features,
        **options,
    )


def _check_learner(store: Store, learner: Any) -> None:
    """Refuse to add tasks of another learner than that of the store."""
    if not store.read().get("learner"):
        return
    kept = store.path / LEARNER
    with tempfile.TemporaryDirectory() as folder:
        again = Path(folder) / LEARNER
        try:
            save(learner, again, optimizer_state=False)
        except PersistenceError:
            same = False
        else:
            same = _numbers_of(again) == _numbers_of_kept(kept)
    if not same:
        raise InvalidInputError(
            f"All tasks of a store are of one learner. Got another one than that in "
            f"{store.path}; name a new folder, or pass open_tasks(...).learner."
        )


def _numbers_of_kept(path: Path) -> list[tuple[str, str]]:
    try:
        return _numbers_of(path)
    except _DAMAGE as error:
        raise PersistenceError(
            "The learner of a store must be as it was written. Got a damaged "
            f"{path}; restore it from a copy."
        ) from error


def _numbers_of(path: Path) -> list[tuple[str, str]]:
    """Return type and checksum of all arrays of a saved learner, sorted.

    A learner that was loaded is saved with other texts and orders of axes, and with
    the same numbers.
    """
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        header.pop("__metadata__", None)
        begin, found = file.tell(), []
        for facts in header.values():
            first, last = facts["data_offsets"]
            file.seek(begin + first)
            checksum = hashlib.sha256(file.read(last - first)).hexdigest()
            found.append((facts["dtype"], checksum))
    return sorted(found)


def _stream(
    store: Store,
    source: Source,
    run: Callable[[Iterator[Part]], Iterator[Found]],
    size: int,
    verbose: bool,
) -> None:
    # Parts count as done until other tables or changes come: their tasks may be newer.
    done = store.begin(source.token())
    total = source.n_tasks if verbose else None
    with tqdm(total=total, unit="task", disable=not verbose) as bar:

        def waiting() -> Iterator[Part]:
            for part in source.parts(size):
                if part.key in done:
                    bar.update(part.n_tasks)
                else:
                    yield part

        for key, n_tasks, blocks, failed in run(waiting()):
            store.add(blocks, key=key, failed=failed)
            bar.update(n_tasks)


def _runner(
    learner: Any, source: Source, n_jobs: int | None, client: Any
) -> Callable[[Iterator[Part]], Iterator[Found]]:
    if client is not None:
        return lambda parts: _on_client(client, learner, source, parts)
    if isinstance(source, Partitions):  # Dask computes a part when it is its turn
        return lambda parts: (_solve(learner, source, part) for part in parts)

    def run(parts: Iterator[Part]) -> Iterator[Found]:
        jobs = (delayed(_solve)(learner, source, part) for part in parts)
        if n_jobs in (None, 1):
            yield from (job[0](*job[1]) for job in jobs)
            return
        lean = source.without_rows()
        jobs = (delayed(_solve)(learner, lean, part) for part in parts)
        yield from Parallel(n_jobs=n_jobs, return_as="generator_unordered")(jobs)

    return run


def _solve(learner: Any, source: Source, part: Part) -> Found:
    rows = source.read(part)
    if not len(rows.ids):
        return part.key, 0, [], {}
    blocks, failed = solve_batch(learner, rows)
    return part.key, len(rows.ids), blocks, failed


def _solve_frame(learner: Any, columns: Columns, key: str, frame: Any) -> Found:
    rows = whole_tasks(frame, columns)
    if not len(rows.ids):
        return key, 0, [], {}
    blocks, failed = solve_batch(learner, rows)
    return key, len(rows.ids), blocks, failed


def _on_client(
    client: Any, learner: Any, source: Source, parts: Iterator[Part]
) -> Iterator[Found]:
    """Yield what workers have solved, in the order in which they do."""
    from dask.distributed import as_completed

    options = {"pure": False, "retries": _RETRIES}
    # In the task itself, so that it is there for another worker if one is lost.
    lean = source.without_rows()

    def submit(part: Part) -> Any:
        if isinstance(source, Partitions):
            frame = client.compute(part.rows)
            return client.submit(
                _solve_frame, learner, source.columns, part.key, frame, **options
            )
        return client.submit(_solve, learner, lean, part, **options)

    most = max(2, _AHEAD * sum(client.ncores().values()))
    running = as_completed()
    n_running = 0
    for part in parts:
        running.add(submit(part))
        n_running += 1
        if n_running >= most:
            yield next(running).result()
            n_running -= 1
    for future in running:
        yield future.result()
