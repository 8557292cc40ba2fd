"""What all meta-learning classifiers share: labels, episodes and probabilities."""

from __future__ import annotations

import copy
from abc import abstractmethod
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from sklearn.base import ClassifierMixin
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets

from ..exceptions import InvalidInputError
from ._base import BaseMetaLearner
from ._data_checks import check_sortable
from ._plan import EpisodePlan, EpisodeSizes, choose_held_out, plan_episodes
from ._temperature import best_temperature

_CALIBRATION_EPISODES = 100


class BaseMetaClassifier(ClassifierMixin, BaseMetaLearner):
    """A meta-learner of classes; episodes are N-way problems or tasks by id."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseMetaLearner._parameter_constraints,
        "n_way": [StrOptions({"auto"}), Interval(Integral, 2, None, closed="left")],
        "n_shot": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "n_query": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "validation_classes": ["array-like", None],
        "calibrate": [
            StrOptions({"auto"}),
            Interval(Integral, 1, None, closed="left"),
            None,
        ],
    }
    _monitor = ("valid_accuracy", False)

    def _check_targets(self, y: ArrayLike, rows: NDArray[Any]) -> NDArray[Any]:
        self._check_y_given(y, "label")
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

    # -- probabilities -----------------------------------------------------------------

    def predict_proba(self, X: ArrayLike) -> NDArray[Any]:
        """Probabilities of the classes: softmax of the logits over `temperature_`.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows of the kind seen in `fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Rows that sum to 1, in the order of `classes_`.
        """
        logits = self._logits(self._check_known_rows(X))
        return softmax(logits / self._temperature_in_use, axis=1)

    @property
    def _temperature_in_use(self) -> float:
        return self.temperature_

    @abstractmethod
    def _logits(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Logits (n, n_classes) of checked rows for the task in use."""

    def _calibrate(
        self,
        rows: NDArray[Any],
        targets: NDArray[Any],
        tasks: NDArray[Any] | None,
        envs: NDArray[Any] | None,
        seeds: dict[str, int],
    ) -> None:
        """Learn the temperature on episodes that training has not drawn."""
        self.temperature_ = 1.0
        if self.calibrate is None:
            return
        seed = seeds["calibration"]
        fresh = {**seeds, "episodes": seed, "validation": seed}
        plan = self._plan(targets, tasks, fresh, envs)
        wanted = self.calibrate
        n_episodes = _CALIBRATION_EPISODES if wanted == "auto" else int(wanted)
        task, logits, numbers = copy.copy(self), [], []
        for episode in (plan.valid or plan.train)(n_episodes):
            task._adapt(rows[episode.support], targets[episode.support])
            logits.append(task._logits(rows[episode.query]))
            numbers.append(np.searchsorted(task.classes_, targets[episode.query]))
        self.temperature_ = best_temperature(logits, numbers)
