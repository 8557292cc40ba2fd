"""Own tables: a data frame with a column that names the task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from ..exceptions import InvalidInputError


def load_task_frame(
    frame: Any,
    target: str,
    task: str,
    *,
    env: str | None = None,
    features: Sequence[str] | None = None,
) -> Bunch:
    """Divide a data frame into what `fit` takes: rows, targets, tasks, environments.

    Parameters
    ----------
    frame : DataFrame of shape (n_samples, n_columns)
        A pandas data frame, such as ``pandas.read_csv(...)``.
    target : str
        Column to predict: labels or real numbers.
    task : str
        Column of task ids, such as the customer or the assay.
    env : str, default=None
        Column of environment ids, such as the site or the year. None: there is none.
    features : sequence of str, default=None
        Columns to predict from. None: all others.

    Returns
    -------
    Bunch
        ``data`` (n_samples, n_features) data frame; ``target``, ``tasks`` and
        ``envs`` (n_samples,) arrays, ``envs`` being None without `env`;
        ``feature_names`` (n_features,).

    Raises
    ------
    InvalidInputError
        If a column is not there, is given twice, a feature does not hold numbers, or
        a task or environment is missing in a row.

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
    """
    if not hasattr(frame, "columns") or not hasattr(frame, "loc"):
        raise InvalidInputError(
            f"frame must be a pandas data frame. Got {type(frame).__name__}; read a "
            "file with pandas.read_csv first."
        )
    special = [target, task] if env is None else [target, task, env]
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
    return Bunch(
        data=frame[names],
        target=frame[target].to_numpy(),
        tasks=_ids(frame[task], task),
        envs=None if env is None else _ids(frame[env], env),
        feature_names=names,
    )


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
