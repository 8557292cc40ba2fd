"""One few-shot problem, as row numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Episode:
    """Rows and targets of one few-shot problem.

    Parameters
    ----------
    support : ndarray of shape (n_support,)
        Rows of the data that carry the labels of the problem.
    query : ndarray of shape (n_query,)
        Rows to be predicted. None of them is in `support`.
    support_targets : ndarray of shape (n_support,)
        Targets of the support rows: labels 0, ..., n_way - 1 (int64), or float
        values in regression.
    query_targets : ndarray of shape (n_query,)
        Targets of the query rows, likewise.
    classes : ndarray of shape (n_way,) or None
        Original labels in re-mapped order, so that ``classes[support_targets]``
        gives the original labels back. Where tasks share their labels, all labels
        of the data in sorted order, of which the episode may lack some. None in
        regression.
    task : object, default=None
        Id of the task that the rows belong to, if the data has tasks.

    Attributes
    ----------
    n_way : int or None
        Number of classes. None in regression.
    n_support : int
        Number of support rows, over all classes.
    n_query : int
        Number of query rows, over all classes.

    See Also
    --------
    EpisodeSampler : Draws episodes from labels.
    TaskSampler : Draws episodes from task ids.

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.episodes import Episode
    >>> episode = Episode(
    ...     support=np.array([4, 0]),
    ...     query=np.array([5, 1]),
    ...     support_targets=np.array([0, 1]),
    ...     query_targets=np.array([0, 1]),
    ...     classes=np.array(["oboe", "harp"]),
    ... )
    >>> print(episode.classes[episode.query_targets])
    ['oboe' 'harp']
    """

    support: np.ndarray
    query: np.ndarray
    support_targets: np.ndarray
    query_targets: np.ndarray
    classes: np.ndarray | None
    task: Any = None

    @property
    def n_way(self) -> int | None:
        """Number of classes, None in regression."""
        return None if self.classes is None else len(self.classes)

    @property
    def n_support(self) -> int:
        """Number of support rows, over all classes."""
        return len(self.support)

    @property
    def n_query(self) -> int:
        """Number of query rows, over all classes."""
        return len(self.query)
