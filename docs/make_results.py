"""Write the results page from the lines of the benchmarks, never by hand.

A table is described by the settings that make its rows and by the numbers of its
columns. A file or a part of a file that is not there is left out of the page, and a
file without a description is listed with the number of its runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._harness import read_lines as read
from skcausalmeta.metrics import mean_confidence_interval

Line = dict[str, Any]
Values = list[float]

HEAD = """Results
=======

Every number on this page is computed from the lines that the scripts in
``benchmarks`` wrote to ``benchmarks/results``, one line a run, when the pages were
built. An interval ("+-") is at 95%: over the episodes where a run has episodes, all
runs of a row taken together, else over the runs; a single run has none. Times
are of the machine that ran the benchmark, with the number of threads in the line.
"""
MISSING = "--"


@dataclass(frozen=True)
class Column:
    """Numbers of a column: where they are in a result and how they are shown.

    `path` are keys joined by "/"; a number indexes a list. `show` is "mean" (with
    its interval), "percent" (likewise), "median" or "max".
    """

    header: str
    path: str
    show: str = "mean"


@dataclass(frozen=True)
class Table:
    """One table: the lines it is made of, its rows and its columns."""

    title: str
    text: str
    rows: Sequence[str]
    columns: Sequence[Column]
    where: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Benchmark:
    """Tables of one file of lines."""

    title: str
    tables: Sequence[Table]


DISENTANGLED = [
    Column(f"{name}, {figure}", f"{name}/{key}")
    for figure, key in (("MCC", "mcc"), ("R", "r"))
    for name in ("lasso", "ridge", "ridge + ICA")
    if (name, key) != ("ridge + ICA", "r")
]
SPEEDS = ("auto", "newton", "fista", "fista+cg", "cvxpylayers", "published-5")

BENCHMARKS: dict[str, Benchmark] = {
    "few_shot": Benchmark(
        "Few-shot learning of images",
        [
            Table(
                f"{data}, {size}",
                "Same backbone, test episodes and images in training for all. Learners "
                "by gradient steps answer the first 300 of the 2,000 episodes.",
                ("learner",),
                [
                    Column("accuracy, %", f"evaluations/{size}/scores", "percent"),
                    Column("unused features", f"evaluations/{size}/sparsity"),
                    Column(
                        "features read by class means, %",
                        f"readers/prototypes/{size}/scores",
                        "percent",
                    ),
                    Column("to adapt, s", f"evaluations/{size}/adapt_time", "median"),
                    Column("training, s", "train_seconds", "median"),
                ],
                {"part": "table", "data": data},
            )
            for data, size in (
                ("omniglot", "5w1s"),
                ("omniglot", "20w1s"),
                ("omniglot", "5w5s"),
                ("tiny", "5w5s"),
                ("tiny", "5w1s"),
            )
        ],
    ),
    "recipes": Benchmark(
        "Recipes",
        [
            Table(
                f"{recipe}, {size}",
                "The settings of examples/recipes.",
                ("recipe", "seed"),
                [
                    Column("accuracy, %", f"evaluations/{size}/scores", "percent"),
                    Column("unused features", f"evaluations/{size}/sparsity"),
                    Column("1-NN on pixels, %", f"pixels/{size}/scores", "percent"),
                    Column("training, s", "train_seconds", "median"),
                ],
                {"recipe": recipe},
            )
            for recipe, sizes in (
                ("omniglot", ("5w1s", "5w5s", "20w1s")),
                ("omniglot_sparse", ("5w1s", "5w5s", "20w1s")),
                ("tiny_imagenet", ("5w5s", "5w1s")),
            )
            for size in sizes
        ],
    ),
    "synthetic_sparsity": Benchmark(
        "Sparse heads on disentangled codes",
        [
            Table(
                "Test R2 by labels and share of relevant factors",
                "One regression on 100 codes, the factors or a rotation of them.",
                ("share", "n"),
                [
                    Column(name, name)
                    for name in (
                        "disentangled + lasso",
                        "entangled + lasso",
                        "disentangled + ridge",
                    )
                ],
            )
        ],
    ),
    "disentanglement": Benchmark(
        "Recovery of correlated factors",
        [
            Table(
                "Codes judged on uniform, independent factors",
                "Inner problem by columns; blocks larger than 1 violate the theory.",
                ("mixing", "rho", "block_size"),
                DISENTANGLED,
            )
        ],
    ),
    "kfo_depth": Benchmark(
        "MAML by depth, and update rules",
        [
            Table(
                "Loss after adaptation on linear and logistic tasks",
                "The same budget for all models.",
                ("tasks", "learner"),
                [Column("before", "losses/0"), Column("after one step", "losses/-1")],
                {"part": "toy"},
            ),
            Table(
                "Mean squared error on 10-shot sinusoids",
                "By the number of inner steps.",
                ("learner",),
                [Column(f"{k} steps", f"errors/{k}") for k in (0, 1, 5)],
                {"part": "sinusoid"},
            ),
            Table(
                "Accuracy of convolutional nets",
                "5-way, by the number of layers; all learners on the same episodes.",
                ("data", "n_shot", "depth", "learner"),
                [
                    Column("accuracy, %", "scores", "percent"),
                    Column("training, CPU s", "cpu_seconds", "median"),
                ],
                {"part": "conv"},
            ),
        ],
    ),
    "metacrl": Benchmark(
        "MetaCRL around six learners",
        [
            Table(
                "Confounded and plain tasks",
                "Accuracy in per cent; vectors and images are tested on confounders "
                "that have turned around.",
                ("family", "learner", "contender"),
                [
                    Column("accuracy, %", "scores", "percent"),
                    Column("F1 of the causes", "f1"),
                    Column("training, CPU s", "cpu_seconds", "median"),
                ],
                {"part": part},
            )
            for part in ("confounded", "unshifted")
        ],
    ),
    "mtcrl": Benchmark(
        "Multi-task learning where ties change",
        [
            Table(
                "Mean score of the tasks on unshifted and shifted tests",
                "Intervals are over tasks and seeds together.",
                ("problem", "contender"),
                [
                    Column("unshifted", "unshifted"),
                    Column("shifted", "shifted"),
                    Column("spurious share", "share"),
                    Column("routing F1", "f1"),
                ],
            )
        ],
    ),
    "group_lasso_svc": Benchmark(
        "The group-Lasso SVM",
        [
            Table(
                "Certificates of random problems",
                "Relative duality gap, and distance to the objective of cvxpy's "
                "primal program.",
                (),
                [
                    Column("cvxpy, largest gap", "cvxpy/relative_gap", "max"),
                    Column("newton, largest gap", "newton/relative_gap", "max"),
                    Column("cvxpy, difference", "cvxpy/difference", "max"),
                    Column("newton, difference", "newton/difference", "max"),
                ],
                {"part": "certificates"},
            ),
            Table(
                "Gradients through the solved head",
                "Largest relative error against central differences.",
                (),
                [Column("error", "relative_error", "max")],
                {"part": "hypergradient"},
            ),
            Table(
                "Working set against the plain dual",
                "5-way 5-shot; seconds.",
                ("n_features", "share"),
                [
                    Column("GroupLassoSVC", "seconds", "median"),
                    Column("CLARABEL", "CLARABEL/seconds", "median"),
                    Column("SCS", "SCS/seconds", "median"),
                ],
                {"part": "working-set"},
            ),
        ],
    ),
    "solvers": Benchmark(
        "Solvers as layers",
        [
            Table(
                "Forward and backward",
                "Milliseconds a task, by (ways, shots, features). "
                '"published-5" is not solved: its gradients are not those of the '
                "problem.",
                ("size",),
                [Column(name, f"{name}/ms_per_task", "median") for name in SPEEDS],
                {"part": "layer"},
            )
        ],
    ),
    "maml_speed": Benchmark(
        "Outer gradient of MAML",
        [
            Table(
                "Seconds a step",
                "Medians; a convolutional or dense net.",
                ("case/kind", "case/n_shot", "case/first_order"),
                [
                    Column(name, name, "median")
                    for name in ("ours", "learn2learn", "higher", "loop")
                ],
                {"part": "time"},
            )
        ],
    ),
}


def at(record: Any, path: str) -> Any:
    """Entry under keys joined by "/", or None."""
    for key in path.split("/"):
        if isinstance(record, list) and key.lstrip("-").isdigit():
            inside = -len(record) <= int(key) < len(record)
            record = record[int(key)] if inside else None
        else:
            record = record.get(key) if isinstance(record, dict) else None
    return record


def numbers(entry: Any) -> Values:
    """Finite numbers of an entry, whether it is one or a list."""
    entries = entry if isinstance(entry, list) else [entry]
    plain = [value for value in entries if isinstance(value, int | float)]
    return [float(value) for value in plain if np.isfinite(value)]


def shown(values: Values, show: str) -> str:
    """Text of a cell."""
    if not values:
        return MISSING
    if show in ("median", "max"):
        figure = float(np.median(values) if show == "median" else max(values))
        return f"{figure:.3g}"
    mean, half = mean_confidence_interval(values)
    factor, digits = (100, 1) if show == "percent" else (1, 3)
    text = f"{factor * mean:.{digits}f}"
    return text if np.isnan(half) else f"{text} +- {factor * half:.{digits}f}"


def table_of(table: Table, lines: list[Line]) -> str:
    """The table as reStructuredText, nothing where there are no lines for it."""
    rows: dict[tuple[str, ...], list[Line]] = {}
    for line in lines:
        settings = line["settings"]
        if all(settings.get(key) == value for key, value in table.where.items()):
            key = tuple(_label(at(settings, path)) for path in table.rows)
            rows.setdefault(key, []).append(line["result"])
    if not rows:
        return ""
    header = [*(path.split("/")[-1] for path in table.rows), "runs"]
    header += [column.header for column in table.columns]
    cells = [header]
    for key, results in rows.items():
        figures = [
            shown([v for one in results for v in numbers(at(one, c.path))], c.show)
            for c in table.columns
        ]
        cells.append([*key, str(len(results)), *figures])
    return f"{_heading(table.title, '~')}{table.text}\n\n{_list_table(cells)}\n"


def page(folder: Path) -> str:
    """Text of the whole page."""
    found = {path.stem: read(path) for path in sorted(folder.glob("*.jsonl"))}
    parts = [HEAD]
    for name, benchmark in BENCHMARKS.items():
        tables = [table_of(table, found.get(name, [])) for table in benchmark.tables]
        if any(tables):
            parts.append(_heading(benchmark.title, "-"))
            parts.append(f"``python -m benchmarks {name}``\n")
            parts += [text for text in tables if text]
    others = [[name, str(len(lines))] for name, lines in found.items() if lines]
    others = [row for row in others if row[0] not in BENCHMARKS]
    if others:
        parts.append(_heading("Other benchmarks", "-"))
        parts.append(_list_table([["file", "runs"], *others]))
    if len(parts) == 1:
        parts.append("There are no result lines in this checkout.\n")
    return "\n".join(parts)


def write(folder: Path, path: Path) -> None:
    """Write the page, if it changes."""
    text = page(folder)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def _heading(title: str, rule: str) -> str:
    return f"{title}\n{rule * len(title)}\n\n"


def _label(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return MISSING if value is None else str(value)


def _list_table(cells: list[list[str]]) -> str:
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in cells:
        for k, cell in enumerate(row):
            lines.append(f"   {'* -' if k == 0 else '  -'} {cell}")
    return "\n".join(lines) + "\n"
