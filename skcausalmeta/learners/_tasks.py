"""Many tasks in one call: arrays with a leading task axis."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.multiclass import check_classification_targets

from ..exceptions import InvalidInputError
from ..utils import StoredRows, is_memory_map, is_stored
from ._checks import check_sortable

_TASKS_PER_SOLVE = 64


def check_tasks(
    X_support: ArrayLike,
    y_support: ArrayLike,
    X_query: ArrayLike,
    pixels: tuple[int, ...] = (),
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Support rows, targets and query rows as arrays that agree in shape.

    Parameters
    ----------
    X_support, y_support, X_query : array-like
        Arrays with a leading task axis.
    pixels : tuple of int, default=()
        Height and width of the targets of a row, if they are per pixel.
    """
    support, query = _as_tasks(X_support), _as_tasks(X_query)
    targets = np.asarray(y_support)
    shapes = f"Got {support.shape}, {targets.shape} and {query.shape}."
    if support.ndim < 3 or query.ndim != support.ndim:
        raise InvalidInputError(
            "predict_episodes takes X_support (n_tasks, n_support, ...), y_support "
            f"(n_tasks, n_support) and X_query (n_tasks, n_query, ...). {shapes}"
        )
    agree = targets.shape == (*support.shape[:2], *pixels)
    if not agree or len(query) != len(support):
        per_pixel = f", with targets of shape {pixels} for every row" if pixels else ""
        raise InvalidInputError(
            "X_support, y_support and X_query must agree in the number of tasks, and "
            f"X_support and y_support in the number of rows{per_pixel}. {shapes}"
        )
    return support, targets, query


def _as_tasks(X: ArrayLike) -> NDArray[Any]:
    """An array; memory maps and stored arrays stay what they are."""
    if is_stored(X):
        stored: Any = StoredRows(X)
        return stored  # type: ignore[no-any-return]
    return np.asanyarray(X) if is_memory_map(X) else np.asarray(X)


def encode_tasks(
    labels: NDArray[Any],
) -> tuple[NDArray[Any], list[NDArray[Any]]]:
    """Class numbers (n_tasks, n_support) and the classes of every task."""
    check_sortable(labels.ravel(), "y_support")
    check_classification_targets(labels.ravel())
    codes = np.empty(labels.shape, dtype=np.int64)
    classes = []
    for k, row in enumerate(labels):
        names, codes[k] = np.unique(row, return_inverse=True)
        if len(names) < 2:
            raise InvalidInputError(
                f"Every task needs at least 2 classes. Got 1 class in task {k}: "
                f"{names[0]!r}."
            )
        classes.append(names)
    return codes, classes


def solve_tasks(
    head: Any,
    support: NDArray[Any],
    codes: NDArray[Any],
    query: NDArray[Any],
    classes: list[NDArray[Any]],
) -> NDArray[Any]:
    """Class numbers of query features; tasks with as many classes go together.

    Parameters
    ----------
    head : estimator
        Offers ``episode_logits``.
    support : ndarray of shape (n_tasks, n_support, n_features)
        Support features.
    codes : ndarray of shape (n_tasks, n_support)
        Their class numbers.
    query : ndarray of shape (n_tasks, n_query, n_features)
        Query features.
    classes : list of ndarray
        Classes of every task.

    Returns
    -------
    ndarray of shape (n_tasks, n_query)
    """
    winners = np.empty(query.shape[:2], dtype=np.intp)
    ways = np.array([len(names) for names in classes])
    for way in np.unique(ways):
        positions = np.flatnonzero(ways == way)
        n_parts = -(-len(positions) // _TASKS_PER_SOLVE)
        for part in np.array_split(positions, n_parts):
            with torch.no_grad():
                logits = head.episode_logits(
                    torch.from_numpy(support[part]),
                    torch.from_numpy(codes[part]),
                    torch.from_numpy(query[part]),
                    int(way),
                )
            winners[part] = logits.argmax(-1).numpy()
    return winners
