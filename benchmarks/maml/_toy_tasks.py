"""Tasks that one weight vector solves."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

N_FEATURES, N_SHOT, N_QUERY, N_TASKS = 5, 80, 40, 400
# Standard deviations of the inputs: no step size suits all directions.
SCALES = np.geomspace(2.0, 0.2, N_FEATURES)


class ToyTasks(NamedTuple):
    """Training rows with task ids, and new tasks with a leading task axis."""

    X: NDArray[Any]
    y: NDArray[Any]
    tasks: NDArray[Any]
    X_new: NDArray[Any]
    y_new: NDArray[Any]
    n_shot: int
    n_query: int
    classes: bool

    def losses(self, learner: Any) -> list[list[float]]:
        """Loss of every new task, before and after every inner step."""
        k = N_SHOT
        support, query = self.X_new[:, :k], self.X_new[:, k:]
        given, asked = self.y_new[:, :k], self.y_new[:, k:]
        if not self.classes:
            found = learner.staged_predict_episodes(support, given, query)
            return ((found - asked) ** 2).mean(axis=2).tolist()
        steps = range(learner.inner_steps + 1)
        return [
            [
                _log_loss(learner.set_params(adapt_steps=k), *task)
                for task in zip(support, given, query, asked, strict=True)
            ]
            for k in steps
        ]


def _log_loss(
    learner: Any,
    X: NDArray[Any],
    y: NDArray[Any],
    X_query: NDArray[Any],
    y_query: NDArray[Any],
) -> float:
    scores = learner.adapt(X, y).decision_function(X_query)
    both = log_softmax(np.stack([np.zeros_like(scores), scores], axis=1), axis=1)
    return float(-both[np.arange(len(y_query)), y_query].mean())


def linear_tasks(seed: int, n_new: int) -> ToyTasks:
    """y = w'x with a weight vector per task."""
    X, y = _draw(N_TASKS, seed)
    X_new, y_new = _draw(n_new, 10_000)
    return _toy(X, y, X_new, y_new, classes=False)


def logistic_tasks(seed: int, n_new: int) -> ToyTasks:
    """Classes by the sign of w'x, half of the rows of a task in each."""
    X, y = _balanced(N_TASKS, seed)
    X_new, y_new = _balanced(n_new, 10_000)
    return _toy(X, y, X_new, y_new, classes=True)


def _toy(
    X: NDArray[Any],
    y: NDArray[Any],
    X_new: NDArray[Any],
    y_new: NDArray[Any],
    *,
    classes: bool,
) -> ToyTasks:
    tasks = np.repeat(np.arange(len(X)), X.shape[1])
    share = 2 if classes else 1  # shots are counted per class
    rows = X.reshape(-1, N_FEATURES), y.ravel(), tasks, X_new, y_new
    return ToyTasks(*rows, N_SHOT // share, N_QUERY // share, classes)


def _draw(n_tasks: int, seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
    rng = np.random.default_rng(seed)
    X = SCALES * rng.standard_normal((n_tasks, N_SHOT + N_QUERY, N_FEATURES))
    # Weights against the scales: every input matters as much.
    weights = rng.standard_normal((n_tasks, N_FEATURES, 1)) / SCALES[:, None]
    return X, (X @ weights)[..., 0]


def _balanced(n_tasks: int, seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Rows reflected where needed, so that classes alternate."""
    X, scores = _draw(n_tasks, seed)
    y = np.broadcast_to(np.arange(N_SHOT + N_QUERY) % 2, scores.shape)
    return X * np.where((scores > 0) == (y == 1), 1, -1)[..., None], y.copy()
