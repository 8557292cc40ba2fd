"""Files of rows that each belong to a task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from ..exceptions import InvalidInputError


def check_rows(arrays: Mapping[str, NDArray[Any]], file: str) -> None:
    """Refuse rows, targets and tasks that are not equally many."""
    shapes = {name: arrays[name].shape for name in ("X", "y", "tasks")}
    n = shapes["X"][:1]
    if len(shapes["X"]) != 2 or shapes["y"] != n or shapes["tasks"] != n:
        raise InvalidInputError(
            f"{file} must hold rows X (n, n_features), and y and tasks (n,). Got "
            f"{shapes}; take a file of this data set."
        )
