"""Picture of the scores of learners in every environment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..exceptions import InvalidInputError
from ..metrics import environment_scores
from ._canvas import new_axes


class EnvironmentScoreDisplay:
    """Scores by environment, one group of bars each, and the worst as a line.

    Parameters
    ----------
    scores : mapping of str to mapping
        Of every learner, its score by environment.
    score_name : str, default="score"
        Label of the axis.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the picture, after `plot`.
    figure_ : matplotlib Figure
        Its figure.
    bars_ : list of matplotlib BarContainer
        Bars of every learner.

    Examples
    --------
    >>> from skcausalmeta.inspection import EnvironmentScoreDisplay
    >>> display = EnvironmentScoreDisplay(
    ...     {"mmoe": {"train": 0.8, "test": 0.6}, "mtcrl": {"train": 0.8, "test": 0.7}}
    ... )
    >>> display.worst
    {'mmoe': 0.6, 'mtcrl': 0.7}
    """

    def __init__(
        self, scores: Mapping[str, Mapping[Any, float]], *, score_name: str = "score"
    ) -> None:
        self.scores = {name: dict(values) for name, values in scores.items()}
        self.score_name = score_name
        environments = [list(values) for values in self.scores.values()]
        if not environments or not environments[0]:
            raise InvalidInputError("scores must hold a learner and an environment.")
        if any(set(names) != set(environments[0]) for names in environments):
            raise InvalidInputError(
                "All learners must be scored in the same environments. Got "
                f"{environments}."
            )
        self.environments = environments[0]

    @property
    def worst(self) -> dict[str, float]:
        """Score of every learner in its worst environment."""
        return {name: min(values.values()) for name, values in self.scores.items()}

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        envs: ArrayLike,
        *,
        name: str = "predictions",
        scoring: str | Callable[..., float] = "accuracy",
        ax: Any = None,
    ) -> EnvironmentScoreDisplay:
        """Draw the scores of predictions.

        Parameters
        ----------
        y_true : array-like of shape (n,) or (n, n_tasks)
            Targets; NaN where a label is missing.
        y_pred : array-like of the same shape
            Predictions.
        envs : array-like of shape (n,)
            Environment of every row.
        name : str, default="predictions"
            Name in the legend.
        scoring : {"accuracy", "r2"} or callable, default="accuracy"
            Score of one task.
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.

        Returns
        -------
        EnvironmentScoreDisplay
            The drawn picture.
        """
        scores = environment_scores(y_true, y_pred, envs, scoring=scoring)
        label = scoring if isinstance(scoring, str) else "score"
        return cls({name: scores}, score_name=label).plot(ax=ax)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        y: ArrayLike,
        envs: ArrayLike,
        **params: Any,
    ) -> EnvironmentScoreDisplay:
        """Draw the scores of a fitted estimator.

        Parameters
        ----------
        estimator : estimator
            Has `predict`.
        X : array-like of shape (n, ...)
            Rows.
        y : array-like of shape (n,) or (n, n_tasks)
            Targets; NaN where a label is missing.
        envs : array-like of shape (n,)
            Environment of every row.
        **params : dict
            Further parameters of `from_predictions`.

        Returns
        -------
        EnvironmentScoreDisplay
            The drawn picture.
        """
        named = {"name": type(estimator).__name__, **params}
        return cls.from_predictions(y, estimator.predict(X), envs, **named)

    def plot(self, ax: Any = None) -> EnvironmentScoreDisplay:
        """Draw the picture.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.

        Returns
        -------
        EnvironmentScoreDisplay
            Itself.
        """
        self.figure_, self.ax_ = new_axes(self, ax, (6.4, 4.8))
        width = 0.8 / len(self.scores)
        places = np.arange(len(self.environments))
        self.bars_ = []
        for number, (name, values) in enumerate(self.scores.items()):
            heights = [values[environment] for environment in self.environments]
            bars = self.ax_.bar(places + number * width, heights, width, label=name)
            colour = bars.patches[0].get_facecolor()
            self.ax_.axhline(min(heights), color=colour, linestyle="--", linewidth=1)
            self.bars_.append(bars)
        middle = places + 0.4 - width / 2
        self.ax_.set_xticks(middle, [str(name) for name in self.environments])
        self.ax_.set(xlabel="environment", ylabel=self.score_name)
        self.ax_.legend()
        return self
