"""Which code follows which factor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils._param_validation import StrOptions, validate_params

from ..metrics import best_matching, check_factors_and_codes, factor_code_correlations
from ._canvas import call_method, finite_array, names_of, new_axes, set_ticks

_METHOD = {"method": [StrOptions({"pearson", "spearman"})], "match": ["boolean"]}


class LatentCorrelationDisplay:
    """Heat map of the correlations of true factors with learned codes.

    Codes are put in the order of the factors that they match best, so that
    disentangled codes show as a diagonal; the mean of that diagonal, without
    signs, is `skcausalmeta.metrics.mean_corr_coef` and the title.

    Use `from_estimator` or `from_arrays` to make one.

    Parameters
    ----------
    correlation : array-like of shape (n_factors, n_codes)
        Correlations between -1 and 1, codes in the order to be shown.
    order : array-like of shape (n_codes,), default=None
        Number of the code that every column shows. None: as they are.
    score : float, default=None
        Mean correlation coefficient for the title. None: no title.
    factor_names : list of str, default=None
        Names of the rows. None: "factor 0" and so on.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the heat map.
    figure_ : matplotlib Figure
        Figure of the axes.
    im_ : matplotlib AxesImage
        The heat map.
    text_ : ndarray of shape (n_factors, n_codes) of matplotlib Text, or None
        The written values.
    colorbar_ : matplotlib Colorbar or None
        Scale of the colours.

    See Also
    --------
    SupportDisplay : Which features the predictor of every task uses.

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.inspection import LatentCorrelationDisplay
    >>> factors = np.random.default_rng(0).normal(size=(50, 3))
    >>> display = LatentCorrelationDisplay.from_arrays(factors, -factors[:, [2, 0, 1]])
    >>> display.order.tolist(), display.ax_.get_title()
    ([1, 2, 0], 'mean correlation 1.000')
    """

    def __init__(
        self,
        correlation: ArrayLike,
        *,
        order: ArrayLike | None = None,
        score: float | None = None,
        factor_names: Sequence[str] | None = None,
    ) -> None:
        self.correlation = finite_array(correlation, "correlation", 2)
        n_factors, n_codes = self.correlation.shape
        self.order: NDArray[np.int64] = np.asarray(
            np.arange(n_codes) if order is None else order
        )
        self.score = score
        self.factor_names = names_of(factor_names, n_factors, "factor", "factor_names")

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        factors: ArrayLike,
        *,
        method: str = "pearson",
        match: bool = True,
        factor_names: Sequence[str] | None = None,
        ax: Any = None,
        **plot_kw: Any,
    ) -> LatentCorrelationDisplay:
        """Encode rows and draw the correlations of the codes with the factors.

        Parameters
        ----------
        estimator : estimator
            Fitted, with ``transform(X)`` that returns codes.
        X : array-like of shape (n_samples, ...)
            Rows.
        factors : array-like of shape (n_samples, n_factors)
            Their true factors.
        method : {"pearson", "spearman"}, default="pearson"
            Correlation of values or of ranks.
        match : bool, default=True
            Put the codes in the order of the factors.
        factor_names : list of str, default=None
            Names of the factors.
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.
        **plot_kw : dict
            Keywords of `plot`.

        Returns
        -------
        LatentCorrelationDisplay
            The display, drawn.
        """
        codes = call_method(estimator, "transform", X)
        return cls.from_arrays(
            factors,
            codes,
            method=method,
            match=match,
            factor_names=factor_names,
            ax=ax,
            **plot_kw,
        )

    @classmethod
    @validate_params(_METHOD, prefer_skip_nested_validation=True)
    def from_arrays(
        cls,
        factors: ArrayLike,
        codes: ArrayLike,
        *,
        method: str = "pearson",
        match: bool = True,
        factor_names: Sequence[str] | None = None,
        ax: Any = None,
        **plot_kw: Any,
    ) -> LatentCorrelationDisplay:
        """Draw the correlations of factors and codes.

        Parameters
        ----------
        factors : array-like of shape (n_samples, n_factors)
            True factors.
        codes : array-like of shape (n_samples, n_codes)
            Learned codes of the same samples.
        method : {"pearson", "spearman"}, default="pearson"
            Correlation of values or of ranks.
        match : bool, default=True
            Put the codes in the order of the factors.
        factor_names : list of str, default=None
            Names of the factors.
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.
        **plot_kw : dict
            Keywords of `plot`.

        Returns
        -------
        LatentCorrelationDisplay
            The display, drawn.
        """
        true, learned = check_factors_and_codes(factors, codes)
        table = factor_code_correlations(true, learned, method)
        rows, matched = best_matching(np.abs(table))
        score = float(np.abs(table)[rows, matched].sum() / len(table))
        order = np.arange(table.shape[1])
        if match:
            order = np.concatenate([matched, np.setdiff1d(order, matched)])
        display = cls(
            table[:, order], order=order, score=score, factor_names=factor_names
        )
        return display.plot(ax=ax, **plot_kw)

    def plot(
        self,
        *,
        ax: Any = None,
        cmap: Any = "RdBu_r",
        include_values: bool = True,
        values_format: str = ".2f",
        colorbar: bool = True,
        im_kw: dict[str, Any] | None = None,
    ) -> LatentCorrelationDisplay:
        """Draw the heat map.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.
        cmap : str or matplotlib Colormap, default="RdBu_r"
            Colours from -1 to 1.
        include_values : bool, default=True
            Write the correlations into the cells.
        values_format : str, default=".2f"
            Format of the values.
        colorbar : bool, default=True
            Add the scale of the colours.
        im_kw : dict, default=None
            More keywords of ``ax.imshow``.

        Returns
        -------
        LatentCorrelationDisplay
            Itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        n_factors, n_codes = self.correlation.shape
        size = (2.5 + 0.6 * min(n_codes, 20), 1.5 + 0.5 * min(n_factors, 20))
        self.figure_, self.ax_ = new_axes(self, ax, size)
        drawing = {"cmap": cmap, "vmin": -1, "vmax": 1, "aspect": "auto"}
        self.im_ = self.ax_.imshow(self.correlation, **drawing, **(im_kw or {}))
        self.text_ = self._write(values_format) if include_values else None
        self.colorbar_ = (
            self.figure_.colorbar(self.im_, ax=self.ax_) if colorbar else None
        )
        set_ticks(self.ax_.yaxis, self.factor_names)
        set_ticks(self.ax_.xaxis, [str(code) for code in self.order])
        self.ax_.set(xlabel="code", ylabel="factor")
        if self.score is not None:
            self.ax_.set_title(f"mean correlation {self.score:.3f}")
        return self

    def _write(self, values_format: str) -> NDArray[Any]:
        texts = np.empty(self.correlation.shape, dtype=object)
        for (i, j), value in np.ndenumerate(self.correlation):
            red, green, blue, _ = self.im_.cmap(self.im_.norm(value))
            bright = 0.3 * red + 0.6 * green + 0.1 * blue > 0.5
            texts[i, j] = self.ax_.text(
                j,
                i,
                format(value, values_format),
                ha="center",
                va="center",
                color="black" if bright else "white",
            )
        return texts
