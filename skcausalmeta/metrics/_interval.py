"""Means over episodes with the interval that belongs to them."""

from __future__ import annotations

from numbers import Real

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from sklearn.utils._param_validation import Interval, validate_params

from ..exceptions import InvalidInputError

_CONFIDENCE = [Interval(Real, 0, 1, closed="neither")]


@validate_params(
    {"scores": ["array-like"], "confidence": _CONFIDENCE},
    prefer_skip_nested_validation=True,
)
def mean_confidence_interval(
    scores: ArrayLike, confidence: float = 0.95
) -> tuple[float, float]:
    r"""Mean of independent scores and half the width of its interval.

    With n scores of mean :math:`\bar s` and standard deviation :math:`s` (with
    n - 1 in the denominator), the interval is

    .. math:: \bar s \pm t_{n-1,\,(1+c)/2}\; s / \sqrt n

    where :math:`t` is the quantile of Student's distribution and :math:`c` the
    confidence.

    Parameters
    ----------
    scores : array-like of shape (n_scores,)
        One score per episode. The episodes must be independent draws.
    confidence : float, default=0.95
        Probability that the interval covers the expected score.

    Returns
    -------
    mean : float
        Mean score.
    half_width : float
        The interval is ``mean - half_width`` to ``mean + half_width``. NaN for a
        single score, which says nothing about the spread.

    Raises
    ------
    InvalidInputError
        If there is no score, or one is NaN or infinite.

    Examples
    --------
    >>> from skcausalmeta.metrics import mean_confidence_interval
    >>> mean, half_width = mean_confidence_interval([0.6, 0.8, 0.7, 0.9])
    >>> print(f"{mean:.3f} +- {half_width:.3f}")
    0.750 +- 0.205
    """
    values = _check_scores(scores, "scores")
    mean = float(values.mean())
    if len(values) == 1:
        return mean, float("nan")
    quantile = stats.t.ppf((1 + confidence) / 2, df=len(values) - 1)
    return mean, float(quantile * values.std(ddof=1) / np.sqrt(len(values)))


@validate_params(
    {
        "scores_a": ["array-like"],
        "scores_b": ["array-like"],
        "confidence": _CONFIDENCE,
    },
    prefer_skip_nested_validation=True,
)
def paired_difference(
    scores_a: ArrayLike, scores_b: ArrayLike, confidence: float = 0.95
) -> tuple[float, float]:
    """Mean difference of two learners on the same episodes, with its interval.

    Episodes differ in difficulty far more than learners do. Taking differences
    episode by episode removes that part of the spread, so that the interval is
    much narrower than those of the two means.

    Parameters
    ----------
    scores_a : array-like of shape (n_scores,)
        Scores of the first learner, one per episode.
    scores_b : array-like of shape (n_scores,)
        Scores of the second learner on the same episodes in the same order.
    confidence : float, default=0.95
        Probability that the interval covers the expected difference.

    Returns
    -------
    mean_difference : float
        Mean of ``scores_a - scores_b``.
    half_width : float
        Half the width of its interval. NaN for a single pair.

    Raises
    ------
    InvalidInputError
        If the two differ in length, are empty, or hold NaN or infinity.

    Examples
    --------
    >>> from skcausalmeta.metrics import paired_difference
    >>> mean, half_width = paired_difference([0.62, 0.81, 0.74], [0.6, 0.8, 0.7])
    >>> print(f"{mean:.3f} +- {half_width:.3f}")
    0.023 +- 0.038
    """
    first = _check_scores(scores_a, "scores_a")
    second = _check_scores(scores_b, "scores_b")
    if len(first) != len(second):
        raise InvalidInputError(
            "scores_a and scores_b must come from the same episodes. Got "
            f"{len(first)} and {len(second)} scores; evaluate both learners with the "
            "same random_state and n_episodes."
        )
    return mean_confidence_interval(first - second, confidence=confidence)


def _check_scores(scores: ArrayLike, name: str) -> np.ndarray:
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0:
        raise InvalidInputError(
            f"{name} must be one-dimensional with at least one score. Got shape "
            f"{values.shape}; pass one score per episode."
        )
    if not np.isfinite(values).all():
        raise InvalidInputError(
            f"{name} must be finite. Got "
            f"{np.count_nonzero(~np.isfinite(values))} of {len(values)} scores NaN or "
            "infinite; find out why these episodes failed before averaging."
        )
    return values
