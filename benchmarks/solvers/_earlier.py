"""Part "earlier": solver="auto" against that of an earlier commit, in one process."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from benchmarks.solvers._checkout import Checkout
from benchmarks.solvers._plan import SHARES, TOL, Cell, Plan
from benchmarks.solvers._problems import Size, relative_gaps, support_gradient
from benchmarks.solvers._race import (
    Lap,
    Pace,
    largest,
    our_contender,
    published,
    race,
)
from benchmarks.solvers._report import Record, of_part

# The method that is called, and the number of tasks: `fit` and `solve` without
# gradients, `layer` with them.
CALLS = (("fit", 1), ("solve", 1), ("layer", 1), ("layer", 8), ("layer", 64))
# The targets want as many tasks of both.
_BUDGET, _MAIN_BUDGET = 3.0, 40.0
# Times faster than before the compiled solver, by size: 8 tasks with gradients, and
# one task without.
WANTED = {
    (5, 1, 64): (15, 40),
    (5, 5, 64): (16, 40),
    (5, 5, 512): (8, 20),
    (5, 5, 1600): (6, 12),
    (5, 15, 1600): (5, None),
    (20, 5, 512): (4, None),
}


def earlier_cells(plan: Plan) -> list[Cell]:
    """Batches with gradients, one task without; nothing if there is no checkout."""
    if plan.before is None:
        return []
    cells = []
    few = plan.published_steps[0]
    for size in plan.sizes:
        for call, n_tasks in CALLS:
            names = ["auto", "earlier", *([f"lean-{few}"] if call == "layer" else [])]
            pace = plan.pace(_MAIN_BUDGET if n_tasks == plan.tasks else _BUDGET)
            settings = plan.key(
                "earlier",
                pace,
                size=size,
                n_tasks=n_tasks,
                call=call,
                contenders=names,
                tol=TOL,
                earlier=plan.before.commit,
            )
            measure = partial(_measure, plan, plan.before, size, n_tasks, call, pace)
            cells.append(Cell(settings, measure, len(names)))
    return cells


def _measure(
    plan: Plan,
    before: Checkout,
    size: Size,
    n_tasks: int,
    call: str,
    pace: Pace,
) -> dict[str, Any]:
    batch = plan.draw(size, SHARES["sparse"], n_tasks)
    theirs, ours = before.head(batch, TOL), batch.head("auto", TOL)
    if call == "layer":
        lean = published(plan.published_steps[0], lean=True)
        laps = {
            "auto": Lap(partial(support_gradient, our_contender("auto", TOL).logits)),
            "earlier": Lap(partial(before.layer, theirs)),
            lean.name: Lap(partial(support_gradient, lean.logits)),
        }
    elif call == "fit":
        rows, labels = batch.support[0].numpy(), batch.labels[0].numpy()
        laps = {
            "auto": Lap(lambda _: ours.fit(rows, labels)),
            "earlier": Lap(lambda _: before.fit(theirs, rows, labels)),
        }
    else:
        laps = {
            "auto": Lap(
                lambda part: ours.solve_episodes(
                    part.support, part.labels, part.n_classes
                )
            ),
            "earlier": Lap(partial(before.solve, theirs)),
        }
    results = race(laps, batch, pace)
    solved = ours.solve_episodes(batch.support, batch.labels, batch.n_classes)
    results["auto"]["gap"] = largest(relative_gaps(batch, solved.dual))
    part = batch.first(results["earlier"]["n_tasks"])
    results["earlier"]["gap"] = largest(
        relative_gaps(part, before.solve(theirs, part).dual)
    )
    return results


def report_earlier(plan: Plan, records: Sequence[Record]) -> None:
    rows = []
    for settings, result in of_part(records, "earlier"):
        ours, theirs = result["auto"], result["earlier"]
        lean = result.get(f"lean-{plan.published_steps[0]}", {})
        cpu = [line.get("least_cpu_ms_per_task") for line in (ours, theirs, lean)]
        call, n_tasks = settings["call"], settings["n_tasks"]
        both = WANTED.get(tuple(settings["size"]), (None, None))
        if call == "layer":
            wanted = both[0] if n_tasks == plan.tasks else None
        else:
            wanted = both[1]
        rows.append(
            [
                settings["size"],
                call,
                f"{ours['n_tasks']}, {theirs['n_tasks']}",
                settings["earlier"],
                f"{cpu[0]:.3g}",
                f"{theirs['cpu_ms_per_task'] / ours['cpu_ms_per_task']:.3g}",
                f"{cpu[1] / cpu[0]:.3g}",
                "-" if wanted is None else f">= {wanted}",
                "-" if cpu[2] is None else f"{cpu[2] / cpu[0]:.3g}",
                f"{ours['gap']:.0e}",
            ]
        )
    header = ["size", "call", "tasks of both", "earlier", "least CPU ms"]
    header += ["earlier / auto, medians", "least", "wanted", "lean / auto", "gap"]
    plan.harness.table("solver='auto' against an earlier commit", header, rows)
