"""What `bench_scale` measures, each in a process of its own.

Run as a module it measures the request of its first argument and prints JSON.
"""

from __future__ import annotations

import copy
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import joblib
import numpy as np
import torch

from benchmarks._harness import in_process, median_time, peak, reset_peak
from benchmarks.scale._store import store
from benchmarks.scale._store_on_dask import store_on_dask
from skcausalmeta.backbones import MLP
from skcausalmeta.learners import MAMLClassifier, SparseMetaClassifier
from skcausalmeta.model_selection import ClassKFold, few_shot_scorer

_SHOT, _QUERY, _WIDTH = 1, 5, 64


def in_processes(request: dict[str, Any]) -> dict[str, Any]:
    """The measurement of a request in fresh processes."""
    launcher: list[str] = []
    n_processes = request.get("processes", 1)
    if n_processes > 1:
        port = str(20_000 + os.getpid() % 20_000)
        launcher += ["-m", "torch.distributed.run", "--master_port", port]
        launcher += ["--nproc_per_node", str(n_processes)]
    return in_process(
        "benchmarks.scale._parts",
        request,
        launcher=launcher,
        environment={"OMP_NUM_THREADS": str(request["threads"])},
    )


def rows_of(way: int, features: int, per_class: int) -> tuple[Any, Any]:
    """Normal rows, a class apart from the next by its mean."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(way), per_class)
    means = rng.standard_normal((way, features))
    noise = rng.standard_normal((len(y), features))
    return (means[y] + noise).astype(np.float32), y


def learner_of(request: dict[str, Any], **params: Any) -> Any:
    """The learner of a request, with heads or with gradient steps."""
    kind = {"heads": SparseMetaClassifier, "gradient": MAMLClassifier}
    return kind[request["learner"]](
        backbone=MLP((_WIDTH,), _WIDTH),
        n_way=request["way"],
        n_shot=_SHOT,
        n_query=_QUERY,
        fit_head=False,
        verbose=0,
        random_state=0,
        **params,
    )


def train(request: dict[str, Any]) -> dict[str, Any]:
    """Tasks a second of training, after an epoch that does not count."""
    X, y = rows_of(request["way"], request["features"], 2 * (_SHOT + _QUERY))
    learner = learner_of(
        request,
        tasks_per_batch=request["tasks"],
        batches_per_epoch=request["batches"],
        max_epochs=3,
        net_params={"accelerate": True} if request["processes"] > 1 else None,
    )
    before = reset_peak()
    learner.fit(X, y)
    seconds = min(row["dur"] for row in learner.history_[1:])
    n_tasks = request["tasks"] * request["batches"]
    return {"rate": n_tasks / seconds, "memory": peak() - before}


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Seconds of `predict_episodes`, and its memory."""
    learner = fitted(request)
    tasks = tasks_of(request["way"], request["features"], request["tasks"])
    few = [part[:2] for part in tasks]
    learner.predict_episodes(*few)
    before = reset_peak()
    bound = request.get("max_memory")
    repeats = request["repeats"]
    seconds = median_time(
        lambda: learner.predict_episodes(*tasks, max_memory=bound),
        repeats=repeats,
        warm_up=int(repeats > 1),
    )
    return {"seconds": seconds, "memory": peak() - before}


def fitted(request: dict[str, Any]) -> Any:
    X, y = rows_of(request["way"], request["features"], 2 * (_SHOT + _QUERY))
    params = {"max_epochs": 1, "batches_per_epoch": 1, "tasks_per_batch": 2}
    return learner_of(request, **params).fit(X, y)


def tasks_of(way: int, features: int, n_tasks: int) -> list[Any]:
    """Support rows, labels and query rows of many tasks."""
    rng = np.random.default_rng(1)
    labels = np.tile(np.repeat(np.arange(way), _SHOT), (n_tasks, 1))
    means = rng.standard_normal((n_tasks, way, features), dtype=np.float32)
    shape = (n_tasks, way * _QUERY, features)
    query = np.repeat(means, _QUERY, axis=1)
    query += rng.standard_normal(shape, dtype=np.float32)
    support = np.repeat(means, _SHOT, axis=1)
    support += rng.standard_normal(support.shape, dtype=np.float32)
    return [support, labels, query]


