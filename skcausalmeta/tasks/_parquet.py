"""Blocks of solved tasks as row groups of Parquet files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..exceptions import InvalidInputError, PersistenceError
from ..learners import DroppedTasks, HeadBlock, StateBlock, as_ids, names_of
from ..utils import printable

META, _NAME = b"skcausalmeta", b"skcausalmeta.part"
# Rows, and 16 bytes, for each byte of a file: more is no table of tasks.
_MOST = 64
_MOST_WEIGHTS = 2**26
_DAMAGE = (
    *(OSError, KeyError, ValueError, IndexError, TypeError, AttributeError),
    *(ArithmeticError, MemoryError, NotImplementedError, RecursionError),
)
_OPTIONAL = ("labels", "amounts", "trusts", "codes", "centers")
_STATE = "state."
_MOST_BYTES = 2**20
# Units that Arrow does not know, and finer ones that it does.
_SECONDS = dict.fromkeys(("h", "m"), "s")
_UNITS = {
    "M": dict.fromkeys("YMW", "D") | _SECONDS,
    "m": dict.fromkeys("YMWD", "s") | _SECONDS,
}


class FailedTasks(NamedTuple):
    """Tasks that could not be solved.

    Attributes
    ----------
    ids : ndarray of shape (n_tasks,)
    reasons : list of str
    """

    ids: NDArray[Any]
    reasons: list[str]

    @classmethod
    def of(cls, failed: Mapping[Any, str]) -> FailedTasks:
        """Take reasons by ids."""
        return cls(as_ids(list(failed)), list(failed.values()))

    def named(self) -> dict[Any, str]:
        """Return reasons by ids."""
        return dict(zip(names_of(self.ids), self.reasons, strict=True))


def arrow() -> Any:
    """Return pyarrow.

    Raises
    ------
    ImportError
        If it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            "Stores of tasks are Parquet files, which pyarrow reads and writes. It is "
            "not installed; pip install 'skcausalmeta[tasks]'."
        ) from error
    return pyarrow


def write_blocks(file: BinaryIO | Path, blocks: Sequence[Any], name: str) -> None:
    """Write blocks, a row group each, and the name that the file has in its store.

    Raises
    ------
    InvalidInputError
        If a block holds copies of a learner, which are more than numbers.
    """
    pa = arrow()
    tables = [_table(pa, block) for block in blocks]
    facts = [_facts(block) for block in blocks]
    schema = pa.unify_schemas([table.schema for table in tables])
    schema = schema.with_metadata(
        {META: json.dumps(facts).encode(), _NAME: name.encode()}
    )
    writer = pa.parquet.ParquetWriter(
        file, schema, compression="zstd", write_page_checksum=True
    )
    with writer:
        for table in tables:
            table = _completed(pa, table, schema)
            writer.write_table(table, row_group_size=max(1, len(table)))


def read_ids(path: Path) -> list[NDArray[Any]]:
    """Return the ids of every row group of a file.

    Raises
    ------
    PersistenceError
        If the file is damaged.
    """
    with _damage_told(path), _reader(path) as reader:
        return [
            _ids(reader.read_row_group(k, columns=["id"]).column("id"))
            for k in range(reader.num_row_groups)
        ]


def read_failed(path: Path) -> dict[Any, str]:
    """Return the reasons of a file of tasks that failed, by their ids.

    Raises
    ------
    PersistenceError
        If the file is damaged.
    """
    with _damage_told(path), _reader(path) as reader:
        table = reader.read()
        ids, reasons = _ids(table.column("id")), table.column("why").to_pylist()
        if not all(isinstance(reason, str) for reason in reasons):
            raise ValueError("a reason is no text")
        return FailedTasks(ids, reasons).named()


def read_block(path: Path, group: int) -> HeadBlock | StateBlock:
    """Return a block of a file.

    Raises
    ------
    PersistenceError
        If the file is damaged.
    """
    with _damage_told(path), _reader(path) as reader:
        facts = json.loads(reader.schema_arrow.metadata[META])[group]
        block = _block(reader.read_row_group(group), facts)
        _check(block, facts)
        return block


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        reason = printable(str(error)[:300])
        raise PersistenceError(
            f"A part of a store must be as it was written. Got {path}, which cannot be "
            f"read ({reason}); restore it from a copy, or adapt to its tasks again."
        ) from error


