"""Tables of tasks that confound each other: MetaCRL around six learners."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .lines import Line, at
from .tables import Benchmark, Column, Table, ratio

_PLAIN = {"contender": "plain"}
_OURS = {"contender": "MetaCRL"}
_WHOLE = {"contender": "MetaCRL", "part": "confounded"}


def _errors(result: Any) -> list[float]:
    return [-score for score in result.get("scores", ())]


def _family(part: str, family: str, text: str, *, error: bool = False) -> Table:
    path: Any = _errors if error else "scores"
    value, change = ("mean", "change") if error else ("percent", "points")
    unit = "error" if error else "accuracy, %"
    return Table(
        f"{part}, {family}",
        text,
        ("learner",),
        [
            Column(f"alone, {unit}", path, value, where=_PLAIN),
            Column(f"in MetaCRL, {unit}", path, value, where=_OURS),
            Column("difference", path, change, where=_OURS, minus=_PLAIN),
            Column("by seed", _mean(path), change, where=_OURS, minus=_PLAIN),
            Column("F1 of the causes", "f1", "plain", where=_OURS),
            Column("training, CPU s", "cpu_seconds", "median", where=_OURS),
        ],
        {"part": part, "family": family},
    )


def _mean(path: Any) -> Callable[[Any], float | None]:
    def mean(result: Any) -> float | None:
        values = path(result) if callable(path) else at(result, path)
        return sum(values) / len(values) if values else None

    return mean


def by_batch(lines: list[Line]) -> list[Line]:
    """Name the number of tasks in a batch of the lines."""
    found = []
    for line in lines:
        tasks = at(line, "settings/more/tasks_per_batch")
        settings = {**line["settings"], "tasks_per_batch": tasks}
        found.append({**line, "settings": settings})
    return found


BENCHMARKS = [
    Benchmark(
        "metacrl",
        "MetaCRL around six learners",
        [
            _family(
                "confounded",
                "vectors",
                "Tested where the confounder has turned around. Differences are paired "
                "over the episodes of all seeds, then by seed alone.",
            ),
            _family("confounded", "images", "The same on rendered images."),
            Table(
                "Parts left out (vectors)",
                "Accuracy in per cent, and the difference to all of MetaCRL.",
                ("learner", "contender"),
                [
                    Column("accuracy, %", "scores", "percent"),
                    Column("- MetaCRL", "scores", "points", minus=_WHOLE),
                    Column("F1 of the causes", "f1", "plain"),
                ],
                {
                    "part": lambda part: part in ("ablation", "confounded"),
                    "family": "vectors",
                    "learner": lambda name: name in ("ANIL", "prototype"),
                },
            ),
            Table(
                "Tasks in one batch (vectors, ANIL)",
                "1,600 training tasks in all, in larger and fewer batches; differences "
                "to batches of 1.",
                ("contender", "tasks_per_batch"),
                [
                    Column("accuracy, %", "scores", "percent"),
                    Column(
                        "- one task", "scores", "points", minus={"tasks_per_batch": 1}
                    ),
                ],
                {"part": "transfer"},
                prepare=by_batch,
            ),
            _family(
                "unshifted",
                "omniglot",
                "Nothing is confounded; 5-way 1-shot, 100 steps.",
            ),
            _family(
                "unshifted",
                "tiny",
                "Tiny-ImageNet-FS, small photographs.",
            ),
            _family(
                "regression",
                "sinusoid",
                "Mean squared error; lower is better.",
                error=True,
            ),
            _family(
                "regression",
                "harmonic",
                "Mean squared error of targets of variance 1, from random waves of x.",
                error=True,
            ),
            Table(
                "CPU milliseconds of a training step",
                "Medians of 3.",
                ("family", "learner"),
                [
                    Column("alone", "plain", "median", 1e3),
                    Column("in MetaCRL", "MetaCRL", "median", 1e3),
                    Column("times", ratio("MetaCRL", "plain"), "median"),
                ],
                {"part": "overhead"},
            ),
        ],
    )
]
