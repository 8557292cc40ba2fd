"""Tasks to try a head on, and how heads of classes and of real targets are asked."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import signature
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from torch import Tensor

# Asked of solvers, so that two solutions of one problem agree within NEAR.
TOL, NEAR = 1e-9, 1e-4
N_TASKS, N_ROWS, N_QUERY, N_CLASSES = 3, 12, 4, 3


class Tasks(NamedTuple):
    """A batch of tasks, float64."""

    support: Tensor  # (n_tasks, n_rows, n_features)
    targets: Tensor  # (n_tasks, n_rows)
    query: Tensor  # (n_tasks, n_query, n_features)
    weights: Tensor  # (n_tasks, n_rows)
    n_classes: int = N_CLASSES

    def only(self, task: int) -> Tasks:
        """The batch of one task."""
        support, targets, query, weights = (part[task : task + 1] for part in self[:4])
        return Tasks(support, targets, query, weights, self.n_classes)

    def to(self, dtype: torch.dtype) -> Tasks:
        """The same tasks, the features in another precision."""
        support, query = self.support.to(dtype), self.query.to(dtype)
        return self._replace(support=support, query=query)

    def arrays(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Rows, targets and query rows of the first task, for `fit`."""
        rows, targets, query = (part[0].numpy().copy() for part in self[:3])
        return rows, targets, query


class Trial:
    """A head and tasks; asks heads of classes and of real targets alike."""

    def __init__(self, head: Any, n_features: int) -> None:
        self.head, self.tasks = clone(head), make_tasks(head, n_features)
        self.regression = hasattr(head, "episode_predictions")
        # For `fit` to solve the problem of the layer, and as closely.
        known = self.head.get_params(deep=False)
        if "tol" in known:
            self.head.set_params(tol=TOL)
        if isinstance(known.get("class_weight"), dict):  # the layer has no labels
            self.head.set_params(class_weight=None)

    def solve(self, tasks: Tasks, **keywords: Any) -> Any:
        """Solutions of the tasks, with their row weights."""
        given = {"sample_weight": tasks.weights, "tol": TOL, **keywords}
        classes = () if self.regression else (tasks.n_classes,)
        return self.head.solve_episodes(tasks.support, tasks.targets, *classes, **given)

    def answer(self, tasks: Tasks, **keywords: Any) -> Tensor:
        """Logits or predictions of the query rows."""
        given = {"sample_weight": tasks.weights, "tol": TOL, **keywords}
        three = tasks.support, tasks.targets, tasks.query
        if self.regression:
            found: Tensor = self.head.episode_predictions(*three, **given)
            return found
        logits: Tensor = self.head.episode_logits(*three, tasks.n_classes, **given)
        return logits

    def fitted(self, **given: Any) -> Any:
        """A copy of the head, fitted to the first task."""
        rows, targets, _ = self.tasks.arrays()
        return clone(self.head).fit(rows, self.labels(targets), **given)

    def ask_has(self, keyword: str) -> bool:
        """Whether the layer has a parameter of this name."""
        name = "episode_predictions" if self.regression else "episode_logits"
        return keyword in signature(getattr(self.head, name)).parameters

    def fit_has(self, keyword: str) -> bool:
        """Whether `fit` has a parameter of this name."""
        return keyword in signature(self.head.fit).parameters

    def labels(self, targets: NDArray[Any]) -> NDArray[Any]:
        """Targets of `fit`: class numbers as names."""
        return targets if self.regression else np.array(["a", "b", "c"])[targets]

    def ask(self, fitted: Any, rows: NDArray[Any], **given: Any) -> NDArray[Any]:
        """Scores or predictions of a fitted head."""
        method = fitted.predict if self.regression else fitted.decision_function
        return np.asarray(method(rows, **given))


def make_tasks(head: Any, n_features: int) -> Tasks:
    """Tasks in which nothing is tied and every class has as many rows."""
    rng = np.random.RandomState(0)
    labels = np.stack([rng.permutation(N_ROWS) % N_CLASSES for _ in range(N_TASKS)])
    support = rng.standard_normal((N_TASKS, N_ROWS, n_features))
    support[..., 0] += labels
    targets: NDArray[Any] = labels
    if hasattr(head, "episode_predictions"):
        targets = support @ rng.standard_normal(n_features) + np.sin(
            3 * support[..., 0]
        )
    query = rng.standard_normal((N_TASKS, N_QUERY, n_features))
    weights = rng.choice([0.5, 1.0, 2.0], size=labels.shape)
    return Tasks(
        torch.from_numpy(support),
        torch.from_numpy(targets),
        torch.from_numpy(query),
        torch.from_numpy(weights),
    )


def far(found: Any, expected: Any, what: str) -> Iterator[str]:
    """A fault, if two answers differ by more than solvers may."""
    found, expected = (array(part) for part in (found, expected))
    if found.shape != expected.shape:
        yield f"{what} of shape {found.shape}, expected {expected.shape}"
        return
    difference = float(np.abs(found - expected).max(initial=0.0))
    size = 1.0 + float(np.abs(expected).max(initial=0.0))
    if not difference <= NEAR * size:
        yield f"{what} that differ by {difference:.1e} (their size is {size:.1e})"


def array(values: Any) -> NDArray[Any]:
    if isinstance(values, Tensor):
        values = values.detach().numpy()
    return np.asarray(values)
