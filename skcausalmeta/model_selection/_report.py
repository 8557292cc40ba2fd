"""A page about a fitted learner on few-shot episodes."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import confusion_matrix

from ._evaluate import evaluate_few_shot
from ._result import FewShotResult

_STYLE = (
    "body{font-family:sans-serif;max-width:60em;margin:2em auto;color:#222}"
    "table{border-collapse:collapse}td,th{padding:.2em .6em;text-align:right;"
    "border-bottom:1px solid #ddd}td:first-child,th:first-child{text-align:left}"
    ".bar{background:#4477aa;height:.8em;display:inline-block}"
)
_N_BINS = 10


class FewShotReport:
    """Settings, accuracy, sparsity, certificates and confusions on one HTML page.

    The page is one file without scripts or links, so it can be mailed and kept.

    Parameters
    ----------
    name : str
        Name of the estimator.
    settings : dict
        Its parameters.
    result : FewShotResult
        What the evaluation found.
    confusion : ndarray of shape (n_classes, n_classes)
        Query rows by true and predicted class, over all episodes.
    classes : ndarray of shape (n_classes,)
        Classes of its rows and columns.

    See Also
    --------
    evaluate_few_shot : The numbers alone.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from skcausalmeta.model_selection import FewShotReport
    >>> X, y = load_digits(return_X_y=True)
    >>> report = FewShotReport.from_estimator(
    ...     KNeighborsClassifier(1), X, y, n_episodes=20, random_state=0
    ... )
    >>> report.confusion.shape, report.to_html()[:15]
    ((10, 10), '<!DOCTYPE html>')
    """

    def __init__(
        self,
        name: str,
        settings: dict[str, Any],
        result: FewShotResult,
        confusion: NDArray[np.integer],
        classes: NDArray[Any],
    ) -> None:
        self.name = name
        self.settings = settings
        self.result = result
        self.confusion = confusion
        self.classes = classes

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: ArrayLike, **evaluation: Any
    ) -> Self:
        """Evaluate an estimator and report what was found.

        Parameters
        ----------
        estimator : estimator object
            Fitted meta-learner, or any scikit-learn classifier.
        X : {array-like, memory map, data frame} of shape (n_samples, ...)
            Data.
        y : array-like of shape (n_samples,)
            Classes.
        **evaluation : dict
            Sizes, `tasks`, `random_state` and `calibration` of `evaluate_few_shot`; one
            process scores, by the accuracy.

        Returns
        -------
        report : FewShotReport
            What was found; ``to_html`` and ``save`` show it.

        Raises
        ------
        EpisodeError, InvalidInputError, ValueError
            As `evaluate_few_shot` does.
        """
        classes = np.unique(np.asarray(y))
        counts = _Confusions(classes)
        result = evaluate_few_shot(estimator, X, y, scoring=counts, **evaluation)
        settings = estimator.get_params(deep=False)
        return cls(type(estimator).__name__, settings, result, counts.total, classes)

    def to_html(self) -> str:
        """Return the page.

        Returns
        -------
        html : str
            One document, without scripts or links.
        """
        parts = [
            f"<h1>{escape(self.name)}</h1><p>{escape(str(self.result))}</p>",
            _table("Facts", ("", ""), self._facts()),
            _histogram("Accuracy of the episodes", self.result.scores),
            *(
                _histogram(title, self.result.by_episode.get(key), log=log)
                for title, key, log in (
                    ("Share of unused features", "sparsity", False),
                    ("Duality gap, powers of ten", "dual_gap", True),
                    ("Seconds to adapt, powers of ten", "adapt_time", True),
                )
            ),
            _table(
                "Confusions: true class (row), predicted class, % of the row",
                ("", *map(str, self.classes)),
                self._confusion_rows(),
            ),
            _table("Settings", ("parameter", "value"), self.settings.items()),
        ]
        body = "\n".join(part for part in parts if part)
        title = escape(f"{self.name} on few-shot episodes")
        return (
            f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{title}'
            f"</title><style>{_STYLE}</style></head><body>\n{body}\n</body></html>\n"
        )

    def save(self, path: str | Path) -> None:
        """Write the page to a file.

        Parameters
        ----------
        path : str or pathlib.Path
            File, usually with the suffix ".html"; an older one is replaced.
        """
        Path(path).write_text(self.to_html(), encoding="utf-8")

    def _repr_html_(self) -> str:
        return self.to_html()

    def _facts(self) -> list[tuple[str, str]]:
        result = self.result
        facts = {
            "median time to adapt": (1e3 * result.adapt_time, "{:.3g} ms"),
            "features not used": (100 * result.sparsity, "{:.0f}%"),
            "largest duality gap": (result.max_dual_gap, "{:.1e}"),
            "expected calibration error": (result.calibration_error, "{:.3f}"),
        }
        return [
            (name, form.format(value))
            for name, (value, form) in facts.items()
            if np.isfinite(value)
        ]

    def _confusion_rows(self) -> list[tuple[str, ...]]:
        shares = 100 * self.confusion / np.maximum(self.confusion.sum(1), 1)[:, None]
        return [
            (str(name), *(f"{share:.0f}" for share in row))
            for name, row in zip(self.classes, shares, strict=True)
        ]


class _Confusions:
    """Accuracy that counts, as it goes, which class was taken for which."""

    __name__ = "accuracy"

    def __init__(self, classes: NDArray[Any]) -> None:
        self.classes = classes
        self.total = np.zeros((len(classes), len(classes)), dtype=np.int64)

    def __call__(self, estimator: Any, X: Any, y: NDArray[Any]) -> float:
        predicted = estimator.predict(X)
        self.total += confusion_matrix(y, predicted, labels=self.classes)
        return float(np.mean(predicted == y))


def _table(title: str, header: Any, rows: Any) -> str:
    def row(cells: Any, tag: str = "td") -> str:
        inside = "".join(f"<{tag}>{escape(str(cell))}</{tag}>" for cell in cells)
        return f"<tr>{inside}</tr>"

    body = "\n".join(row(cells) for cells in rows)
    return f"<h2>{escape(title)}</h2><table>{row(header, 'th')}\n{body}</table>"


def _histogram(
    title: str, values: NDArray[np.floating] | None, *, log: bool = False
) -> str:
    """Bars of counts; nothing for a fact that the learner does not report."""
    known = np.array([]) if values is None else values[np.isfinite(values)]
    if not len(known):
        return ""
    if log:
        known = np.log10(np.maximum(known, np.finfo(np.float64).tiny))
    counts, edges = np.histogram(known, bins=_N_BINS)
    rows = "\n".join(
        f"<tr><td>{low:.3g} to {high:.3g}</td><td>{count}</td><td style='text-align:"
        f"left'><span class='bar' style='width:{20 * count / counts.max():.1f}em'>"
        "</span></td></tr>"
        for count, low, high in zip(counts, edges[:-1], edges[1:], strict=True)
    )
    return f"<h2>{escape(title)}</h2><table>{rows}</table>"
