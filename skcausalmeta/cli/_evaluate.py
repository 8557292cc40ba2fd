"""Accuracy of an estimator on the tasks of a table."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import is_regressor
from sklearn.metrics import accuracy_score, r2_score

from ..metrics import mean_confidence_interval
from ..model_selection import evaluate_few_shot
from ._tables import Table, columns_of


def evaluation_text(
    estimator: Any,
    table: Table,
    *,
    n_way: int,
    n_shot: int,
    n_query: int,
    n_episodes: int,
    seed: int,
) -> str:
    """One line: the score with its interval and what it is over.

    A learner adapts to the support rows of every episode, an estimator without
    ``adapt`` is fitted on them, and a multi-task learner predicts the tasks that it
    knows as it is.

    Raises
    ------
    ValueError
        If the rows do not fit the estimator or are too few.
    """
    if hasattr(estimator, "feature_names_in_"):
        table = table._replace(X=columns_of(table, estimator.feature_names_in_))
    with warnings.catch_warnings():
        # The columns have just been put in the order of their names.
        warnings.filterwarnings("ignore", "X does not have valid feature names")
        return _evaluation(estimator, table, n_way, n_shot, n_query, n_episodes, seed)


def _evaluation(
    estimator: Any,
    table: Table,
    n_way: int,
    n_shot: int,
    n_query: int,
    n_episodes: int,
    seed: int,
) -> str:
    if table.tasks is not None and hasattr(estimator, "score_tasks"):
        # Learned for these tasks.
        return _score_of_known_tasks(estimator, table.X, table.y, table.tasks)
    result = evaluate_few_shot(
        estimator,
        table.X,
        table.y,
        tasks=table.tasks,
        n_way=n_way,
        n_shot=n_shot,
        n_query=n_query,
        n_episodes=n_episodes,
        random_state=seed,
    )
    return f"{'R2' if result.scoring == 'r2' else result.scoring} {result}"


def _score_of_known_tasks(
    estimator: Any, X: NDArray[Any], y: NDArray[Any], tasks: NDArray[Any]
) -> str:
    found, values = estimator.predict(X, tasks=tasks), is_regressor(estimator)
    scores = [
        _score(values, y[tasks == task], found[tasks == task])
        for task in np.unique(tasks)
    ]
    return _line(values, scores, f"{len(scores)} tasks")


def _score(values: bool, truth: NDArray[Any], found: NDArray[Any]) -> float:
    return float(r2_score(truth, found) if values else accuracy_score(truth, found))


def _line(values: bool, scores: list[float], what: str) -> str:
    mean, half = mean_confidence_interval(scores)
    if values:
        return f"R2 {mean:.3f} +- {half:.3f} ({what}, 95% interval)"
    return f"accuracy {100 * mean:.1f} +- {100 * half:.1f}% ({what}, 95% interval)"
