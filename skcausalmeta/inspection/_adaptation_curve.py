"""How a score changes with the steps of the inner loop."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import is_classifier
from sklearn.utils import check_consistent_length
from sklearn.utils._param_validation import Interval, validate_params

from ..episodes import Episode, make_sampler
from ..metrics import mean_confidence_interval
from ..utils import ids_of, refuse_other_index
from ._canvas import call_method, finite_array, new_axes

# Bounds the copies of rows that one call of the learner holds.
_EPISODES_PER_CALL = 32
_COUNT = [Interval(Integral, 1, None, closed="left")]


class AdaptationCurveDisplay:
    """Mean score of adapted learners against the steps of the inner loop.

    The band is the 95% interval of the mean over the episodes. Several learners
    are drawn on one axes, on the same episodes if `random_state` is the same int.

    Use `from_estimator` or `from_arrays` to make one.

    Parameters
    ----------
    scores : array-like of shape (n_episodes, n_points)
        Scores of the episodes before the first and after every step.
    name : str, default=None
        Name of the curve in the legend. None: no legend.
    score_name : str, default="score"
        Label of the vertical axis.

    Attributes
    ----------
    mean : ndarray of shape (n_points,)
        Mean scores.
    half_width : ndarray of shape (n_points,)
        Half the widths of their intervals, NaN for a single episode.
    ax_ : matplotlib Axes
        Axes of the curve.
    figure_ : matplotlib Figure
        Figure of the axes.
    line_ : matplotlib Line2D
        The curve.
    band_ : matplotlib PolyCollection or None
        The intervals.

    See Also
    --------
    LossSurfaceDisplay : The steps themselves, for models of two weights.

    Examples
    --------
    >>> from skcausalmeta.inspection import AdaptationCurveDisplay
    >>> scores = [[0.2, 0.6, 0.8], [0.2, 0.5, 0.7]]
    >>> display = AdaptationCurveDisplay.from_arrays(scores, score_name="accuracy")
    >>> display.mean.round(2).tolist()
    [0.2, 0.55, 0.75]
    """

    def __init__(
        self,
        scores: ArrayLike,
        *,
        name: str | None = None,
        score_name: str = "score",
    ) -> None:
        self.scores = finite_array(scores, "scores", 2)
        self.name = name
        self.score_name = score_name
        intervals = [mean_confidence_interval(column) for column in self.scores.T]
        self.mean, self.half_width = np.array(intervals).T

    @classmethod
    @validate_params(
        {
            "X": ["array-like"],
            "y": ["array-like"],
            "tasks": ["array-like", None],
            "n_way": [Interval(Integral, 2, None, closed="left")],
            "n_shot": _COUNT,
            "n_query": _COUNT,
            "n_episodes": _COUNT,
            "n_steps": [Interval(Integral, 0, None, closed="left"), None],
            "scoring": [callable, None],
            "random_state": ["random_state"],
            "name": [str, None],
        },
        prefer_skip_nested_validation=True,
    )
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        y: ArrayLike,
        *,
        tasks: ArrayLike | None = None,
        n_way: int = 5,
        n_shot: int = 5,
        n_query: int = 15,
        n_episodes: int = 100,
        n_steps: int | None = None,
        scoring: Callable[[NDArray[Any], NDArray[Any]], float] | None = None,
        random_state: int | np.random.RandomState | None = None,
        ax: Any = None,
        name: str | None = None,
        **plot_kw: Any,
    ) -> AdaptationCurveDisplay:
        """Adapt a learner to episodes and draw its score after every step.

        The learner itself stays as it is.

        Parameters
        ----------
        estimator : estimator
            Fitted learner with ``staged_predict_episodes``, such as
            `skcausalmeta.learners.MAMLClassifier`.
        X : array-like of shape (n_samples, ...)
            Rows of new classes or tasks.
        y : array-like of shape (n_samples,)
            Their labels or targets.
        tasks : array-like of shape (n_samples,), default=None
            Task id of every row; an episode is drawn within one task. None: N-way
            problems of the classes of y, or all rows as one regression task.
        n_way : int, default=5
            Classes of an episode, where the classes of y make it.
        n_shot : int, default=5
            Support rows, of each class in classification.
        n_query : int, default=15
            Query rows, counted likewise.
        n_episodes : int, default=100
            Number of episodes.
        n_steps : int, default=None
            Steps of the inner loop, as `adapt_steps` of the learner. None: its own.
        scoring : callable, default=None
            ``scoring(y_true, y_pred) -> float`` of one episode, such as
            `sklearn.metrics.mean_absolute_error`. None: accuracy of a classifier,
            mean squared error of a regressor.
        random_state : int, RandomState instance or None, default=None
            Decides the episodes.
        ax : matplotlib Axes, default=None
            Where to draw, for example that of another display. None: a new figure.
        name : str, default=None
            Name in the legend. None: the name of the class of the learner.
        **plot_kw : dict
            Keywords of `plot`.

        Returns
        -------
        AdaptationCurveDisplay
            The display, drawn.
        """
        refuse_other_index(X=X, y=y, tasks=tasks)
        rows, targets = np.asarray(X), np.asarray(y)
        check_consistent_length(rows, targets)
        ids = None if tasks is None else ids_of(tasks, "tasks", len(rows))
        classes = is_classifier(estimator)
        sampler = make_sampler(
            targets,
            ids,
            regression=not classes,
            n_way=n_way,
            n_shot=n_shot,
            n_query=n_query,
            random_state=random_state,
        )
        if n_steps is not None:
            estimator = copy.copy(estimator).set_params(adapt_steps=n_steps)
        score = scoring or (_accuracy if classes else _mean_squared_error)
        scores = _score_steps(estimator, rows, targets, sampler.draw(n_episodes), score)
        display = cls(
            scores,
            name=type(estimator).__name__ if name is None else name,
            score_name=getattr(score, "__name__", "score").strip("_").replace("_", " "),
        )
        return display.plot(ax=ax, **plot_kw)

    @classmethod
    def from_arrays(
        cls,
        scores: ArrayLike,
        *,
        name: str | None = None,
        score_name: str = "score",
        ax: Any = None,
        **plot_kw: Any,
    ) -> AdaptationCurveDisplay:
        """Draw given scores.

        Parameters
        ----------
        scores : array-like of shape (n_episodes, n_points)
            Scores of the episodes before the first and after every step.
        name : str, default=None
            Name in the legend.
        score_name : str, default="score"
            Label of the vertical axis.
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.
        **plot_kw : dict
            Keywords of `plot`.

        Returns
        -------
        AdaptationCurveDisplay
            The display, drawn.
        """
        display = cls(scores, name=name, score_name=score_name)
        return display.plot(ax=ax, **plot_kw)

    def plot(
        self,
        *,
        ax: Any = None,
        band: bool = True,
        line_kw: dict[str, Any] | None = None,
        band_kw: dict[str, Any] | None = None,
    ) -> AdaptationCurveDisplay:
        """Draw the curve.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.
        band : bool, default=True
            Show the intervals, where there is more than one episode.
        line_kw : dict, default=None
            More keywords of ``ax.plot``.
        band_kw : dict, default=None
            More keywords of ``ax.fill_between``.

        Returns
        -------
        AdaptationCurveDisplay
            Itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        self.figure_, self.ax_ = new_axes(self, ax, (5.0, 3.5))
        steps = np.arange(len(self.mean))
        style = {"marker": "o", "label": self.name, **(line_kw or {})}
        (self.line_,) = self.ax_.plot(steps, self.mean, **style)
        self.band_ = None
        if band and len(self.scores) > 1:
            filling = {"color": self.line_.get_color(), "alpha": 0.2, "linewidth": 0}
            self.band_ = self.ax_.fill_between(
                steps,
                self.mean - self.half_width,
                self.mean + self.half_width,
                **{**filling, **(band_kw or {})},
            )
        self.ax_.xaxis.get_major_locator().set_params(integer=True)
        self.ax_.set(xlabel="inner step", ylabel=self.score_name)
        if self.name is not None:
            self.ax_.legend()
        return self


