"""Which features the predictor of every task uses."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._canvas import (
    by_task,
    call_method,
    drawn_ids,
    finite_array,
    fitted_fact,
    new_axes,
    numbered_names,
    set_ticks,
    truth_mask,
)
from ._matching import align_columns, aligned_names

_UNUSED, _USED, _MISSED, _WRONG = range(4)
_COLOURS = ("white", "#222222", "#e69f00", "#56b4e9")


class SupportDisplay:
    """Mask of features (rows) by tasks (columns), dark where a feature is used.

    With the true supports beside it, features that were missed and features that
    are used without need have colours of their own.

    Use `from_estimator`, `from_solved` or `from_arrays` to make one.

    Parameters
    ----------
    supports : array-like of shape (n_tasks, n_features)
        Features that the predictor of every task uses: other than 0.
    truth : array-like of shape (n_tasks, n_features), default=None
        Features that every task truly depends on, in the same order.
    order : array-like of shape (n_features,), default=None
        Number of the feature that every row shows. None: as they are.
    feature_names : list of str, default=None
        Names of the rows. None: their numbers in `order`.
    task_names : list of str, default=None
        Names of the columns. None: their numbers.

    Attributes
    ----------
    cells : ndarray of shape (n_features, n_tasks)
        What is drawn: 0 unused, 1 used, 2 missed, 3 used without need.
    ax_ : matplotlib Axes
        Axes of the mask.
    figure_ : matplotlib Figure
        Figure of the axes.
    im_ : matplotlib AxesImage
        The mask.
    legend_ : matplotlib Legend or None
        Meaning of the colours, where the truth is known.

    Examples
    --------
    >>> from skcausalmeta.inspection import SupportDisplay
    >>> display = SupportDisplay.from_arrays([[0.4, 0.0, -1.0], [0.0, 0.0, 2.0]])
    >>> display.cells.tolist(), display.ax_.get_title()
    ([[1, 0], [0, 0], [1, 1]], '50% of the features in use')
    """

    def __init__(
        self,
        supports: ArrayLike,
        *,
        truth: ArrayLike | None = None,
        order: ArrayLike | None = None,
        feature_names: Sequence[str] | None = None,
        task_names: Sequence[str] | None = None,
    ) -> None:
        used = finite_array(supports, "supports", 2) != 0
        n_tasks, n_features = used.shape
        self.cells = np.where(used, _USED, _UNUSED).T
        self.has_truth = truth is not None
        if truth is not None:
            needed = truth_mask(truth, used.shape, "supports", "from_arrays")
            self.cells[(needed & ~used).T] = _MISSED
            self.cells[(used & ~needed).T] = _WRONG
        self.order: NDArray[np.int64] = np.asarray(
            np.arange(n_features) if order is None else order
        )
        self.feature_names = numbered_names(feature_names, self.order, "feature")
        self.task_names = numbered_names(task_names, range(n_tasks), "task")

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        y: ArrayLike,
        tasks: ArrayLike,
        *,
        truth: ArrayLike | None = None,
        sort: bool = False,
        ax: Any = None,
        **plot_kw: Any,
    ) -> SupportDisplay:
        """Adapt a learner to every task and draw the features that each one uses.

        The learner itself stays as it is.

        Parameters
        ----------
        estimator : estimator
            Fitted learner with ``adapt(X, y)``, ``support_features_`` and
            ``n_features_out_``.
        X : array-like of shape (n_samples, ...)
            Support rows of all tasks.
        y : array-like of shape (n_samples,)
            Their labels or targets.
        tasks : array-like of shape (n_samples,)
            Task id of every row.
        truth : array-like of shape (n_tasks, n_factors), default=None
            True supports, tasks sorted by id; features are matched to factors.
        sort : bool, default=False
            Most used features first. Not with `truth`, which decides the order.
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.
        **plot_kw : dict
            Keywords of `plot`.

        Returns
        -------
        SupportDisplay
            The display, drawn.
        """
        names, supports = [], []
        for name, support in by_task(tasks, X, y):
            adapted = call_method(copy.copy(estimator), "adapt", *support)
            mask = np.zeros(adapted.n_features_out_, dtype=bool)
            mask[fitted_fact(adapted, "support_features_")] = True
            supports.append(mask)
            names.append(name)
        return cls.from_arrays(
            supports,
            truth=truth,
            sort=sort,
            task_names=names,
            ax=ax,
            **plot_kw,
        )

    @classmethod
    def from_solved(
        cls,
        solved: Any,
        ids: Sequence[Any] | None = None,
        *,
        sort: bool = False,
        feature_names: Sequence[str] | None = None,
        task_names: Sequence[str] | None = None,
        ax: Any = None,
        **plot_kw: Any,
    ) -> SupportDisplay:
        """Draw the features in which solved tasks differ, as `adapt_tasks` keeps them.

        Parameters
        ----------
        solved : SolvedTasks
            In memory or in a folder, of a learner with a linear head.
        ids : sequence, default=None
            Tasks to draw. None: all, which must be 10,000 at most.
        sort : bool, default=False
            Most used features first.
        feature_names : list of str, default=None
            Names of the features. None: those of the columns, where they had names.
        task_names : list of str, default=None
            Names of the tasks. None: the ids.
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.
        **plot_kw : dict
            Keywords of `plot`.

        Returns
        -------
        SupportDisplay
            The display, drawn.

        Raises
        ------
        InvalidInputError
            If an id is unknown, or there are more tasks than can be looked at.
        """
        chosen = drawn_ids(solved, ids)
        supports = (solved.deviations(chosen) != 0).any(axis=1)
        names = [str(task) for task in chosen]
        return cls.from_arrays(
            supports,
            sort=sort,
            feature_names=solved.feature_names_
            if feature_names is None
            else feature_names,
            task_names=names if task_names is None else task_names,
            ax=ax,
            **plot_kw,
        )

    @classmethod
    def from_arrays(
        cls,
        supports: ArrayLike,
        *,
        truth: ArrayLike | None = None,
        sort: bool = False,
        feature_names: Sequence[str] | None = None,
        task_names: Sequence[str] | None = None,
        ax: Any = None,
        **plot_kw: Any,
    ) -> SupportDisplay:
        """Draw given supports or coefficients.

        Parameters
        ----------
        supports : array-like of shape (n_tasks, n_features)
            Features in use, entries other than 0; coefficients will do.
        truth : array-like of shape (n_tasks, n_factors), default=None
            True supports. Features are matched to factors one to one so that the
            two agree best; features without a factor come last.
        sort : bool, default=False
            Most used features first. Not with `truth`, which decides the order.
        feature_names : list of str, default=None
            Names of the features, or, with `truth`, of the factors.
        task_names : list of str, default=None
            Names of the tasks.
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.
        **plot_kw : dict
            Keywords of `plot`.

        Returns
        -------
        SupportDisplay
            The display, drawn.
        """
        used = finite_array(supports, "supports", 2) != 0
        order = np.arange(used.shape[1])
        if truth is not None:
            needed = finite_array(truth, "truth", 2) != 0
            order, truth = align_columns(used.astype(float), needed)
            names = feature_names, needed.shape[1], order
            feature_names = aligned_names(*names, "feature")
        elif sort:
            order = np.argsort(-used.sum(axis=0), kind="stable")
            if feature_names is not None:
                feature_names = [feature_names[i] for i in order]
        display = cls(
            used[:, order],
            truth=truth,
            order=order,
            feature_names=feature_names,
            task_names=task_names,
        )
        return display.plot(ax=ax, **plot_kw)

    def plot(
        self, *, ax: Any = None, im_kw: dict[str, Any] | None = None
    ) -> SupportDisplay:
        """Draw the mask.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.
        im_kw : dict, default=None
            More keywords of ``ax.imshow``.

        Returns
        -------
        SupportDisplay
            Itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        n_features, n_tasks = self.cells.shape
        size = (2.5 + 0.15 * min(n_tasks, 60), 1.5 + 0.2 * min(n_features, 40))
        self.figure_, self.ax_ = new_axes(self, ax, size)
        from matplotlib.colors import ListedColormap
        from matplotlib.patches import Patch

        drawing = {"aspect": "auto", "interpolation": "nearest"}
        self.im_ = self.ax_.imshow(
            self.cells,
            cmap=ListedColormap(_COLOURS),
            vmin=-0.5,
            vmax=3.5,
            **{**drawing, **(im_kw or {})},
        )
        set_ticks(self.ax_.yaxis, self.feature_names)
        set_ticks(self.ax_.xaxis, self.task_names)
        in_use = np.isin(self.cells, [_USED, _WRONG]).mean()
        self.ax_.set(
            xlabel="task",
            ylabel="feature",
            title=f"{100 * in_use:.0f}% of the features in use",
        )
        self.legend_ = None
        if self.has_truth:
            meanings = ("used and needed", "missed", "used without need")
            patches = [
                Patch(facecolor=colour, label=label)
                for colour, label in zip(_COLOURS[1:], meanings, strict=True)
            ]
            self.legend_ = self.ax_.legend(
                handles=patches, loc="upper left", bbox_to_anchor=(1.01, 1)
            )
        return self
