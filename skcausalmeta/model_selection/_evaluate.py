"""Evaluation on few-shot episodes."""

from __future__ import annotations

import warnings
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse
from sklearn.base import is_regressor
from sklearn.metrics import get_scorer_names
from sklearn.pipeline import Pipeline
from sklearn.utils import check_consistent_length
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    StrOptions,
    validate_params,
)

from ..episodes import EpisodeSampler, TaskSampler, make_sampler
from ..exceptions import InvalidInputError
from ..metrics import error_of_confidences, mean_confidence_interval
from ..utils import ids_of, refuse_other_index
from ._judge import EpisodeRecord, Judge, judge_episodes
from ._repeats import warn_of_repeats
from ._result import FewShotResult
from ._scoring import Scorer, name_of, scorer_of

_CONFIDENCE = 0.95


@validate_params(
    {
        "estimator": [HasMethods("fit")],
        "X": "no_validation",  # images and data frames as well as matrices
        "y": ["array-like"],
        "tasks": ["array-like", None],
        "n_way": [Interval(Integral, 2, None, closed="left")],
        "n_shot": [Interval(Integral, 1, None, closed="left")],
        "n_query": [Interval(Integral, 1, None, closed="left")],
        "n_episodes": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        "scoring": [StrOptions(set(get_scorer_names())), callable, None],
        "n_jobs": [Integral, None],
        "calibration": ["boolean"],
        "shared_labels": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def evaluate_few_shot(
    estimator: Any,
    X: Any,
    y: ArrayLike,
    *,
    tasks: ArrayLike | None = None,
    n_way: int = 5,
    n_shot: int = 5,
    n_query: int = 15,
    n_episodes: int = 600,
    random_state: int | np.random.RandomState | None = None,
    scoring: str | Scorer | None = None,
    n_jobs: int | None = None,
    calibration: bool = False,
    shared_labels: bool = False,
) -> FewShotResult:
    r"""Score an estimator on few-shot episodes: of the classes of `y`, or of tasks.

    Without `tasks`, an episode is an N-way K-shot problem of classes that are drawn.
    With them it is one of the tasks, with the classes or the real targets of its own.
    In every episode a shallow copy of a fitted meta-learner adapts to the support
    rows and predicts the query rows, so the estimator itself stays as it was. An
    estimator without ``adapt`` is cloned and fitted on the support rows instead,
    which gives the baseline without meta-learning.

    Parameters
    ----------
    estimator : estimator object
        Fitted meta-learner with ``adapt``, or any scikit-learn classifier or
        regressor.
    X : {array-like, sparse matrix, memory map, data frame} of shape (n_samples, ...)
        Data. Rows with more than one axis (images) are flattened for an
        estimator without ``adapt``.
    y : array-like of shape (n_samples,)
        Classes, usually others than the estimator was fitted on; or real targets.
    tasks : array-like of shape (n_samples,), default=None
        Id of the task of every row, usually others than the estimator was fitted on.
        None: drawn classes are a task; all rows are one for a regressor.
    n_way : int, default=5
        Number of classes in an episode; with `tasks`, every task has its own.
    n_shot : int, default=5
        Number of support rows of each class; of the task for a regressor.
    n_query : int, default=15
        Number of query rows, counted likewise.
    n_episodes : int, default=600
        Number of episodes.
    random_state : int, RandomState instance or None, default=None
        Decides the episodes. The same int gives the same episodes to every
        estimator, so that their scores are paired.
    scoring : str or callable, default=None
        Name of any scikit-learn scorer, such as "balanced_accuracy", "roc_auc" (of two
        classes; "roc_auc_ovr" of more), "neg_log_loss" or "neg_mean_squared_error", or
        a callable ``(estimator, X, y) -> float``. Where a metric asks for a positive
        class ("f1"), it is the second of the two. None is the accuracy, or
        R\ :sup:`2` of a regressor.
    n_jobs : int, default=None
        Number of processes that share the episodes, as in scikit-learn.
    calibration : bool, default=False
        Also ask for probabilities and report their expected calibration error over
        the query rows of all episodes.
    shared_labels : bool, default=False
        With `tasks` of classes that mean the same in all of them: query rows are
        drawn as the task has them, `n_query` in all, so that rare classes stay rare
        and a task may lack some; support rows are `n_shot` of each class that the
        task has. For an estimator that knows its classes, such as a learner that was
        fitted on tasks with shared labels. False: `n_query` rows of each class.

    Returns
    -------
    result : FewShotResult
        Scores of the episodes, their mean with its 95% interval, the time to adapt,
        and the mean sparsity and largest duality gap where the learner has them.

    Raises
    ------
    EpisodeError
        If the classes or tasks are too few or too small for the episodes.
    InvalidInputError
        If the estimator is a plain Pipeline around a meta-learner, or `calibration`
        is asked of an estimator without ``predict_proba``.
    ValueError
        If a parameter is out of its range, or `X`, `y` and `tasks` differ in length.

    Warns
    -----
    UserWarning
        If rows of `X` are repeated, and stand in support and query of one episode.
        If query rows lack a class without which `scoring` is not defined (an AUC of
        one class): with the number of these episodes, which are NaN in
        ``result.scores`` and left out of the mean.

    See Also
    --------
    few_shot_scorer : The same as a scorer for GridSearchCV and cross_val_score.
    skcausalmeta.metrics.mean_confidence_interval : Intervals of ``result.scores`` with
        another confidence.
    skcausalmeta.metrics.paired_difference : Compares two results.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from skcausalmeta.model_selection import evaluate_few_shot
    >>> X, y = load_digits(return_X_y=True)
    >>> nearest = KNeighborsClassifier(n_neighbors=1)
    >>> result = evaluate_few_shot(nearest, X, y, n_episodes=50, random_state=0)
    >>> print(result.n_episodes, bool(result.mean > 0.8))
    50 True

    Even against odd digits, a task for every pair:

    >>> result = evaluate_few_shot(
    ...     nearest, X, y % 2, tasks=y // 2, n_episodes=50, random_state=0
    ... )
    >>> print(result.n_tasks, bool(result.mean > 0.8))
    5 True
    """
    # 1. What could not be judged, or would be judged wrongly, is refused.
    _refuse_plain_pipeline(estimator)
    if calibration:
        _require_probabilities(estimator)
    check_consistent_length(X, y)
    refuse_other_index(X=X, y=y, tasks=tasks)
    if tasks is not None:
        tasks = ids_of(tasks, "tasks", len(np.asarray(y)))
    if sparse.issparse(X):
        X = X.tocsr()  # other formats cannot give some of their rows

    # 2. The episodes are drawn, without a look at the estimator's answers.
    labels, regression = np.asarray(y), is_regressor(estimator)
    sampler = make_sampler(
        labels,
        tasks,
        regression=regression,
        n_way=n_way,
        n_shot=n_shot,
        n_query=n_query,
        random_state=random_state,
        shared_labels=shared_labels,
    )
    episodes = sampler.draw(n_episodes)
    warn_of_repeats(X, episodes)

    # 3. A copy of the estimator solves each of them and is scored.
    scoring = scoring or ("r2" if regression else "accuracy")
    judge = Judge(estimator, scorer_of(scoring), calibration)
    rows = X if hasattr(estimator, "adapt") else _flatten(X)
    records = judge_episodes(judge, rows, labels, episodes, n_jobs)

    # 4. The records are summed up.
    return _summary(records, sampler, n_shot, name_of(scoring))


def _refuse_plain_pipeline(estimator: Any) -> None:
    if hasattr(estimator, "adapt") or not isinstance(estimator, Pipeline):
        return
    if hasattr(estimator.steps[-1][1], "adapt"):
        raise InvalidInputError(
            "A Pipeline around a meta-learner must be able to adapt. Got "
            f"{type(estimator).__name__}, which would be fitted anew on every support "
            "set; build it with skcausalmeta.compose.make_meta_pipeline."
        )


def _require_probabilities(estimator: Any) -> None:
    if not hasattr(estimator, "predict_proba"):
        raise InvalidInputError(
            "calibration=True needs an estimator with predict_proba. Got "
            f"{type(estimator).__name__}; pass calibration=False or a head that gives "
            "probabilities."
        )


def _flatten(X: Any) -> Any:
    """Return images as rows of pixels, everything else as it is."""
    if getattr(X, "ndim", 2) > 2:
        return X.reshape(len(X), -1)
    return X


def _summary(
    records: list[EpisodeRecord],
    sampler: EpisodeSampler | TaskSampler,
    n_shot: int,
    scoring: str,
) -> FewShotResult:
    scores = _values(records, "score")
    known = scores[~_values(records, "undefined")]
    _tell_undefined(len(scores) - len(known), len(scores), scoring)
    mean, half_width = mean_confidence_interval(known, confidence=_CONFIDENCE)
    facts = ["adapt_time", "sparsity", "dual_gap"]
    if isinstance(sampler, TaskSampler):
        facts.append("task")
    by_episode = {name: _values(records, name) for name in facts}
    return FewShotResult(
        scores=scores,
        mean=mean,
        half_width=half_width,
        n_episodes=len(records),
        confidence=_CONFIDENCE,
        adapt_time=float(np.median(by_episode["adapt_time"])),
        sparsity=float(np.mean(by_episode["sparsity"])),
        max_dual_gap=float(np.max(by_episode["dual_gap"])),
        n_way=None if isinstance(sampler, TaskSampler) else sampler.n_way,
        n_shot=n_shot,
        n_query=sampler.n_query,
        n_tasks=len(sampler.task_ids) if isinstance(sampler, TaskSampler) else None,
        scoring=scoring,
        calibration_error=_calibration_error(records),
        by_episode=by_episode,
    )


def _tell_undefined(n_undefined: int, n_episodes: int, scoring: str) -> None:
    if n_undefined == n_episodes:
        raise InvalidInputError(
            f"scoring={scoring!r} must be defined for some episode. Got "
            f"{n_episodes} episodes whose query rows lack a class; raise n_query, or "
            'use a score such as "accuracy".'
        )
    if n_undefined:
        warnings.warn(
            f"scoring={scoring!r} needs query rows of every class. Got "
            f"{n_undefined} of {n_episodes} episodes that lack one, which are left out "
            "of the mean; raise n_query to lose fewer.",
            UserWarning,
            stacklevel=4,
        )


def _values(records: list[EpisodeRecord], name: str) -> np.ndarray:
    return np.array([getattr(record, name) for record in records])


def _calibration_error(records: list[EpisodeRecord]) -> float:
    """Return the error over the query rows of all episodes, NaN if not kept."""
    kept = [record.sureness for record in records if record.sureness is not None]
    if not kept:
        return np.nan
    confidence, right = np.concatenate(kept, axis=1)
    return error_of_confidences(confidence, right > 0)
