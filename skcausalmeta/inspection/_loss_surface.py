"""The loss over two weights, and how learners walk on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils._param_validation import Interval, StrOptions, validate_params
from sklearn.utils.multiclass import type_of_target

from ..exceptions import InvalidInputError
from ._canvas import finite_array, new_axes
from ._linear_descent import descend, effective_weights, surround, task_loss


class LossSurfaceDisplay:
    """Loss of a task over two weights, with paths of gradient descent.

    A linear model of d layers has the weights ``w = W_1 ... W_d``: any depth can
    be any w, but gradient descent on the layers takes another path to it [1]_.
    The picture shows the loss over w, and one path per depth, or the steps that
    meta-trained learners take on a new task.

    Use `from_data` or `from_estimator` to make one.

    Parameters
    ----------
    first, second : array-like of shape (n_first,) and (n_second,)
        Values of the two weights.
    losses : array-like of shape (n_second, n_first)
        Loss at these values.
    paths : dict of str to array-like of shape (n_points, 2)
        Weights before the first and after every step, by name.
    minimum : array-like of shape (2,), default=None
        Weights of least loss, if there are such.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the surface.
    figure_ : matplotlib Figure
        Figure of the axes.
    contour_ : matplotlib QuadContourSet
        The loss.
    colorbar_ : matplotlib Colorbar or None
        Scale of the loss.
    lines_ : dict of str to matplotlib Line2D
        The paths, a marker a step.
    minimum_ : matplotlib Line2D or None
        The star at the least loss.

    See Also
    --------
    AdaptationCurveDisplay : Score against inner steps, for all learners.

    References
    ----------
    .. [1] S. Arnold, S. Iqbal, F. Sha (2021). When MAML can adapt fast and how to
       assist when it cannot. AISTATS.

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.inspection import LossSurfaceDisplay
    >>> X = np.random.default_rng(0).normal(size=(50, 2))
    >>> display = LossSurfaceDisplay.from_data(X, X @ [2.0, -1.0], depths=(1, 3))
    >>> {name: path[-1].round(1).tolist() for name, path in display.paths.items()}
    {'depth 1': [2.0, -1.0], 'depth 3': [2.0, -1.0]}
    """

    def __init__(
        self,
        first: ArrayLike,
        second: ArrayLike,
        losses: ArrayLike,
        paths: Mapping[str, ArrayLike],
        *,
        minimum: ArrayLike | None = None,
    ) -> None:
        self.first = finite_array(first, "first", 1)
        self.second = finite_array(second, "second", 1)
        self.losses = finite_array(losses, "losses", 2)
        if self.losses.shape != (len(self.second), len(self.first)):
            raise InvalidInputError(
                "losses must have a row for every value of second and a column for "
                f"every value of first. Got shape {self.losses.shape} for "
                f"{len(self.second)} and {len(self.first)} values."
            )
        self.paths = {
            str(name): _points(path, f"The path {name!r}")
            for name, path in paths.items()
        }
        self.minimum = None if minimum is None else finite_array(minimum, "minimum", 1)

    @classmethod
    @validate_params(
        {
            "X": ["array-like"],
            "y": ["array-like"],
            "depths": ["array-like"],
            "start": ["array-like"],
            "n_steps": [Interval(Integral, 1, None, closed="left")],
            "lr": [Interval(Real, 0, None, closed="neither")],
            "loss": [StrOptions({"auto", "squared", "logistic"})],
            "resolution": [Interval(Integral, 2, None, closed="left")],
        },
        prefer_skip_nested_validation=True,
    )
    def from_data(
        cls,
        X: ArrayLike,
        y: ArrayLike,
        *,
        depths: Sequence[int] = (1, 2, 3),
        start: ArrayLike = (0.5, 0.5),
        n_steps: int = 50,
        lr: float = 0.1,
        loss: str = "auto",
        resolution: int = 101,
        ax: Any = None,
        **plot_kw: Any,
    ) -> LossSurfaceDisplay:
        """Descend on linear models of several depths and draw their paths.

        The models have no intercept. All start at the same weights, with layers of
        equal norm, and all layers take the same learning rate.

        Parameters
        ----------
        X : array-like of shape (n_samples, 2)
            Rows of the task.
        y : array-like of shape (n_samples,)
            Real targets, or labels of two classes.
        depths : sequence of int, default=(1, 2, 3)
            Numbers of layers; 1 is plain gradient descent on the weights.
        start : array-like of shape (2,), default=(0.5, 0.5)
            Weights to start from; not 0, where gradients of deep models vanish.
        n_steps : int, default=50
            Number of steps.
        lr : float, default=0.1
            Learning rate.
        loss : {"auto", "squared", "logistic"}, default="auto"
            Mean squared error or mean cross-entropy. "auto": the latter for
            labels of two classes.
        resolution : int, default=101
            Points of the grid along each weight.
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.
        **plot_kw : dict
            Keywords of `plot`.

        Returns
        -------
        LossSurfaceDisplay
            The display, drawn.

        Raises
        ------
        DivergenceError
            If a path leaves the range of finite numbers.
        """
        rows = _check_rows(X)
        begin = finite_array(start, "start", 1).astype(np.float64)
        numbers = np.asarray(depths)
        whole = numbers.ndim == 1 and numbers.dtype.kind in "iu"
        if not whole or numbers.size == 0 or (numbers < 1).any():
            raise InvalidInputError(f"depths must be ints >= 1. Got {depths!r}.")
        if len(begin) != 2 or (numbers.max() > 1 and not begin.any()):
            raise InvalidInputError(
                "start must hold two weights, not both 0, where the gradients of deep "
                f"models vanish. Got {begin.tolist()}."
            )
        kind, targets = _check_targets(y, rows, loss)
        surface = task_loss(rows, targets, kind)
        paths = {
            f"depth {depth}": descend(surface, begin, int(depth), n_steps, lr)
            for depth in numbers
        }
        minimum = None
        if kind == "squared":
            minimum = np.linalg.lstsq(rows, targets, rcond=None)[0]
        grid = surround(surface, paths, minimum, resolution)
        display = cls(*grid, paths, minimum=minimum)
        return display.plot(ax=ax, **plot_kw)

    @classmethod
    @validate_params(
        {
            "X": ["array-like"],
            "y": ["array-like"],
            "resolution": [Interval(Integral, 2, None, closed="left")],
        },
        prefer_skip_nested_validation=True,
    )
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        y: ArrayLike,
        *,
        resolution: int = 101,
        ax: Any = None,
        **plot_kw: Any,
    ) -> LossSurfaceDisplay:
        """Adapt linear meta-learned regressors to a task and draw their steps.

        The surface is the mean squared error with the best intercept. The learners
        themselves stay as they are.

        Parameters
        ----------
        estimator : estimator or dict of str to estimator
            Fitted on two columns, with ``staged_predict_episodes`` that is linear
            in them, such as ``MAMLRegressor(backbone="identity",
            net_params={"linear_layers": 2})``; several by name.
        X : array-like of shape (n_samples, 2)
            Support rows of a new task.
        y : array-like of shape (n_samples,)
            Their targets.
        resolution : int, default=101
            Points of the grid along each weight.
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.
        **plot_kw : dict
            Keywords of `plot`.

        Returns
        -------
        LossSurfaceDisplay
            The display, drawn.
        """
        rows = _check_rows(X)
        _, targets = _check_targets(y, rows, "squared")
        if not isinstance(estimator, Mapping):
            estimator = {type(estimator).__name__: estimator}
        paths = {
            name: effective_weights(one, rows, targets)
            for name, one in estimator.items()
        }
        centred, values = rows - rows.mean(axis=0), targets - targets.mean()
        minimum = np.linalg.lstsq(centred, values, rcond=None)[0]
        surface = task_loss(centred, values, "squared")
        grid = surround(surface, paths, minimum, resolution)
        display = cls(*grid, paths, minimum=minimum)
        return display.plot(ax=ax, **plot_kw)

    def plot(
        self,
        *,
        ax: Any = None,
        cmap: Any = "Greys",
        n_levels: int = 20,
        colorbar: bool = True,
        line_kw: dict[str, Any] | None = None,
    ) -> LossSurfaceDisplay:
        """Draw the surface and the paths.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.
        cmap : str or matplotlib Colormap, default="Greys"
            Colours of the loss.
        n_levels : int, default=20
            Number of contours, denser near the least loss.
        colorbar : bool, default=True
            Add the scale of the loss.
        line_kw : dict, default=None
            More keywords of ``ax.plot`` for the paths.

        Returns
        -------
        LossSurfaceDisplay
            Itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        self.figure_, self.ax_ = new_axes(self, ax, (5.5, 4.5))
        low, high = float(self.losses.min()), float(self.losses.max())
        # A flat surface still needs levels that rise.
        rise = max(high - low, 1e-12)
        levels = low + rise * np.linspace(0, 1, n_levels + 1) ** 2
        self.contour_ = self.ax_.contourf(
            self.first, self.second, self.losses, levels=levels, cmap=cmap
        )
        self.colorbar_ = None
        if colorbar:
            bar = self.figure_.colorbar(self.contour_, ax=self.ax_, label="loss")
            self.colorbar_ = bar
        style = {"marker": ".", "linewidth": 1, **(line_kw or {})}
        self.lines_ = {
            name: self.ax_.plot(path[:, 0], path[:, 1], label=name, **style)[0]
            for name, path in self.paths.items()
        }
        self.minimum_ = None
        if self.minimum is not None:
            (self.minimum_,) = self.ax_.plot(
                *self.minimum, marker="*", color="black", linestyle="", markersize=10
            )
        self.ax_.set(
            xlim=(self.first[0], self.first[-1]),
            ylim=(self.second[0], self.second[-1]),
            xlabel="weight 0",
            ylabel="weight 1",
        )
        self.ax_.legend()
        return self