def _reader(path: Path) -> Any:
    """Open a part that bears its own name, and is no more than its size can hold."""
    reader = arrow().parquet.ParquetFile(path, page_checksum_verification=True)
    try:
        named = (reader.schema_arrow.metadata or {}).get(_NAME)
        if named is not None and named != path.name.encode():
            raise ValueError("it is another part, under this name")
        facts, size = reader.metadata, path.stat().st_size
        for k in range(reader.num_row_groups):
            group = facts.row_group(k)
            if max(group.num_rows, group.total_byte_size >> 4) > _MOST * size:
                raise ValueError("it says that it holds more than it can")
    except BaseException:
        reader.close()
        raise
    return reader


def is_own(path: Path) -> bool:
    """Tell whether a file with the name of a part is one, whole or cut short."""
    try:
        with arrow().parquet.ParquetFile(path) as reader:
            return META in (reader.schema_arrow.metadata or {})
    except OSError:
        return False
    except _DAMAGE:  # by a writer that was killed
        return True


def _check(block: HeadBlock | StateBlock, facts: dict[str, Any]) -> None:
    """Refuse arrays that do not belong together."""
    if isinstance(block, StateBlock):
        return  # whose every array has been given the shape of its tasks
    n, outputs = len(block.ids), facts["outputs"]
    whole = type(block.width) is int and type(outputs) is int and outputs > 0
    if not (whole and 0 < block.width * outputs <= _MOST_WEIGHTS):
        raise ValueError("its heads have no size")
    entries = block.columns
    pairs = {
        "values": block.values.shape == (len(entries), outputs),
        "columns": ((entries >= 0) & (entries < block.width)).all(),
        "begins": block.begins[-1] == len(entries) and len(block.begins) == n + 1,
        "intercept": block.intercepts.shape == (n, outputs),
        "flat": type(block.flat) is bool,
    }
    for name in ("gaps", "n_labels", *_OPTIONAL):
        found = getattr(block, name)
        if found is not None:
            pairs[name] = len(found) == n and found.dtype.kind in "iufbUM"
    strange = [name for name, good in pairs.items() if not good]
    if strange:
        raise ValueError(f"{strange} do not belong to its tasks")


def _facts(block: Any) -> dict[str, Any]:
    if isinstance(block, DroppedTasks | FailedTasks):
        return {"kind": type(block).__name__}
    if isinstance(block, StateBlock):
        shapes = {name: list(v.shape[1:]) for name, v in block.state.items()}
        return {"kind": block.kind, "plan": block.plan, "shapes": shapes}
    outputs = block.values.shape[1]
    return {
        "kind": block.kind,
        "width": block.width,
        "flat": block.flat,
        "outputs": outputs,
        "given": [name for name in _OPTIONAL if getattr(block, name) is not None],
    }


def _table(pa: Any, block: Any) -> Any:
    if isinstance(block, DroppedTasks):
        return pa.table({"id": _stored_ids(pa, block.ids)})
    if isinstance(block, FailedTasks):
        why = pa.array(block.reasons).dictionary_encode()
        return pa.table({"id": _stored_ids(pa, block.ids), "why": why})
    if isinstance(block, StateBlock):
        return _state_table(pa, block)
    if not isinstance(block, HeadBlock):
        raise InvalidInputError(
            "A store keeps tasks whose predictor is numbers: the weights of a head, or "
            f"the parameters of a net. Got {type(block).__name__} of {len(block)} "
            "tasks, which hold a copy of the learner each; keep the SolvedTasks in "
            "memory, or use another head."
        )
    small = block.width <= np.iinfo(np.uint16).max
    columns = block.columns.astype(np.uint16 if small else np.int32)
    outputs = block.values.shape[1]
    found = {
        "id": _stored_ids(pa, block.ids),
        "n_labels": pa.array(block.n_labels.astype(np.int32)),
        "gap": pa.array(block.gaps),
        "intercept": _lists(pa, block.intercepts),
        "columns": _ragged(pa, block.begins, columns),
        "values": _ragged(pa, block.begins * outputs, block.values.ravel()),
    }
    for name in _OPTIONAL:
        given = getattr(block, name)
        if given is not None:
            found[name] = pa.array(given) if given.ndim == 1 else _lists(pa, given)
    return pa.table(found)


