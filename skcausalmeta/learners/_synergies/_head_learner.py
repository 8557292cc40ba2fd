"""What the learners with a solved head share, whatever the head predicts."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, ClassVar

from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils._param_validation import Interval, StrOptions

from .._nested import Makers
from .._solved_task import HeadTask

# Keywords of the net, as net_params gives them.
NET_KEYWORDS: dict[str, list[Any]] = {
    "head_tol": [Interval(Real, 0, None, closed="neither")],
    "accelerate": ["boolean"],
    "micro_batch": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
}


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
        """What the hook keeps of the task in use."""
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
