"""Write the results page from the lines of the benchmarks, never by hand.

A table is described, in the modules of ``_results``, by the settings that make its
rows and by the numbers of its columns. A file or a part of a file that is not there
is left out of the page, and a file without a description is listed with the number of
its runs.
"""

from __future__ import annotations

from pathlib import Path

from _results import (
    codes,
    confounders,
    export,
    files,
    gradient_steps,
    images,
    open_set,
    scale,
    shared_labels,
    solvers,
    spurious,
)
from _results.lines import at, read
from _results.tables import Benchmark, heading, list_table

__all__ = ["BENCHMARKS", "at", "page", "read", "write"]

HEAD = """Results
=======

Every number on this page is computed from the lines that the scripts in
``benchmarks`` wrote to ``benchmarks/results``, one line a run, when the pages were
built. An interval ("+-") is at 95%: over the episodes where a run has episodes, all
runs of a row taken together, else over the runs; a single run has none. Differences
are paired over the same episodes, or over the same seeds. "runs" are those behind a
cell. A commit is that of the code that ran, with "+" where it had changes besides; for
lines from before commits were kept, it is the one that brought them in. Times are of
the machine that ran the benchmark, with the number of threads in the line. What the
numbers say stands in the :doc:`user guide <user_guide/index>`.
"""

BENCHMARKS: list[Benchmark] = [
    *shared_labels.BENCHMARKS,
    *images.BENCHMARKS,
    *codes.BENCHMARKS,
    *gradient_steps.BENCHMARKS,
    *confounders.BENCHMARKS,
    *spurious.BENCHMARKS,
    *solvers.BENCHMARKS,
    *scale.BENCHMARKS,
    *open_set.BENCHMARKS,
    *export.BENCHMARKS,
    *files.BENCHMARKS,
]


def page(folder: Path) -> str:
    """Return the text of the whole page."""
    found = {path.stem: read(path) for path in sorted(folder.rglob("*.jsonl"))}
    parts = [HEAD]
    for benchmark in BENCHMARKS:
        lines = found.get(benchmark.name, [])
        tables = [table.text_of(lines) for table in benchmark.tables]
        if any(tables):
            parts.append(heading(benchmark.title, "-"))
            parts.append(f"``python -m benchmarks {benchmark.name}``\n")
            parts += [text for text in tables if text]
    described = {benchmark.name for benchmark in BENCHMARKS}
    others = [[name, str(len(lines))] for name, lines in found.items() if lines]
    others = [row for row in others if row[0] not in described]
    if others:
        parts.append(heading("Other benchmarks", "-"))
        parts.append(list_table([["file", "runs"], *others]))
    if len(parts) == 1:
        parts.append("There are no result lines in this checkout.\n")
    return "\n".join(parts)


def write(folder: Path, path: Path) -> None:
    """Write the page, if it changes."""
    text = page(folder)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
