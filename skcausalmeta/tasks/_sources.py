"""Tables of tasks, in memory, in files or on a cluster, in parts of whole tasks."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ..exceptions import InvalidInputError
from ..learners import TaskRows, as_ids, checked_ids, names_of, rows_by_task
from ..utils import few_of
from ._parquet import arrow


class Columns(NamedTuple):
    """Names of the columns of a table.

    Attributes
    ----------
    task : str
        Ids of the tasks.
    target : str or None
        Labels or targets; None where there are none to read.
    features : list of str or None
        Columns of X; None: all others.
    named : bool
        Whether the learner was fitted on named columns.
    aside : str or None
        Another column that is none of X, where it is there.
    """

    task: str
    target: str | None
    features: Sequence[str] | None
    named: bool
    aside: str | None = None

    @classmethod
    def of(cls, learner: Any, task: str, target: str | None, features: Any) -> Columns:
        """Take the names that the learner was fitted with, where none are given."""
        known = getattr(learner, "feature_names_in_", None)
        if features is None and known is not None:
            features = list(known)
        return cls(task, target, features, known is not None)

    def chosen(self, names: Sequence[str]) -> list[str]:
        """Return the columns of X among those of a table.

        Raises
        ------
        InvalidInputError
            If a column is not there.
        """
        given = [self.task, *([] if self.target is None else [self.target])]
        missing = [k for k in (*given, *(self.features or ())) if k not in names]
        if missing:
            raise InvalidInputError(
                f"The table must have the columns {missing[:3]}. Got "
                f"{few_of(list(names))}; name others with task=, target=, features=."
            )
        if self.features is not None:
            return list(self.features)
        return [name for name in names if name not in (*given, self.aside)]


class Part(NamedTuple):
    """A part of a table: whole tasks.

    Attributes
    ----------
    key : str
        Tells the part from any other; the same in another run.
    n_tasks : int
    rows : TaskRows or tuple
        The rows, or where to read them.
    """

    key: str
    n_tasks: int
    rows: Any


class Source(ABC):
    """A table in parts."""

    @abstractmethod
    def parts(self, size: int) -> Iterator[Part]:
        """Yield parts of about `size` whole tasks."""

    @abstractmethod
    def read(self, part: Part) -> TaskRows:
        """Return the rows of a part."""

    @abstractmethod
    def batches(self, n_rows: int) -> Iterator[tuple[Any, NDArray[Any]]]:
        """Yield rows X and ids in the order of the table, about so many at a time."""

    @abstractmethod
    def token(self) -> str:
        """Tell the table from any other; the same in another run."""

    def without_rows(self) -> Source:
        """Return what reads a part in another process."""
        return self

    @property
    def n_tasks(self) -> int | None:
        """Number of tasks, where it is known beforehand."""
        return None


def source_of(table: Any, columns: Columns) -> Source:
    """Return the table as a source.

    Parameters
    ----------
    table : DataFrame, pyarrow Table or Dataset, path, Dask DataFrame or tuple
        A tuple holds X, y and the ids of the tasks.
    columns : Columns
    """
    if isinstance(table, tuple):
        return Arrays(*table)
    if isinstance(table, str | Path):
        return Files(arrow_dataset(Path(table)), columns)
    kind = f"{type(table).__module__}.{type(table).__name__}"
    if kind.startswith("pyarrow") and hasattr(table, "get_fragments"):
        if all(hasattr(fragment, "path") for fragment in table.get_fragments()):
            return Files(table, columns)
        table = table.to_table()  # it is in memory
    if kind.startswith("dask") and hasattr(table, "to_delayed"):
        return Partitions(table, columns)
    return Arrays(*split_frame(table, columns))


def arrow_dataset(path: Path) -> Any:
    """Open a Parquet file or folder."""
    arrow()
    import pyarrow.dataset

    if not path.exists():
        raise FileNotFoundError(f"There is no table at {path}.")
    return pyarrow.dataset.dataset(path, format="parquet")


def split_frame(frame: Any, columns: Columns) -> tuple[Any, Any, Any]:
    """Return X, y and the ids of a data frame or an Arrow table."""
    ids = None
    if hasattr(frame, "column_names"):  # of Arrow
        if columns.task in frame.column_names:
            ids = _values(frame.column(columns.task))
        frame = _light_frame(frame)
    if not hasattr(frame, "columns"):
        raise InvalidInputError(
            "A table must be a data frame, an Arrow table or dataset, a path of "
            f"Parquet files, or a tuple (X, y, tasks). Got {type(frame).__name__}."
        )
    chosen = columns.chosen([str(name) for name in frame.columns])
    X = frame[chosen]
    if not columns.named:
        X = X.to_numpy()
    target = None if columns.target is None else _targets(frame[columns.target])
    return X, target, _values(frame[columns.task]) if ids is None else ids


def _light_frame(table: Any) -> Any:
    return table.to_pandas(split_blocks=True, self_destruct=False)


def _values(column: Any) -> NDArray[Any]:
    return as_ids(_array(column))


def _targets(column: Any) -> NDArray[Any]:
    found = _array(column)
    texts = found.dtype.kind == "O" and all(isinstance(v, str) for v in found.tolist())
    return as_ids(found) if texts else found


def _array(column: Any) -> NDArray[Any]:
    return np.asarray(column.to_numpy() if hasattr(column, "to_numpy") else column)


class Arrays(Source):
    """A table in memory, in any order."""

    def __init__(self, X: Any, y: Any, tasks: Any) -> None:
        self.X, self.y, self.tasks = X, y, as_ids(tasks)

    def token(self) -> str:
        return f"rows-{_checksum(self.tasks, self.y, self.X):08x}"

    def without_rows(self) -> Arrays:
        return Arrays(None, None, ())  # a part holds its own

    @property
    def n_tasks(self) -> int:
        return len(np.unique(self.tasks))

    def parts(self, size: int) -> Iterator[Part]:
        for rows in rows_by_task(self.X, self.y, self.tasks, size):
            yield Part(_key(rows), len(rows.ids), rows)

    def read(self, part: Part) -> TaskRows:
        rows: TaskRows = part.rows
        return rows

    def batches(self, n_rows: int) -> Iterator[tuple[Any, NDArray[Any]]]:
        for begin in range(0, len(self.tasks), n_rows):
            some = slice(begin, begin + n_rows)
            X = self.X.iloc[some] if hasattr(self.X, "iloc") else self.X[some]
            yield X, self.tasks[some]


def _key(rows: TaskRows) -> str:
    """Return a checksum of all that a part holds."""
    found = _checksum(rows.begins, rows.ids, rows.y, rows.X)
    return f"rows-{len(rows.ids)}-{found:08x}"


def _checksum(*parts: Any) -> int:
    found = 0
    for values in parts:
        if sparse.issparse(values):
            rows = sparse.csr_array(values)
            found = zlib.crc32(rows.indptr.tobytes(), found)
            found = zlib.crc32(rows.indices.tobytes(), found)
            values = rows.data
        values = np.asarray(values)
        if values.dtype.kind == "O":
            values = np.array([str(value) for value in values.ravel().tolist()])
        found = zlib.crc32(np.ascontiguousarray(values).tobytes(), found)
    return found


class Files(Source):
    """A dataset of Arrow whose rows of a task lie together.

    Parameters
    ----------
    dataset : pyarrow.dataset.Dataset
    columns : Columns
    """

    def __init__(self, dataset: Any, columns: Columns) -> None:
        self.dataset, self.columns = dataset, columns
        self.chosen = columns.chosen(dataset.schema.names)
        self.pieces = [
            piece for fragment in dataset.get_fragments() for piece in _pieces(fragment)
        ]
        sizes = [_n_rows(piece) for piece in self.pieces]
        self.begins = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self._last: tuple[int, Any] | None = None
        self._runs: tuple[NDArray[Any], NDArray[np.int64]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_last": None, "_runs": None}

    def runs(self) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Return the ids in the order of the table, and where their rows begin.

        Raises
        ------
        InvalidInputError
            If the rows of a task do not lie together.
        """
        if self._runs is None:
            column = self.dataset.to_table(columns=[self.columns.task])
            ids = checked_ids(_values(column.column(0)))
            changes = np.flatnonzero(ids[1:] != ids[:-1]) + 1
            begins = np.concatenate([[0], changes])[: len(ids)]
            names = ids[begins]
            unique, counts = np.unique(names, return_counts=True)
            if len(unique) < len(names):
                apart = names_of(unique[counts > 1][:3])
                raise InvalidInputError(
                    "The rows of a task must lie together in the files, so that they "
                    f"are read once. Got tasks in several places, such as {apart}; "
                    "sort the table by its tasks, or pass it as a Dask DataFrame."
                )
            self._runs = names, np.append(begins, len(ids)).astype(np.int64)
        return self._runs

    @property
    def n_tasks(self) -> int:
        return len(self.runs()[0])

    def parts(self, size: int) -> Iterator[Part]:
        names, begins = self.runs()
        files = self._fingerprint()
        for first in range(0, len(names), size):
            last = min(first + size, len(names))
            own, rows = names[first:last], begins[first : last + 1]
            found = zlib.crc32(rows.tobytes(), zlib.crc32(own.tobytes(), files))
            yield Part(f"files-{first}-{last}-{found:08x}", len(own), (own, rows))

    def read(self, part: Part) -> TaskRows:
        names, rows = part.rows
        table = self._rows(int(rows[0]), int(rows[-1]))
        X, y, _ = split_frame(table, self.columns)
        return TaskRows(names, X, y, rows - rows[0])

    def batches(self, n_rows: int) -> Iterator[tuple[Any, NDArray[Any]]]:
        for begin in range(0, int(self.begins[-1]), n_rows):
            table = self._rows(begin, min(begin + n_rows, int(self.begins[-1])))
            X, _, ids = split_frame(table, self.columns)
            yield X, ids

    def _rows(self, begin: int, end: int) -> Any:
        """Return rows as a table of Arrow; the last piece is kept for the next."""
        pa = arrow()
        first = int(np.searchsorted(self.begins, begin, side="right")) - 1
        parts = []
        for number in range(first, len(self.pieces)):
            start = int(self.begins[number])
            if start >= end:
                break
            table = self._piece(number)
            low = max(begin - start, 0)
            parts.append(table.slice(low, min(end - start, len(table)) - low))
        return pa.concat_tables(parts)

    def _piece(self, number: int) -> Any:
        if self._last is None or self._last[0] != number:
            given = [self.columns.task]
            if self.columns.target is not None:
                given.append(self.columns.target)
            names = list(dict.fromkeys([*self.chosen, *given]))
            self._last = None
            table = self.pieces[number].to_table(
                schema=self.dataset.schema, columns=names
            )
            self._last = number, table
        return self._last[1]

    def token(self) -> str:
        return f"files-{self._fingerprint():08x}"

    def _fingerprint(self) -> int:
        """Return a checksum of the names, sizes and times of the files."""
        found = zlib.crc32(repr(self.columns).encode())
        for fragment in self.dataset.get_fragments():
            info = fragment.filesystem.get_file_info(fragment.path)
            facts = info.base_name, info.size, info.mtime_ns
            found = zlib.crc32(repr(facts).encode(), found)
        return found


