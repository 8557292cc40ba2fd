"""What an evaluation on few-shot episodes found."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class FewShotResult:
    """Scores of a learner on few-shot episodes, with the interval of their mean.

    Parameters
    ----------
    scores : ndarray of shape (n_episodes,)
        Score of each episode, in the order of the draw. Two results from the same
        data, sizes and `random_state` are paired. NaN where the query rows do not
        define the score.
    mean : float
        Mean of the scores that are defined.
    half_width : float
        Half the width of the interval of the mean.
    n_episodes : int
        Number of episodes.
    confidence : float
        Confidence of the interval.
    adapt_time : float
        Median time in seconds to adapt to (or fit) one support set.
    sparsity : float
        Mean share of unused features, NaN if the learner does not report it.
    max_dual_gap : float
        Largest duality gap of all episodes, NaN if the learner does not report it.
    n_way : int or None
        Number of classes in an episode; None where every task has its own.
    n_shot : int
        Number of support rows of each class; of the task for a regressor.
    n_query : int
        Number of query rows, counted likewise.
    n_tasks : int, default=None
        Number of tasks; None where the classes were drawn.
    scoring : str, default="accuracy"
        Name of the score.
    calibration_error : float, default=nan
        Expected calibration error over the query rows of all episodes, NaN if it was
        not asked for.
    by_episode : dict of str to ndarray of shape (n_episodes,), default={}
        "adapt_time", "sparsity" and "dual_gap" of every episode, and its "task".

    See Also
    --------
    evaluate_few_shot : Makes such results.

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.model_selection import FewShotResult
    >>> result = FewShotResult(
    ...     scores=np.array([0.6, 0.8, 0.7, 0.9]),
    ...     mean=0.75,
    ...     half_width=0.205,
    ...     n_episodes=4,
    ...     confidence=0.95,
    ...     adapt_time=0.01,
    ...     sparsity=0.5,
    ...     max_dual_gap=1e-7,
    ...     n_way=5,
    ...     n_shot=1,
    ...     n_query=15,
    ... )
    >>> print(result)
    75.0 +- 20.5% (4 episodes of 5-way 1-shot, 95% interval)
    """

    scores: np.ndarray
    mean: float
    half_width: float
    n_episodes: int
    confidence: float
    adapt_time: float
    sparsity: float
    max_dual_gap: float
    n_way: int | None
    n_shot: int
    n_query: int
    n_tasks: int | None = None
    scoring: str = "accuracy"
    calibration_error: float = math.nan
    by_episode: dict[str, np.ndarray] = field(default_factory=dict)

    def __str__(self) -> str:
        kind = f"{self.n_tasks} tasks," if self.n_way is None else f"{self.n_way}-way"
        left_out = f", {self.n_undefined} undefined" if self.n_undefined else ""
        return (
            f"{self._score()} ({self.n_episodes} episodes of {kind} "
            f"{self.n_shot}-shot{left_out}, {100 * self.confidence:g}% interval)"
        )

    @property
    def n_undefined(self) -> int:
        """Number of episodes whose query rows do not define the score."""
        return int(np.isnan(self.scores).sum())

    def _score(self) -> str:
        """Shares in percent, other scores as they are."""
        if "accuracy" in self.scoring:
            return f"{100 * self.mean:.1f} +- {100 * self.half_width:.1f}%"
        return f"{self.mean:.3f} +- {self.half_width:.3f}"

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain values, ready for one line of JSON.

        Returns
        -------
        record : dict
            One entry per parameter but `by_episode`. Numbers that are NaN become
            None, since JSON has no NaN.
        """
        return {
            "scores": [_plain(score) for score in self.scores],
            "mean": _plain(self.mean),
            "half_width": _plain(self.half_width),
            "n_episodes": int(self.n_episodes),
            "confidence": float(self.confidence),
            "adapt_time": _plain(self.adapt_time),
            "sparsity": _plain(self.sparsity),
            "max_dual_gap": _plain(self.max_dual_gap),
            "n_way": None if self.n_way is None else int(self.n_way),
            "n_shot": int(self.n_shot),
            "n_query": int(self.n_query),
            "n_tasks": None if self.n_tasks is None else int(self.n_tasks),
            "scoring": self.scoring,
            "calibration_error": _plain(self.calibration_error),
        }


def _plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
