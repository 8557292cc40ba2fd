"""Scores over environments, and gains over a baseline."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils import check_consistent_length

from ..exceptions import InvalidInputError
from ..utils import ids_of, refuse_other_index

_SCORES: dict[str, Callable[..., float]] = {
    "accuracy": accuracy_score,
    "r2": r2_score,
}


def environment_scores(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    envs: ArrayLike,
    *,
    scoring: str | Callable[..., float] = "accuracy",
) -> dict[object, float]:
    """Score of every environment, its mean over tasks.

    Parameters
    ----------
    y_true : array-like of shape (n,) or (n, n_tasks)
        Targets; NaN where a label is missing.
    y_pred : array-like of the same shape
        Predictions.
    envs : array-like of shape (n,)
        Environment of every row.
    scoring : {"accuracy", "r2"} or callable, default="accuracy"
        ``scoring(y_true, y_pred)`` of one task, larger is better.

    Returns
    -------
    dict
        Score by environment; tasks without labels there are left out.

    Raises
    ------
    InvalidInputError
        If shapes differ, `scoring` is unknown or an environment has no label.

    Examples
    --------
    >>> from skcausalmeta.metrics import environment_scores
    >>> environment_scores([0, 1, 1, 0], [0, 1, 0, 0], ["a", "a", "b", "b"])
    {'a': 1.0, 'b': 0.5}
    """
    refuse_other_index(y_true=y_true, y_pred=y_pred, envs=envs)
    truth, found = np.asarray(y_true), np.asarray(y_pred)
    check_consistent_length(truth, found)
    ids = ids_of(envs, "envs", len(truth))
    if truth.shape != found.shape or truth.ndim not in (1, 2):
        raise InvalidInputError(
            "y_true and y_pred must have one shape, (n,) or (n, n_tasks). Got "
            f"{truth.shape} and {found.shape}."
        )
    if isinstance(scoring, str) and scoring not in _SCORES:
        raise InvalidInputError(
            f"scoring must be one of {sorted(_SCORES)} or a callable. Got {scoring!r}."
        )
    score = _SCORES[scoring] if isinstance(scoring, str) else scoring
    truth, found = truth.reshape(len(ids), -1), found.reshape(len(ids), -1)
    names, numbers = np.unique(ids, return_inverse=True)
    return {
        name: _mean_score(truth[numbers == k], found[numbers == k], score, name)
        for k, name in enumerate(names.tolist())
    }


def _mean_score(
    truth: NDArray[np.generic],
    found: NDArray[np.generic],
    score: Callable[..., float],
    name: object,
) -> float:
    scores = []
    for one, other in zip(truth.T, found.T, strict=True):
        known = np.array([value is not None and value == value for value in one])
        if known.any():
            scores.append(score(one[known], other[known]))
    if not scores:
        raise InvalidInputError(
            f"Every environment needs labels. Got none in environment {name!r}; drop "
            "its rows."
        )
    return float(np.mean(scores))


def worst_environment_score(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    envs: ArrayLike,
    *,
    scoring: str | Callable[..., float] = "accuracy",
) -> float:
    """Smallest score over the environments.

    A predictor that leans on a feature which helps in some environments only does
    badly in another; the mean hides it, the minimum does not.

    Parameters
    ----------
    y_true : array-like of shape (n,) or (n, n_tasks)
        Targets; NaN where a label is missing.
    y_pred : array-like of the same shape
        Predictions.
    envs : array-like of shape (n,)
        Environment of every row.
    scoring : {"accuracy", "r2"} or callable, default="accuracy"
        ``scoring(y_true, y_pred)`` of one task, larger is better; means are taken
        over tasks.

    Returns
    -------
    float
        Score of the worst environment.

    Raises
    ------
    InvalidInputError
        If shapes differ, `scoring` is unknown or an environment has no label.

    Examples
    --------
    >>> from skcausalmeta.metrics import worst_environment_score
    >>> worst_environment_score([0, 1, 1, 0], [0, 1, 0, 0], [0, 0, 1, 1])
    0.5
    """
    return min(environment_scores(y_true, y_pred, envs, scoring=scoring).values())


def relative_gain(
    scores: ArrayLike,
    baseline: ArrayLike,
    *,
    greater_is_better: bool | Sequence[bool] = True,
) -> float:
    r"""Mean relative improvement over a baseline, task by task.

    .. math:: \frac1T \sum_t \pm \frac{s_t - b_t}{|b_t|}

    with a minus for metrics of which less is better.

    Parameters
    ----------
    scores : array-like of shape (n_tasks,)
        Scores or errors of the tasks.
    baseline : array-like of shape (n_tasks,)
        Those of the baseline, not 0.
    greater_is_better : bool or sequence of bool, default=True
        Direction of the metric, of all tasks or one per task.

    Returns
    -------
    float
        0.05 is five per cent better.

    Raises
    ------
    InvalidInputError
        If lengths differ, a value is not finite or a baseline is 0.

    Examples
    --------
    >>> from skcausalmeta.metrics import relative_gain
    >>> gain = relative_gain([0.84, 0.45], [0.8, 0.5], greater_is_better=[True, False])
    >>> print(f"{gain:.3f}")
    0.075
    """
    ours = np.atleast_1d(np.asarray(scores, dtype=float))
    theirs = np.atleast_1d(np.asarray(baseline, dtype=float))
    if ours.shape != theirs.shape or ours.ndim != 1 or len(ours) == 0:
        raise InvalidInputError(
            "scores and baseline must hold one number per task. Got shapes "
            f"{ours.shape} and {theirs.shape}."
        )
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()) or 0 in theirs:
        raise InvalidInputError(
            "scores must be finite and baseline finite and not 0. Got "
            f"{ours.tolist()} and {theirs.tolist()}."
        )
    better = np.asarray(greater_is_better, dtype=bool)
    if better.ndim and better.shape != ours.shape:
        raise InvalidInputError(
            "greater_is_better must be one flag, or one per task. Got "
            f"{better.size} flags for {len(ours)} tasks."
        )
    return float(np.mean(np.where(better, 1, -1) * (ours - theirs) / np.abs(theirs)))