def _points(path: ArrayLike, name: str) -> NDArray[np.float64]:
    points = finite_array(path, name, 2)
    if points.shape[1] != 2:
        raise InvalidInputError(
            f"{name} must hold points of two weights. Got shape {points.shape}."
        )
    return points


def _check_rows(X: ArrayLike) -> NDArray[np.float64]:
    rows: NDArray[np.float64] = check_array(X, dtype=np.float64, input_name="X")
    if rows.shape[1] != 2:
        raise InvalidInputError(
            "X must have two columns, one for each weight of the surface. Got shape "
            f"{rows.shape}; choose or combine columns."
        )
    return rows


def _check_targets(
    y: ArrayLike, rows: NDArray[np.float64], loss: str
) -> tuple[str, NDArray[np.float64]]:
    """The loss and the targets for it, 0 and 1 for classes."""
    targets = np.asarray(y)
    check_consistent_length(rows, targets)
    if loss == "auto":
        loss = "logistic" if type_of_target(targets) == "binary" else "squared"
    if loss == "squared":
        return loss, finite_array(targets, "y", 1).astype(np.float64)
    classes, codes = np.unique(targets, return_inverse=True)
    if len(classes) != 2:
        raise InvalidInputError(
            "loss='logistic' needs labels of two classes. Got "
            f"{len(classes)}; use loss='squared' or rows of two classes."
        )
    return loss, codes.astype(np.float64)
