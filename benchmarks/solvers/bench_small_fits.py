"""CPU seconds of fits that are small, where overhead would count most.

training
    ``SparseMetaClassifier.fit`` on a table of 20 tasks of 40 rows and 12 columns:
    "apart", 200 steps of 4 tasks that are solved by themselves (target: 1.1 s, a tenth
    of what it took before the compiled solver), and "shared", all that the defaults do
    for tasks that share their labels.
head
    ``GroupLassoSVC(0.2, solver="auto").fit`` and ``GroupLassoLogistic(0.2).fit`` over
    ``LogisticRegression().fit`` on the same rows (target: 1).

Every figure is the least and the median of repeated calls in one process, after one
that pays for imports.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from benchmarks._harness import Harness, make_parser
from benchmarks.solvers._problems import SIZES, SMOKE_SIZES, Size, draw_batch
from skcausalmeta.heads import GroupLassoLogistic, GroupLassoSVC
from skcausalmeta.learners import SparseMetaClassifier

MEASURES = (
    "skcausalmeta/episodes",
    "skcausalmeta/heads",
    "skcausalmeta/implicit",
    "skcausalmeta/learners",
    "skcausalmeta/solvers",
    "skcausalmeta/training",
)
HEADS: dict[str, Callable[[], Any]] = {
    "GroupLassoSVC": lambda: GroupLassoSVC(0.2, solver="auto"),
    "GroupLassoLogistic": lambda: GroupLassoLogistic(0.2),
    "LogisticRegression": LogisticRegression,
}


def draw_table() -> tuple[Any, Any, Any]:
    """Twenty tasks with linear rules of their own, of two classes."""
    rng = np.random.default_rng(0)
    tasks = np.repeat(np.arange(20), 40)
    X = rng.standard_normal((800, 12))
    rules = rng.standard_normal((20, 12)) * (rng.random((20, 12)) < 0.4)
    noise = 0.3 * rng.standard_normal(800)
    return X, ((X * rules[tasks]).sum(axis=1) + noise > 0).astype(int), tasks


def cpu_seconds(call: Callable[[], Any], repeats: int) -> list[float]:
    """CPU seconds of some calls, after a first one."""
    call()
    found = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        found.append(time.process_time() - start)
    return found


def measure_training(shared: bool, n_steps: int, repeats: int) -> dict[str, float]:
    X, y, tasks = draw_table()

    def fit() -> Any:
        steps = {"batches_per_epoch": min(20, n_steps), "max_epochs": -(-n_steps // 20)}
        learner = SparseMetaClassifier(
            shared_labels=shared,
            tasks_per_batch=4,
            verbose=0,
            random_state=0,
            **steps,
        )
        return learner.fit(X, y, tasks=tasks)

    found = cpu_seconds(fit, repeats)
    return {"least": min(found), "median": statistics.median(found)}


def measure_heads(size: Size, repeats: int) -> dict[str, Any]:
    """Milliseconds of every head; calls take turns, so that load hits all alike."""
    batch = draw_batch(size, 1)
    X, y = batch.support[0].numpy(), batch.labels[0].numpy()
    found: dict[str, list[float]] = {name: [] for name in HEADS}
    for repeat in range(repeats + 1):
        for name, make in HEADS.items():
            start = time.process_time()
            make().fit(X, y)
            if repeat:
                found[name].append(1000 * (time.process_time() - start))
    return {
        name: {"least": min(times), "median": statistics.median(times)}
        for name, times in found.items()
    }


def run_training(harness: Harness, smoke: bool) -> None:
    n_steps, repeats = (2, 1) if smoke else (200, 3)
    rows = []
    for shared in (False, True):
        settings = {
            "part": "training",
            "shared": shared,
            "n_steps": n_steps,
            "repeats": repeats,
        }
        measure = partial(measure_training, shared, n_steps, repeats)
        result = harness.run(settings, measure)
        label = "shared" if shared else "apart"
        rows.append([label, result["least"], result["median"]])
    header = ["tasks", "least CPU s", "median CPU s"]
    harness.table(f"fit of a tiny table, {n_steps} steps of 4 tasks", header, rows)


def run_heads(harness: Harness, smoke: bool) -> None:
    sizes = SMOKE_SIZES[:1] if smoke else SIZES[1:4]
    rows = []
    for size in sizes:
        repeats = 1 if smoke else 30
        settings = {"part": "head", "size": size, "repeats": repeats}
        result = harness.run(settings, partial(measure_heads, size, repeats))
        peer = result["LogisticRegression"]
        for name in HEADS:
            if name != "LogisticRegression":
                line = result[name]
                ratios = [line[kind] / peer[kind] for kind in ("least", "median")]
                rows.append([str(Size(*size)), name, line["median"], *ratios])
    header = ["size", "head", "median CPU ms", "least / peer", "median / peer"]
    harness.table("fit of one task over LogisticRegression().fit", header, rows)


PARTS = {"training": run_training, "head": run_heads}


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--part", choices=[*PARTS, "all"], default="all")
    arguments = parser.parse_args()
    harness = Harness("small_fits", arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for name, run in PARTS.items():
            if arguments.part in (name, "all"):
                run(harness, arguments.smoke)


if __name__ == "__main__":
    main()
