"""Small work of learners and heads: tables, adapted tasks, many episodes, LIBLINEAR."""

from __future__ import annotations

import inspect
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from benchmarks.solvers._checkout import Checkout
from benchmarks.solvers._problems import LAMBDA2, Size, draw_batch
from skcausalmeta.datasets import fetch_wisdm
from skcausalmeta.heads import GroupLassoSVC
from skcausalmeta.learners import SparseMetaClassifier

# An earlier commit gets fewer tasks: its time is that of one of them.
_FEWER = 10


def draw_table(
    n_tasks: int = 20, n_rows: int = 40, n_features: int = 12
) -> tuple[Any, Any, Any]:
    """Tasks with linear rules of their own, of two classes."""
    rng = np.random.default_rng(0)
    tasks = np.repeat(np.arange(n_tasks), n_rows)
    X = rng.standard_normal((n_tasks * n_rows, n_features))
    used = rng.standard_normal((n_tasks, n_features))
    rules = used * (rng.random((n_tasks, n_features)) < 0.4)
    noise = 0.3 * rng.standard_normal(len(X))
    return X, ((X * rules[tasks]).sum(axis=1) + noise > 0).astype(int), tasks


def measure_turns(calls: Mapping[str, Callable[[], Any]], repeats: int) -> dict:
    """CPU milliseconds of calls that take turns, so that load hits all alike."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for repeat in range(repeats + 1):
        for name, call in calls.items():
            start = time.process_time()
            call()
            if repeat:
                found[name].append(1000 * (time.process_time() - start))
    return {
        name: {"least": min(times), "median": statistics.median(times)}
        for name, times in found.items()
    }


def small_learner(kind: Any, n_steps: int, **more: Any) -> Any:
    """A learner of tasks that are solved by themselves, with the parameters it has."""
    given = {
        "shared_labels": False,
        "tasks_per_batch": 4,
        "batches_per_epoch": min(20, n_steps),
        "max_epochs": -(-n_steps // 20),
        "verbose": 0,
        "random_state": 0,
        **more,
    }
    known = inspect.signature(kind).parameters
    return kind(**{name: value for name, value in given.items() if name in known})


def measure_both(before: Checkout | None, n_steps: int, repeats: int) -> dict:
    """Fits of the tiny table, by this commit and an earlier one in turns."""
    X, y, tasks = draw_table()

    def fit(kind: Any, where: AbstractContextManager[Any]) -> Any:
        with where:
            return small_learner(kind, n_steps).fit(X, y, tasks=tasks)

    calls = {"auto": lambda: fit(SparseMetaClassifier, nullcontext())}
    if before is not None:
        kind = before.load("learners", "SparseMetaClassifier")
        calls["earlier"] = lambda: fit(kind, before.active())
    return measure_turns(calls, repeats)


def measure_adapt(n_steps: int, repeats: int) -> dict:
    """`adapt` of one task of the tiny table over ``LogisticRegression().fit``."""
    X, y, tasks = draw_table()
    learner = small_learner(SparseMetaClassifier, n_steps).fit(X, y, tasks=tasks)
    rows, labels = X[tasks == 0], y[tasks == 0]
    return measure_turns(
        {
            "adapt": lambda: learner.adapt(rows, labels),
            "LogisticRegression": lambda: LogisticRegression().fit(rows, labels),
        },
        repeats,
    )


def measure_episodes(before: Checkout | None, n_tasks: int, n_steps: int) -> dict:
    """CPU milliseconds a task of `predict_episodes`, ten rows and five queries each."""
    X, y, tasks = draw_table()
    rng = np.random.default_rng(1)
    support = rng.standard_normal((n_tasks, 10, 12))
    query = rng.standard_normal((n_tasks, 5, 12))
    labels = np.tile([0, 1], (n_tasks, 5))
    contexts: dict[str, tuple[Any, Callable[[], AbstractContextManager[Any]]]] = {
        "auto": (SparseMetaClassifier, nullcontext)
    }
    if before is not None:
        contexts["earlier"] = (
            before.load("learners", "SparseMetaClassifier"),
            before.active,
        )
    found = {}
    for name, (kind, where) in contexts.items():
        with where():
            learner = small_learner(kind, n_steps).fit(X, y, tasks=tasks)
            size = n_tasks if name == "auto" else max(1, n_tasks // _FEWER)
            few = min(size, 20)
            learner.predict_episodes(support[:few], labels[:few], query[:few])
            start = time.process_time()
            learner.predict_episodes(support[:size], labels[:size], query[:size])
            seconds = time.process_time() - start
        found[name] = {"n_tasks": size, "cpu_ms_per_task": 1000 * seconds / size}
    return found


def measure_liblinear(size: Size, repeats: int) -> dict:
    """One task without a Lasso against LIBLINEAR's Crammer-Singer solver.

    The objective of both is in the line: LIBLINEAR stops by its own rule.
    """
    batch = draw_batch(size, 1)
    X, y = batch.support[0].numpy(), batch.labels[0].numpy()
    peer = LinearSVC(
        multi_class="crammer_singer", C=1 / LAMBDA2, fit_intercept=False, random_state=0
    )
    exact = LinearSVC(
        multi_class="crammer_singer",
        C=1 / LAMBDA2,
        fit_intercept=False,
        tol=1e-6,
        max_iter=100_000,
        random_state=0,
    )
    head = GroupLassoSVC(
        0.0,
        LAMBDA2,
        reg_scale="absolute",
        fit_intercept=False,
        class_weight=None,
        solver="auto",
    )
    models = {"fit": head, "LIBLINEAR": peer, "LIBLINEAR to 1e-6": exact}
    calls = {name: lambda one=one: one.fit(X, y) for name, one in models.items()}
    found = measure_turns(calls, repeats)
    layer = batch.head("auto", 1e-6)
    alone = {
        "layer": lambda: layer.solve_episodes(
            batch.support, batch.labels, batch.n_classes
        )
    }
    found |= measure_turns(alone, repeats)
    solution = layer.solve_episodes(batch.support, batch.labels, batch.n_classes)
    coefs = {name: model.coef_ for name, model in models.items()}
    coefs["layer"] = solution.coef[0].T.numpy()
    for name, coef in coefs.items():
        found[name]["objective"] = objective(coef, X, y)
    return found


def objective(coef: Any, X: Any, y: Any) -> float:
    """Hinges of Crammer and Singer plus the ridge."""
    scores = X @ coef.T
    own = scores[np.arange(len(y)), y]
    margins = scores + 1.0 - own[:, None]
    margins[np.arange(len(y)), y] = 0.0
    return float(margins.max(axis=1).sum() + LAMBDA2 / 2 * np.square(coef).sum())


def measure_table(name: str, folder: Path | None, max_epochs: int | None) -> dict:
    """CPU seconds of ``SparseMetaClassifier().fit`` with its defaults."""
    if name == "wisdm":
        bunch = fetch_wisdm(data_home=folder)
        X, y, tasks = bunch.data, bunch.target, bunch.tasks
    elif name == "tall":
        X, y, tasks = draw_table(29, 511, 9)
        X, y, tasks = X[:14_820], y[:14_820], tasks[:14_820]
    else:
        X, y, tasks = draw_table(6, 20, 4)
    options = {} if max_epochs is None else {"max_epochs": max_epochs}
    learner = SparseMetaClassifier(verbose=0, random_state=0, **options)
    start, wall = time.process_time(), time.perf_counter()
    learner.fit(X, y, tasks=tasks)
    return {
        "rows": len(X),
        "tasks": len(np.unique(tasks)),
        "cpu_seconds": time.process_time() - start,
        "wall_seconds": time.perf_counter() - wall,
    }
