"""In which features a task differs, as its labelled rows tell."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...utils import SparseRows, is_memory_map, read_rows
from ._deviation_prior import learn_prior
from ._evidence import DeviationPrior, LabelledTask, search_sets

# Training tasks that the prior is learned from, rows of each, and coefficients.
_TASKS, _ROWS, _COEFS = 40, 200, 256
# Rows of a task that its evidence reads.
_MOST_ROWS = 500


def kept_rows(rows: Any) -> Any:
    """Return rows that the caller cannot change; those on a disk stay there."""
    if isinstance(rows, np.ndarray | SparseRows) and not is_memory_map(rows):
        return rows.copy()
    return rows


def learn_deviation_prior(
    learner: Any,
    rows: Any,
    targets: NDArray[Any],
    tasks: NDArray[Any],
) -> DeviationPrior | None:
    """Learn from training tasks how tasks deviate; None if features are too large.

    Parameters
    ----------
    learner : estimator
        Fitted around a common predictor.
    rows : ndarray of shape (n_samples, ...)
    targets : ndarray of shape (n_samples,)
        Class numbers, or standardised real targets.
    tasks : ndarray of shape (n_samples,)
        Ids.
    """
    known = learner.common_.training_scores
    numbers = np.unique(tasks, return_inverse=True)[1]
    order = np.argsort(numbers, kind="stable")
    groups = np.split(order, np.cumsum(np.bincount(numbers))[:-1])
    found = []
    for k in _evenly(len(groups), _TASKS):
        own = groups[k][_evenly(len(groups[k]), _ROWS)]
        weights = learner._fit_weights
        weights = None if weights is None else weights[own]
        part = (read_rows(rows, own), targets[own], known[own], weights)
        found.append(_labelled(learner, *part, n_coefs=_COEFS))
    return _numbers_or_none(lambda: learn_prior(found))


def deviation_probabilities(learner: Any, task: Any) -> NDArray[np.float64] | None:
    """Return the probability (n_features,) that a task deviates in a feature.

    None where its rows or the prior are not known.

    Parameters
    ----------
    learner : estimator
        Fitted around a common predictor.
    task : CommonTask
    """
    nothing = np.zeros(len(learner.net_.module_.strengths.center))
    if task.head is None:
        return nothing
    prior, targets = learner.deviation_prior_, task.support_targets
    if prior is None or task.support_rows is None or targets is None:
        return None
    if task.classes is not None and len(np.unique(targets)) < 2:
        return nothing  # one class says how rows were chosen
    some = _evenly(len(targets), _MOST_ROWS)
    own = read_rows(task.support_rows, some)
    weights = task.support_weights
    labelled = _labelled(
        learner,
        own,
        targets[some],
        learner.common_.scores(own),
        None if weights is None else weights[some],
    )
    inclusion = _numbers_or_none(lambda: search_sets(labelled, prior))
    return None if inclusion is None else inclusion.inclusion(len(nothing))


def _labelled(
    learner: Any,
    rows: Any,
    targets: NDArray[Any],
    known: NDArray[Any],
    weights: NDArray[Any] | None,
    n_coefs: int | None = None,
) -> LabelledTask:
    """Return labelled rows with standardised features, some where they are many."""
    strengths = learner.net_.module_.strengths
    arrays = (strengths.center, strengths.spread, strengths.score_center)
    center, spread, middle = (array.cpu().numpy().astype(float) for array in arrays)
    features, _ = learner._hooked_features(rows, targets)
    features = (features - center) / spread
    if n_coefs is not None:
        n_features = max(1, n_coefs // max(1, strengths.n_classes - 1))
        features = features[:, _evenly(features.shape[1], n_features)]
    return LabelledTask.of(
        features, targets, known, middle, strengths.n_classes, weights
    )


def _numbers_or_none(solve: Any) -> Any:
    """Return what is solved, None where features are too large for numbers."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        try:
            return solve()
        except (np.linalg.LinAlgError, ValueError):
            return None


def _evenly(n: int, most: int) -> NDArray[np.int64]:
    return np.linspace(0, n - 1, min(n, most)).astype(np.int64)
