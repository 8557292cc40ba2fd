"""Scores of solved episodes: scikit-learn's names, and episodes without one."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import get_scorer, get_scorer_names

from ..exceptions import InvalidInputError

Scorer = Callable[[Any, Any, np.ndarray], float]

# What scikit-learn says where a score is not defined, and NaN.
_UNDEFINED = r"Only one class is present|[DR]\^2 score is not well-defined"


def scorer_of(scoring: str | Scorer) -> Scorer:
    """Return the callable ``(estimator, X, y) -> float`` behind a name or callable.

    A metric with a name is told the classes of the task: query rows may lack some of
    them, and of two classes the second is the positive one, whatever its label.
    """
    if scoring == "accuracy":
        return _accuracy
    if isinstance(scoring, str):
        return _NamedScorer(scoring)
    return get_scorer(scoring)  # type: ignore[no-any-return]


def name_of(scoring: str | Scorer) -> str:
    """Return the name of a score, to be shown."""
    if isinstance(scoring, str):
        return scoring
    return str(getattr(scoring, "__name__", type(scoring).__name__))


def score_of(scorer: Scorer, estimator: Any, X: Any, y: np.ndarray) -> float:
    """Return the score of query rows; undefined ones are NaN, without a warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", _UNDEFINED, UndefinedMetricWarning)
        return float(scorer(estimator, X, y))


def is_undefined(score: float, estimator: Any, y: np.ndarray) -> bool:
    """Tell whether a score is NaN because the query rows do not define one.

    They lack a class of the task, or there is a single real target. Any other NaN is
    a failure.
    """
    if not np.isnan(score):
        return False
    classes = getattr(estimator, "classes_", None)
    return len(y) < 2 if classes is None else not np.isin(classes, y).all()


def _accuracy(estimator: Any, X: Any, y: np.ndarray) -> float:
    return float(np.mean(estimator.predict(X) == y))


class _NamedScorer:
    """A scorer of scikit-learn that is told the classes of the estimator it scores."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, estimator: Any, X: Any, y: np.ndarray) -> float:
        scorer = get_scorer(self.name)  # a copy of its own
        classes = getattr(estimator, "classes_", None)
        if classes is None:
            return float(scorer(estimator, X, y))
        keywords = _keywords_of_classes(scorer, np.asarray(classes))
        scorer._kwargs = {**scorer._kwargs, **keywords}
        try:
            return float(scorer(estimator, X, y))
        except ValueError as error:
            others = _for_more_classes(self.name)
            if len(classes) > 2 and others:
                raise InvalidInputError(
                    f"scoring={self.name!r} scores tasks of two classes. Got a task "
                    f"of {len(classes)} classes; choose one of {others}."
                ) from error
            raise


def _keywords_of_classes(scorer: Any, classes: np.ndarray) -> dict[str, Any]:
    """Return what a metric is told of the classes of a task."""
    methods = scorer._response_method
    methods = (methods,) if isinstance(methods, str) else tuple(methods)
    parameters = inspect.signature(scorer._score_func).parameters
    keywords: dict[str, Any] = {}
    # A single episode may hold fewer classes than its estimator tells apart.
    if "predict_proba" in methods and "labels" in parameters:
        keywords["labels"] = classes
    binary = scorer._kwargs.get("average", "binary") == "binary"
    if len(classes) == 2 and binary and "pos_label" in parameters:
        keywords["pos_label"] = classes[1]
    return keywords


def _for_more_classes(name: str) -> list[str]:
    """Return the names of the same metric for more than two classes."""
    names = [one for one in get_scorer_names() if one.startswith(f"{name}_")]
    return [one for one in names if not one.endswith("_samples")]
