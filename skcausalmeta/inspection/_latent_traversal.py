"""What changes when one factor moves and the others stay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..exceptions import InvalidInputError
from ._canvas import MAX_TICKS, call_method, finite_array, names_of, new_axes

_N_COLUMNS = 3


class LatentTraversalDisplay:
    """Codes, or images, along lines on which one factor moves and the others stay.

    A code that belongs to one factor moves in the panel of that factor and is
    flat in all others.

    Use `from_estimator` or `from_arrays` to make one.

    Parameters
    ----------
    values : array-like of shape (n_factors, n_steps)
        Values of the factor that moves.
    codes : array-like of shape (n_factors, n_steps, n_codes), default=None
        Codes at these values.
    images : array-like of shape (n_factors, n_steps, height, width, ...), default=None
        Images at these values, grey or with colours last.
    factor_names : list of str, default=None
        Names of the factors. None: "factor 0" and so on.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes that hold the drawing.
    figure_ : matplotlib Figure
        Figure of the axes.
    axes_ : ndarray of shape (n_factors,) of matplotlib Axes, or None
        The panels, where codes are drawn.
    lines_ : ndarray of shape (n_factors, n_codes) of matplotlib Line2D, or None
        The codes, in units of their standard deviation over all panels.
    im_ : matplotlib AxesImage or None
        One row of images per factor, where images are drawn.

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.datasets import make_sparse_tasks
    >>> from skcausalmeta.inspection import LatentTraversalDisplay
    >>> mixing = make_sparse_tasks(2, 5, 3, mixing="identity", random_state=0).mixing
    >>> class Encoder:
    ...     def transform(self, X):
    ...         return 2 * X[:, ::-1]
    >>> display = LatentTraversalDisplay.from_estimator(Encoder(), mixing, n_steps=5)
    >>> moved = np.ptp(display.codes, axis=1)
    >>> moved.astype(int).tolist()
    [[0, 0, 6], [0, 6, 0], [6, 0, 0]]
    """

    def __init__(
        self,
        values: ArrayLike,
        *,
        codes: ArrayLike | None = None,
        images: ArrayLike | None = None,
        factor_names: Sequence[str] | None = None,
    ) -> None:
        self.values = finite_array(values, "values", 2)
        self.codes = None if codes is None else finite_array(codes, "codes", 3)
        self.images = None if images is None else np.asarray(images)
        if self.codes is None and self.images is None:
            raise InvalidInputError("Give codes, images or both. Got neither.")
        if self.images is not None and self.images.ndim not in (4, 5):
            raise InvalidInputError(
                "images must have shape (n_factors, n_steps, height, width) or (..., "
                f"n_channels). Got {self.images.shape}."
            )
        for name, array in (("codes", self.codes), ("images", self.images)):
            if array is not None and array.shape[:2] != self.values.shape:
                raise InvalidInputError(
                    f"{name} must begin with the axes of values, {self.values.shape}. "
                    f"Got shape {array.shape}."
                )
        self.factor_names = names_of(
            factor_names, len(self.values), "factor", "factor_names"
        )

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        mixing: Callable[[NDArray[Any]], NDArray[Any]],
        *,
        base: ArrayLike | None = None,
        low: float = -1.5,
        high: float = 1.5,
        n_steps: int = 11,
        factor_names: Sequence[str] | None = None,
        ax: Any = None,
        **plot_kw: Any,
    ) -> LatentTraversalDisplay:
        """Move every factor in turn, observe, encode and draw.

        Parameters
        ----------
        estimator : estimator
            Fitted, with ``transform(X)`` that returns codes.
        mixing : callable
            Map from latents (n, n_factors) to rows of X, such as the ``mixing``
            of `make_sparse_tasks`.
        base : array-like of shape (n_factors,), default=None
            Where the factors stay that do not move. None: at 0, for a mixing that
            tells its ``n_factors``.
        low : float, default=-1.5
            First value of the moving factor.
        high : float, default=1.5
            Last value of the moving factor.
        n_steps : int, default=11
            Number of values, at least 2.
        factor_names : list of str, default=None
            Names of the factors.
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.
        **plot_kw : dict
            Keywords of `plot`.

        Returns
        -------
        LatentTraversalDisplay
            The display, drawn.
        """
        start = _check_base(base, mixing)
        if n_steps < 2:
            raise InvalidInputError(f"n_steps must be at least 2. Got {n_steps}.")
        n_factors = len(start)
        steps = np.linspace(low, high, n_steps)
        latents = np.tile(start, (n_factors, n_steps, 1))
        for factor in range(n_factors):
            latents[factor, :, factor] = steps
        rows = np.asarray(mixing(latents.reshape(-1, n_factors)))
        codes = np.asarray(call_method(estimator, "transform", rows))
        grid = (n_factors, n_steps)
        return cls.from_arrays(
            np.tile(steps, (n_factors, 1)),
            codes=codes.reshape(*grid, -1),
            images=rows.reshape(*grid, *rows.shape[1:]) if rows.ndim > 2 else None,
            factor_names=factor_names,
            ax=ax,
            **plot_kw,
        )

    @classmethod
    def from_arrays(
        cls,
        values: ArrayLike,
        *,
        codes: ArrayLike | None = None,
        images: ArrayLike | None = None,
        factor_names: Sequence[str] | None = None,
        ax: Any = None,
        **plot_kw: Any,
    ) -> LatentTraversalDisplay:
        """Draw given codes or images.

        Parameters
        ----------
        values : array-like of shape (n_factors, n_steps)
            Values of the factor that moves.
        codes : array-like of shape (n_factors, n_steps, n_codes), default=None
            Codes at these values.
        images : array-like of shape (n_factors, n_steps, height, width, ...), \
                default=None
            Images at these values.
        factor_names : list of str, default=None
            Names of the factors.
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.
        **plot_kw : dict
            Keywords of `plot`.

        Returns
        -------
        LatentTraversalDisplay
            The display, drawn.
        """
        display = cls(values, codes=codes, images=images, factor_names=factor_names)
        return display.plot(ax=ax, **plot_kw)

    def plot(
        self,
        *,
        ax: Any = None,
        kind: str = "auto",
        line_kw: dict[str, Any] | None = None,
        im_kw: dict[str, Any] | None = None,
    ) -> LatentTraversalDisplay:
        """Draw codes as lines or images as a table.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; it is divided into panels for codes. None: a new figure.
        kind : {"auto", "codes", "images"}, default="auto"
            What to draw. "auto": codes if there are any.
        line_kw : dict, default=None
            More keywords of the lines.
        im_kw : dict, default=None
            More keywords of ``ax.imshow``.

        Returns
        -------
        LatentTraversalDisplay
            Itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        InvalidInputError
            If there is nothing of that kind.
        """
        if kind == "auto":
            kind = "images" if self.codes is None else "codes"
        if kind not in ("codes", "images"):
            raise InvalidInputError(
                f"kind must be 'auto', 'codes' or 'images'. Got {kind!r}."
            )
        if getattr(self, kind) is None:
            raise InvalidInputError(
                f"The display holds no {kind}. Pass {kind} to from_arrays."
            )
        n_factors, n_steps = self.values.shape
        self.axes_: NDArray[Any] | None = None
        self.lines_: NDArray[Any] | None = None
        self.im_: Any = None
        if kind == "codes":
            n_rows = -(-n_factors // _N_COLUMNS)
            self.figure_, self.ax_ = new_axes(self, ax, (9, 0.5 + 2.2 * n_rows))
            self._draw_codes(n_rows, line_kw or {})
        else:
            size = (1.5 + 0.8 * min(n_steps, 20), 0.5 + 0.8 * n_factors)
            self.figure_, self.ax_ = new_axes(self, ax, size)
            self._draw_images(im_kw or {})
        return self

    def _draw_codes(self, n_rows: int, line_kw: dict[str, Any]) -> None:
        codes = np.asarray(self.codes, dtype=float)
        n_factors, _, n_codes = codes.shape
        spread = codes.std(axis=(0, 1))
        scaled = (codes - codes.mean(axis=(0, 1))) / np.where(spread > 0, spread, 1)
        limit = 1.05 * max(np.abs(scaled).max(), 1)
        self.ax_.set_axis_off()
        n_columns = min(n_factors, _N_COLUMNS)
        width, height = 1 / n_columns, 1 / n_rows
        axes = np.empty(n_factors, dtype=object)
        lines = np.empty((n_factors, n_codes), dtype=object)
        for factor, name in enumerate(self.factor_names):
            row, column = divmod(factor, n_columns)
            box = (column * width, 1 - (row + 0.78) * height, 0.9 * width, 0.7 * height)
            panel = self.ax_.inset_axes(box)
            panel.set(title=name, ylim=(-limit, limit))
            panel.tick_params(labelleft=column == 0)
            lines[factor] = [
                panel.plot(
                    self.values[factor],
                    scaled[factor, :, code],
                    **{"color": f"C{code % 10}", "label": f"code {code}", **line_kw},
                )[0]
                for code in range(n_codes)
            ]
            axes[factor] = panel
        if n_codes <= 10:
            axes[n_columns - 1].legend(loc="upper left", bbox_to_anchor=(1.02, 1))
        self.axes_, self.lines_ = axes, lines

    def _draw_images(self, im_kw: dict[str, Any]) -> None:
        images = np.asarray(self.images)
        n_factors, n_steps, height, width = images.shape[:4]
        # (factor, step, y, x) -> rows (factor, y), columns (step, x)
        table = np.moveaxis(images, 1, 2)
        table = table.reshape(n_factors * height, n_steps * width, *images.shape[4:])
        if table.shape[2:] == (1,):
            table = table[..., 0]
        self.im_ = self.ax_.imshow(table, **{"cmap": "gray", **im_kw})
        if n_factors <= MAX_TICKS:
            middles = (np.arange(n_factors) + 0.5) * height - 0.5
            self.ax_.yaxis.set_ticks(middles, self.factor_names)
        self.ax_.set_xticks([])
        self.ax_.set_xlabel("value of the factor, from low to high")


def _check_base(base: ArrayLike | None, mixing: Any) -> NDArray[np.float64]:
    if base is None:
        n_factors = getattr(mixing, "n_factors", None)
        if n_factors is None:
            raise InvalidInputError(
                "base must hold one value per factor for a mixing without n_factors. "
                "Got None."
            )
        return np.zeros(n_factors)
    start = finite_array(base, "base", 1)
    return start.astype(np.float64)
