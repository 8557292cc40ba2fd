"""Base class of meta-learning classifiers: labels, episodes and probabilities."""

from __future__ import annotations

import copy
from abc import abstractmethod
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from sklearn.base import ClassifierMixin
from sklearn.utils._param_validation import Interval, StrOptions

from ..episodes import Episode
from ..exceptions import NotFittedError
from ..training import Validation
from ..utils import IndexedScoreMixin, SparseRows, is_memory_map, refuse_other_index
from ._base import N_SHOT_CONSTRAINT, BaseMetaLearner
from ._checks import check_classes, check_known_rows, check_labels
from ._episode_plan import EpisodePlan, plan_episodes
from ._episode_sizes import EpisodeSizes, shots_of
from ._known_labels import number_known_labels
from ._nested import Makers
from ._novelty import (
    ClassMeans,
    Rejection,
    label_of_rejected,
    of_logits,
    score_name,
    threshold_of,
    with_rejected,
)
from ._row_weights import refuse_weights
from ._shared_labels import labels_are_shared
from ._solved_task import SolvedTask, join_labels, join_rows
from ._task_batches import chunk_of
from ._temperature import best_temperature

_CALIBRATION_EPISODES = 100


class BaseMetaClassifier(IndexedScoreMixin, ClassifierMixin, BaseMetaLearner):
    """A meta-learner of classes; episodes are N-way problems or tasks by id.

    The base of the classifiers, and of one of your own: checks of data, episodes,
    training, validation, calibration, checkpoints and predictions are here. A
    subclass says what its net is (`_make_net`, `_net_keywords`), how a task is solved
    (`_solve`), what is solved at the end of `fit` (`_solve_training`) and the logits
    behind probabilities (`_logits`). Weights of support rows are refused unless it says
    how to heed them (`_solve_weighted`). Its constructor takes what it offers of the
    parameters of `SparseMetaClassifier`; the rest has the defaults of this class.

    See Also
    --------
    SolvedTask : What `_solve` returns.

    Examples
    --------
    The page "Extend" of the guide shows a whole learner. What it has to write:

    >>> from skcausalmeta.learners import BaseMetaClassifier
    >>> sorted(BaseMetaClassifier.__abstractmethods__)
    ['_logits', '_make_net', '_solve', '_solve_training']
    """

    n_way: int | str = "auto"
    n_shot: Any = "auto"
    n_query: int | str = "auto"
    calibrate: Any = None
    reject: Any = None
    shared_labels: bool | str = False
    shared_labels_: bool = False

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseMetaLearner._parameter_constraints,
        "n_way": [StrOptions({"auto"}), Interval(Integral, 2, None, closed="left")],
        "n_shot": N_SHOT_CONSTRAINT,
        "n_query": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "calibrate": [
            StrOptions({"auto"}),
            Interval(Integral, 1, None, closed="left"),
            None,
        ],
        "reject": [Interval(Real, 0, 1, closed="neither"), Rejection, None],
        "shared_labels": ["boolean", StrOptions({"auto"})],
    }
    _monitor = ("valid_accuracy", False)
    _parts: ClassVar[Makers] = {
        **BaseMetaLearner._parts,
        "reject": lambda given: Rejection.of(given) or Rejection(),
    }

    temperature_: float
    novelty_threshold_: float | None = None
    training_classes_: NDArray[Any]

    def _check_targets(self, y: ArrayLike, rows: NDArray[Any]) -> NDArray[Any]:
        return check_classes(self, check_labels(self, y, rows))

    def adapt(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        keep_classes: bool = False,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Solve a new task from its support rows, or add classes to the present one.

        What `fit` learned stays as it is. Attributes are rebound, never changed in
        place, so ``copy.copy(learner).adapt(X, y)`` is a predictor of its own that
        shares the backbone.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Support rows of the kind seen in `fit`.
        y : array-like of shape (n_samples,)
            Their labels. At least two classes, or one with `keep_classes`; any of the
            labels of `fit`, down to a single one, if tasks share their labels.
        keep_classes : bool, default=False
            Keep the task last given to `adapt` and add these rows to its own: new
            labels are new classes, known labels get more shots. The result is that
            of one call with all rows, those of earlier calls first. `fit` keeps no
            rows: to add to training classes, call ``adapt(X, y)`` with rows of
            them first.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, >= 0, as of repeated rows, where the learner solves a
            head that takes them; not with `keep_classes`. None: 1.

        Returns
        -------
        self : object
            Itself, now speaking of the new task; `classes_` is sorted.

        Raises
        ------
        NotFittedError
            Before `fit`, or with `keep_classes` before a task was adapted to.
        ValueError
            For invalid rows, labels or weights, or weights that the learner cannot
            honour; the learner stays as it was.

        Notes
        -----
        For `keep_classes` the support rows are kept as they were given
        (`support_rows_`, `support_labels_`): an image of 84 x 84 x 3 bytes takes 21
        kB, also in pickles and saved files. Rows of a memory map are not copied.
        """
        refuse_other_index(X=X, y=y, sample_weight=sample_weight)
        rows = check_known_rows(self, X)
        labels = check_labels(self, y, rows)
        if keep_classes:
            old = self._task_with_support()
            rows = join_rows(old.support_rows, rows)  # type: ignore[arg-type]
            labels = join_labels(old.support_labels, labels)  # type: ignore[arg-type]
        weights = None
        if sample_weight is None:
            task = self._solve(rows, self._check_support_labels(labels))
        elif keep_classes:
            refuse_weights(
                self, "with keep_classes=True", "adapt anew with all rows and weights"
            )
        else:
            weights = self._adapt_weights(sample_weight, rows)
            kept = np.flatnonzero(weights)
            rows, labels, weights = rows[kept], labels[kept], weights[kept]
            labels = self._check_support_labels(labels)
            task = self._solve_weighted(rows, labels, weights)
        task = self._with_means(task, rows, labels, weights)
        # Copied, since the caller may change the rows; those on a disk stay there.
        if isinstance(rows, np.ndarray | SparseRows) and not is_memory_map(rows):
            rows = rows.copy()
        self.task_ = replace(task, support_rows=rows, support_labels=labels.copy())
        return self

    def _check_support_labels(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Return labels of a new task: known ones if shared, else two classes."""
        if not self.shared_labels_:
            return check_classes(self, labels)
        number_known_labels(labels, self.training_classes_, self)
        return labels

    def _task_with_support(self) -> SolvedTask:
        if self.task_ is None or self.task_.support_rows is None:
            raise NotFittedError(
                "keep_classes=True adds to the task last given to adapt. Got a "
                f"{type(self).__name__} that has not adapted since fit, which keeps no "
                "rows; call adapt(X, y) with rows of the classes to keep first."
            )
        return self.task_

    def _plan(
        self,
        targets: NDArray[Any],
        tasks: NDArray[Any] | None,
        envs: NDArray[Any] | None,
        validation: Validation | None,
        seeds: dict[str, int],
    ) -> EpisodePlan:
        n_shot, unequal = shots_of(self.n_shot)
        sizes = EpisodeSizes(self.n_way, n_shot, self.n_query, unequal)
        return plan_episodes(
            targets,
            tasks,
            sizes,
            validation,
            seeds,
            envs,
            shared_labels=self.shared_labels_,
            weights=self._fit_weights,
        )

    def _train(
        self,
        rows: NDArray[Any],
        targets: NDArray[Any],
        tasks: NDArray[Any] | None,
        envs: NDArray[Any] | None,
    ) -> dict[str, int]:
        self.shared_labels_ = labels_are_shared(self.shared_labels, targets, tasks)
        self.training_classes_ = np.unique(targets)
        self._check_rejection(self.training_classes_)
        seeds = super()._train(rows, targets, tasks, envs)
        self.temperature_ = 1.0
        if self.calibrate is not None:
            self._calibrate(rows, targets, tasks, envs, seeds)
        rejection = Rejection.of(self.reject)
        if rejection is not None:
            self._learn_threshold(rejection, rows, targets, tasks, envs, seeds)
        return seeds

    def _calibrate(
        self,
        rows: NDArray[Any],
        targets: NDArray[Any],
        tasks: NDArray[Any] | None,
        envs: NDArray[Any] | None,
        seeds: dict[str, int],
    ) -> None:
        """Learn the temperature on episodes that training has not drawn."""
        wanted = self.calibrate
        n_episodes = _CALIBRATION_EPISODES if wanted == "auto" else int(wanted)
        logits: list[NDArray[Any]] = []
        numbers: list[NDArray[Any]] = []
        drawn = self._new_episodes(n_episodes, targets, tasks, envs, seeds)
        for episode in drawn:
            task = self._solve(rows[episode.support], targets[episode.support])
            logits.append(self._logits(task, rows[episode.query]))
            classes = task.classes
            if classes is None:
                classes = np.unique(targets[episode.support])
            numbers.append(np.searchsorted(classes, targets[episode.query]))
        self.temperature_ = best_temperature(logits, numbers)

    def _new_episodes(
        self,
        n_episodes: int,
        targets: NDArray[Any],
        tasks: NDArray[Any] | None,
        envs: NDArray[Any] | None,
        seeds: dict[str, int],
    ) -> list[Episode]:
        """Draw episodes of what is held out, else those that training has not drawn."""
        seed = seeds["calibration"]
        fresh = {**seeds, "episodes": seed, "validation": seed}
        validation = Validation.of(self.validation)
        plan = self._plan(targets, tasks, envs, validation, fresh)
        return (plan.valid or plan.train.varied())(n_episodes)

    # -- rows of none of the classes ---------------------------------------------------

    def _check_rejection(self, classes: NDArray[Any]) -> None:
        """Refuse a rejection that does not go with the classes of a task."""
        rejection = Rejection.of(self.reject)
        if rejection is not None:
            score_name(rejection, self.shared_labels_)
            label_of_rejected(rejection, classes)

    def _learn_threshold(
        self,
        rejection: Rejection,
        rows: NDArray[Any],
        targets: NDArray[Any],
        tasks: NDArray[Any] | None,
        envs: NDArray[Any] | None,
        seeds: dict[str, int],
    ) -> None:
        """Learn how novel rows of the classes of a task are."""
        drawn = self._new_episodes(rejection.n_episodes, targets, tasks, envs, seeds)
        scores = []
        for episode in drawn:
            support, labels = rows[episode.support], targets[episode.support]
            task = self._with_means(self._solve(support, labels), support, labels)
            scores.append(self._novelty(task, rows[episode.query]))
        self.novelty_threshold_ = threshold_of(scores, rejection.share)

    def _with_means(
        self,
        task: SolvedTask,
        rows: NDArray[Any],
        labels: NDArray[Any],
        weights: NDArray[np.float64] | None = None,
    ) -> SolvedTask:
        """Return a task with the means of its classes, where rows are refused by them.

        Raises
        ------
        InvalidInputError
            If a class has the label of refused rows.
        """
        rejection = Rejection.of(self.reject)
        if rejection is None:
            return task
        label_of_rejected(rejection, np.unique(labels))
        if score_name(rejection, self.shared_labels_) != "distance":
            return task
        means = ClassMeans.of(self._features(rows), labels, weights)
        return replace(task, class_means=means)

    def _complete_training(self, rows: NDArray[Any], targets: NDArray[Any]) -> None:
        if self.task_ is not None:
            weights = self._fit_weights
            self.task_ = self._with_means(self.task_, rows, targets, weights)

    def _novelty(self, task: SolvedTask, rows: NDArray[Any]) -> NDArray[Any]:
        """Return the novelty (n,) of checked rows for a task."""
        name = score_name(Rejection.of(self.reject), self.shared_labels_)
        if name != "distance":
            return of_logits(name, self._logits(task, rows))
        means = task.class_means
        if means is None and task.support_rows is not None:
            support = self._features(task.support_rows)
            means = ClassMeans.of(support, task.support_labels)  # type: ignore[arg-type]
        if means is None:
            raise NotFittedError(
                "The novelty of rows is a distance to support rows. Got a task of "
                "which none were kept; call adapt(X, y), or fit with reject=..."
            )
        return means.distances(self._features(rows))

    def novelty_score(self, X: ArrayLike) -> NDArray[Any]:
        """Return how unlike the classes of the task in use rows are.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows of the kind seen in `fit`.

        Returns
        -------
        ndarray of shape (n_samples,)
            The score that `reject` names, see `Rejection`; the larger, the less a row
            is of one of the classes. Above ``novelty_threshold_`` `predict` refuses it.

        Raises
        ------
        NotFittedError
            Before `fit`, or without `reject` before `adapt`.
        """
        rows = check_known_rows(self, X)
        return self._novelty(self._task_in_use(), rows)

    @property
    def rejected_label_(self) -> Any:
        """Label of refused rows; None where none are."""
        rejection = Rejection.of(self.reject)
        return (
            None if rejection is None else label_of_rejected(rejection, self.classes_)
        )

    def _refuse_rows(
        self,
        labels: NDArray[Any],
        rows: NDArray[Any],
        task: SolvedTask,
        logits: NDArray[Any] | None = None,
    ) -> NDArray[Any]:
        """Return predicted labels, with that of refused rows where they are."""
        rejection = Rejection.of(self.reject)
        if rejection is None:
            return labels
        name = score_name(rejection, self.shared_labels_)
        if self.novelty_threshold_ is None:
            raise NotFittedError(
                "The threshold of refused rows is learned by fit. Got a fitted "
                f"{type(self).__name__} whose reject was set afterwards; fit again, or "
                "set reject=None."
            )
        if logits is None or name == "distance":
            novelty = self._novelty(task, rows)
        else:
            novelty = of_logits(name, logits)
        label = label_of_rejected(rejection, np.unique(labels))
        return with_rejected(labels, novelty > self.novelty_threshold_, label)

    def _predict_each(
        self, support: NDArray[Any], labels: NDArray[Any], query: NDArray[Any]
    ) -> NDArray[Any]:
        """Predict checked tasks one after another, which refuses rows."""
        found = []
        for k in range(len(labels)):
            rows, asked = (chunk_of(X, slice(k, k + 1))[0] for X in (support, query))
            solved = copy.copy(self).adapt(rows, labels[k])
            found.append(solved.predict(asked))
        return np.stack(found)

    # -- prediction --------------------------------------------------------------------

    @property
    def classes_(self) -> NDArray[Any]:
        """Classes of the task in use; those of `fit` before any is solved."""
        if self.task_ is None or self.task_.classes is None:
            return self.training_classes_
        return self.task_.classes

    @property
    def support_rows_(self) -> NDArray[Any] | None:
        """Support rows of the task last given to `adapt`, in the order given."""
        return self._task_with_support().support_rows

    @property
    def support_labels_(self) -> NDArray[Any] | None:
        """Labels of `support_rows_`."""
        return self._task_with_support().support_labels

    def decision_function(self, X: ArrayLike) -> NDArray[Any]:
        """Return the scores of the classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows of the kind seen in `fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_classes) or (n_samples,)
            For two classes, the score of ``classes_[1]`` minus the other.
        """
        rows = check_known_rows(self, X)
        scores = self._task_in_use().scores(self, rows)
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Predict the class of every row.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows of the kind seen in `fit`.

        Returns
        -------
        ndarray of shape (n_samples,)
            Labels of `classes_`, and ``rejected_label_`` of rows that `reject` refuses.
        """
        rows, task = check_known_rows(self, X), self._task_in_use()
        winners = task.scores(self, rows).argmax(axis=1)
        return self._refuse_rows(self.classes_[winners], rows, task)

    def predict_proba(self, X: ArrayLike) -> NDArray[Any]:
        """Predict probabilities: the softmax of the logits over `temperature_`.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows of the kind seen in `fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Rows that sum to 1, in the order of `classes_`.
        """
        rows = check_known_rows(self, X)
        task = self._task_in_use()
        temperature = self.temperature_ if self._is_calibrated(task) else 1.0
        return softmax(self._logits(task, rows) / temperature, axis=1)

    @abstractmethod
    def _logits(self, task: SolvedTask, rows: NDArray[Any]) -> NDArray[Any]:
        """Return the logits (n, n_classes) of checked rows for a task."""

    def _is_calibrated(self, task: SolvedTask) -> bool:
        """Tell whether the temperature was learned on tasks like this one."""
        return True
