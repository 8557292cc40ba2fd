"""Learned columns, which come without order, beside true ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..exceptions import InvalidInputError
from ..metrics import best_matching
from ._canvas import names_of


def align_columns(
    weights: NDArray[np.float64], truth: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Order of the columns along the true ones, and the truth with columns for all.

    Columns are matched one to one so that weights in [0, 1] agree best with the
    truth; those without a true one come last, where the truth is False.
    """
    n_true, n_columns = truth.shape[1], weights.shape[1]
    if len(weights) != len(truth) or n_true > n_columns:
        raise InvalidInputError(
            "truth must describe the same tasks, with at most as many factors as there "
            f"are columns. Got shapes {truth.shape} and {weights.shape}."
        )
    # Agreement on both use and disuse, so that unused factors find unused columns.
    agreement = truth.T.astype(float) @ weights + (~truth).T.astype(float) @ (
        1 - weights
    )
    _, matched = best_matching(agreement)
    rest = np.setdiff1d(np.arange(n_columns), matched)
    padded = np.zeros(weights.shape, dtype=bool)
    padded[:, :n_true] = truth
    return np.concatenate([matched, rest]), padded


def aligned_names(
    names: Sequence[str] | None, n_true: int, order: NDArray[np.int64], kind: str
) -> list[str] | None:
    """Names of the true columns, then the kind and number of those without one."""
    if names is None:
        return None
    known = names_of(names, n_true, "factor", f"{kind}_names")
    return known + [f"{kind} {i}" for i in order[n_true:]]
