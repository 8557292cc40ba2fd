"""A table of many tasks on workers of Dask, one of which may be lost."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.scale._store import learner_of, write_table
from skcausalmeta.tasks import adapt_table

_TASKS_PER_PART = 4096


def store_on_dask(request: dict[str, Any]) -> dict[str, Any]:
    """Seconds of one worker and of two, in turns, and a run that loses a worker."""
    learner, n_tasks = learner_of(request), request["tasks"]
    apart, repeats = request["worker_processes"], request["repeats"]
    size = {"tasks_per_part": request.get("tasks_per_part", _TASKS_PER_PART)}
    one, two = [], []
    with tempfile.TemporaryDirectory(dir=request.get("folder")) as name:
        folder = Path(name)
        write_table(folder / "labels", n_tasks, 1)
        write_table(folder / "few", 2, 1)

        def adapt(where: str, client: Any, table: str = "labels") -> Any:
            source = folder / table
            return adapt_table(learner, source, folder / where, client=client, **size)

        here = adapt("here", None)
        for turn in range(repeats):
            for n_workers, times in ((1, one), (2, two)):
                label = f"{turn} of {n_workers}"
                with _workers(n_workers, apart) as client:
                    adapt(f"few {label}", client, "few")
                    times.append(_seconds(client, lambda: adapt(label, client)))  # noqa: B023
        with _workers(2, apart) as client:
            adapt("few of lost", client, "few")
            timer = _kill_one(client, np.min(two, axis=0)[0] / 2) if apart else None
            lost = adapt("lost", client)
            if timer is not None:
                timer.join()
        differ = _differing(here, lost)
    medians = np.median([one, two], axis=1)
    return {
        "one s": medians[0, 0],
        "one processor s": medians[0, 1],
        "two s": medians[1, 0],
        "busier of two processor s": medians[1, 1],
        "killed after s": 0.0 if timer is None else timer.interval,
        "differ": differ,
    }


@contextmanager
def _workers(n_workers: int, processes: bool) -> Iterator[Any]:
    from distributed import Client, LocalCluster

    options = {"threads_per_worker": 1, "dashboard_address": None}
    with (
        LocalCluster(n_workers=n_workers, processes=processes, **options) as cluster,
        Client(cluster) as client,
    ):
        yield client


def _seconds(client: Any, run: Any) -> tuple[float, float]:
    """Return wall seconds, and those of the processor of the busiest worker.

    On a machine that others use, the latter are what a worker takes on a core of its
    own.
    """
    used, begin = client.run(time.process_time), time.perf_counter()
    run()
    seconds = time.perf_counter() - begin
    after = client.run(time.process_time)
    return seconds, max(after[name] - used[name] for name in used)


def _kill_one(client: Any, after: float) -> threading.Timer:
    """Kill a worker process in so many seconds; another takes its place."""
    pid = next(iter(client.run(os.getpid).values()))
    timer = threading.Timer(after, os.kill, (pid, signal.SIGKILL))
    timer.start()
    return timer


def _differing(one: Any, other: Any) -> int:
    """Tell how many tasks of two stores differ in a bit, or are in one of them."""
    missing = len(np.setxor1d(one.ids_, other.ids_))
    both = np.intersect1d(one.ids_, other.ids_)
    weights = [store.deviations(both) for store in (one, other)]
    facts = [store.to_frame().loc[both] for store in (one, other)]
    same = (weights[0] == weights[1]).all(axis=(1, 2))
    same &= (facts[0]["certificate"] == facts[1]["certificate"]).to_numpy()
    return missing + int(np.count_nonzero(~same))
