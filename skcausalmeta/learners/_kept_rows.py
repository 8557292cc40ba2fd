"""Support rows of a task, kept so that classes and shots can be added to it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..exceptions import InvalidInputError
from ..utils import stays_on_disk

_NUMBERS = "iuf"


def kept(rows: NDArray[Any]) -> NDArray[Any]:
    """Rows that the caller cannot change; those on a disk stay there."""
    return rows if stays_on_disk(rows) else rows.copy()


def join_rows(old: NDArray[Any], new: NDArray[Any]) -> NDArray[Any]:
    """Rows of both, in that order.

    Raises
    ------
    InvalidInputError
        If one of them holds bytes and the other does not, which images tell apart.
    """
    if (old.dtype == np.uint8) != (new.dtype == np.uint8):
        raise InvalidInputError(
            "keep_classes=True joins the new rows to those of the task, so both must "
            f"be bytes (uint8) or neither. Got {new.dtype} rows after {old.dtype} "
            "rows; convert them to one type."
        )
    return np.concatenate([old, new])


def join_labels(old: NDArray[Any], new: NDArray[Any]) -> NDArray[Any]:
    """Labels of both, in that order.

    Raises
    ------
    InvalidInputError
        If their types differ: one would be turned into the other in silence.
    """
    kinds = [_kind(labels) for labels in (old, new)]
    if "object" not in kinds and kinds[0] != kinds[1]:
        raise InvalidInputError(
            "keep_classes=True needs new labels of the same type as those of the "
            f"task. Got {kinds[1]} after {kinds[0]}; convert them, or adapt anew with "
            "keep_classes=False."
        )
    return np.concatenate([old, new])


def _kind(labels: NDArray[Any]) -> str:
    if labels.dtype.kind in _NUMBERS:
        return "numbers"
    return {"b": "booleans", "U": "text", "S": "bytes"}.get(labels.dtype.kind, "object")
