"""CPU seconds of fits that are small, where overhead would count most.

training
    ``SparseMetaClassifier.fit`` on a table of 20 tasks of 40 rows and 12 columns:
    "apart", 200 steps of 4 tasks that are solved by themselves (target: 1.1 s, a tenth
    of what it took before the compiled solver), and "shared", all that the defaults do
    for tasks that share their labels.
head
    ``GroupLassoSVC(0.2, solver="auto").fit`` and ``GroupLassoLogistic(0.2).fit`` over
    ``LogisticRegression().fit`` on the same rows (target: 1).

earlier
    The tiny table, "apart", by this commit and by another checkout (``--before``) in
    turns.
adapt
    ``adapt`` of one task of that table over ``LogisticRegression().fit`` (target: 1.5).
episodes
    `predict_episodes` of 10,000 tasks, and of a tenth of them by the other checkout
    (target: a fifth of its time a task).
liblinear
    One task without a Lasso against ``LinearSVC(multi_class="crammer_singer")``.
tables
    ``SparseMetaClassifier().fit`` on WISDM (``--data-dir``; target: 20 s of CPU) and on
    14,820 rows of 29 tasks with 9 columns (30 s); one call each.

Every other figure is the least and the median of repeated calls in one process,
after one that pays for imports.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from sklearn.linear_model import LogisticRegression

from benchmarks._harness import Harness, make_parser
from benchmarks.solvers._checkout import Checkout
from benchmarks.solvers._problems import SIZES, SMOKE_SIZES, Size, draw_batch
from benchmarks.solvers._small_tasks import (
    draw_table,
    measure_adapt,
    measure_both,
    measure_episodes,
    measure_liblinear,
    measure_table,
    measure_turns,
)
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
    calls = {name: lambda make=make: make().fit(X, y) for name, make in HEADS.items()}
    return measure_turns(calls, repeats)


class Wanted(NamedTuple):
    """What the arguments ask for."""

    smoke: bool
    before: Checkout | None
    data_dir: Path | None


def run_training(harness: Harness, wanted: Wanted) -> None:
    n_steps, repeats = (2, 1) if wanted.smoke else (200, 3)
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


def run_heads(harness: Harness, wanted: Wanted) -> None:
    sizes = SMOKE_SIZES[:1] if wanted.smoke else SIZES[1:4]
    rows = []
    for size in sizes:
        repeats = 1 if wanted.smoke else 30
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


def run_earlier(harness: Harness, wanted: Wanted) -> None:
    if wanted.before is None:
        return
    n_steps, repeats = (2, 1) if wanted.smoke else (200, 3)
    settings = {
        "part": "earlier",
        "earlier": wanted.before.commit,
        "n_steps": n_steps,
        "repeats": repeats,
    }
    measure = partial(measure_both, wanted.before, n_steps, repeats)
    result = harness.run(settings, measure)
    rows = [[name, line["least"], line["median"]] for name, line in result.items()]
    for kind in ("least", "median"):
        ratio = result["earlier"][kind] / result["auto"][kind]
        rows.append([f"earlier / auto, {kind}", ratio, "-"])
    harness.table("fit of the tiny table", ["", "least CPU ms", "median"], rows)


def run_adapt(harness: Harness, wanted: Wanted) -> None:
    n_steps, repeats = (2, 1) if wanted.smoke else (20, 50)
    settings = {"part": "adapt", "repeats": repeats}
    result = harness.run(settings, partial(measure_adapt, n_steps, repeats))
    peer = result["LogisticRegression"]
    rows = [
        [
            name,
            line["least"],
            line["median"],
            line["least"] / peer["least"],
            line["median"] / peer["median"],
        ]
        for name, line in result.items()
    ]
    header = ["", "least CPU ms", "median", "least / peer", "median / peer"]
    harness.table("adapt of a task of 40 rows", header, rows)


def run_episodes(harness: Harness, wanted: Wanted) -> None:
    n_tasks, n_steps = (20, 2) if wanted.smoke else (10_000, 20)
    earlier = None if wanted.before is None else wanted.before.commit
    settings = {"part": "episodes", "n_tasks": n_tasks, "earlier": earlier}
    measure = partial(measure_episodes, wanted.before, n_tasks, n_steps)
    result = harness.run(settings, measure)
    mine = result["auto"]["cpu_ms_per_task"]
    rows = [
        [name, line["n_tasks"], line["cpu_ms_per_task"], line["cpu_ms_per_task"] / mine]
        for name, line in result.items()
    ]
    header = ["", "tasks", "CPU ms a task", "times ours"]
    harness.table("predict_episodes", header, rows)


def run_liblinear(harness: Harness, wanted: Wanted) -> None:
    sizes, repeats = (SMOKE_SIZES[:1], 1) if wanted.smoke else (SIZES, 9)
    rows = []
    for size in sizes:
        settings = {"part": "liblinear", "size": size, "repeats": repeats}
        result = harness.run(settings, partial(measure_liblinear, size, repeats))
        least = min(line["objective"] for line in result.values())
        for name, line in result.items():
            excess = line["objective"] / least - 1
            rows.append([str(Size(*size)), name, line["least"], line["median"], excess])
    header = ["size", "", "least CPU ms", "median", "objective above the least"]
    harness.table("one task without a Lasso", header, rows)


def run_tables(harness: Harness, wanted: Wanted) -> None:
    names = ("tiny",) if wanted.smoke else ("wisdm", "tall")
    epochs = 1 if wanted.smoke else None
    rows = []
    for name in names:
        if name == "wisdm" and wanted.data_dir is None:
            continue
        measure = partial(measure_table, name, wanted.data_dir, epochs)
        result = harness.run({"part": "tables", "table": name}, measure)
        rows.append([name, *result.values()])
    header = ["table", "rows", "tasks", "CPU s", "wall s"]
    harness.table("SparseMetaClassifier().fit", header, rows)


PARTS: dict[str, Callable[[Harness, Wanted], None]] = {
    "training": run_training,
    "head": run_heads,
    "earlier": run_earlier,
    "adapt": run_adapt,
    "episodes": run_episodes,
    "liblinear": run_liblinear,
    "tables": run_tables,
}


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--part", choices=[*PARTS, "all"], default="all")
    parser.add_argument(
        "--before", type=Path, help="another checkout of the package to compare with"
    )
    parser.add_argument("--data-dir", type=Path, help="folder of wisdm.npz")
    arguments = parser.parse_args()
    harness = Harness("small_fits", arguments)
    before = None if arguments.before is None else Checkout(arguments.before)
    wanted = Wanted(arguments.smoke, before, arguments.data_dir)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for name, run in PARTS.items():
            if arguments.part in (name, "all"):
                run(harness, wanted)


if __name__ == "__main__":
    main()
