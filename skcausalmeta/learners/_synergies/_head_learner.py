"""What the learners with a solved head share, whatever the head predicts."""

from __future__ import annotations

from abc import abstractmethod
from numbers import Real
from typing import Any, ClassVar, Self

from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils._param_validation import Interval

from ...exceptions import NotFittedError
from .._task_chunks import TASKS_AT_ONCE, task_cost


class HeadLearnerMixin:
    """Parameters ``head__*``, the head in use, and its facts."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "head_tol": [Interval(Real, 0, None, closed="neither")],
        "fit_head": ["boolean"],
    }
    head: Any
    head_: Any
    net_: Any
    reader_: Any
    n_features_out_: int

    def set_params(self, **params: Any) -> Self:
        """Set parameters; ``head__name=value`` fills in the default head if needed.

        Parameters
        ----------
        **params : dict
            Names and values.

        Returns
        -------
        self : object
            Itself.
        """
        nested = any(name.startswith("head__") for name in params)
        if nested and params.get("head", self.head) is None:
            params = {**params, "head": self._default_head()}
        return super().set_params(**params)  # type: ignore[misc]

    @staticmethod
    @abstractmethod
    def _default_head() -> Any:
        """The head that `head=None` stands for."""

    def _new_head(self) -> Any:
        return self._default_head() if self.head is None else clone(self.head)

    def _check_head(self) -> None:
        """Refuse a head with invalid parameters before any training."""
        head = self._new_head()
        if hasattr(head, "_parameter_constraints"):
            head._validate_params()

    def _check_has_head(self) -> None:
        if not hasattr(self, "head_"):
            raise NotFittedError(
                f"This {type(self).__name__} has no head: it was fitted with "
                "fit_head=False. Call 'adapt' with the support rows of a task first."
            )

    def _tasks_within(
        self, support: Any, query: Any, n_outputs: int, max_memory: int | None
    ) -> int:
        """Tasks of a chunk of `predict_episodes`."""
        if max_memory is None:
            return min(TASKS_AT_ONCE, len(support))
        cost = task_cost(
            self.net_.module_.backbone,
            self.reader_.sample_shape,
            support,
            query,
            self.n_features_out_,
            n_outputs,
        )
        return cost.tasks_within(max_memory, len(support))

    @property
    def dual_gap_(self) -> float:
        """Certificate of the head in use."""
        return self.head_.dual_gap_

    @property
    def sparsity_(self) -> float:
        """Share of features that the head in use leaves unused."""
        return self.head_.sparsity_

    @property
    def support_features_(self) -> NDArray[Any]:
        """Features that the head in use uses."""
        return self.head_.support_features_
