"""What all meta-learning classifiers share: labels and their episodes."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets

from ..exceptions import InvalidInputError
from ._base import BaseMetaLearner
from ._data_checks import check_sortable, own_errors
from ._plan import EpisodePlan, EpisodeSizes, choose_held_out, plan_episodes


class BaseMetaClassifier(ClassifierMixin, BaseMetaLearner):
    """A meta-learner of classes; episodes are N-way problems or tasks by id."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseMetaLearner._parameter_constraints,
        "n_way": [StrOptions({"auto"}), Interval(Integral, 2, None, closed="left")],
        "n_shot": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "n_query": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "validation_classes": ["array-like", None],
    }
    _monitor = ("valid_accuracy", False)

    def _check_targets(self, y: ArrayLike, rows: NDArray[Any]) -> NDArray[Any]:
        self._check_y_given(y, "label")
        with own_errors():
            labels: NDArray[Any] = column_or_1d(y, warn=True)
            check_consistent_length(rows, labels)
            check_sortable(labels, "y")
            check_classification_targets(labels)
        classes = np.unique(labels)
        if len(classes) < 2:
            raise InvalidInputError(
                f"{type(self).__name__} needs at least 2 classes. Got 1 class: "
                f"{classes[0]!r}; add rows of another class."
            )
        return labels

    def _plan(
        self,
        targets: NDArray[Any],
        tasks: NDArray[Any] | None,
        seeds: dict[str, int],
        envs: NDArray[Any] | None = None,
    ) -> EpisodePlan:
        held_out = None
        if self.early_stopping or self.validation_classes is not None:
            held_out = choose_held_out(
                targets if tasks is None else tasks,
                given=self.validation_classes,
                fraction=self.validation_fraction,
                at_least=2 if tasks is None else 1,
                seed=seeds["held-out"],
                parameter="validation_classes",
                units_are="classes of y (or task ids, with tasks)",
            )
        sizes = EpisodeSizes(self.n_way, self.n_shot, self.n_query)
        return plan_episodes(targets, tasks, sizes, held_out, seeds, envs)