def _stored_ids(pa: Any, ids: NDArray[Any]) -> Any:
    """Return ids as an array of Arrow that is read as the same ids.

    Raises
    ------
    InvalidInputError
        If Arrow has no type for them, or reads them as others.
    """
    kind = ids.dtype.kind
    if kind in "mM":
        unit = np.datetime_data(ids.dtype)[0]
        ids = ids.astype(f"{kind}8[{_UNITS[kind].get(unit, unit)}]")
    try:
        found = pa.array(ids)
        again = _array(found)
        same = again.dtype.kind == kind or names_of(again) == names_of(ids)
        same = same and bool((again == ids).all())
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        same = False
    types = {type(name) for name in ids.tolist()} if kind == "O" else {str}
    if not same or types - {str, bytes}:
        names = names_of(ids)
        raise InvalidInputError(
            "A store keeps ids that are numbers, texts of UTF-8, bytes, dates or "
            f"durations. Got {type(names[0]).__name__} such as {names[0]!r:.80}; make "
            "such texts of them."
        )
    return found


def _state_table(pa: Any, block: StateBlock) -> Any:
    if block.bytes_a_task > _MOST_BYTES:
        raise InvalidInputError(
            f"A store keeps at most {_MOST_BYTES:,} bytes a task. Got "
            f"{block.bytes_a_task:,}: all parameters that a task adapts; adapt those "
            'of the head alone (adapt_layers="head"), use a smaller backbone, or keep '
            "the SolvedTasks in memory."
        )
    found = {
        "id": _stored_ids(pa, block.ids),
        "n_labels": pa.array(block.n_labels.astype(np.int32)),
    }
    for name, values in block.state.items():
        flat = values.reshape(len(values), -1)
        found[_STATE + name] = _lists(pa, flat) if values.ndim > 1 else pa.array(values)
    return pa.table(found)


def _state_block(table: Any, facts: dict[str, Any]) -> StateBlock:
    state = {}
    for name, shape in facts["shapes"].items():
        column = table.column(_STATE + name)
        values = _array(_flat(column) if shape else column)
        state[name] = values.reshape(len(table), *shape)
    ids, n_labels = _ids(table.column("id")), _array(table.column("n_labels"))
    return StateBlock(ids, n_labels.astype(np.int64), facts["plan"], state)


def _ragged(pa: Any, begins: NDArray[Any], values: NDArray[Any]) -> Any:
    offsets = pa.array(begins.astype(np.int32))
    return pa.ListArray.from_arrays(offsets, pa.array(values))


def _lists(pa: Any, matrix: NDArray[Any]) -> Any:
    begins = np.arange(len(matrix) + 1) * matrix.shape[1]
    return _ragged(pa, begins, matrix.ravel())


def _completed(pa: Any, table: Any, schema: Any) -> Any:
    """Add columns of nothing that other row groups of the file have."""
    for field in schema:
        if field.name not in table.column_names:
            nothing = pa.nulls(len(table), field.type)
            table = table.append_column(field, nothing)
    return table.select(schema.names).cast(schema)


def _block(table: Any, facts: dict[str, Any]) -> HeadBlock | StateBlock:
    if facts["kind"] == StateBlock.kind:
        return _state_block(table, facts)
    outputs = facts["outputs"]

    def matrix(name: str) -> NDArray[Any]:
        values = _array(_flat(table.column(name)))
        return values.reshape(len(table), -1)

    parts = {}
    for name in facts["given"]:
        column = table.column(name)
        nested = "list" in str(column.type)
        parts[name] = matrix(name) if nested else _array(column)
    entries = table.column("columns").combine_chunks()
    begins = np.concatenate([[0], np.cumsum(_array(entries.value_lengths()))])
    return HeadBlock(
        ids=_ids(table.column("id")),
        n_labels=_array(table.column("n_labels")).astype(np.int64),
        begins=begins.astype(np.int64),
        columns=_array(_flat(table.column("columns"))).astype(np.int32),
        values=_array(_flat(table.column("values"))).reshape(-1, outputs),
        intercepts=matrix("intercept"),
        gaps=_array(table.column("gap")),
        width=facts["width"],
        flat=facts["flat"],
        **parts,
    )


def _ids(column: Any) -> NDArray[Any]:
    if column.null_count:
        raise ValueError("a task has no id")
    return _array(column)


def _flat(column: Any) -> Any:
    return column.combine_chunks().flatten()


def _array(column: Any) -> NDArray[Any]:
    found = column.to_numpy(zero_copy_only=False) if hasattr(column, "type") else column
    found = np.asarray(found)
    if found.dtype.kind == "O":  # texts
        found = as_ids(found)
    return np.array(found)
