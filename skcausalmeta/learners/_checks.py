"""Checks of the data that all learners share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from ..exceptions import InvalidInputError
from ..utils import (
    SparseRows,
    StoredRows,
    all_finite,
    check_sortable,
    ids_of,
    is_memory_map,
    is_stored,
    read_rows,
    refuse_masked,
    refuse_missing,
    refuse_mixed,
    refuse_other_kinds,
    without_graph,
)

_NUMERIC = "fiub"
_ROWS_FOR_SCALE = 1000
_SMALLEST, _LARGEST = 1e-6, 1e18


def check_device(device: str | torch.device) -> None:
    """Refuse a device that is unknown, or not there.

    Raises
    ------
    InvalidInputError
        With what torch says.
    """
    try:
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        reason = str(error).partition("\n")[0]
        raise InvalidInputError(
            "The 'device' parameter must name a device of this machine that torch can "
            f"use. Got {str(device)!r} ({reason}); use device='cpu', or install the "
            "torch that knows it."
        ) from error


def check_rows(learner: Any, X: ArrayLike) -> NDArray[Any]:
    """Return rows, numeric and finite: a matrix or an array with more axes.

    A memory map, or an array kept elsewhere, is neither copied nor read as a whole,
    and a sparse matrix is not made dense.
    """
    X = without_graph(X)
    if type(X) is not np.ndarray and _is_elsewhere(X):
        return _check_in_blocks(learner, X)
    refuse_masked(X)
    with own_errors(X):
        rows = check_array(
            X,
            accept_sparse="csr",
            allow_nd=True,
            ensure_min_features=1,
            estimator=learner,
            input_name="X",
        )
        return _as_rows(rows)


def check_known_rows(learner: Any, X: ArrayLike) -> NDArray[Any]:
    """Return rows of the shape and the kind that a learner has seen in `fit`."""
    check_is_fitted(learner)
    X = without_graph(X)
    if type(X) is not np.ndarray and _is_elsewhere(X):
        validate_data(learner, X, reset=False, skip_check_array=True)
        rows = _check_in_blocks(learner, X)
    else:
        refuse_masked(X)
        with own_errors(X):
            found = validate_data(
                learner, X, reset=False, accept_sparse="csr", allow_nd=True
            )
            rows = _as_rows(found)
    learner.reader_.check(rows)
    return learner.reader_.of_seen_kind(rows)


def check_columns(learner: Any, X: Any) -> None:
    """Refuse a table of other columns than `fit` saw, or in another order.

    Raises
    ------
    InvalidInputError
        With their names, or how many there are.
    """
    if hasattr(X, "columns") and hasattr(learner, "reader_"):
        with own_errors():
            validate_data(learner, X, reset=False, skip_check_array=True)


def check_task_rows(learner: Any, X: NDArray[Any]) -> NDArray[Any]:
    """Return rows of tasks, (n_tasks, n, ...), of the kind seen in `fit`."""
    # Without validate_data: an array of tasks cannot carry feature names.
    rows = check_rows(learner, X.reshape(-1, *X.shape[2:]))
    learner.reader_.check(rows)
    return learner.reader_.of_seen_kind(rows).reshape(X.shape)


def _as_rows(rows: Any) -> NDArray[Any]:
    """Return checked rows as numbers, sparse ones as `SparseRows`."""
    if sparse.issparse(rows):
        kept: Any = SparseRows(rows)
        return kept  # type: ignore[no-any-return]
    return rows if rows.dtype.kind in _NUMERIC else as_numbers(rows)


def _is_elsewhere(X: Any) -> bool:
    """Tell whether rows lie on disk, and are to be read in blocks."""
    return is_memory_map(X) or is_stored(X)


def _check_in_blocks(learner: Any, X: Any) -> NDArray[Any]:
    rows: Any = StoredRows(X) if is_stored(X) else X
    if not all_finite(rows):
        raise InvalidInputError(
            "Input X contains NaN or infinity. "
            f"{type(learner).__name__} needs finite rows; drop or fill them in the "
            "file."
        )
    checked: NDArray[Any] = rows
    return checked


def check_labels(learner: Any, y: ArrayLike, rows: NDArray[Any]) -> NDArray[Any]:
    """Return the labels of checked rows, of any number of classes."""
    if y is None:
        refuse_none(learner, "label")
    refuse_masked(y, "y")
    refuse_mixed(y, "y")
    with own_errors():
        labels: NDArray[Any] = column_or_1d(y, warn=True)
        check_consistent_length(rows, labels)
        check_sortable(labels, "y")
        check_classification_targets(labels)
    return labels


def check_classes(learner: Any, labels: NDArray[Any]) -> NDArray[Any]:
    """Return labels; refuse those of a single class."""
    classes = np.unique(labels)
    if len(classes) < 2:
        raise InvalidInputError(
            f"{type(learner).__name__} needs at least 2 classes. Got 1 class: "
            f"{classes[0]!r}; add rows of another class."
        )
    return labels


def check_values(
    learner: Any, y: ArrayLike, rows: NDArray[Any], least: int = 2
) -> NDArray[Any]:
    """Return the real targets of checked rows, float64."""
    if y is None:
        refuse_none(learner, "real number")
    refuse_masked(y, "y")
    with own_errors(y, "y"):
        values: NDArray[Any] = check_array(
            column_or_1d(without_graph(y), warn=True),
            dtype=np.float64,
            ensure_2d=False,
            input_name="y",
            estimator=learner,
        )
        check_consistent_length(rows, values)
    if len(values) < least:
        raise InvalidInputError(
            f"{type(learner).__name__} needs at least 2 rows. Got 1 sample; add rows."
        )
    return values


def refuse_none(learner: Any, what: str) -> NoReturn:
    """Refuse targets that are None."""
    raise ValueError(
        f"{type(learner).__name__} requires y to be passed, but the target y is "
        f"None. Pass one {what} per row."
    )


def check_ids(ids: ArrayLike | None, X: NDArray[Any], name: str) -> NDArray[Any] | None:
    """Return the ids of checked rows, or None."""
    return None if ids is None else check_given_ids(ids, X, name)


def check_given_ids(ids: ArrayLike, X: NDArray[Any], name: str) -> NDArray[Any]:
    """Return the ids of checked rows, none of them missing."""
    return ids_of(ids, name, int(X.shape[0]) if hasattr(X, "shape") else len(X))


def as_numbers(rows: NDArray[Any]) -> NDArray[Any]:
    """Convert rows of objects (a table with a categorical column) to double.

    Raises
    ------
    InvalidInputError
        For dates and spans of time, which numpy would count in units of its own.
    """
    if rows.dtype.kind in "mM":
        raise InvalidInputError(
            f"X must hold numbers. Got {rows.dtype}; divide spans of time by a unit, "
            "for instance (X - start) / np.timedelta64(1, 'D')."
        )
    return rows.astype(np.float64) if rows.dtype.kind == "O" else rows


@contextmanager
def own_errors(values: Any = None, name: str = "X") -> Iterator[None]:
    """Turn errors of scikit-learn about data into errors of the package.

    What `values` holds instead of real numbers is named, text with its place.
    """
    try:
        yield
    except ValueError as error:
        refuse_other_kinds(values, name, error)
        refuse_missing(name, error)
        raise InvalidInputError(str(error)) from error


def check_scale(X: Any) -> None:
    """Refuse rows whose squares leave single precision, which backbones work in.

    All rows in memory are looked at, and a thousand of those elsewhere. Backbones that
    standardise their inputs need no such check.

    Raises
    ------
    InvalidInputError
        With the largest value.
    """
    if X.dtype.kind != "f":
        return
    step = -(-len(X) // _ROWS_FOR_SCALE)
    if isinstance(X, SparseRows):
        some = X.data if len(X.data) else np.zeros(1)
    elif type(X) is np.ndarray:
        some = X
    else:
        some = read_rows(X, np.arange(0, len(X), step))
    largest = max(float(some.max()), -float(some.min()))
    if not (largest == 0.0 or _SMALLEST <= largest <= _LARGEST):
        raise InvalidInputError(
            "Rows must fit single precision: the largest value of X must lie between "
            f"{_SMALLEST:g} and {_LARGEST:g}. Got {largest:g}; scale the features, for "
            "instance with StandardScaler in make_meta_pipeline."
        )
