"""Labels that are tied to a cause and, by environment, to something else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..exceptions import InvalidInputError


def check_strengths(rho: float | Sequence[float], name: str) -> NDArray[np.float64]:
    """Strengths in [-1, 1], one per environment."""
    strengths = np.atleast_1d(np.asarray(rho, dtype=np.float64))
    fits = strengths.ndim == 1 and strengths.size > 0
    if not fits or not (np.abs(strengths) <= 1).all():
        raise InvalidInputError(
            f"{name} must hold at least one strength, each in [-1, 1]. Got {rho!r}."
        )
    return strengths


def check_row_counts(n_classes: int, **counts: int) -> None:
    """Every environment of a task must have room for all classes."""
    for name, count in counts.items():
        if count < n_classes:
            raise InvalidInputError(
                f"{name} must be at least n_classes={n_classes}, so that every class "
                f"has a row in every environment. Got {name}={count}."
            )


def check_whole_groups(tasks_per_group: int, **counts: int) -> None:
    """Tasks come in groups, whose members confound each other."""
    for name, count in counts.items():
        if count % tasks_per_group:
            raise InvalidInputError(
                f"{name} must be a multiple of the {tasks_per_group} tasks of a group. "
                f"Got {name}={count}; take "
                f"{tasks_per_group * -(-count // tasks_per_group)}."
            )


def draw_tied_classes(
    rng: np.random.RandomState,
    shape: tuple[int, int],
    n_classes: int,
    rho: float,
    noise: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Labels, and the classes that the cause and the confounder show.

    The labels of a task are balanced, give or take one, in random order. The cause
    shows the label, another class with probability `noise`. The confounder shows
    the label (rho > 0) or the class after it (rho < 0) with probability abs(rho),
    else any class.

    Returns
    -------
    labels, causal, spurious : ndarray of shape (n_tasks, n_rows)
        Classes 0, ..., n_classes - 1.
    """
    balanced = np.arange(shape[1]) % n_classes
    labels = balanced[rng.uniform(size=shape).argsort(axis=1)]
    others = (labels + rng.randint(1, n_classes, size=shape)) % n_classes
    causal = np.where(rng.uniform(size=shape) < noise, others, labels)
    tied = labels if rho >= 0 else (labels + 1) % n_classes
    anything = rng.randint(n_classes, size=shape)
    spurious = np.where(rng.uniform(size=shape) < abs(rho), tied, anything)
    return labels, causal, spurious
