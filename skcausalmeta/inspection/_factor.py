"""Which factors every task weighs, and which ones it should."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils._param_validation import Interval, validate_params

from ..exceptions import InvalidInputError
from ..metrics import support_f1
from ._canvas import (
    by_task,
    call_method,
    finite_array,
    new_axes,
    numbered_names,
    set_ticks,
    truth_mask,
)
from ._matching import align_columns, aligned_names

_THRESHOLD = [Interval(Real, 0, 1, closed="left")]


class FactorDisplay:
    """Weights of factors (rows) in tasks (columns), with the true causes ringed.

    Learned factors come without order, so that with a truth they are matched to the
    true factors and the title gives the F1 score of the weights above a threshold,
    `skcausalmeta.metrics.support_f1` with ``permute=True``.

    Use `from_estimator` or `from_weights` to make one.

    Parameters
    ----------
    weights : array-like of shape (n_tasks, n_factors)
        Weights between 0 and 1.
    truth : array-like of shape (n_tasks, n_factors), default=None
        True causes of every task, other than 0, factors in the same order.
    order : array-like of shape (n_factors,), default=None
        Number of the factor that every row shows. None: as they are.
    score : float, default=None
        F1 score for the title. None: no title.
    factor_names : list of str, default=None
        Names of the rows. None: their numbers in `order`.
    task_names : list of str, default=None
        Names of the columns. None: their numbers.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the grid.
    figure_ : matplotlib Figure
        Figure of the axes.
    im_ : matplotlib AxesImage
        The grid, factors by tasks.
    rings_ : matplotlib Line2D or None
        A ring on every true cause, where the truth is known.
    legend_ : matplotlib Legend or None
        Meaning of the rings.
    colorbar_ : matplotlib Colorbar
        Scale of the weights.

    See Also
    --------
    SupportDisplay : The same for predictors that use a feature or do not.
    RoutingDisplay : Weights of modules in a multi-task learner.

    Examples
    --------
    >>> from skcausalmeta.inspection import FactorDisplay
    >>> weights = [[0.1, 0.9, 0.8], [0.7, 0.2, 0.9]]
    >>> truth = [[1, 0, 1], [0, 1, 1]]
    >>> display = FactorDisplay.from_weights(weights, truth=truth)
    >>> display.order.tolist(), display.score
    ([1, 0, 2], 1.0)
    """

    def __init__(
        self,
        weights: ArrayLike,
        *,
        truth: ArrayLike | None = None,
        order: ArrayLike | None = None,
        score: float | None = None,
        factor_names: Sequence[str] | None = None,
        task_names: Sequence[str] | None = None,
    ) -> None:
        self.weights = finite_array(weights, "weights", 2)
        if self.weights.min() < 0 or self.weights.max() > 1:
            raise InvalidInputError(
                "weights must lie between 0 and 1. Got values from "
                f"{self.weights.min():.3g} to {self.weights.max():.3g}."
            )
        n_tasks, n_factors = self.weights.shape
        self.truth: NDArray[np.bool_] | None = None
        if truth is not None:
            shape = self.weights.shape
            self.truth = truth_mask(truth, shape, "weights", "from_weights")
        self.order: NDArray[np.int64] = np.asarray(
            np.arange(n_factors) if order is None else order
        )
        self.score = score
        self.factor_names = numbered_names(factor_names, self.order, "factor")
        self.task_names = numbered_names(task_names, range(n_tasks), "task")

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        tasks: ArrayLike,
        *,
        y: ArrayLike | None = None,
        truth: ArrayLike | None = None,
        threshold: float = 0.5,
        ax: Any = None,
        **plot_kw: Any,
    ) -> FactorDisplay:
        """Draw the weights that a learner gives to the factors of every task.

        Parameters
        ----------
        estimator : estimator
            Fitted, with ``task_weights(X)``, or ``task_weights(X, y)`` if `y` is
            given, that returns (n_factors,) for the rows of one task.
        X : array-like of shape (n_samples, ...)
            Support rows of all tasks.
        tasks : array-like of shape (n_samples,)
            Task id of every row.
        y : array-like of shape (n_samples,), default=None
            Labels or targets of the rows, for learners that weigh by them.
        truth : array-like of shape (n_tasks, n_true_factors), default=None
            True causes, tasks sorted by id.
        threshold : float, default=0.5
            Weights in [0, 1) above this count as used in the score.
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.
        **plot_kw : dict
            Keywords of `plot`.

        Returns
        -------
        FactorDisplay
            The display, drawn.
        """
        names, weights = [], []
        for name, support in by_task(tasks, X, y):
            weights.append(np.ravel(call_method(estimator, "task_weights", *support)))
            names.append(name)
        return cls.from_weights(
            weights,
            truth=truth,
            threshold=threshold,
            task_names=names,
            ax=ax,
            **plot_kw,
        )

    @classmethod
    @validate_params({"threshold": _THRESHOLD}, prefer_skip_nested_validation=True)
    def from_weights(
        cls,
        weights: ArrayLike,
        *,
        truth: ArrayLike | None = None,
        threshold: float = 0.5,
        factor_names: Sequence[str] | None = None,
        task_names: Sequence[str] | None = None,
        ax: Any = None,
        **plot_kw: Any,
    ) -> FactorDisplay:
        """Draw given weights.

        Parameters
        ----------
        weights : array-like of shape (n_tasks, n_factors)
            Weights between 0 and 1.
        truth : array-like of shape (n_tasks, n_true_factors), default=None
            True causes, such as ``causal_sets`` of `make_confounded_tasks`; at most
            as many factors as are learned. Learned factors are matched to them one
            to one so that the two agree best; those without one come last.
        threshold : float, default=0.5
            Weights in [0, 1) above this count as used in the score.
        factor_names : list of str, default=None
            Names of the factors, or, with `truth`, of the true ones.
        task_names : list of str, default=None
            Names of the tasks.
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.
        **plot_kw : dict
            Keywords of `plot`.

        Returns
        -------
        FactorDisplay
            The display, drawn.
        """
        table = finite_array(weights, "weights", 2)
        order, score = np.arange(table.shape[1]), None
        if truth is not None:
            causes = finite_array(truth, "truth", 2) != 0
            order, truth = align_columns(table, causes)
            score = support_f1(causes, table, permute=True, threshold=threshold)
            names = factor_names, causes.shape[1], order
            factor_names = aligned_names(*names, "factor")
        display = cls(
            table[:, order],
            truth=truth,
            order=order,
            score=score,
            factor_names=factor_names,
            task_names=task_names,
        )
        return display.plot(ax=ax, **plot_kw)

    def plot(
        self,
        *,
        ax: Any = None,
        cmap: Any = "Greys",
        im_kw: dict[str, Any] | None = None,
        ring_kw: dict[str, Any] | None = None,
    ) -> FactorDisplay:
        """Draw the grid.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.
        cmap : str or matplotlib Colormap, default="Greys"
            Colours from 0 to 1.
        im_kw : dict, default=None
            More keywords of ``ax.imshow``.
        ring_kw : dict, default=None
            More keywords of ``ax.plot`` for the rings.

        Returns
        -------
        FactorDisplay
            Itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        n_tasks, n_factors = self.weights.shape
        size = (3.0 + 0.2 * min(n_tasks, 50), 1.8 + 0.25 * min(n_factors, 40))
        self.figure_, self.ax_ = new_axes(self, ax, size)
        drawing = {"aspect": "auto", "interpolation": "nearest"}
        self.im_ = self.ax_.imshow(
            self.weights.T, cmap=cmap, vmin=0, vmax=1, **{**drawing, **(im_kw or {})}
        )
        self.rings_ = self.legend_ = None
        if self.truth is not None:
            rings = {"marker": "o", "linestyle": "none", "fillstyle": "none"}
            colours = {"color": "#d55e00", "label": "true cause"}
            causes, places = np.nonzero(self.truth.T)
            (self.rings_,) = self.ax_.plot(
                places, causes, **{**rings, **colours, **(ring_kw or {})}
            )
            self.legend_ = self.ax_.legend(
                loc="lower right", bbox_to_anchor=(1, 1), frameon=False
            )
        set_ticks(self.ax_.yaxis, self.factor_names)
        set_ticks(self.ax_.xaxis, self.task_names)
        self.ax_.set(xlabel="task", ylabel="factor")
        if self.score is not None:
            self.ax_.set_title(f"F1 {self.score:.2f}", loc="left")
        self.colorbar_ = self.figure_.colorbar(self.im_, ax=self.ax_, label="weight")
        return self
