"""Whether labels mean the same in every task."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..exceptions import InvalidInputError

# A label that means the same everywhere is one that most tasks know.
_SHARE_OF_TASKS = 0.5


def labels_are_shared(
    shared_labels: bool | str, y: NDArray[Any], tasks: NDArray[Any] | None
) -> bool:
    """Tell whether episodes keep the labels of their tasks.

    Parameters
    ----------
    shared_labels : bool or "auto"
        "auto": there are at least two tasks, and a task knows on average at least
        half of all labels, one of which occurs in two tasks.
    y : ndarray of shape (n_samples,)
        Labels.
    tasks : ndarray of shape (n_samples,) or None
        Task ids; None: tasks are drawn from the classes, which are new ones.

    Returns
    -------
    bool

    Raises
    ------
    InvalidInputError
        If labels shall be shared by tasks that are not given.

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.learners._shared_labels import labels_are_shared
    >>> tasks = np.array([0, 0, 1, 1])
    >>> labels_are_shared("auto", np.array([0, 1, 0, 1]), tasks)
    True
    >>> labels_are_shared("auto", np.arange(6), np.array([0, 0, 1, 1, 2, 2]))
    False
    """
    if tasks is None:
        if shared_labels is True:
            raise InvalidInputError(
                "shared_labels=True keeps the labels of tasks, so fit needs tasks=..., "
                'one id per row. Got tasks=None; pass them, or shared_labels="auto".'
            )
        return False
    if shared_labels != "auto":
        return bool(shared_labels)
    numbers = [np.unique(ids, return_inverse=True)[1] for ids in (tasks, y)]
    n_tasks, n_labels = (int(ids.max()) + 1 for ids in numbers)
    if n_tasks < 2 or n_labels < 2:
        return False
    pairs = np.unique(numbers[0] * n_labels + numbers[1])
    counts = np.bincount(pairs % n_labels, minlength=n_labels)
    common = bool((counts > 1).any())
    return common and len(pairs) / (n_tasks * n_labels) >= _SHARE_OF_TASKS
