"""Tables of very many tasks: solved, stored, asked by id and changed."""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks._harness import peak, reset_peak
from skcausalmeta.learners import SparseMetaClassifier
from skcausalmeta.tasks import adapt_table, open_tasks, predict_table, update_table

_COLUMNS, _FEWEST, _MOST, _DEVIATING = 64, 10, 20, 3
_PER_FILE, _ROWS_PER_FILE, _TRAINING = 50_000, 500_000, 300
_ROWS_PER_TASK = 10


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
    """Write labelled rows, those of a task together, as Parquet files."""
    folder.mkdir(parents=True)
    for number, first in enumerate(range(0, n_tasks, _PER_FILE)):
        X, y, task = rows_of_tasks(first, min(_PER_FILE, n_tasks - first), part)
        _write(folder, number, {"task": task, "y": y}, X)


def write_rows(folder: Path, n_tasks: int) -> None:
    """Write rows to predict, ten a task on average, in any order of the tasks."""
    folder.mkdir(parents=True)
    n_rows = _ROWS_PER_TASK * n_tasks
    for number, first in enumerate(range(0, n_rows, _ROWS_PER_FILE)):
        size = min(_ROWS_PER_FILE, n_rows - first)
        rng = np.random.default_rng([4, first])
        X = rng.standard_normal((size, _COLUMNS), dtype=np.float32)
        _write(folder, number, {"task": rng.integers(0, n_tasks, size)}, X)


def _write(folder: Path, number: int, named: dict[str, Any], X: Any) -> None:
    columns = {f"x{k:02d}": X[:, k] for k in range(_COLUMNS)}
    pq.write_table(
        pa.table({**named, **columns}),
        folder / f"part-{number:04d}.parquet",
        row_group_size=2**17,
        use_dictionary=False,
        compression="none",
    )


def learner_of(request: dict[str, Any]) -> Any:
    """A learner around a common predictor, fitted on tasks of no table."""
    X, y, task = rows_of_tasks(0, request.get("training", _TRAINING), 0)
    return SparseMetaClassifier(
        backbone="identity",
        common="linear",
        verbose=0,
        random_state=0,
        max_epochs=request.get("epochs", "auto"),
    ).fit(X, y, tasks=task)


def store(request: dict[str, Any]) -> dict[str, Any]:
    """Seconds, bytes and memory of all steps, and a sample against single calls."""
    n_tasks, learner = request["tasks"], learner_of(request)
    with tempfile.TemporaryDirectory(dir=request.get("folder")) as name:
        folder = Path(name)
        table, kept = folder / "labels", folder / "store"
        write_table(folder / "few", 2, 1)  # imports, and what is made once
        adapt_table(learner, folder / "few", folder / "first")
        write_table(table, n_tasks, 1)
        found = dict(_measured("adapt", lambda: adapt_table(learner, table, kept)))
        shutil.rmtree(table)  # a million tasks are 4 GB of rows
        stored = open_tasks(kept, learner)
        found["bytes"] = _bytes_of(kept) / n_tasks
        found["gap"] = stored.largest_gap_
        found["differ"] = _differing(learner, stored, n_tasks)
        asked, answers = folder / "rows", folder / "found"
        write_rows(asked, n_tasks)
        found |= _measured("predict", lambda: predict_table(stored, asked, answers))
        found["rows"] = pq.read_metadata(answers).num_rows
        shutil.rmtree(asked)
        changes = folder / "changes"
        write_table(changes, max(1, n_tasks // 100), 2)
        change = partial(update_table, kept, changes, learner=learner)
        found |= _measured("update", change)
        nothing = folder / "one task"
        write_table(nothing, 1, 3)  # what a change costs whatever its size
        change = partial(update_table, kept, nothing, learner=learner)
        found |= _measured("update of one", change)
    return found


def _measured(name: str, run: Any) -> Iterator[tuple[str, float]]:
    """Yield wall seconds, those of the processor, and the largest memory."""
    reset_peak()
    begin, used = time.perf_counter(), _processor()
    run()
    yield f"{name} s", time.perf_counter() - begin
    yield f"{name} processor s", _processor() - used
    yield f"{name} memory", peak()


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
