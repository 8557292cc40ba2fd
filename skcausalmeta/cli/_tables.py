"""Rows, targets and task ids from a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..exceptions import InvalidInputError
from ..utils import read_npz_arrays
from ._csv import check_look_alikes, labels_of, read_columns, read_header, texts_of


class Table(NamedTuple):
    """Rows of a file."""

    X: NDArray[Any]
    y: NDArray[Any]
    tasks: NDArray[Any] | None
    features: list[str] | None = None  # names of the columns of X


def read_table(
    path: Path,
    target: str,
    task_column: str | None,
    *,
    values: bool = False,
    max_rows: int = 10_000_000,
    max_bytes: int | None = None,
) -> Table:
    """Read a CSV or npz file.

    Parameters
    ----------
    path : Path
        File ending in .csv or .npz.
    target : str
        Name of the targets.
    task_column : str or None
        Name of the task ids; None: "task" or "tasks" where there is one.
    values : bool, default=False
        Whether the targets are values of a regression.
    max_rows : int, default=10_000_000
        Most rows.
    max_bytes : int, default=None
        Most bytes of the arrays of an npz file. None: 64 MB and 16 times the file.

    Raises
    ------
    OSError
        If the file cannot be read.
    InvalidInputError
        If a column is missing or there twice, a feature is no number, a target or
        task id is missing, two labels look alike, or the table is too large.
    """
    if path.suffix == ".npz":
        table = _read_npz(path, target, task_column, max_bytes)
    elif path.suffix == ".csv":
        table = _read_csv(path, target, task_column, values, max_rows)
    else:
        raise InvalidInputError(
            f"Data must be a .csv or .npz file. Got {path.name!r}; save it as one of "
            "them."
        )
    if len(table.X) > max_rows:
        raise InvalidInputError(
            f"A table must have at most {max_rows} rows. Got {len(table.X)} in "
            f"{path.name}; divide it, or allow more by --max-rows."
        )
    return table


def read_rows(
    path: Path,
    task_column: str | None,
    features: list[str] | None,
    target: str,
    *,
    max_rows: int,
) -> tuple[NDArray[Any], NDArray[Any], list[str]]:
    """Read the features and the task ids of a CSV file, whatever else it holds.

    Parameters
    ----------
    path : Path
        CSV file.
    task_column : str or None
        Name of the task ids; None: "task" or "tasks".
    features : list of str or None
        Names of the features; None: all columns but the ids and the target.
    target : str
        Column to leave aside.
    max_rows : int
        Most rows.

    Returns
    -------
    tuple
        Rows (n, n_features), ids (n,) as text, and the names of the features.

    Raises
    ------
    OSError
        If the file cannot be read.
    InvalidInputError
        As `read_table`.
    """
    names = read_header(path)
    tasks = _task_name(names, task_column, path)
    if tasks is None:
        _check_has("task", names, path)
    wanted = features or [name for name in names if name not in (target, tasks)]
    missing = [name for name in wanted if name not in names]
    if missing or not wanted:
        raise InvalidInputError(
            f"The data must have the {len(wanted)} features that the estimator was "
            f"fitted on. Got no {missing[:3]}; the columns are {_few(names)}."
        )
    place = {name: column for column, name in enumerate(names)}
    columns = read_columns(
        path, [place[k] for k in wanted], [place[str(tasks)]], max_rows
    )
    if not columns.texts[0]:
        raise InvalidInputError(f"A table must hold rows. Got none in {path}.")
    check_look_alikes(list(dict.fromkeys(columns.texts[0])), str(tasks))
    return np.stack(columns.numbers, axis=1), texts_of(columns.texts[0]), wanted


def columns_of(table: Table, names: Sequence[str]) -> NDArray[Any]:
    """The features with these names, in this order; all, where none has a name.

    Raises
    ------
    InvalidInputError
        If one is missing.
    """
    if table.features is None:
        return table.X
    place = {name: column for column, name in enumerate(table.features)}
    missing = [name for name in names if name not in place]
    if missing:
        raise InvalidInputError(
            f"The data must have the {len(names)} features that the estimator was "
            f"fitted on. Got no {missing[:3]}; the columns are {table.features[:10]}."
        )
    return table.X[:, [place[name] for name in names]]


def _read_npz(
    path: Path, target: str, task_column: str | None, max_bytes: int | None
) -> Table:
    wanted = {"X", target, task_column, "task", "tasks"} - {None}
    arrays = read_npz_arrays(path, map(str, wanted), max_bytes=max_bytes)
    names = list(arrays)
    tasks = _task_name(names, task_column, path)
    for name in ("X", target):
        _check_has(name, names, path)
    for name in ("X", target, *([] if tasks is None else [tasks])):
        if arrays[name].ndim == 0 or len(arrays[name]) != len(arrays["X"]):
            raise InvalidInputError(
                f"The arrays of {path.name} must have a row each. Got {name!r} of "
                f"shape {arrays[name].shape} for X of shape {arrays['X'].shape}; save "
                "them again."
            )
    ids = None if tasks is None else arrays[tasks]
    if ids is not None:
        _check_ids(ids, str(tasks))
    return Table(arrays["X"], arrays[target], ids)


def _check_ids(ids: NDArray[Any], name: str) -> None:
    """Refuse ids that are missing, or look alike."""
    if ids.dtype.kind in "US":
        texts = [str(text) for text in np.unique(ids)]
        missing = any(not text.strip() for text in texts)
    else:
        missing = ids.dtype.kind in "fcmM" and bool((ids != ids).any())
        texts = []
    if missing:
        raise InvalidInputError(
            f"Every row must have a value in {name!r}. Got none in some; fill it, or "
            "drop the rows."
        )
    check_look_alikes(texts, name)


def _read_csv(
    path: Path, target: str, task_column: str | None, values: bool, max_rows: int
) -> Table:
    names = read_header(path)
    tasks = _task_name(names, task_column, path)
    _check_has(target, names, path)
    features = [name for name in names if name not in (target, tasks)]
    if not features:
        raise InvalidInputError(
            "A CSV file needs rows and a column of features. Got the columns "
            f"{_few(names)} in {path}."
        )
    named = [target] if tasks is None else [target, tasks]
    place = {name: column for column, name in enumerate(names)}
    columns = read_columns(
        path, [place[k] for k in features], [place[k] for k in named], max_rows
    )
    if not columns.texts[0]:
        raise InvalidInputError(
            f"A CSV file needs rows and a column of features. Got no rows in {path}."
        )
    y = labels_of(columns.texts[0], target, values=values)
    ids = None
    if tasks is not None:
        check_look_alikes(list(dict.fromkeys(columns.texts[1])), tasks)
        ids = texts_of(columns.texts[1])
    return Table(np.stack(columns.numbers, axis=1), y, ids, features)


def _task_name(names: list[str], wanted: str | None, path: Path) -> str | None:
    if wanted is not None:
        _check_has(wanted, names, path)
        return wanted
    return next((name for name in ("task", "tasks") if name in names), None)


def _few(names: Sequence[str]) -> str:
    """Names for a message, of which there may be very many."""
    shown = [name[:60] for name in names[:20]]
    return str(shown) if len(names) <= len(shown) else f"{shown} and more"


def _check_has(name: str, names: list[str], path: Path) -> None:
    if name not in names:
        raise InvalidInputError(
            f"The file {path} must have a column {name!r}. Got {_few(names)}; name "
            "another with --target or --task-column (npz: X, y and tasks)."
        )
