"""Base class of meta-learning regressors: real targets and episodes of tasks."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar

from numpy.typing import ArrayLike, NDArray
from sklearn.base import RegressorMixin
from sklearn.utils._param_validation import Interval, StrOptions

from ..training import Validation
from ..utils import IndexedScoreMixin
from ._base import N_SHOT_CONSTRAINT, BaseMetaLearner
from ._checks import check_values
from ._episode_plan import EpisodePlan, plan_value_episodes
from ._episode_sizes import ValueSizes


class BaseMetaRegressor(IndexedScoreMixin, RegressorMixin, BaseMetaLearner):
    """A meta-learner of real targets; every task id is a problem of its own.

    Without task ids all rows are one task, so that it is a regressor like others. A
    subclass writes what one of `BaseMetaClassifier` does, and `predict`.

    See Also
    --------
    SolvedTask : What `_solve` returns.

    Examples
    --------
    >>> from skcausalmeta.learners import BaseMetaRegressor
    >>> sorted(BaseMetaRegressor.__abstractmethods__)
    ['_make_net', '_solve', '_solve_training']
    """

    n_shot: int | str | tuple[int, int] = "auto"
    n_query: int | str = "auto"

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseMetaLearner._parameter_constraints,
        "n_shot": N_SHOT_CONSTRAINT,
        "n_query": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
    }

    def _check_targets(self, y: ArrayLike, rows: NDArray[Any]) -> NDArray[Any]:
        return check_values(self, y, rows)

    def _sizes(self) -> ValueSizes:
        return ValueSizes(self.n_shot, self.n_query)

    def _plan(
        self,
        targets: NDArray[Any],
        tasks: NDArray[Any] | None,
        envs: NDArray[Any] | None,
        validation: Validation | None,
        seeds: dict[str, int],
    ) -> EpisodePlan:
        return plan_value_episodes(
            targets,
            tasks,
            self._sizes(),
            seeds,
            validation=validation,
            envs=envs,
            weights=self._fit_weights,
        )
