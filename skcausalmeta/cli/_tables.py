"""Rows, targets and task ids from a file."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..exceptions import InvalidInputError


class Table(NamedTuple):
    """Rows of a file."""

    X: NDArray[Any]
    y: NDArray[Any]
    tasks: NDArray[Any] | None
    features: list[str] | None = None  # names of the columns of X


def read_table(path: Path, target: str, task_column: str | None) -> Table:
    """Read a CSV or npz file.

    Parameters
    ----------
    path : Path
        File ending in .csv or .npz.
    target : str
        Name of the targets.
    task_column : str or None
        Name of the task ids; None: "task" or "tasks" where there is one.

    Raises
    ------
    OSError
        If the file cannot be read.
    InvalidInputError
        If a column is missing or a feature is no number.
    """
    if path.suffix == ".npz":
        return _read_npz(path, target, task_column)
    if path.suffix == ".csv":
        return _read_csv(path, target, task_column)
    raise InvalidInputError(
        f"Data must be a .csv or .npz file. Got {path.name!r}; save it as one of them."
    )


def columns_of(table: Table, names: Sequence[str]) -> NDArray[Any]:
    """The features with these names, in this order; all, where none has a name.

    Raises
    ------
    InvalidInputError
        If one is missing.
    """
    if table.features is None:
        return table.X
    missing = [name for name in names if name not in table.features]
    if missing:
        raise InvalidInputError(
            f"The data must have the {len(names)} features that the estimator was "
            f"fitted on. Got no {missing[:3]}; the columns are {table.features[:10]}."
        )
    return table.X[:, [table.features.index(name) for name in names]]


def _read_npz(path: Path, target: str, task_column: str | None) -> Table:
    with np.load(path, allow_pickle=False) as arrays:
        names = arrays.files
        tasks = _task_name(names, task_column, path)
        _check_has("X", names, path)
        _check_has(target, names, path)
        return Table(
            arrays["X"], arrays[target], None if tasks is None else arrays[tasks]
        )


def _read_csv(path: Path, target: str, task_column: str | None) -> Table:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    names, body = (rows[0], rows[1:]) if rows else ([], [])
    tasks = _task_name(names, task_column, path)
    _check_has(target, names, path)
    columns = dict(zip(names, zip(*body, strict=True), strict=True)) if body else {}
    features = [name for name in names if name not in (target, tasks)]
    if not columns or not features:
        raise InvalidInputError(
            f"A CSV file needs rows and a column of features. Got {len(body)} rows "
            f"and the columns {names} in {path}."
        )
    X = np.stack([_numbers(columns[name], name, path) for name in features], axis=1)
    ids = None if tasks is None else np.array(columns[tasks])
    return Table(X, _labels(columns[target]), ids, features)


def _task_name(names: list[str], wanted: str | None, path: Path) -> str | None:
    if wanted is not None:
        _check_has(wanted, names, path)
        return wanted
    return next((name for name in ("task", "tasks") if name in names), None)


def _check_has(name: str, names: list[str], path: Path) -> None:
    if name not in names:
        raise InvalidInputError(
            f"The file {path} must have a column {name!r}. Got {names}; name another "
            "with --target or --task-column (npz: X, y and tasks)."
        )


def _numbers(column: tuple[str, ...], name: str, path: Path) -> NDArray[Any]:
    try:
        return np.array(column, dtype=np.float64)
    except ValueError as error:
        raise InvalidInputError(
            f"Features must be numbers. Got column {name!r} of {path} with: {error}; "
            "encode or drop it."
        ) from error


def _labels(column: tuple[str, ...]) -> NDArray[Any]:
    """Targets as whole numbers, numbers or text, whichever fits first."""
    for dtype in (np.int64, np.float64):
        try:
            return np.array([dtype(text) for text in column])
        except ValueError:
            continue
    return np.array(column)
