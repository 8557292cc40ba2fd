"""Labels that are tied to a cause and, by environment, to something else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from ..exceptions import InvalidInputError


def check_strengths(rho: float | Sequence[float], when: str) -> NDArray[np.float64]:
    """Strengths in [-1, 1], one per environment."""
    strengths = np.atleast_1d(np.asarray(rho, dtype=np.float64))
    fits = strengths.ndim == 1 and strengths.size > 0
    if not fits or not (np.abs(strengths) <= 1).all():
        raise InvalidInputError(
            f"rho_{when} must hold at least one strength, each in [-1, 1]. Got {rho!r}."
        )
    return strengths


class Amounts(NamedTuple):
    """How much to draw: rows are those of a task in one environment."""

    n_tasks: int
    n_per_env: int
    n_test_tasks: int
    n_support: int
    n_query: int


def check_row_counts(n_classes: int, amounts: Amounts) -> None:
    """Every environment of a task must have room for all classes."""
    for name in ("n_per_env", "n_support", "n_query"):
        count = getattr(amounts, name)
        if count < n_classes:
            raise InvalidInputError(
                f"{name} must be at least n_classes={n_classes}, so that every class "
                f"has a row in every environment. Got {name}={count}."
            )


def check_whole_groups(tasks_per_group: int, amounts: Amounts) -> None:
    """Tasks come in groups, whose members confound each other."""
    for name in ("n_tasks", "n_test_tasks"):
        count = getattr(amounts, name)
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


def assemble(
    plans: tuple[Callable[..., Bunch], Callable[..., Bunch]],
    draw: Callable[..., Bunch],
    amounts: Amounts,
    rho: tuple[float | Sequence[float], float | Sequence[float]],
    seeds: tuple[int, int],
) -> Bunch:
    """Rows of training tasks, and episodes of new ones.

    Parameters
    ----------
    plans : pair of callable
        ``plan(rng, n_tasks)`` gives what is said by task, in training and test.
    draw : callable
        ``draw(rng, tasks, strengths, n_rows)`` gives a Bunch of arrays
        (n_tasks, n_envs * n_rows, ...), environment by environment.
    amounts : Amounts
        How much to draw.
    rho : pair of float or sequence of float
        Strengths in training and for the query rows.
    seeds : pair of int
        Of the training and the test tasks.
    """
    train, shifted = check_strengths(rho[0], "train"), check_strengths(rho[1], "test")
    rng = np.random.RandomState(seeds[0])
    tasks = plans[0](rng, amounts.n_tasks)
    rows = draw(rng, tasks, train, amounts.n_per_env)
    envs = np.repeat(np.arange(len(train)), amounts.n_per_env)
    flat = {name: array.reshape(-1, *array.shape[2:]) for name, array in rows.items()}
    rng = np.random.RandomState(seeds[1])
    new = plans[1](rng, amounts.n_test_tasks)
    support = draw(rng, new, train, amounts.n_support)
    query = draw(rng, new, shifted, amounts.n_query)
    return Bunch(
        **flat,
        tasks=np.repeat(np.arange(amounts.n_tasks), len(envs)),
        envs=np.tile(envs, amounts.n_tasks),
        **tasks,
        rho_train=train,
        rho_test=shifted,
        test=Bunch(
            X_support=support.data,
            y_support=support.target,
            X_query=query.data,
            y_query=query.target,
            latents_support=support.latents,
            latents_query=query.latents,
            envs_support=np.repeat(np.arange(len(train)), amounts.n_support),
            rho_query=np.repeat(shifted, amounts.n_query),
            **new,
        ),
    )
