"""What the episodes of an evaluation show, one by one."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from joblib import effective_n_jobs
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing, gen_even_slices
from sklearn.utils.parallel import Parallel, delayed

from ..episodes import Episode
from ._scoring import Scorer, is_undefined, score_of


@dataclass(frozen=True)
class EpisodeRecord:
    """What one episode showed."""

    task: Any  # None where classes were drawn
    score: float
    undefined: bool  # NaN, and no fault of the estimator
    adapt_time: float
    sparsity: float
    dual_gap: float
    sureness: np.ndarray | None  # (2, n_query rows)


@dataclass(frozen=True)
class Judge:
    """Solves an episode with an estimator and scores the query rows.

    Parameters
    ----------
    estimator : estimator object
        Learner that adapts, or an estimator that is fitted on every support set.
        It stays as it is.
    scorer : callable
        ``scorer(estimator, X, y)`` is the score of the query rows.
    calibration : bool
        Whether to keep how sure every prediction was.
    """

    estimator: Any
    scorer: Scorer
    calibration: bool

    def record(self, X: Any, y: np.ndarray, episode: Episode) -> EpisodeRecord:
        """Return what an episode of the rows `X` shows."""
        X_query, y_query = _safe_indexing(X, episode.query), y[episode.query]
        solved, seconds = self._solve(
            _safe_indexing(X, episode.support), y[episode.support]
        )
        score = score_of(self.scorer, solved, X_query, y_query)
        return EpisodeRecord(
            task=episode.task,
            score=score,
            undefined=is_undefined(score, solved, y_query),
            adapt_time=seconds,
            sparsity=float(_fitted_fact(solved, "sparsity_")),
            dual_gap=float(np.max(_fitted_fact(solved, "dual_gap_"))),
            sureness=_sureness(solved, X_query, y_query) if self.calibration else None,
        )

    def _solve(self, X: Any, y: np.ndarray) -> tuple[Any, float]:
        """Return a copy that knows the support rows, and the seconds it took."""
        if hasattr(self.estimator, "adapt"):
            solve = copy.copy(self.estimator).adapt
        else:
            solve = clone(self.estimator).fit
        start = time.perf_counter()
        solved = solve(X, y)
        return solved, time.perf_counter() - start


def judge_episodes(
    judge: Judge, X: Any, y: np.ndarray, episodes: list[Episode], n_jobs: int | None
) -> list[EpisodeRecord]:
    """Return what every episode shows, in their order, whoever computes it."""
    # One batch of episodes per process: the estimator travels once, not per episode.
    n_batches = min(effective_n_jobs(n_jobs), len(episodes))
    if n_batches == 1:  # without joblib: Dask's backend knows no single job
        return _judge_batch(judge, X, y, episodes)
    # The rows are arguments of their own, since engines share large arguments only.
    batches = Parallel(n_jobs=n_jobs)(
        delayed(_judge_batch)(judge, X, y, episodes[batch])
        for batch in gen_even_slices(len(episodes), n_batches)
    )
    return [record for batch in batches for record in batch]


def _judge_batch(
    judge: Judge, X: Any, y: np.ndarray, episodes: list[Episode]
) -> list[EpisodeRecord]:
    return [judge.record(X, y, episode) for episode in episodes]


def _fitted_fact(estimator: Any, name: str) -> Any:
    """Return an attribute of the estimator or of its last step, else NaN."""
    if isinstance(estimator, Pipeline):
        estimator = estimator.steps[-1][1]
    return getattr(estimator, name, np.nan)


def _sureness(estimator: Any, X: Any, y: np.ndarray) -> np.ndarray:
    """Return the confidence of every prediction, and whether it is right."""
    proba = estimator.predict_proba(X)
    return np.stack([proba.max(axis=1), estimator.classes_[proba.argmax(axis=1)] == y])
