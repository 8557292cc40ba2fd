"""What all meta-learning regressors share: real targets and episodes of tasks."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import RegressorMixin
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils._param_validation import Interval, StrOptions

from ..exceptions import InvalidInputError
from ._base import BaseMetaLearner
from ._checks import own_errors
from ._episode_plan import EpisodePlan
from ._value_plan import ValueSizes, plan_value_episodes


class BaseMetaRegressor(RegressorMixin, BaseMetaLearner):
    """A meta-learner of real targets; every task id is a problem of its own.

    Without task ids all rows are one task, so that it is a regressor like others.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseMetaLearner._parameter_constraints,
        "n_shot": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "n_query": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "validation_tasks": ["array-like", None],
    }

    def _sizes(self) -> ValueSizes:
        return ValueSizes(self.n_shot, self.n_query)

    def _check_targets(self, y: ArrayLike, rows: NDArray[Any]) -> NDArray[Any]:
        self._check_y_given(y, "real number")
        with own_errors(y, "y"):
            values: NDArray[Any] = check_array(
                column_or_1d(y, warn=True),
                dtype=np.float64,
                ensure_2d=False,
                input_name="y",
                estimator=self,
            )
            check_consistent_length(rows, values)
        if len(values) < 2:
            raise InvalidInputError(
                f"{type(self).__name__} needs at least 2 rows. Got 1 sample; add rows."
            )
        return values

    def _plan(
        self,
        targets: NDArray[Any],
        tasks: NDArray[Any] | None,
        seeds: dict[str, int],
        envs: NDArray[Any] | None = None,
    ) -> EpisodePlan:
        return plan_value_episodes(
            targets,
            tasks,
            self._sizes(),
            seeds,
            validated=self.early_stopping or self.validation_tasks is not None,
            given=self.validation_tasks,
            fraction=self.validation_fraction,
            envs=envs,
        )