def _pieces(fragment: Any) -> list[Any]:
    """Return the row groups of a fragment, or itself."""
    if hasattr(fragment, "split_by_row_group"):
        return list(fragment.split_by_row_group())
    return [fragment]


def _n_rows(piece: Any) -> int:
    groups = getattr(piece, "row_groups", None)
    if groups is None:
        return int(piece.count_rows())
    # The count of a fragment is that of its file, whatever its row groups.
    return int(sum(group.num_rows for group in groups))


class Partitions(Source):
    """A Dask DataFrame, whose partitions are made to hold whole tasks by Dask."""

    def __init__(self, frame: Any, columns: Columns) -> None:
        self.frame, self.columns = frame, columns
        self.chosen = columns.chosen([str(name) for name in frame.columns])

    def token(self) -> str:
        from dask.base import tokenize

        return f"dask-{tokenize(self.frame)}"

    def parts(self, size: int) -> Iterator[Part]:
        name = self.columns.task
        shuffled = self.frame.shuffle(on=name)
        for number, delayed in enumerate(shuffled.to_delayed()):
            token = delayed.key if hasattr(delayed, "key") else number
            key = f"{zlib.crc32(repr(token).encode()):08x}"
            yield Part(f"dask-{number}-{key}", 0, delayed)

    def read(self, part: Part) -> TaskRows:
        frame = part.rows
        if hasattr(frame, "compute"):
            frame = frame.compute()
        return whole_tasks(frame, self.columns)

    def batches(self, n_rows: int) -> Iterator[tuple[Any, NDArray[Any]]]:
        for delayed in self.frame.to_delayed():
            X, _, ids = split_frame(delayed.compute(), self.columns)
            yield X, ids


def whole_tasks(frame: Any, columns: Columns) -> TaskRows:
    """Return the rows of a data frame by task."""
    X, y, tasks = split_frame(frame, columns)
    if not len(tasks):
        return TaskRows(tasks, X, y, np.zeros(1, dtype=np.int64))
    (rows,) = rows_by_task(X, y, tasks, len(tasks))
    return rows