def serve(request: dict[str, Any]) -> dict[str, Any]:
    """Adapts of threads against one after the other; growth over the last half."""
    learner = fitted(request)
    tasks = tasks_of(request["way"], request["features"], request["tasks"])
    jobs = list(zip(*tasks, strict=True))

    def one(job: Any) -> Any:
        return copy.copy(learner).adapt(*job[:2]).predict(job[2])

    begin = time.perf_counter()
    alone = [one(job) for job in jobs]
    serial = time.perf_counter() - begin
    rounds, sizes = 2 * request["threads_of"], []
    begin, same = time.perf_counter(), True
    with ThreadPoolExecutor(request["threads_of"]) as pool:
        for _ in range(request["threads_of"]):  # every thread's share, in all
            for part in np.array_split(np.arange(len(jobs)), 2):
                found = pool.map(one, [jobs[k] for k in part])
                pairs = zip(found, part, strict=True)
                same &= all(np.array_equal(a, alone[k]) for a, k in pairs)
                sizes.append(resident())
    seconds = time.perf_counter() - begin
    half = sizes[rounds // 2 - 1 :]
    return {
        "same": same,
        "adapts": len(jobs) * request["threads_of"],
        "growth": half[-1] / half[0] - 1.0,
        "serial_rate": len(jobs) / serial,
        "threaded_rate": len(jobs) * request["threads_of"] / seconds,
    }


def resident() -> int:
    """Memory of this process in bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def search(request: dict[str, Any]) -> dict[str, Any]:
    """A grid search in one process and on two workers of Dask."""
    from distributed import Client, LocalCluster
    from sklearn.base import clone
    from sklearn.model_selection import GridSearchCV

    X, y = rows_of(20, request["features"], 40)
    params = {"max_epochs": 1, "batches_per_epoch": request["batches"]}
    grid = GridSearchCV(
        learner_of(request, **params),
        {"head__group_reg": [0.05, 0.1, 0.2, 0.3]},
        cv=ClassKFold(3),
        scoring=few_shot_scorer(
            n_way=request["way"], n_shot=1, n_episodes=request["episodes"]
        ),
        refit=False,
    )
    # A search of one batch a fit first: processes import and compile on their way.
    short = clone(grid).set_params(estimator__batches_per_epoch=1)
    short.fit(X, y)
    serial = timed(lambda: clone(grid).fit(X, y))
    workers = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    workers["processes"] = request["worker_processes"]
    with LocalCluster(**workers) as cluster, Client(cluster) as client:
        client.run(one_thread)
        with joblib.parallel_config(backend="dask"):
            clone(short).fit(X, y)
            shared = timed(lambda: clone(grid).fit(X, y))
    scores = [found.cv_results_["mean_test_score"] for found, _ in (serial, shared)]
    return {
        "same": bool(np.array_equal(*scores)),
        "serial": serial[1],
        "dask": shared[1],
        "ratio": shared[1] / serial[1],
    }


def one_thread() -> None:
    """Import what workers need, and keep them to a core each."""
    import torch

    import skcausalmeta.learners  # noqa: F401

    torch.set_num_threads(1)


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    """A result and its seconds."""
    begin = time.perf_counter()
    return run(), time.perf_counter() - begin


PARTS = {
    "train": train,
    "answer": answer,
    "serve": serve,
    "store": store,
    "dask": store_on_dask,
    "search": search,
}

if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    torch.set_num_threads(asked["threads"])
    measured = PARTS[asked["part"]](asked)
    if int(os.environ.get("RANK", 0)) == 0:
        print(json.dumps(measured, default=float))
