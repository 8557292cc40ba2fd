"""Own tables: a data frame with a column that names the task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from ..exceptions import InvalidInputError


def load_task_frame(
    frame: Any,
    target: str | Sequence[str],
    task: str | None = None,
    *,
    env: str | None = None,
    features: Sequence[str] | None = None,
    unlabelled: Any = None,
) -> Bunch:
    """Divide a data frame into what `fit` takes: rows, targets, tasks, environments.

    A long table has a row a label and a column that names its task; a wide one has a
    column of labels a task, most of them empty perhaps, and becomes a long one.

    Parameters
    ----------
    frame : DataFrame of shape (n_rows, n_columns)
        A pandas data frame, such as ``pandas.read_csv(...)``.
    target : str or sequence of str
        Column to predict: labels or real numbers. Several columns, with ``task=None``:
        the labels of a task each, whose name is that of the column.
    task : str, default=None
        Column of task ids, such as the customer or the assay. None: `target` names a
        column a task.
    env : str, default=None
        Column of environment ids, such as the site or the year. None: there is none.
    features : sequence of str, default=None
        Columns to predict from. None: all others.
    unlabelled : scalar, default=None
        Value that stands for "no label", such as -1: such rows are left out. With a
        column a task, missing values (NaN) are left out in any case.

    Returns
    -------
    Bunch
        ``data`` (n_samples, n_features) data frame; ``target``, ``tasks`` and
        ``envs`` (n_samples,) arrays, ``envs`` being None without `env`; ``row``
        (n_samples,) position in `frame`, so that what belongs to the same row can be
        held apart; ``feature_names`` (n_features,). With a column a task, samples come
        task by task.

    Raises
    ------
    InvalidInputError
        If a column is not there, is given twice, a feature does not hold numbers, a
        task or environment is missing in a row, `task` does not go with `target`, or a
        task has no label.

    See Also
    --------
    fetch_tox21 : Molecules by assays, wide or long.

    Examples
    --------
    >>> import pandas as pd
    >>> from skcausalmeta.datasets import load_task_frame
    >>> frame = pd.DataFrame(
    ...     {
    ...         "customer": ["ann", "ann", "bob", "bob"],
    ...         "spam": [0, 1, 0, 1],
    ...         "length": [12, 30, 7, 9],
    ...         "links": [0, 3, 1, 5],
    ...     }
    ... )
    >>> bunch = load_task_frame(frame, target="spam", task="customer")
    >>> print(bunch.feature_names, bunch.data.shape, bunch.tasks)
    ['length', 'links'] (4, 2) ['ann' 'ann' 'bob' 'bob']

    A column of labels for each of two assays, -1 where there is none:

    >>> frame = pd.DataFrame(
    ...     {"weight": [1.5, 2.0, 0.5], "liver": [0, 1, -1], "skin": [-1, 1, 0]}
    ... )
    >>> bunch = load_task_frame(frame, target=["liver", "skin"], unlabelled=-1)
    >>> print(bunch.tasks, bunch.target, bunch.row)
    ['liver' 'liver' 'skin' 'skin'] [0 1 1 0] [0 1 1 2]
    """
    if not hasattr(frame, "columns") or not hasattr(frame, "loc"):
        raise InvalidInputError(
            f"frame must be a pandas data frame. Got {type(frame).__name__}; read a "
            "file with pandas.read_csv first."
        )
    targets = _targets(target, task)
    special = [*targets, *(name for name in (task, env) if name is not None)]
    columns = list(frame.columns)
    names = [c for c in columns if c not in special] if features is None else features
    names = list(names)
    _check_columns(columns, [*special, *names])
    text = [c for c in names if frame[c].dtype.kind not in "biuf"]
    if text or not names:
        raise InvalidInputError(
            "Features must be at least one column of numbers. Got "
            f"{text or 'no column'}; name the columns to use as features, or encode "
            "them, for example with pandas.get_dummies."
        )
    wide = task is None
    labelled = [_labelled(frame[name], unlabelled, missing=wide) for name in targets]
    row = np.concatenate(labelled)
    values = [
        frame[name].to_numpy()[rows]
        for name, rows in zip(targets, labelled, strict=True)
    ]
    if task is None:
        tasks = np.repeat(np.array(targets), [len(rows) for rows in labelled])
    else:
        tasks = _ids(frame[task].iloc[row], task)
    return Bunch(
        data=frame[names].iloc[row] if wide or len(row) < len(frame) else frame[names],
        target=np.concatenate(values),
        tasks=tasks,
        envs=None if env is None else _ids(frame[env].iloc[row], env),
        row=row,
        feature_names=names,
    )


def _targets(target: str | Sequence[str], task: str | None) -> list[Any]:
    """Columns of labels, which are several only where there is no column of tasks."""
    one = isinstance(target, str) or not isinstance(target, Sequence)
    if (task is None) == one:
        raise InvalidInputError(
            "target must be a column with task the column of task ids, or a list of "
            f"columns, one a task, without task. Got target={target!r} and "
            f"task={task!r}."
        )
    targets = [target] if one else list(target)
    if not targets:
        raise InvalidInputError("target must name at least one column. Got none.")
    return targets


def _labelled(column: Any, unlabelled: Any, missing: bool) -> np.ndarray:
    """Positions of the rows that have a label."""
    kept = np.ones(len(column), dtype=bool)
    if missing:
        kept &= column.notna().to_numpy()
    if unlabelled is not None:
        kept &= ~(column == unlabelled).fillna(False).to_numpy(dtype=bool)
    if not kept.any():
        raise InvalidInputError(
            f"A column of labels must have at least one. Got none in {column.name!r}; "
            "leave the task out."
        )
    return np.flatnonzero(kept)


def _check_columns(columns: list[Any], wanted: list[Any]) -> None:
    absent = [name for name in wanted if columns.count(name) != 1]
    if absent or len(set(wanted)) < len(wanted):
        raise InvalidInputError(
            "target, task, env and features must be different columns, each of them "
            f"once in the frame. Got {wanted} for the columns {columns}"
            + (f", of which {absent} are not there once." if absent else ".")
        )


def _ids(column: Any, name: str) -> np.ndarray:
    absent = int(column.isna().sum())
    if absent:
        raise InvalidInputError(
            f"Every row must have a value in {name!r}. Got {absent} rows without; "
            "drop or fill them."
        )
    return np.asarray(column.to_numpy())
