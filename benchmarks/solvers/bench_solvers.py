"""Our solvers of the group-Lasso SVM against everything that solves it today.

Every part runs its contenders interleaved in one process, on the same tasks, and
times the median of five calls after a warm-up. Slow contenders get fewer tasks
(`n_tasks` of their line); the time is always that of one task. Certificates are
computed in float64 at the returned dual point, gradients are compared with those
of a solution to 1e-12, itself compared with central differences.

forward
    Time to a relative gap of 1e-3, 1e-6, 1e-9: ours, plain batched FISTA, 5 and
    1000 projected gradient steps, cvxpy (CLARABEL, SCS, ECOS; primal or dual,
    whichever is faster).
layer
    Forward + backward of a query cross-entropy with respect to the support
    features: ours, converged FISTA + conjugate gradients, the published scheme
    (5 or 1000 projected gradient steps, hypergradient by 5 steps of conjugate
    gradients on the normal equations; "published" with the function transforms
    of the release, "lean" with cheaper products and the same numbers),
    cvxpylayers.
ridge
    lambda1 = 0 against qpth (float64 with shift 1e-6; float32 with shift 1), and
    Gram matrices that are singular.
features
    16,384 features of which 200 matter, against 1600.
tolerance
    float32 to 1e-3 against float32 and float64 to 1e-6.
earlier
    ``solver="auto"`` against that of another checkout (``--before``), imported into the
    same process: 1, 8 and 64 tasks with gradients, one task without.
memory
    Peak memory of forward + backward, in a process of its own.
gpu
    256 tasks at once, where there is a CUDA device.
plot
    Time against gap as PNG beside the JSON lines.

Features are those of a backbone that ends in a ReLU (``--features gaussian``:
without it), with rows of norm about 1, lambda2 = 0.1 and lambda1 tuned so that 35%
of the features are on ("sparse") or 0 ("dense").

cvxpylayers, qpth and ECOS are optional; what cannot be imported is left out and named.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks._harness import Harness, key_of, make_parser, results_by_key
from benchmarks.solvers._checkout import Checkout
from benchmarks.solvers._conic import PEERS
from benchmarks.solvers._earlier import earlier_cells, report_earlier
from benchmarks.solvers._forward import forward_cells
from benchmarks.solvers._layer import (
    feature_cells,
    gpu_cells,
    layer_cells,
    memory_cells,
    ridge_cells,
    tolerance_cells,
)
from benchmarks.solvers._plan import Cell, Plan
from benchmarks.solvers._problems import KINDS
from benchmarks.solvers._report import (
    Record,
    plot_forward,
    report_features,
    report_forward,
    report_gpu,
    report_layer,
    report_memory,
    report_ridge,
    report_skipped,
    report_tolerance,
)
from benchmarks.solvers._targets import report_targets

MEASURES = (
    "skcausalmeta/heads",
    "skcausalmeta/implicit",
    "skcausalmeta/losses",
    "skcausalmeta/penalties",
    "skcausalmeta/solvers",
)


class Part(NamedTuple):
    """What a part runs, and what it prints."""

    cells: Callable[[Plan], list[Cell]]
    report: Callable[[Plan, Sequence[Record]], None]


PARTS = {
    "forward": Part(forward_cells, report_forward),
    "layer": Part(layer_cells, report_layer),
    "ridge": Part(ridge_cells, report_ridge),
    "features": Part(feature_cells, report_features),
    "tolerance": Part(tolerance_cells, report_tolerance),
    "earlier": Part(earlier_cells, report_earlier),
    "memory": Part(memory_cells, report_memory),
    "gpu": Part(gpu_cells, report_gpu),
}


def report_plan(plan: Plan, chosen: dict[str, list[Cell]]) -> None:
    """How much there is to run."""
    finished = results_by_key(plan.harness.path)
    rows = []
    for name, cells in chosen.items():
        left = [cell for cell in cells if key_of(cell.settings) not in finished]
        laps = sum(cell.n_laps for cell in left)
        rows.append([name, len(cells), len(left), laps, laps * plan.pace(0.0).repeats])
    header = ["part", "runs", "to do", "contenders", "timed calls (at most)"]
    plan.harness.table("plan", header, rows)


def finished_records(plan: Plan) -> list[Record]:
    """Lines of all parts that are there, of this run or an earlier one."""
    lines = results_by_key(plan.harness.path)
    return [
        (cell.settings, lines[key_of(cell.settings)])
        for part in PARTS.values()
        for cell in part.cells(plan)
        if key_of(cell.settings) in lines
    ]


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--part", choices=[*PARTS, "plot", "all"], default="all")
    parser.add_argument(
        "--features",
        choices=KINDS,
        default=KINDS[0],
        help="after a ReLU, or Gaussian; default: %(default)s",
    )
    parser.add_argument(
        "--main",
        action="store_true",
        help="only batches of 8 tasks with 35%% of the features on",
    )
    parser.add_argument(
        "--before",
        type=Path,
        help='another checkout of the package, for the part "earlier"',
    )
    arguments = parser.parse_args()
    harness = Harness("solvers", arguments, PEERS)
    plan = Plan(
        harness,
        arguments.smoke,
        arguments.threads,
        arguments.features,
        arguments.main,
        None if arguments.before is None else Checkout(arguments.before),
    )
    names = [name for name in PARTS if arguments.part in (name, "all")]
    chosen = {name: PARTS[name].cells(plan) for name in names}
    if chosen:
        report_plan(plan, chosen)
    for name, cells in chosen.items():
        records = [
            (cell.settings, harness.run(cell.settings, cell.measure)) for cell in cells
        ]
        PARTS[name].report(plan, records)
        report_skipped(plan, records)
    records = finished_records(plan)
    if arguments.part in ("plot", "all"):
        plot_forward(plan, records)
    report_targets(plan, records)


if __name__ == "__main__":
    main()