def _accuracy(y_true: NDArray[Any], y_pred: NDArray[Any]) -> float:
    return float(np.mean(y_true == y_pred))


def _mean_squared_error(y_true: NDArray[Any], y_pred: NDArray[Any]) -> float:
    return float(np.square(y_true - y_pred).mean())


def _score_steps(
    estimator: Any,
    rows: NDArray[Any],
    targets: NDArray[Any],
    episodes: list[Episode],
    score: Callable[[NDArray[Any], NDArray[Any]], float],
) -> NDArray[np.float64]:
    """Scores (n_episodes, n_points), in the order of the episodes."""
    scores: dict[int, list[float]] = {}
    for part in _parts(episodes):
        support = np.stack([episodes[k].support for k in part])
        query = np.stack([episodes[k].query for k in part])
        staged = call_method(
            estimator,
            "staged_predict_episodes",
            rows[support],
            targets[support],
            rows[query],
        )  # (n_points, n_tasks, n_query)
        for k, true, found in zip(
            part, targets[query], staged.swapaxes(0, 1), strict=True
        ):
            scores[k] = [score(true, step) for step in found]
    return np.array([scores[k] for k in range(len(episodes))], dtype=np.float64)


def _parts(episodes: list[Episode]) -> Iterator[list[int]]:
    """Numbers of episodes of one shape, a bounded number at a time."""
    groups: dict[tuple[int, int], list[int]] = {}
    for k, episode in enumerate(episodes):
        groups.setdefault((episode.n_support, episode.n_query), []).append(k)
    for group in groups.values():
        for begin in range(0, len(group), _EPISODES_PER_CALL):
            yield group[begin : begin + _EPISODES_PER_CALL]
