"""Processes that are killed at any moment lose nothing and leave nothing half."""

import os
import signal
import time

import numpy as np
import pytest

from skcausalmeta.learners import SparseMetaClassifier
from skcausalmeta.tasks import adapt_table, open_tasks
from tests.tasks.test_stored_tasks import SMALL, same, table

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked process"),
]
N_TASKS, N_MOMENTS = 60, 10


@pytest.fixture(scope="module")
def learner():
    X, y, tasks = table()
    return SparseMetaClassifier(common="linear", **SMALL).fit(X, y, tasks=tasks)


def killed_after(seconds, work):
    """Run work in a process of its own, and kill it; tell whether it had ended."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    return os.WIFEXITED(os.waitpid(pid, 0)[1])


def seconds_of(work):
    """Return how long work takes in a forked process."""
    begin, pid = time.perf_counter(), os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    return time.perf_counter() - begin


def parts_named(path):
    store = path / "manifest.json"
    return sorted(p.name for p in path.glob("part-*")) if store.exists() else []


def test_adapt_goes_on_after_kills_at_random_moments(learner, tmp_path):
    X, y, tasks = table(seed=1, n_tasks=N_TASKS)
    whole = learner.adapt_tasks(X, y, tasks)

    def work(path):
        adapt_table(learner, (X, y, tasks), path, tasks_per_part=2)

    length = seconds_of(lambda: work(tmp_path / "trial"))
    rng = np.random.default_rng(0)
    ended = 0
    for moment in range(N_MOMENTS):
        path = tmp_path / f"store {moment}"
        ended += killed_after(rng.random() * length, lambda: work(path))  # noqa: B023
        if not (path / "manifest.json").exists():
            work(path)
            continue
        found = open_tasks(path, learner)  # what is there, is whole
        own = np.isin(tasks, found.ids_)
        if own.any():
            np.testing.assert_allclose(
                found.decision_function(X[own], tasks[own]),
                whole.decision_function(X[own], tasks[own]),
                rtol=1e-12,
                atol=1e-14,
            )
        before = {name: os.stat(path / name).st_mtime_ns for name in kept(path)}
        work(path)
        after = {name: os.stat(path / name).st_mtime_ns for name in before}
        assert after == before  # finished parts are not written again
        same(open_tasks(path), whole, X, tasks)
        assert parts_named(path) == sorted(kept(path))
    assert ended < N_MOMENTS  # some were killed in the middle


def alike(one, other):
    """Tell whether answers agree; sums of rows may round by the place of a row."""
    return np.allclose(one, other, rtol=1e-10, atol=1e-13)


def kept(path):
    """Return the parts that the list of a store names."""
    from skcausalmeta.tasks._store import Store

    return [part["file"] for part in Store(path).read()["parts"]]


def test_update_counts_as_a_whole_or_not_at_all(learner, tmp_path):
    X, y, tasks = table(seed=1, n_tasks=N_TASKS)
    own = tasks < 20
    old = learner.adapt_tasks(X, y, tasks)
    new = learner.adapt_tasks(X[own], 1 - y[own], tasks[own])
    changes = X[own], 1 - y[own], tasks[own]
    path = tmp_path / "store"
    adapt_table(learner, (X, y, tasks), path)

    def work():
        open_tasks(path, learner).update(*changes)

    length = seconds_of(work)
    rng = np.random.default_rng(1)
    before, after = (one.decision_function(X[own], tasks[own]) for one in (old, new))
    outcomes = set()
    for _ in range(N_MOMENTS):
        stored = open_tasks(path, learner).update(X[own], y[own], tasks[own])
        asked = stored.decision_function(X[own], tasks[own])
        assert alike(asked, before)
        killed_after(rng.random() * length, work)
        found = open_tasks(path).decision_function(X[own], tasks[own])
        is_new = alike(found, after)
        assert is_new or alike(found, before)
        outcomes.add(is_new)
        rest = open_tasks(path).decision_function(X[~own], tasks[~own])
        assert alike(rest, old.decision_function(X[~own], tasks[~own]))
    assert False in outcomes
