"""What all meta-learning classifiers share: labels, episodes and probabilities."""

from __future__ import annotations

import copy
from abc import abstractmethod
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from sklearn.base import ClassifierMixin
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets

from ..exceptions import InvalidInputError, NotFittedError
from ._base import BaseMetaLearner
from ._checks import check_sortable, own_errors
from ._episode_plan import EpisodePlan, EpisodeSizes, choose_held_out, plan_episodes
from ._kept_rows import join_labels, join_rows, kept
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
    _of_a_task: ClassVar[tuple[str, ...]] = ("support_rows_", "support_labels_")

    support_rows_: NDArray[Any]
    support_labels_: NDArray[Any]
    temperature_: float

    def _check_labels(self, y: ArrayLike, rows: NDArray[Any]) -> NDArray[Any]:
        """Labels of checked rows, of any number of classes."""
        self._check_y_given(y, "label")
        with own_errors():
            labels: NDArray[Any] = column_or_1d(y, warn=True)
            check_consistent_length(rows, labels)
            check_sortable(labels, "y")
            check_classification_targets(labels)
        return labels

    def _check_targets(self, y: ArrayLike, rows: NDArray[Any]) -> NDArray[Any]:
        labels = self._check_labels(y, rows)
        classes = np.unique(labels)
        if len(classes) < 2:
            raise InvalidInputError(
                f"{type(self).__name__} needs at least 2 classes. Got 1 class: "
                f"{classes[0]!r}; add rows of another class."
            )
        return labels

    def adapt(self, X: ArrayLike, y: ArrayLike, *, keep_classes: bool = False) -> Self:
        """Solve a new task from its support rows, or add classes to the present one.

        What `fit` learned stays as it is. Attributes are rebound, never changed in
        place, so ``copy.copy(learner).adapt(X, y)`` is a predictor of its own that
        shares the backbone.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Support rows of the kind seen in `fit`.
        y : array-like of shape (n_samples,)
            Their labels. At least two classes, or one with `keep_classes`.
        keep_classes : bool, default=False
            Keep the task last given to `adapt` and add these rows to its own: new
            labels are new classes, known labels get more shots. The result is that
            of one call with all rows, those of earlier calls first. `fit` keeps no
            rows: to add to training classes, call ``adapt(X, y)`` with rows of
            them first.

        Returns
        -------
        self : object
            Itself, now speaking of the new task; `classes_` is sorted.

        Raises
        ------
        NotFittedError
            Before `fit`, or with `keep_classes` before a task was adapted to.
        ValueError
            For invalid rows or labels; the learner stays as it was.

        Notes
        -----
        For `keep_classes` the support rows are kept as they were given
        (`support_rows_`, `support_labels_`): an image of 84 x 84 x 3 bytes takes 21
        kB, also in pickles and saved files. Rows of a memory map are not copied.
        """
        rows = self._check_known_rows(X)
        if keep_classes:
            labels = self._check_labels(y, rows)
            self._check_keeps_rows()
            rows = join_rows(self.support_rows_, rows)
            labels = self._check_targets(
                join_labels(self.support_labels_, labels), rows
            )
        else:
            labels = self._check_targets(y, rows)
        self._adapt(rows, labels)
        self.support_rows_ = rows if keep_classes else kept(rows)
        self.support_labels_ = labels if keep_classes else labels.copy()
        return self

    def _check_keeps_rows(self) -> None:
        if not hasattr(self, "support_rows_"):
            raise NotFittedError(
                "keep_classes=True adds to the task last given to adapt. Got a "
                f"{type(self).__name__} that has not adapted since fit, which keeps no "
                "rows; call adapt(X, y) with rows of the classes to keep first."
            )

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
