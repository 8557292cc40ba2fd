"""Weights of the rows that a learner is given."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import _check_sample_weight, has_fit_parameter

from ..exceptions import InvalidInputError
from ..utils import is_memory_map, is_stored
from ._checks import own_errors


def check_row_weights(
    learner: Any, sample_weight: ArrayLike | None, rows: NDArray[Any]
) -> NDArray[np.float64] | None:
    """Return the weights of checked rows, >= 0, or None where none are given.

    Raises
    ------
    InvalidInputError
        If there is not one for every row, one is negative or not finite, or all
        are 0.
    """
    if sample_weight is None:
        return None
    with own_errors():
        weights: NDArray[np.float64] = _check_sample_weight(
            sample_weight, rows, dtype=np.float64, ensure_non_negative=True
        )
    if not weights.any():
        raise InvalidInputError(
            f"{type(learner).__name__} needs a row of positive weight. Got "
            f"sample_weight of {len(weights)} zeros; leave it out."
        )
    return weights


def rows_with_weight(
    weights: NDArray[np.float64], rows: NDArray[Any]
) -> NDArray[np.intp] | None:
    """Return the numbers of the rows of positive weight, None where all have it.

    Raises
    ------
    InvalidInputError
        If some have none and the rows are on disk, where they stay.
    """
    if weights.all():
        return None
    if is_memory_map(rows) or is_stored(rows):
        raise InvalidInputError(
            "Rows on disk must all have a positive weight. Got "
            f"{np.count_nonzero(weights == 0)} of {len(weights)} of weight 0; leave "
            "them out of the file, or load the others."
        )
    return np.flatnonzero(weights)


def refuse_weights(learner: Any, why: str, remedy: str) -> NoReturn:
    """Refuse weights that a learner cannot honour.

    Raises
    ------
    InvalidInputError
    """
    raise InvalidInputError(
        f"{type(learner).__name__} takes no sample_weight {why}. Got weights; {remedy}."
    )


def weighing_keywords(
    learner: Any, head: Any, weights: NDArray[np.float64] | None
) -> dict[str, Any]:
    """Return the keywords for ``fit`` of a head; refuse heads without weights."""
    if weights is None:
        return {}
    if not has_fit_parameter(head, "sample_weight"):
        refuse_weights(
            learner,
            f"with the head {type(head).__name__}, whose fit has none",
            "repeat rows instead, or use another head",
        )
    return {"sample_weight": weights}


def weighted_class_middle(
    features: NDArray[Any], labels: NDArray[Any], weights: NDArray[np.float64]
) -> NDArray[Any]:
    """Mean (n_features,) of the weighted class means of a task."""
    means = [
        np.average(features[labels == name], axis=0, weights=weights[labels == name])
        for name in np.unique(labels)
    ]
    found: NDArray[Any] = np.mean(means, axis=0)
    return found
