"""What differs in which task from what all tasks share."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from ..exceptions import InvalidInputError
from ._canvas import (
    by_task,
    call_method,
    drawn_ids,
    finite_array,
    fitted_fact,
    names_of,
    new_axes,
    set_ticks,
)

_MOST_FEATURES, _MOST_TASKS = 30, 40


class DeviationDisplay:
    """Weights by which tasks (columns) deviate in some features (rows).

    Red raises the score where the feature is large, blue lowers it, white is what
    the tasks share. Of all features those are shown in which any of the tasks
    deviates, the largest mean deviation first: at most 30 features, and the 40 tasks
    that deviate most. The title tells how many there are.

    Use `from_estimator`, `from_tasks`, `from_solved` or `from_arrays` to make one.

    Parameters
    ----------
    deviations : array-like of shape (n_tasks, n_features)
        Weights that every task adds to the common ones, 0 where it adds none.
    feature_names : list of str, default=None
        Names of the features. None: their numbers.
    task_names : list of str, default=None
        Names of the tasks. None: their numbers.
    max_features : int, default=30
        Features to show.
    max_tasks : int, default=40
        Tasks to show.

    Attributes
    ----------
    cells : ndarray of shape (n_shown_features, n_shown_tasks)
        What is drawn.
    features, tasks : ndarray of int
        Numbers of the features and of the tasks that are shown, in their order.
    ax_ : matplotlib Axes
        Axes of the picture.
    figure_ : matplotlib Figure
        Figure of the axes.
    im_ : matplotlib AxesImage
        The grid.

    See Also
    --------
    SupportDisplay : Which features are used, whatever their weights.

    Examples
    --------
    >>> from skcausalmeta.inspection import DeviationDisplay
    >>> display = DeviationDisplay.from_arrays(
    ...     [[0.0, 0.5, 0.0], [0.0, -1.0, 0.2]], feature_names=["age", "dose", "sex"]
    ... )
    >>> [label.get_text() for label in display.ax_.get_yticklabels()]
    ['dose', 'sex']
    >>> display.cells.tolist(), display.ax_.get_title()
    ([[0.5, -1.0], [0.0, 0.2]], 'What differs: 2 of 3 features, in 2 of 2 tasks')
    """

    def __init__(
        self,
        deviations: ArrayLike,
        *,
        feature_names: Sequence[str] | None = None,
        task_names: Sequence[str] | None = None,
        max_features: int = _MOST_FEATURES,
        max_tasks: int = _MOST_TASKS,
    ) -> None:
        found = finite_array(deviations, "deviations", 2).astype(float)
        n_tasks, n_features = found.shape
        _check_most(max_features, "max_features")
        _check_most(max_tasks, "max_tasks")
        names = [str(i) for i in range(n_features)]
        given = names if feature_names is None else feature_names
        self.feature_names = names_of(given, n_features, "feature", "feature_names")
        names = [str(i) for i in range(n_tasks)]
        given = names if task_names is None else task_names
        self.task_names = names_of(given, n_tasks, "task", "task_names")
        sizes = np.abs(found)
        order = np.argsort(-sizes.sum(axis=0), kind="stable")
        deviating = (found != 0).any(axis=0)
        self.features: NDArray[np.int64] = order[deviating[order]][:max_features]
        most = np.argsort(-sizes.sum(axis=1), kind="stable")[:max_tasks]
        self.tasks: NDArray[np.int64] = np.sort(most)
        self.cells: NDArray[np.float64] = found[np.ix_(self.tasks, self.features)].T
        self.n_deviating_features = int(deviating.sum())
        self.n_deviating_tasks = int((found != 0).any(axis=1).sum())

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike | None = None,
        y: ArrayLike | None = None,
        tasks: ArrayLike | None = None,
        *,
        score: int | None = None,
        feature_names: Sequence[str] | None = None,
        task_names: Sequence[str] | None = None,
        ax: Any = None,
        **plot_kw: Any,
    ) -> DeviationDisplay:
        """Draw the deviations of the training tasks, or of new ones.

        The learner itself stays as it is.

        Parameters
        ----------
        estimator : estimator
            Fitted around a common predictor, with ``deviation_``; for new tasks with
            ``adapt(X, y)``, for training tasks with ``known_tasks_``.
        X : array-like of shape (n_samples, ...), default=None
            Support rows of new tasks. None: the tasks that `fit` has solved.
        y : array-like of shape (n_samples,), default=None
            Their labels or targets.
        tasks : array-like of shape (n_samples,), default=None
            Task id of every row. None: all are of one new task.
        score : int, default=None
            Number of the class, or output, whose weights are drawn. None: the
            difference of the second and the first class where there are two, what is
            there where there is one.
        feature_names : list of str, default=None
            Names of the features. None: the names of the columns, where the features
            are the columns and had names in `fit`; their numbers else.
        task_names : list of str, default=None
            Names of the tasks, sorted by id. None: the ids.
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.
        **plot_kw : dict
            Keywords of `plot`.

        Returns
        -------
        DeviationDisplay
            The display, drawn.

        Raises
        ------
        InvalidInputError
            If the learner has no deviations, of several classes none is chosen, or
            `y` is missing.
        """
        check_is_fitted(estimator)
        copies, names = _solved(estimator, X, y, tasks)
        return cls.from_tasks(
            copies,
            score=score,
            feature_names=feature_names,
            task_names=names if task_names is None else task_names,
            ax=ax,
            **plot_kw,
        )

    @classmethod
    def from_tasks(
        cls,
        estimators: Sequence[Any],
        *,
        score: int | None = None,
        feature_names: Sequence[str] | None = None,
        task_names: Sequence[str] | None = None,
        ax: Any = None,
        **plot_kw: Any,
    ) -> DeviationDisplay:
        """Draw the deviations of adapted copies of a learner.

        Parameters
        ----------
        estimators : list of estimators
            Each with the ``deviation_`` of a task, such as
            ``copy.copy(learner).adapt(X, y)``.
        score : int, default=None
            As in `from_estimator`.
        feature_names : list of str, default=None
            As in `from_estimator`.
        task_names : list of str, default=None
            Names of the tasks. None: their numbers.
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.
        **plot_kw : dict
            Keywords of `plot`.

        Returns
        -------
        DeviationDisplay
            The display, drawn.

        Raises
        ------
        InvalidInputError
            If there is no estimator, one has no deviation, or of several classes none
            is chosen.
        """
        if not len(estimators):
            raise InvalidInputError(
                "estimators must hold one adapted copy a task, at least one. Got none."
            )
        found = [_weights(one, score) for one in estimators]
        if feature_names is None:
            feature_names = _column_names(estimators[0], len(found[0]))
        return cls.from_arrays(
            found,
            feature_names=feature_names,
            task_names=task_names,
            ax=ax,
            **plot_kw,
        )

    @classmethod
    def from_solved(
        cls,
        solved: Any,
        ids: Sequence[Any] | None = None,
        *,
        score: int | None = None,
        feature_names: Sequence[str] | None = None,
        task_names: Sequence[str] | None = None,
        ax: Any = None,
        **plot_kw: Any,
    ) -> DeviationDisplay:
        """Draw the deviations of solved tasks, as `adapt_tasks` keeps them.

        Parameters
        ----------
        solved : SolvedTasks
            In memory or in a folder, of a learner with a linear head.
        ids : sequence, default=None
            Tasks to draw the largest of. None: all, which must be 10,000 at most.
        score : int, default=None
            As in `from_estimator`.
        feature_names : list of str, default=None
            As in `from_estimator`.
        task_names : list of str, default=None
            Names of the tasks. None: the ids.
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.
        **plot_kw : dict
            Keywords of `plot`.

        Returns
        -------
        DeviationDisplay
            The display, drawn.

        Raises
        ------
        InvalidInputError
            If an id is unknown, of several classes none is chosen, or there are more
            tasks than can be looked at.
        """
        chosen = drawn_ids(solved, ids)
        found = [_of_score(weights, score) for weights in solved.deviations(chosen)]
        if feature_names is None and len(found):
            feature_names = _column_names(solved.learner, len(found[0]))
        names = [str(task) for task in chosen]
        return cls.from_arrays(
            found,
            feature_names=feature_names,
            task_names=names if task_names is None else task_names,
            ax=ax,
            **plot_kw,
        )

    @classmethod
    def from_arrays(
        cls,
        deviations: ArrayLike,
        *,
        feature_names: Sequence[str] | None = None,
        task_names: Sequence[str] | None = None,
        max_features: int = _MOST_FEATURES,
        max_tasks: int = _MOST_TASKS,
        ax: Any = None,
        **plot_kw: Any,
    ) -> DeviationDisplay:
        """Draw given deviations.

        Parameters
        ----------
        deviations : array-like of shape (n_tasks, n_features)
            Weights that every task adds to the common ones.
        feature_names, task_names : list of str, default=None
            Names. None: numbers.
        max_features, max_tasks : int
            How many to show.
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.
        **plot_kw : dict
            Keywords of `plot`.

        Returns
        -------
        DeviationDisplay
            The display, drawn.
        """
        display = cls(
            deviations,
            feature_names=feature_names,
            task_names=task_names,
            max_features=max_features,
            max_tasks=max_tasks,
        )
        return display.plot(ax=ax, **plot_kw)

    def plot(
        self, *, ax: Any = None, im_kw: dict[str, Any] | None = None
    ) -> DeviationDisplay:
        """Draw the grid.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.
        im_kw : dict, default=None
            More keywords of ``ax.imshow``.

        Returns
        -------
        DeviationDisplay
            Itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        n_rows, n_columns = self.cells.shape
        size = (3.5 + 0.2 * n_columns, 1.8 + 0.22 * max(n_rows, 1))
        self.figure_, self.ax_ = new_axes(self, ax, size)
        # Nothing deviates: an empty row, so that there is something to draw.
        drawn = self.cells if n_rows else np.zeros((1, n_columns))
        most = float(np.abs(drawn).max()) or 1.0
        keywords = {"aspect": "auto", "interpolation": "nearest", "cmap": "RdBu_r"}
        limits = {"vmin": -most, "vmax": most}
        self.im_ = self.ax_.imshow(drawn, **{**keywords, **limits, **(im_kw or {})})
        set_ticks(self.ax_.yaxis, [self.feature_names[i] for i in self.features])
        if not n_rows:
            self.ax_.set_yticks([])
        set_ticks(self.ax_.xaxis, [self.task_names[i] for i in self.tasks], 90)
        self.ax_.set(xlabel="task", ylabel="feature", title=self._title())
        self.figure_.colorbar(self.im_, ax=self.ax_, label="deviation")
        return self

    def _title(self) -> str:
        n_features, n_tasks = len(self.feature_names), len(self.task_names)
        title = (
            f"What differs: {self.n_deviating_features} of {n_features} features, in "
            f"{self.n_deviating_tasks} of {n_tasks} tasks"
        )
        shown = []
        if len(self.features) < self.n_deviating_features:
            shown.append(f"the {len(self.features)} largest features")
        if len(self.tasks) < n_tasks:
            shown.append(f"the {len(self.tasks)} tasks that deviate most")
        return title + (f"\nshown: {' and '.join(shown)}" if shown else "")


