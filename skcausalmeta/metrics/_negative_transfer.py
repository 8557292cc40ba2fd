"""Do tasks lose by being learned together?"""

from __future__ import annotations

from numbers import Real
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from sklearn.utils._param_validation import Interval, validate_params

from ..exceptions import InvalidInputError
from ._interval import mean_confidence_interval, paired_difference


class NegativeTransfer(NamedTuple):
    """What `negative_transfer` found.

    Parameters
    ----------
    mean : float
        Mean gain over the tasks; below 0, learning together costs on average.
    half_width : float
        Half the width of its interval over the tasks, NaN for a single task.
    share : float
        Share of the tasks that are hurt.
    share_low, share_high : float
        Interval of that share (Wilson), the tasks being a sample of tasks.
    loss : float
        Mean over all tasks of what the hurt ones lose, not negative.
    gains : ndarray of shape (n_tasks,)
        Gain of every task.
    gain_half_widths : ndarray of shape (n_tasks,)
        Half the widths of their intervals over the repetitions, NaN without.
    hurt : ndarray of shape (n_tasks,)
        Boolean, the tasks that are hurt.

    Examples
    --------
    >>> from skcausalmeta.metrics import negative_transfer
    >>> found = negative_transfer([0.9, 0.7], [0.8, 0.8])
    >>> found.hurt.tolist(), type(found).__name__
    ([True, False], 'NegativeTransfer')
    """

    mean: float
    half_width: float
    share: float
    share_low: float
    share_high: float
    loss: float
    gains: NDArray[np.float64]
    gain_half_widths: NDArray[np.float64]
    hurt: NDArray[np.bool_]


@validate_params(
    {
        "scores_alone": ["array-like"],
        "scores_together": ["array-like"],
        "margin": [Interval(Real, 0, None, closed="left")],
        "beyond_noise": ["boolean"],
        "greater_is_better": ["boolean"],
        "confidence": [Interval(Real, 0, 1, closed="neither")],
    },
    prefer_skip_nested_validation=True,
)
def negative_transfer(
    scores_alone: ArrayLike,
    scores_together: ArrayLike,
    *,
    margin: float = 0.0,
    beyond_noise: bool = False,
    greater_is_better: bool = True,
    confidence: float = 0.95,
) -> NegativeTransfer:
    r"""How many tasks are worse off learned together than alone, and by how much.

    With :math:`a_{tr}` the score of task t trained alone and :math:`b_{tr}` trained
    with other tasks, r counting paired repetitions (seeds, or episodes),

    .. math:: g_t = \frac1R \sum_r b_{tr} - a_{tr}, \qquad
              \text{mean} = \frac1T \sum_t g_t, \qquad
              \text{share} = \frac1T \#\{t : g_t < -m\}, \qquad
              \text{loss} = \frac1T \sum_{g_t < -m} -g_t

    with the opposite sign of g where less is better, and m the margin. The mean
    can be positive while many tasks are hurt; share and loss say so. Scores are
    noisy: without any transfer, half of the tasks have a gain below 0. A margin, or
    `beyond_noise`, keeps such tasks out of the share.

    Parameters
    ----------
    scores_alone : array-like of shape (n_tasks,) or (n_tasks, n_repeats)
        Score of every task, trained by itself.
    scores_together : array-like of the same shape
        Score of every task, trained in batches with others, otherwise alike.
    margin : float, default=0.0
        Loss, in units of the score, up to which a task does not count as hurt.
    beyond_noise : bool, default=False
        Count a task as hurt only if the interval of its gain over the repetitions
        lies below minus the margin. Needs two repetitions.
    greater_is_better : bool, default=True
        False for errors.
    confidence : float, default=0.95
        Probability that an interval covers what it estimates.

    Returns
    -------
    NegativeTransfer
        Named tuple ``mean``, ``half_width``, ``share``, ``share_low``,
        ``share_high``, ``loss``, ``gains``, ``gain_half_widths``, ``hurt``. The
        interval of the mean is Student's over the tasks, that of the share
        Wilson's.

    Raises
    ------
    InvalidInputError
        If shapes differ, a score is not finite, or `beyond_noise` comes without
        repetitions.

    See Also
    --------
    relative_gain : Mean relative improvement over a baseline.
    paired_difference : Mean difference of two learners.

    References
    ----------
    .. [1] E. B. Wilson (1927). Probable inference, the law of succession, and
       statistical inference. JASA 22.

    Examples
    --------
    >>> from skcausalmeta.metrics import negative_transfer
    >>> found = negative_transfer([0.80, 0.70, 0.90, 0.60], [0.90, 0.60, 0.85, 0.70])
    >>> print(f"{found.mean:.4f} +- {found.half_width:.4f}")
    0.0125 +- 0.1640
    >>> print(f"{found.share} in {found.share_low:.2f} to {found.share_high:.2f}")
    0.5 in 0.15 to 0.85
    >>> print(f"{found.loss:.4f}")
    0.0375
    """
    alone = _check_scores(scores_alone, "scores_alone")
    together = _check_scores(scores_together, "scores_together")
    if alone.shape != together.shape:
        raise InvalidInputError(
            "scores_alone and scores_together must hold the same tasks and repeats. "
            f"Got shapes {alone.shape} and {together.shape}."
        )
    if beyond_noise and alone.shape[1] < 2:
        raise InvalidInputError(
            "beyond_noise needs at least two repetitions of every task. Got scores of "
            "one; pass shape (n_tasks, n_repeats) or use margin."
        )
    pairs = (together, alone) if greater_is_better else (alone, together)
    found = [paired_difference(b, a, confidence) for b, a in zip(*pairs, strict=True)]
    gains, half_widths = np.array(found).T
    hurt = (gains + half_widths if beyond_noise else gains) < -margin
    mean, half_width = mean_confidence_interval(gains, confidence)
    interval = stats.binomtest(int(hurt.sum()), len(hurt)).proportion_ci(
        confidence, method="wilson"
    )
    return NegativeTransfer(
        mean=mean,
        half_width=half_width,
        share=float(hurt.mean()),
        share_low=float(interval.low),
        share_high=float(interval.high),
        loss=float(-gains[hurt].sum() / len(gains)),
        gains=gains,
        gain_half_widths=half_widths,
        hurt=hurt,
    )


def _check_scores(scores: ArrayLike, name: str) -> NDArray[np.float64]:
    """Scores (n_tasks, n_repeats)."""
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim not in (1, 2) or values.size == 0:
        raise InvalidInputError(
            f"{name} must have shape (n_tasks,) or (n_tasks, n_repeats). Got "
            f"{values.shape}."
        )
    if not np.isfinite(values).all():
        raise InvalidInputError(
            f"{name} must be finite. Got {np.count_nonzero(~np.isfinite(values))} "
            "values NaN or infinite; drop these tasks from both."
        )
    return values.reshape(len(values), -1)
