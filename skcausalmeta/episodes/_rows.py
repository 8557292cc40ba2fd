"""Grouping rows by label and drawing support and query rows from the groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..exceptions import InvalidInputError
from ..utils import count_missing
from ._episode import Episode
from ._row_counts import RowCounts

# Shuffling so few entries costs less than the call overhead of Generator.choice.
_SHUFFLE_LIMIT = 1000


def check_labels(labels: ArrayLike, name: str) -> np.ndarray:
    """Return `labels` as a 1-D array that `numpy.unique` can group."""
    array = np.asarray(labels)
    if array.ndim != 1:
        raise InvalidInputError(
            f"{name} must be one-dimensional, one entry per row. Got shape "
            f"{array.shape}; pass {name}.ravel() or one column."
        )
    if len(array) == 0:
        raise InvalidInputError(f"{name} must hold at least one row. Got none.")
    if array.dtype.kind == "f":
        _check_discrete(array, name)
    return array


def group_rows(labels: np.ndarray, name: str) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the sorted distinct labels and the rows of each."""
    try:
        values, codes, counts = np.unique(
            labels, return_inverse=True, return_counts=True
        )
    except TypeError as error:
        raise InvalidInputError(
            f"{name} must hold labels of one type, none of them missing. Got a mix "
            "that cannot be sorted; drop the rows without a label and convert the "
            "rest to one type."
        ) from error
    if missing := count_missing(values):
        raise InvalidInputError(
            f"{name} must hold a label in every row. Got {missing} values that stand "
            "for none (NaN, NaT); drop or fill the rows."
        )
    by_label = np.argsort(codes, kind="stable")
    return values, np.split(by_label, np.cumsum(counts)[:-1])


def draw_class_episode(
    rng: np.random.Generator,
    classes: np.ndarray,
    class_rows: Sequence[np.ndarray],
    *,
    n_way: int,
    counts: RowCounts,
    shot: int | None,
    task: Any = None,
    query_rows: Sequence[np.ndarray] | None = None,
    weights: np.ndarray | None = None,
) -> Episode:
    """Draw `n_way` of the classes in random order, then rows of each.

    The random order of the classes is the re-mapping: label 0 goes to the class
    drawn first, so a label tells nothing about which class it stands for. With
    `shot` None every class draws its own number of support rows. With `query_rows`
    the query comes from these rows and the support from `class_rows`. `weights` are
    those of all rows of the data.
    """
    drawn = draw_rows(rng, np.arange(len(classes)), n_way)
    shots = [counts.draw_shot(rng) if shot is None else shot for _ in drawn]
    supports, queries = [], []
    if query_rows is None:
        for c, wanted in zip(drawn, shots, strict=True):
            n_support, n_query = counts.divide(len(class_rows[c]), wanted)
            rows = draw_rows(rng, class_rows[c], n_support + n_query, weights)
            supports.append(rows[:n_support])
            queries.append(rows[n_support:])
    else:
        for c, wanted in zip(drawn, shots, strict=True):
            supports.append(draw_rows(rng, class_rows[c], wanted, weights))
        queries = [draw_rows(rng, query_rows[c], counts.query, weights) for c in drawn]
    labels = np.arange(n_way, dtype=np.int64)
    return Episode(
        support=np.concatenate(supports),  # (sum of the shots,)
        query=np.concatenate(queries),
        support_targets=np.repeat(labels, list(map(len, supports))),
        query_targets=np.repeat(labels, list(map(len, queries))),
        classes=classes[drawn],
        task=task,
    )


def draw_rows(
    rng: np.random.Generator,
    rows: np.ndarray,
    n_rows: int,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Draw `n_rows` different entries of `rows`, or all, in random order.

    With `weights` of all rows of the data, those of greater weight come more often.
    """
    if weights is not None:
        shares = weights[rows] / weights[rows].sum()
        drawn = rng.choice(rows, min(n_rows, len(rows)), replace=False, p=shares)
        # Heavy rows are drawn first, but are not to be in the support more often.
        return rng.permutation(drawn)
    if len(rows) <= _SHUFFLE_LIMIT:
        return rng.permutation(rows)[:n_rows]
    return rows[rng.choice(len(rows), min(n_rows, len(rows)), replace=False)]


def check_weights(weights: ArrayLike | None, n_rows: int) -> np.ndarray | None:
    """Return the weights of all rows, positive, or None.

    Raises
    ------
    InvalidInputError
        If there is not one positive number per row.
    """
    if weights is None:
        return None
    found = np.asarray(weights, dtype=np.float64)
    if found.shape != (n_rows,):
        raise InvalidInputError(
            f"sample_weight must hold one weight per row, {n_rows}. Got shape "
            f"{found.shape}."
        )
    if not (np.isfinite(found) & (found > 0)).all():
        raise InvalidInputError(
            "sample_weight must be finite and > 0. Got values from "
            f"{found.min():g} to {found.max():g}; leave out the rows of weight 0."
        )
    return found


def _check_discrete(array: np.ndarray, name: str) -> None:
    if not np.isfinite(array).all():
        raise InvalidInputError(
            f"{name} must be finite, one label per row. Got "
            f"{np.count_nonzero(~np.isfinite(array))} rows with NaN or infinity; "
            "drop them."
        )
    if (array != np.floor(array)).any():
        raise InvalidInputError(
            f"{name} must hold labels. Got continuous values such as "
            f"{array[array != np.floor(array)][0]}; for regression use TaskSampler "
            "with target_type='value'."
        )
