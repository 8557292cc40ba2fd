"""Scores of solved episodes: scikit-learn's names, and episodes without one."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import get_scorer

Scorer = Callable[[Any, Any, np.ndarray], float]

# What scikit-learn says where a score is not defined, and NaN.
_UNDEFINED = r"Only one class is present|[DR]\^2 score is not well-defined"


def scorer_of(scoring: str | Scorer) -> Scorer:
    """Return the callable ``(estimator, X, y) -> float`` behind a name or callable.

    Scores of probabilities are told the classes of the estimator, since query rows
    may lack some of them.
    """
    if scoring == "accuracy":
        return _accuracy
    scorer = get_scorer(scoring)
    if isinstance(scoring, str) and _takes_labels(scorer):
        return _ScorerOfClasses(scoring)
    return scorer  # type: ignore[no-any-return]


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


def _takes_labels(scorer: Any) -> bool:
    """Tell whether a named scorer compares probabilities of named classes."""
    methods = scorer._response_method
    methods = (methods,) if isinstance(methods, str) else tuple(methods)
    parameters = inspect.signature(scorer._score_func).parameters
    return "predict_proba" in methods and "labels" in parameters


class _ScorerOfClasses:
    """A named scorer that is told the classes of the estimator it scores."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, estimator: Any, X: Any, y: np.ndarray) -> float:
        scorer = get_scorer(self.name)  # a copy of its own
        classes = np.asarray(estimator.classes_)
        # A single episode may hold fewer classes than its estimator tells apart.
        keywords = {"labels": classes}
        parameters = inspect.signature(scorer._score_func).parameters
        if len(classes) == 2 and "pos_label" in parameters:
            keywords["pos_label"] = classes[1]
        scorer._kwargs = {**scorer._kwargs, **keywords}
        return float(scorer(estimator, X, y))
