"""Tables of very many tasks: solved, stored, asked by id and changed."""

from __future__ import annotations

import copy
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from skcausalmeta.learners import SparseMetaClassifier
from skcausalmeta.tasks import adapt_table, open_tasks, predict_table, update_table

_COLUMNS, _FEWEST, _MOST, _DEVIATING = 64, 10, 20, 3
_PER_FILE, _TRAINING = 50_000, 300


def rows_of_tasks(first: int, n_tasks: int, part: int) -> tuple[Any, Any, Any]:
    """Tasks of 10 to 20 rows: a common rule, and three columns that differ."""
    rule = np.random.default_rng(0)
    common = rule.normal(size=_COLUMNS) * (rule.random(_COLUMNS) < 0.3)
    rng = np.random.default_rng([part, first])
    task = np.repeat(np.arange(n_tasks), rng.integers(_FEWEST, _MOST + 1, n_tasks))
    X = rng.standard_normal((len(task), _COLUMNS), dtype=np.float32)
    columns = rng.integers(0, _COLUMNS, (n_tasks, _DEVIATING))
    weights = 2 * rng.normal(size=columns.shape)
    own = (np.take_along_axis(X, columns[task], 1) * weights[task]).sum(axis=1)
    scores = X @ common.astype(np.float32) + own + rng.logistic(size=len(task))
    return X, (scores > 0).astype(np.int8), task + first


def write_table(folder: Path, n_tasks: int, part: int) -> None:
    """Write a folder of Parquet files."""
    folder.mkdir(parents=True)
    for first in range(0, n_tasks, _PER_FILE):
        X, y, task = rows_of_tasks(first, min(_PER_FILE, n_tasks - first), part)
        columns = {f"x{k:02d}": X[:, k] for k in range(_COLUMNS)}
        pq.write_table(
            pa.table({"task": task, "y": y, **columns}),
            folder / f"part-{first // _PER_FILE:04d}.parquet",
            row_group_size=2**17,
            use_dictionary=False,
            compression="none",
        )


def store(request: dict[str, Any]) -> dict[str, Any]:
    """Seconds, bytes and memory of all steps, and a sample against single calls."""
    n_tasks = request["tasks"]
    X, y, task = rows_of_tasks(0, request.get("training", _TRAINING), 0)
    learner = SparseMetaClassifier(
        backbone="identity",
        common="linear",
        verbose=0,
        random_state=0,
        max_epochs=request.get("epochs", "auto"),
    ).fit(X, y, tasks=task)
    with tempfile.TemporaryDirectory(dir=request.get("folder")) as name:
        folder = Path(name)
        write_table(folder / "labels", n_tasks, 1)
        write_table(folder / "changes", max(1, n_tasks // 100), 2)
        found = dict(_timed("adapt", lambda: _adapt(learner, folder, request)))
        stored = open_tasks(folder / "store", learner)
        found["bytes"] = _bytes_of(folder / "store") / n_tasks
        found["gap"] = stored.largest_gap_
        found["differ"] = _differing(learner, stored, n_tasks)
        found |= _timed(
            "predict",
            lambda: predict_table(stored, folder / "labels", folder / "found"),
        )
        found["rows"] = pq.read_metadata(folder / "found").num_rows
        found |= _timed(
            "update",
            lambda: update_table(folder / "store", folder / "changes", learner=learner),
        )
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {**found, "memory": usage * 1024}


def _adapt(learner: Any, folder: Path, request: dict[str, Any]) -> None:
    jobs = request.get("jobs")
    adapt_table(learner, folder / "labels", folder / "store", n_jobs=jobs)


def _timed(name: str, run: Any) -> Iterator[tuple[str, float]]:
    """Yield wall seconds, and those of processors here and in processes."""
    begin, used = time.perf_counter(), _processor()
    run()
    yield f"{name} s", time.perf_counter() - begin
    yield f"{name} processor s", _processor() - used


def _processor() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _bytes_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("part-*"))


def _differing(learner: Any, stored: Any, n_tasks: int) -> int:
    """Tell how many tasks of a sample differ in a bit from a single call."""
    X, y, task = rows_of_tasks(0, min(_PER_FILE, n_tasks), 1)
    sample = np.random.default_rng(3).choice(task.max() + 1, min(1000, task.max() + 1))
    differ = 0
    for name in np.unique(sample):
        own = slice(*np.searchsorted(task, [name, name + 1]))
        alone = copy.copy(learner).adapt(X[own], y[own]).head_
        kept = stored[name].head_
        differ += not (
            np.array_equal(alone.coef_, kept.coef_)
            and np.array_equal(alone.intercept_, kept.intercept_)
            and alone.dual_gap_ == kept.dual_gap_
        )
    return differ