def _check_most(value: Any, name: str) -> None:
    if not isinstance(value, int | np.integer) or value < 1:
        raise InvalidInputError(f"{name} must be an int of at least 1. Got {value!r}.")


def _solved(
    estimator: Any, X: ArrayLike | None, y: ArrayLike | None, tasks: ArrayLike | None
) -> tuple[list[Any], list[str]]:
    """Copies of a learner that speak of a task each, and the names of the tasks."""
    copies = []
    if X is not None:
        if y is None:
            raise InvalidInputError(
                "New tasks are solved from rows X and their labels or targets y. Got "
                "X without y; give both, or neither for the training tasks."
            )
        ids = np.zeros(len(np.asarray(y)), dtype=int) if tasks is None else tasks
        names = []
        for name, support in by_task(ids, X, y):
            copies.append(call_method(copy.copy(estimator), "adapt", *support))
            names.append(name)
        return copies, names
    known = fitted_fact(estimator, "known_tasks_")
    if known is None:
        raise InvalidInputError(
            "The training tasks are drawn after a fit around a common predictor with "
            "fit_head=True. Got a learner that has solved none; fit it so, or give "
            "rows of tasks as X, y and tasks."
        )
    for task in known.solved:
        one = copy.copy(estimator)
        one.task_ = task
        copies.append(one)
    return copies, [str(name) for name in known.ids]


def _weights(estimator: Any, score: int | None) -> NDArray[Any]:
    """Return the deviation (n_features,) of a score."""
    return _of_score(np.atleast_2d(fitted_fact(estimator, "deviation_")), score)


def _of_score(found: NDArray[Any], score: int | None) -> NDArray[Any]:
    """Return the row of a score of weights (n_scores, n_features)."""
    n_scores = len(found)
    if score is None and n_scores <= 2:
        weights: NDArray[Any] = found[-1] - found[0] if n_scores == 2 else found[0]
        return weights
    if isinstance(score, int | np.integer) and 0 <= score < n_scores:
        return found[score]
    raise InvalidInputError(
        f"score must be a number from 0 to {n_scores - 1}, of the class whose weights "
        f"are drawn. Got {score!r}; choose one of {list(range(n_scores))}."
    )


def _column_names(estimator: Any, n_features: int) -> Sequence[str] | None:
    """Names of the columns, where features are columns that had names."""
    names = getattr(estimator, "feature_names_in_", None)
    is_column = getattr(estimator, "backbone", "identity") == "identity"
    return list(names) if names is not None and is_column else None
