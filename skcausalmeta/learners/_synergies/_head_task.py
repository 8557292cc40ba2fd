"""A task solved by a head, and the part that its learners share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils._param_validation import Interval, StrOptions

from ...training import in_blocks
from .._nested import Makers
from .._solved_task import SolvedTask

_SCORES_PER_BLOCK = 8
# Keywords of the net, as net_params gives them.
NET_KEYWORDS: dict[str, list[Any]] = {
    "head_tol": [Interval(Real, 0, None, closed="neither")],
    "accelerate": ["boolean"],
    "micro_batch": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
}


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


class HeadLearnerMixin:
    """The head of a task and its facts, for a classifier and a regressor."""

    _parts: ClassVar[Makers]
    head: Any
    _task_in_use: Callable[[], HeadTask]

    def _new_head(self) -> Any:
        return self._parts["head"](None) if self.head is None else clone(self.head)

    def _check_head(self) -> None:
        """Refuse a head with invalid parameters before any training."""
        head = self._new_head()
        if hasattr(head, "_parameter_constraints"):
            head._validate_params()

    @property
    def head_(self) -> Any:
        """The head in use."""
        return self._task_in_use().head

    @property
    def task_code_(self) -> NDArray[Any] | None:
        """Code that the hook gives the task in use; None without a hook."""
        return self._task_in_use().code

    @property
    def dual_gap_(self) -> float:
        """Certificate of the head in use."""
        return self._task_in_use().dual_gap

    @property
    def sparsity_(self) -> float:
        """Share of features that the head in use leaves unused."""
        return self.head_.sparsity_

    @property
    def support_features_(self) -> NDArray[Any]:
        """Features that the head in use uses."""
        return self.head_.support_features_
