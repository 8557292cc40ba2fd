"""New tasks of the multi-task learners."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils.validation import check_is_fitted

from ...exceptions import InvalidInputError
from .._task_chunks import TASKS_AT_ONCE, chunk_of, in_task_chunks, task_cost
from .._tasks import check_tasks
from ._new_task import RoutedTask, solve_new_tasks
from ._predict import MultiTaskPredictions
from ._targets import Task, as_targets, known_labels, read_task

_TASKS_PER_SOLVE = 64


class NewTasksMixin(MultiTaskPredictions):
    """`adapt` and `predict_episodes` on the features of the trained modules."""

    adapt_reg: float
    _default_type: Any

    def adapt(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Solve a new task from its support rows; what `fit` learned stays as it is.

        The modules are frozen. The new task gets weights of all their features by a
        convex problem: logistic regression for a classifier, least squares of the
        standardised values for a regressor, with a group Lasso that has the modules
        as its groups. It takes the place of the sparsity of the routing in `fit`:
        the task reads few modules, and the certificate `dual_gap_` proves that the
        problem was solved. `predict`, `score`, `classes_` and the like then speak of
        the new task; ``predict(X, tasks=...)`` still answers for those of `fit`.

        Attributes are rebound, never changed in place, so
        ``copy.copy(learner).adapt(X, y)`` is a predictor of its own that shares the
        modules.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Support rows of the kind seen in `fit`.
        y : array-like of shape (n_samples,) or (n_samples, height, width)
            Labels of at least two classes, or values; after `fit` on targets per
            pixel the same per pixel, NaN where one is missing.

        Returns
        -------
        self : object
            Itself, now speaking of the new task.

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError
            For invalid rows or targets; the learner stays as it was.
        """
        rows = self._check_known_rows(X)
        self._check_y_given(y, "label" if self._classifies else "real number")
        pixels = self.targets_.pixels
        targets = as_targets(y if pixels else column_or_1d(y, warn=True))
        check_consistent_length(rows, targets)
        if targets.shape[1:] != pixels:
            raise InvalidInputError(
                "adapt solves one task: y must have the shape of the rows and pixels, "
                f"{(len(rows), *pixels)}. Got {targets.shape}."
            )
        task, codes = self._read_new_task(targets, 0)
        features = self.module_units_(self._features(rows, pooled=False))
        solved = self._solve_new(
            features.reshape(1, -1, features.shape[-1]), codes[None], [task]
        )
        self.new_task_ = solved[0]
        return self

    def predict_episodes(
        self,
        X_support: ArrayLike,
        y_support: ArrayLike,
        X_query: ArrayLike,
        *,
        max_memory: int | None = None,
    ) -> NDArray[Any]:
        """Solve and predict many new tasks in one batched call.

        The answers are those of `adapt` and `predict` task by task. The learner
        itself stays as it is.

        Parameters
        ----------
        X_support : array-like of shape (n_tasks, n_support, ...)
            Support rows.
        y_support : array-like of shape (n_tasks, n_support) or \
(n_tasks, n_support, height, width)
            Their labels, at least two classes in every task, or their values.
        X_query : array-like of shape (n_tasks, n_query, ...)
            Query rows.
        max_memory : int, default=None
            Bytes that the work may take beside the arguments and the answer, as
            estimated from the shapes: tasks are then solved in chunks, and stored
            arrays and memory maps are read by chunk. None: a thousand tasks at once.

        Returns
        -------
        ndarray of shape (n_tasks, n_query) or (n_tasks, n_query, height, width)
            Labels or values of the query rows.

        Raises
        ------
        ValueError
            If the shapes do not agree, a task has one class or a missing label, or
            `max_memory` is less than one task takes.
        """
        check_is_fitted(self)
        pixels = self.targets_.pixels
        support, targets, query = check_tasks(X_support, y_support, X_query, pixels)
        as_targets(targets.reshape(-1))
        read = [self._read_new_task(values, k) for k, values in enumerate(targets)]
        tasks = [task for task, _ in read]
        codes = np.stack([code for _, code in read])

        def solve(part: slice) -> NDArray[Any]:
            features = self._task_features(chunk_of(support, part))
            solved = self._solve_all(
                features.reshape(len(features), -1, features.shape[-1]),
                codes[part],
                tasks[part],
            )
            asked = self._task_features(chunk_of(query, part))
            found = [
                new.task.decode(new.outputs(rows))  # rows (n_query, n_pixels, d)
                for new, rows in zip(solved, asked, strict=True)
            ]
            return np.stack(found)

        size = self._tasks_within(support, query, tasks, max_memory)
        answers = in_task_chunks(solve, len(tasks), size)
        return answers.reshape(*query.shape[:2], *pixels)

    def _tasks_within(
        self, support: Any, query: Any, tasks: list[Task], max_memory: int | None
    ) -> int:
        """Tasks of a chunk of `predict_episodes`."""
        if max_memory is None:
            return min(TASKS_AT_ONCE, len(tasks))
        pixels = int(np.prod(self.targets_.pixels))
        cost = task_cost(
            self.net_.module_.experts,
            self.reader_.sample_shape,
            support,
            query,
            len(self.module_units_.center) * pixels,
            max(1, *(task.n_classes for task in tasks)) * pixels,
        )
        return cost.tasks_within(max_memory, len(tasks))

    @property
    def dual_gap_(self) -> float:
        """Certificate of the new task: objective minus its lower bound."""
        return self.new_task_.dual_gap

    @property
    def sparsity_(self) -> float:
        """Share of the modules that the new task leaves out."""
        return float((self.new_task_.routing == 0).mean())

    @property
    def _classifies(self) -> bool:
        return bool(self._default_type == "classification")

    def _read_new_task(
        self, values: NDArray[Any], name: Any
    ) -> tuple[Task, NDArray[np.float32]]:
        """Kind and codes (n_rows * n_pixels,) of the targets of a new task."""
        values = values.reshape(-1)
        known = known_labels(values)
        if not (known.all() or self.targets_.pixels):
            raise InvalidInputError(
                "Input y contains NaN. A new task needs a label in every support row; "
                "drop the rows without one."
            )
        task = read_task(values, known, self._default_type, name)
        return task, task.encode(values, known)

    def _task_features(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Features (n_tasks, n_rows, n_pixels, d) of rows with a leading task axis."""
        # Without validate_data: an array of tasks cannot carry feature names.
        rows = self._check_rows(X.reshape(-1, *X.shape[2:]))
        self.reader_.check(rows)
        features = self.module_units_(self._features(rows, pooled=False))
        return features.reshape(*X.shape[:2], *features.shape[1:])

    def _solve_all(
        self, features: NDArray[Any], codes: NDArray[Any], tasks: list[Task]
    ) -> list[RoutedTask]:
        """Tasks with as many classes go together, some at a time."""
        solved: dict[int, RoutedTask] = {}
        ways = np.array([task.n_classes for task in tasks])
        for way in np.unique(ways):
            places = np.flatnonzero(ways == way)
            for part in np.array_split(places, -(-len(places) // _TASKS_PER_SOLVE)):
                found = self._solve_new(
                    features[part], codes[part], [tasks[k] for k in part]
                )
                solved.update(zip(part.tolist(), found, strict=True))
        return [solved[k] for k in range(len(tasks))]

    def _solve_new(
        self, features: NDArray[Any], codes: NDArray[Any], tasks: list[Task]
    ) -> list[RoutedTask]:
        groups = self.module_units_.groups
        return solve_new_tasks(features, codes, tasks, groups, self.adapt_reg)
