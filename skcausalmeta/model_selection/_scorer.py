"""Few-shot evaluation as a scorer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils._param_validation import Interval, validate_params

from ._evaluate import evaluate_few_shot

_MOST_QUERIES = 15


@validate_params(
    {
        "n_way": [Interval(Integral, 2, None, closed="left")],
        "n_shot": [Interval(Integral, 1, None, closed="left")],
        "n_query": [Interval(Integral, 1, None, closed="left"), None],
        "n_episodes": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def few_shot_scorer(
    n_way: int = 5,
    n_shot: int = 5,
    n_query: int | None = 15,
    n_episodes: int = 100,
    random_state: int | np.random.RandomState | None = 0,
) -> Callable[[Any, Any, ArrayLike], float]:
    """Make a scorer that judges a learner by its mean accuracy on episodes.

    Together with `ClassKFold` it makes GridSearchCV and cross_val_score answer
    the question that matters for a meta-learner: how well it adapts to classes
    it has not seen.

    Parameters
    ----------
    n_way : int, default=5
        Number of classes in an episode.
    n_shot : int, default=5
        Number of support rows of each class.
    n_query : int or None, default=15
        Number of query rows of each class. None takes what the smallest class
        leaves after the support rows, at most 15.
    n_episodes : int, default=100
        Number of episodes.
    random_state : int, RandomState instance or None, default=0
        Decides the episodes. With an int, all candidates of a grid search are
        compared on the same episodes.

    Returns
    -------
    scorer : callable
        ``scorer(estimator, X, y)`` is the mean accuracy. It can be pickled, and
        never changes the estimator.

    See Also
    --------
    evaluate_few_shot : The evaluation behind the scorer, with its interval.
    ClassKFold : Holds classes out.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from skcausalmeta.model_selection import few_shot_scorer
    >>> X, y = load_digits(return_X_y=True)
    >>> scorer = few_shot_scorer(n_shot=10, n_episodes=50)
    >>> print(scorer(KNeighborsClassifier(n_neighbors=1), X, y) > 0.8)
    True
    """
    return _FewShotScorer(n_way, n_shot, n_query, n_episodes, random_state)


@dataclass(frozen=True)
class _FewShotScorer:
    n_way: int
    n_shot: int
    n_query: int | None
    n_episodes: int
    random_state: int | np.random.RandomState | None

    def __repr__(self) -> str:
        return (
            f"few_shot_scorer(n_way={self.n_way}, n_shot={self.n_shot}, "
            f"n_query={self.n_query}, n_episodes={self.n_episodes}, "
            f"random_state={self.random_state})"
        )

    def __call__(self, estimator: Any, X: Any, y: ArrayLike) -> float:
        result = evaluate_few_shot(
            estimator,
            X,
            y,
            n_way=self.n_way,
            n_shot=self.n_shot,
            n_query=self._resolve_n_query(y),
            n_episodes=self.n_episodes,
            random_state=self.random_state,
            n_jobs=1,  # the processes are those of the search around the scorer
        )
        return result.mean

    def _resolve_n_query(self, y: ArrayLike) -> int:
        if self.n_query is not None:
            return self.n_query
        _, sizes = np.unique(np.asarray(y), return_counts=True)
        # At least 1, so that a class that is too small fails in the sampler by name.
        return int(np.clip(sizes.min() - self.n_shot, 1, _MOST_QUERIES))
