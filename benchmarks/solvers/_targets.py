"""What the solvers must reach, as ratios of the measured lines."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.solvers._layer import QPTH_SHIFTS, precision_name
from benchmarks.solvers._plan import TOL, Plan
from benchmarks.solvers._problems import Size
from benchmarks.solvers._race import OURS
from benchmarks.solvers._report import Record, memory_ratio, of_part

GRADIENT_ERROR = 1e-4
# Peer, sizes, times faster.
SPEED = (
    ("fista+cg", (Size(5, 5, 512), Size(5, 5, 1600)), 10.0),
    ("cvxpylayers", (Size(5, 5, 512), Size(5, 5, 1600)), 100.0),
    ("published-5", (Size(5, 5, 512), Size(5, 5, 1600)), 1.0),
    ("lean-5", (Size(5, 5, 512), Size(5, 5, 1600)), 1.0),
    ("cvxpylayers", (Size(5, 1, 64), Size(5, 5, 64)), 10.0),
    ("fista+cg", (Size(5, 15, 1600), Size(20, 5, 512)), 10.0),
)
RIDGE_SPEED, RIDGE_GAP = 5.0, 100.0
FEATURES, TRAINING, MEMORY, MEMORY_BYTES, GPU_MS = 3.0, 0.5, 4.0, 2e9, 20.0

Row = list[Any]


def best_of_ours(result: dict[str, Any]) -> str | None:
    """ "auto", or else the fastest of our solvers that is accurate enough."""
    lines = {
        name: result[name] for name in OURS if "ms_per_task" in result.get(name, {})
    }
    if "auto" in lines:
        return "auto"
    good = [name for name, line in lines.items() if _accurate(line)]
    return min(good or lines, key=lambda name: lines[name]["ms_per_task"], default=None)


def _accurate(line: dict[str, Any]) -> bool:
    return line["gap"] <= TOL and line.get("gradient_error", 0.0) <= GRADIENT_ERROR


def report_targets(plan: Plan, records: Sequence[Record]) -> None:
    """One row for every target that has been measured."""
    rows = [
        *_speed_rows(plan, records),
        *_accuracy_rows(plan, records),
        *_ridge_rows(records),
        *_singular_rows(records),
        *_feature_rows(records),
        *_tolerance_rows(records),
        *_memory_rows(records),
        *_gpu_rows(records),
    ]
    if rows:
        header = ["target", "size", "ours", "wanted", "reached", ""]
        plan.harness.table("targets", header, rows)


def _row(
    target: str, size: Any, name: str, wanted: float, reached: float, *, least: bool
) -> Row:
    """The verdict; a ratio that is not a number is a miss."""
    met = reached >= wanted if least else reached <= wanted
    sign = ">=" if least else "<="
    text = "-" if math.isnan(reached) else f"{reached:.3g}"
    size = str(Size(*size)) if not isinstance(size, str) else size
    return [target, size, name, f"{sign} {wanted:g}", text, "met" if met else "missed"]


def _ms(line: dict[str, Any] | None) -> float:
    return math.nan if line is None else line.get("ms_per_task", math.nan)


def _speed_rows(plan: Plan, records: Sequence[Record]) -> Iterator[Row]:
    found = of_part(records, "layer", share="sparse", n_tasks=plan.tasks)
    for peer, sizes, wanted in SPEED:
        for settings, result in found:
            name = best_of_ours(result)
            if name is not None and (plan.smoke or settings["size"] in sizes):
                ratio = _ms(result.get(peer)) / _ms(result[name])
                target = f"times faster than {peer}"
                yield _row(target, settings["size"], name, wanted, ratio, least=True)


def _accuracy_rows(plan: Plan, records: Sequence[Record]) -> Iterator[Row]:
    for settings, result in of_part(records, "layer", n_tasks=plan.tasks):
        name = best_of_ours(result)
        if name is not None:
            line, label = result[name], settings["share"]
            for target, key, wanted in (
                (f"relative gap, {label}", "gap", TOL),
                (f"gradient error, {label}", "gradient_error", GRADIENT_ERROR),
            ):
                size = settings["size"]
                yield _row(target, size, name, wanted, line[key], least=False)


def _ridge_rows(records: Sequence[Record]) -> Iterator[Row]:
    for settings, result in of_part(records, "ridge", case="regular"):
        dtype = settings["dtype"]
        peer = result.get(f"qpth shift {QPTH_SHIFTS[dtype]:g}")
        name = best_of_ours(result)
        if name is None or peer is None or "ms_per_task" not in peer:
            continue
        size, line = settings["size"], result[name]
        ratio = _ms(peer) / _ms(line)
        yield _row(
            f"times faster than qpth, {dtype}",
            size,
            name,
            RIDGE_SPEED,
            ratio,
            least=True,
        )
        # A gap of 0 is one at the level of rounding.
        ratio = peer["gap"] / max(line["gap"], 1e-16)
        target = f"times smaller gap than qpth, {dtype}"
        yield _row(target, size, name, RIDGE_GAP, ratio, least=True)


def _singular_rows(records: Sequence[Record]) -> Iterator[Row]:
    for settings, result in of_part(records, "ridge"):
        if settings["case"] != "regular":
            lines = [result[name] for name in OURS if name in result]
            failures = sum(not line.get("finite", False) for line in lines)
            target = f"failures, {settings['case']}, {settings['dtype']}"
            yield _row(target, settings["size"], "all", 0, failures, least=False)


def _feature_rows(records: Sequence[Record]) -> Iterator[Row]:
    found = [result for _, result in of_part(records, "features")]
    if len(found) == 2:
        few, many = found
        name = best_of_ours(few)
        if name is not None:
            ratio = _ms(many.get(name)) / _ms(few[name])
            yield _row(
                "time with many features", "few -> many", name, FEATURES, ratio,
                least=False,
            )  # fmt: skip


def _tolerance_rows(records: Sequence[Record]) -> Iterator[Row]:
    for settings, result in of_part(records, "tolerance"):
        exact = {
            name: line
            for name in OURS
            if (line := result.get(precision_name(name, "float64", TOL)))
        }
        name = best_of_ours(exact)
        if name is None:
            continue
        loose = _ms(result.get(precision_name(name, "float32", 1e-3)))
        for dtype in ("float64", "float32"):
            ratio = loose / _ms(result.get(precision_name(name, dtype, TOL)))
            target = f"float32 1e-3 over {dtype} 1e-6"
            yield _row(target, settings["size"], name, TRAINING, ratio, least=False)


def _memory_rows(records: Sequence[Record]) -> Iterator[Row]:
    for settings, result in of_part(records, "memory"):
        if "extra" not in result or settings["solver"] not in OURS:
            continue
        size, name = settings["size"], settings["solver"]
        n_tasks = settings["n_tasks"]
        if n_tasks == 4096:
            target = f"GB at {n_tasks} tasks, {settings['dtype']}"
            total = (result["extra"] + result["features"]) / 1e9
            yield _row(target, size, name, MEMORY_BYTES / 1e9, total, least=False)
        else:
            ratio = memory_ratio(settings, result)
            target = f"(memory - systems) / features, {n_tasks} tasks"
            yield _row(target, size, name, MEMORY, ratio, least=False)


def _gpu_rows(records: Sequence[Record]) -> Iterator[Row]:
    for settings, result in of_part(records, "gpu"):
        name = best_of_ours(result)
        if name is not None:
            line = result[name]
            total = _ms(line) * 256
            target = f"GPU ms, 256 tasks, {settings['dtype']} {settings['tol']:g}"
            yield _row(target, settings["size"], name, GPU_MS, total, least=False)
