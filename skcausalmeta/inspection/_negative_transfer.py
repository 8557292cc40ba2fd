"""How a score changes with the number of tasks learned together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..exceptions import InvalidInputError
from ..metrics import mean_confidence_interval, paired_difference
from ._canvas import finite_array, new_axes


class NegativeTransferDisplay:
    """Mean score of tasks against the number of tasks of a training batch.

    One curve per learner, such as one with and one without a plug-in, the band being
    the 95% interval of the mean. A thin line marks the score at the smallest number:
    a curve that falls below its line loses by learning tasks together.

    Use `from_scores` to make one.

    Parameters
    ----------
    n_tasks : array-like of shape (n_sizes,)
        Tasks of a training batch, increasing.
    scores : mapping of str to array-like of shape (n_sizes, n_scores)
        Of every learner, the scores at every size: one per test task or episode, the
        same ones at all sizes.
    score_name : str, default="accuracy"
        Label of the vertical axis.

    Attributes
    ----------
    mean : dict of str to ndarray of shape (n_sizes,)
        Mean scores.
    half_width : dict of str to ndarray of shape (n_sizes,)
        Half the widths of their intervals, NaN for a single score.
    transfer : dict of str to ndarray of shape (n_sizes, 2)
        Mean gain over the smallest size and half the width of its interval, paired
        by score.
    ax_ : matplotlib Axes
        Axes of the curves.
    figure_ : matplotlib Figure
        Figure of the axes.
    lines_ : dict of str to matplotlib Line2D
        The curves.
    bands_ : dict of str to matplotlib PolyCollection
        The intervals, where there is more than one score.
    references_ : dict of str to matplotlib Line2D
        The thin lines.

    See Also
    --------
    skcausalmeta.metrics.negative_transfer : How many tasks are hurt.

    Examples
    --------
    >>> from skcausalmeta.inspection import NegativeTransferDisplay
    >>> display = NegativeTransferDisplay.from_scores(
    ...     [1, 4], {"plain": [[0.8, 0.9], [0.7, 0.7]], "plug-in": [[0.8, 0.9]] * 2}
    ... )
    >>> display.transfer["plain"][1].round(2).tolist()
    [-0.15, 0.64]
    """

    def __init__(
        self,
        n_tasks: ArrayLike,
        scores: Mapping[str, ArrayLike],
        *,
        score_name: str = "accuracy",
    ) -> None:
        self.n_tasks = finite_array(n_tasks, "n_tasks", 1)
        if self.n_tasks[0] <= 0 or (np.diff(self.n_tasks) <= 0).any():
            raise InvalidInputError(
                "n_tasks must be positive and increase. Got "
                f"{self.n_tasks.tolist()}; sort the sizes and the scores with them."
            )
        if not scores:
            raise InvalidInputError("scores must hold at least one learner. Got none.")
        self.scores = {
            name: self._check(name, values) for name, values in scores.items()
        }
        self.score_name = score_name
        self.mean: dict[str, NDArray[np.float64]] = {}
        self.half_width: dict[str, NDArray[np.float64]] = {}
        self.transfer: dict[str, NDArray[np.float64]] = {}
        for name, table in self.scores.items():
            intervals = [mean_confidence_interval(row) for row in table]
            self.mean[name], self.half_width[name] = np.array(intervals).T
            gains = [paired_difference(row, table[0]) for row in table]
            self.transfer[name] = np.array(gains)

    def _check(self, name: str, values: ArrayLike) -> NDArray[Any]:
        table = finite_array(values, f"scores[{name!r}]", 2)
        if len(table) != len(self.n_tasks):
            raise InvalidInputError(
                f"scores[{name!r}] must have one row for each of the "
                f"{len(self.n_tasks)} numbers of tasks. Got {len(table)}."
            )
        return table

    @classmethod
    def from_scores(
        cls,
        n_tasks: ArrayLike,
        scores: Mapping[str, ArrayLike],
        *,
        score_name: str = "accuracy",
        ax: Any = None,
        **plot_kw: Any,
    ) -> NegativeTransferDisplay:
        """Draw given scores.

        Parameters
        ----------
        n_tasks : array-like of shape (n_sizes,)
            Tasks of a training batch, increasing.
        scores : mapping of str to array-like of shape (n_sizes, n_scores)
            Of every learner, the scores at every size.
        score_name : str, default="accuracy"
            Label of the vertical axis.
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.
        **plot_kw : dict
            Keywords of `plot`.

        Returns
        -------
        NegativeTransferDisplay
            The display, drawn.
        """
        return cls(n_tasks, scores, score_name=score_name).plot(ax=ax, **plot_kw)

    def plot(
        self,
        *,
        ax: Any = None,
        band: bool = True,
        reference: bool = True,
        line_kw: dict[str, Any] | None = None,
        band_kw: dict[str, Any] | None = None,
    ) -> NegativeTransferDisplay:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.
        band : bool, default=True
            Show the intervals, where there is more than one score.
        reference : bool, default=True
            Show the score at the smallest number of tasks as a thin line.
        line_kw : dict, default=None
            More keywords of ``ax.plot``.
        band_kw : dict, default=None
            More keywords of ``ax.fill_between``.

        Returns
        -------
        NegativeTransferDisplay
            Itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        self.figure_, self.ax_ = new_axes(self, ax, (5.0, 3.5))
        self.lines_, self.bands_, self.references_ = {}, {}, {}
        for name, mean in self.mean.items():
            style = {"marker": "o", "label": name, **(line_kw or {})}
            (line,) = self.ax_.plot(self.n_tasks, mean, **style)
            self.lines_[name], colour = line, line.get_color()
            if band and self.scores[name].shape[1] > 1:
                half = self.half_width[name]
                filling = {"color": colour, "alpha": 0.2, "linewidth": 0}
                self.bands_[name] = self.ax_.fill_between(
                    self.n_tasks, mean - half, mean + half, **filling | (band_kw or {})
                )
            if reference:
                self.references_[name] = self.ax_.axhline(
                    mean[0], color=colour, linestyle=":", linewidth=1
                )
        self.ax_.set_xscale("log", base=2)
        self.ax_.set_xticks(self.n_tasks, [f"{size:g}" for size in self.n_tasks])
        self.ax_.minorticks_off()
        self.ax_.set(xlabel="tasks per training batch", ylabel=self.score_name)
        self.ax_.legend()
        return self
