"""A task solved by a head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...training import in_blocks
from .._solved_task import SolvedTask

_SCORES_PER_BLOCK = 8


@dataclass(frozen=True, eq=False, kw_only=True)
class HeadTask(SolvedTask):
    """A head solved on the support rows of a task.

    Attributes
    ----------
    head : estimator
        Fitted on the features of the support rows.
    code : ndarray of shape (n_code,) or None
        Code that the hook gives the task; None without a hook.
    center : ndarray of shape (n_features,) or None
        Mean support feature, subtracted from the features before the head.
    """

    head: Any
    code: NDArray[Any] | None = None
    center: NDArray[Any] | None = None

    def scores(self, learner: Any, rows: NDArray[Any]) -> NDArray[Any]:
        """Return the scores of the classes (n, n_classes), or targets (n,)."""
        hooked = learner.net_.module_.hooked
        features = hooked.features_of(learner._features(rows), self.code)
        if self.center is not None:
            features = features - self.center
        if self.classes is None:
            return in_blocks(self.head.predict, features, _SCORES_PER_BLOCK)
        found = in_blocks(self.head.decision_function, features, _SCORES_PER_BLOCK)
        if found.ndim == 1:  # scores of the second class minus the first
            return np.stack([np.zeros_like(found), found], axis=1)
        return found

    @property
    def dual_gap(self) -> float:
        """Certificate of the head."""
        return self.head.dual_gap_

    def sparsity(self, learner: Any) -> float:
        """Share of the features that the head does not use."""
        return self.head.sparsity_

    def support_features(self, learner: Any) -> NDArray[Any]:
        """Numbers of the features that the head uses."""
        return self.head.support_features_
