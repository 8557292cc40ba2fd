"""Tables and the plot of the solver benchmark, made from its lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.solvers._conic import CONIC
from benchmarks.solvers._forward import TOLERANCES, lap_name
from benchmarks.solvers._layer import PRECISIONS, precision_name
from benchmarks.solvers._plan import PLAIN_FISTA, SHARES, TOL, Plan
from benchmarks.solvers._problems import Size
from benchmarks.solvers._race import OURS

Record = tuple[dict[str, Any], dict[str, Any]]
LEGEND = "ms a task; ! gap missed, * a single call"


def time_cell(line: dict[str, Any] | None, tol: float) -> str:
    """Milliseconds with their marks; "-" without a time."""
    if line is None or "ms_per_task" not in line:
        return "-"
    missed = "" if line["gap"] <= tol else "!"
    alone = "*" if line["runs"] == 1 else ""
    return f"{line['ms_per_task']:.3g}{missed}{alone}"


def accuracy_cell(line: dict[str, Any] | None) -> str:
    if line is None or "gap" not in line:
        return "-"
    error = line.get("gradient_error", float("nan"))
    return f"{line['gap']:.0e} / {error:.0e}"


def of_part(records: Sequence[Record], part: str, **settings: Any) -> list[Record]:
    """Records of a part with these settings."""
    wanted = {"part": part, **settings}
    return [
        record
        for record in records
        if all(record[0].get(key) == value for key, value in wanted.items())
    ]


def report_forward(plan: Plan, records: Sequence[Record]) -> None:
    for label in SHARES:
        ours = OURS
        for n_tasks in plan.batches:
            conic = CONIC if n_tasks == plan.tasks else ()
            names = (*ours, PLAIN_FISTA, *conic)
            rows = [
                [
                    settings["size"],
                    f"{tol:g}",
                    *(
                        time_cell(result.get(lap_name(name, tol)), tol)
                        for name in names
                    ),
                ]
                for settings, result in of_part(
                    records, "forward", share=label, n_tasks=n_tasks
                )
                for tol in TOLERANCES
            ]
            title = f"forward, {label}, {n_tasks} tasks ({LEGEND})"
            plan.harness.table(title, ["size", "gap", *names], rows)
        rows = [
            [
                settings["size"],
                *(
                    f"{line['ms_per_task']:.3g} / {line['gap']:.0e}"
                    for line in (result[name] for name in published_names(plan))
                ),
            ]
            for settings, result in of_part(
                records, "forward", share=label, n_tasks=plan.tasks
            )
        ]
        title = f"projected gradient steps, {label}, {plan.tasks} tasks (ms / gap left)"
        plan.harness.table(title, ["size", *published_names(plan)], rows)


def published_names(plan: Plan) -> list[str]:
    return [f"published-{steps}" for steps in plan.published_steps]


def report_layer(plan: Plan, records: Sequence[Record]) -> None:
    for label in SHARES:
        ours = OURS
        few, many = published_names(plan)
        lean = few.replace("published", "lean")
        names = (*ours, "fista+cg", few, lean, many, "cvxpylayers")
        for n_tasks in plan.batches:
            found = of_part(records, "layer", share=label, n_tasks=n_tasks)
            times = [
                [
                    settings["size"],
                    *(time_cell(result.get(name), settings["tol"]) for name in names),
                ]
                for settings, result in found
            ]
            title = f"forward + backward, {label}, {n_tasks} tasks ({LEGEND})"
            plan.harness.table(title, ["size", *names], times)
        errors = [
            [
                settings["size"],
                f"{result['reference']['gradient_error']:.0e}",
                *(accuracy_cell(result.get(name)) for name in names),
            ]
            for settings, result in of_part(
                records, "layer", share=label, n_tasks=plan.tasks
            )
        ]
        plan.harness.table(
            f"relative gap / gradient error, {label}, {plan.tasks} tasks",
            ["size", "reference vs differences", *names],
            errors,
        )


def report_ridge(plan: Plan, records: Sequence[Record]) -> None:
    rows = []
    for settings, result in of_part(records, "ridge"):
        for name, line in result.items():
            finite = line.get("finite")
            rows.append(
                [
                    settings["size"],
                    settings["case"],
                    settings["dtype"],
                    name,
                    time_cell(line, settings["tol"]),
                    accuracy_cell(line),
                    "-" if finite is None else ("yes" if finite else "no"),
                    line.get("skipped", "")[:40],
                ]
            )
    header = ["size", "case", "precision", "solver", "ms", "gap / gradient error"]
    title = f"lambda1 = 0, forward + backward ({LEGEND})"
    plan.harness.table(title, [*header, "finite", "failure"], rows)


def report_features(plan: Plan, records: Sequence[Record]) -> None:
    names = (*OURS, "fista+cg")
    rows = [
        [settings["size"], *(time_cell(result.get(name), TOL) for name in names)]
        for settings, result in of_part(records, "features")
    ]
    title = f"as many useful features of more, forward + backward ({LEGEND})"
    plan.harness.table(title, ["size", *names], rows)


def report_tolerance(plan: Plan, records: Sequence[Record]) -> None:
    ours = OURS
    names = [(name, *precision) for name in ours for precision in PRECISIONS]
    for title, cell in (
        (f"precision and tolerance, forward + backward ({LEGEND})", time_cell),
        ("relative gap / gradient error", lambda line, tol: accuracy_cell(line)),
    ):
        rows = [
            [
                settings["size"],
                *(cell(result.get(precision_name(*name)), name[-1]) for name in names),
            ]
            for settings, result in of_part(records, "tolerance")
        ]
        header = [precision_name(*name) for name in names]
        plan.harness.table(title, ["size", *header], rows)


def report_gpu(plan: Plan, records: Sequence[Record]) -> None:
    rows = [
        [
            settings["device"],
            settings["dtype"],
            f"{settings['tol']:g}",
            name,
            f"{line['ms_per_task'] * line['n_tasks']:.3g}",
            line["n_tasks"],
            f"{line['gap']:.0e}",
        ]
        for settings, result in of_part(records, "gpu")
        for name, line in result.items()
        if "ms_per_task" in line
    ]
    rows = rows or [["no CUDA device", "-", "-", "-", "-", "-", "-"]]
    header = ["device", "precision", "tol", "solver", "ms", "tasks", "gap"]
    plan.harness.table("GPU, forward + backward", header, rows)


def memory_ratio(settings: dict[str, Any], result: dict[str, Any]) -> float:
    """Bytes beyond one (n C)^2 system a task, in units of the features."""
    systems = result["system"] * settings["n_tasks"]
    return max(0.0, result["extra"] - systems) / result["features"]


def report_memory(plan: Plan, records: Sequence[Record]) -> None:
    rows = [
        [
            settings["size"],
            settings["n_tasks"],
            settings["dtype"],
            settings["solver"],
            f"{result['extra'] / 2**20:.1f}",
            f"{result['features'] / 2**20:.1f}",
            f"{result['system'] / 2**20:.2f}",
            f"{result['extra'] / result['features']:.2f}",
        ]
        if "extra" in result
        else [settings["size"], settings["n_tasks"], settings["dtype"], "-"]
        + ["-", "-", "-", result["skipped"][:40]]
        for settings, result in of_part(records, "memory")
    ]
    header = ["size", "tasks", "precision", "solver", "peak MB", "features MB"]
    plan.harness.table(
        "memory of forward + backward beyond the inputs",
        [*header, "one system MB", "peak / features"],
        rows,
    )


def report_skipped(plan: Plan, records: Sequence[Record]) -> None:
    """Why a contender has no time, once for a part and size."""
    reasons = {
        (settings["part"], str(Size(*settings["size"])), name, line["skipped"])
        for settings, result in records
        for name, line in result.items()
        if isinstance(line, dict) and "skipped" in line
    }
    if reasons:
        header = ["part", "size", "contender", "why"]
        plan.harness.table("skipped", header, [list(row) for row in sorted(reasons)])


# -- plot -------------------------------------------------------------------------


def plot_forward(plan: Plan, records: Sequence[Record]) -> None:
    """Time against gap, one panel a size, as PNG beside the lines."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        plan.harness.table("plot", ["file"], [["matplotlib is not installed"]])
        return
    found = of_part(records, "forward", share="sparse", n_tasks=plan.tasks)
    columns = max(1, min(3, len(found)))
    lines = -(-len(found) // columns) or 1
    figure = Figure(figsize=(4.2 * columns, 3.4 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).flat
    for panel, (settings, result) in zip(panels, found, strict=False):
        for name in (*OURS, PLAIN_FISTA, "published", *CONIC):
            points = _points(plan, result, name)
            if points:
                style = {"linewidth": 2.0 if name in OURS else 1.0}
                panel.loglog(*zip(*points, strict=True), "o-", label=name, **style)
        panel.set_title(str(Size(*settings["size"])))
        panel.invert_xaxis()
        panel.set_xlabel("relative gap reached")
        panel.set_ylabel("ms a task")
        panel.legend(fontsize=6)
    path: Path = plan.harness.path.with_suffix(".png")
    figure.savefig(path, dpi=120)
    plan.harness.table("plot", ["file"], [[path.name]])


def _points(plan: Plan, result: dict[str, Any], name: str) -> list[tuple[float, float]]:
    """Gap reached and milliseconds of every lap of a contender."""
    laps = [lap_name(name, tol) for tol in TOLERANCES]
    if name == "published":
        laps = published_names(plan)
    found = [result[lap] for lap in laps if "ms_per_task" in result.get(lap, {})]
    # A gap of rounding has no place on a logarithmic axis.
    points = [(max(line["gap"], 1e-16), line["ms_per_task"]) for line in found]
    return sorted(point for point in points if point[0] == point[0])
