"""Labels of new tasks, where labels mean the same in every task."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..exceptions import InvalidInputError
from ..utils import few_of


def number_known_labels(
    labels: NDArray[Any], classes: NDArray[Any], learner: Any
) -> NDArray[np.int64]:
    """Return the numbers of labels among those that a learner was fitted with.

    Labels of a new task may lack any of them, down to a single one.

    Parameters
    ----------
    labels : ndarray of any shape
        Labels of support rows.
    classes : ndarray of shape (n_classes,)
        All labels of `fit`, sorted.
    learner : estimator
        Named in the message.

    Returns
    -------
    ndarray of the shape of `labels`

    Raises
    ------
    InvalidInputError
        With the labels that are not among the classes; text is never a number.

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.learners._known_labels import number_known_labels
    >>> number_known_labels(np.array(["no", "no"]), np.array(["no", "yes"]), None)
    array([0, 0])
    """
    known = classes.tolist()
    numbers = {label: number for number, label in enumerate(known)}
    names, places = np.unique(labels, return_inverse=True)
    found = [numbers.get(name, -1) for name in names.tolist()]
    unknown = [name for name, k in zip(names.tolist(), found, strict=True) if k < 0]
    if unknown:
        raise InvalidInputError(
            f"This {type(learner).__name__} was fitted with tasks that share their "
            f"labels, so those of a task must be among these {few_of(known)}. Got "
            f"{few_of(unknown)} unknown; fit with rows of them, or with "
            "shared_labels=False, which tells new labels apart."
        )
    return np.array(found, dtype=np.int64)[places].reshape(labels.shape)
