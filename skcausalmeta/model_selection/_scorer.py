"""Few-shot evaluation as a scorer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn import get_config
from sklearn.base import is_regressor
from sklearn.metrics import get_scorer_names
from sklearn.utils._param_validation import Interval, StrOptions, validate_params
from sklearn.utils.metadata_routing import MetadataRequest

from ..utils import ids_of
from ._evaluate import evaluate_few_shot
from ._scoring import Scorer, name_of

_MOST_QUERIES = 15


@validate_params(
    {
        "n_way": [Interval(Integral, 2, None, closed="left")],
        "n_shot": [Interval(Integral, 1, None, closed="left")],
        "n_query": [Interval(Integral, 1, None, closed="left"), None],
        "n_episodes": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        "scoring": [StrOptions(set(get_scorer_names())), callable, None],
        "shared_labels": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def few_shot_scorer(
    n_way: int = 5,
    n_shot: int = 5,
    n_query: int | None = 15,
    n_episodes: int = 100,
    random_state: int | np.random.RandomState | None = 0,
    scoring: str | Scorer | None = None,
    shared_labels: bool = False,
) -> Callable[[Any, Any, ArrayLike], float]:
    r"""Make a scorer that judges a learner by its mean score on episodes.

    Together with `ClassKFold` it makes GridSearchCV and cross_val_score answer
    the question that matters for a meta-learner: how well it adapts to classes
    it has not seen. With metadata routing it takes ``tasks`` too; then, together
    with scikit-learn's GroupKFold, the question is how well the learner adapts to
    tasks that it has not seen.

    Parameters
    ----------
    n_way : int, default=5
        Number of classes in an episode; with tasks, every task has its own.
    n_shot : int, default=5
        Number of support rows of each class; of the task for a regressor.
    n_query : int or None, default=15
        Number of query rows, counted likewise. None takes what the smallest class
        (of a task; the smallest task for a regressor) leaves after the support rows,
        at most 15; with `shared_labels` 15 of a task.
    n_episodes : int, default=100
        Number of episodes.
    random_state : int, RandomState instance or None, default=0
        Decides the episodes. With an int, all candidates of a grid search are
        compared on the same episodes.
    scoring : str or callable, default=None
        Score of an episode, as in `evaluate_few_shot`: the name of any scorer of
        scikit-learn, or a callable. None is the accuracy, or R\ :sup:`2` of a
        regressor.
    shared_labels : bool, default=False
        Draw query rows of tasks as they have them, as in `evaluate_few_shot`.

    Returns
    -------
    scorer : callable
        ``scorer(estimator, X, y, tasks=None)`` is the mean score of the episodes. It
        can be pickled, never changes the estimator, and asks a search for ``tasks``
        where it is given them; with metadata routing, its ``set_score_request(tasks=
        ...)`` changes that as scikit-learn's scorers do: True, False, None, or the
        name under which the ids are passed.

    Raises
    ------
    ValueError
        If a parameter is out of its range. Classes or tasks that are too few or too
        small are an EpisodeError of the scorer.

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

    Tasks that are held out as a whole, here even against odd digits:

    >>> from sklearn import config_context
    >>> from sklearn.model_selection import GroupKFold, cross_val_score
    >>> from skcausalmeta import RidgeHead, SparseMetaClassifier
    >>> learner = SparseMetaClassifier(
    ...     RidgeHead(), backbone="identity", max_epochs=1, verbose=0, random_state=0
    ... )
    >>> with config_context(enable_metadata_routing=True):
    ...     scores = cross_val_score(
    ...         learner.set_fit_request(tasks=True),
    ...         X,
    ...         y % 2,
    ...         cv=GroupKFold(2),
    ...         scoring=scorer,
    ...         params={"tasks": y // 2, "groups": y // 2},
    ...     )
    >>> print(len(scores), scores.min() > 0.5)
    2 True
    """
    return _FewShotScorer(
        n_way, n_shot, n_query, n_episodes, random_state, scoring, shared_labels
    )


@dataclass
class _FewShotScorer:
    """The scorer as an object: it can be pickled, compared and shown."""

    n_way: int
    n_shot: int
    n_query: int | None
    n_episodes: int
    random_state: int | np.random.RandomState | None
    scoring: str | Scorer | None = None
    shared_labels: bool = False
    tasks_request: bool | str | None = True

    def __repr__(self) -> str:
        scored = "" if self.scoring is None else f", scoring={name_of(self.scoring)!r}"
        shared = ", shared_labels=True" if self.shared_labels else ""
        return (
            f"few_shot_scorer(n_way={self.n_way}, n_shot={self.n_shot}, "
            f"n_query={self.n_query}, n_episodes={self.n_episodes}, "
            f"random_state={self.random_state}{scored}{shared})"
        )

    def set_score_request(self, *, tasks: bool | str | None = True) -> Self:
        """Say whether, and under which name, a search is to pass on ``tasks``.

        Parameters
        ----------
        tasks : bool, str or None, default=True
            True: pass them. False: keep them back. None: refuse them. A name: pass
            what is given under this name.

        Returns
        -------
        self : object
            Itself.

        Raises
        ------
        RuntimeError
            Without scikit-learn's metadata routing, which alone reads it.
        ValueError
            If it is none of these.
        """
        if not get_config()["enable_metadata_routing"]:
            raise RuntimeError(
                "set_score_request needs metadata routing. Got "
                "enable_metadata_routing=False; turn it on with "
                "sklearn.set_config(enable_metadata_routing=True)."
            )
        MetadataRequest(owner=self).score.add_request(param="tasks", alias=tasks)
        self.tasks_request = tasks
        return self

    def get_metadata_routing(self) -> MetadataRequest:
        """What scikit-learn is to pass on to a call."""
        request = MetadataRequest(owner=self)
        request.score.add_request(param="tasks", alias=self.tasks_request)
        return request

    def __call__(
        self, estimator: Any, X: Any, y: ArrayLike, tasks: ArrayLike | None = None
    ) -> float:
        result = evaluate_few_shot(
            estimator,
            X,
            y,
            tasks=tasks,
            n_way=self.n_way,
            n_shot=self.n_shot,
            n_query=self._resolve_n_query(y, tasks, is_regressor(estimator)),
            n_episodes=self.n_episodes,
            random_state=self.random_state,
            scoring=self.scoring,
            shared_labels=self.shared_labels,
            n_jobs=1,  # the processes are those of the search around the scorer
        )
        return result.mean

    def _resolve_n_query(
        self, y: ArrayLike, tasks: ArrayLike | None, regression: bool
    ) -> int:
        if self.n_query is not None:
            return self.n_query
        if self.shared_labels:  # of a task in all; a small one gives what it has
            return _MOST_QUERIES
        left = _smallest_group(y, tasks, regression) - self.n_shot
        # At least 1, so that a class that is too small fails in the sampler by name.
        return int(np.clip(left, 1, _MOST_QUERIES))


def _smallest_group(y: ArrayLike, tasks: ArrayLike | None, regression: bool) -> int:
    """Return the rows of the smallest class of a task, or task for a regressor."""
    labels = np.asarray(y)
    groups = [np.zeros(len(labels))]
    if tasks is not None:
        groups = [ids_of(tasks, "tasks", len(labels))]
    if not regression:
        groups.append(labels)
    codes = [np.unique(group, return_inverse=True)[1] for group in groups]
    _, sizes = np.unique(np.stack(codes), axis=1, return_counts=True)
    return int(sizes.min())
