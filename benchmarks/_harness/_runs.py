"""What every benchmark shares: arguments, results on disk, timer, table.

A benchmark writes one JSON line per run to ``results/NAME.jsonl``; a run whose
settings (seed included) are already there is not repeated, so an interrupted
benchmark continues where it stopped. Tables are made from the lines.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("numpy", "scipy", "sklearn", "torch", "skorch", "cvxpy", "skcausalmeta")


def make_parser(description: str) -> argparse.ArgumentParser:
    """Parser with the arguments that every benchmark has."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="smallest sizes; results go to a temporary directory",
    )
    parser.add_argument("--threads", type=int, default=2, help="default: %(default)s")
    parser.add_argument(
        "--results-dir", type=Path, default=RESULTS, help="directory of the JSON lines"
    )
    parser.add_argument(
        "--output", type=Path, help="also write the printed tables to this file"
    )
    return parser


class Harness:
    """Results, threads and tables of one benchmark.

    Parameters
    ----------
    name : str
        Name of the file of JSON lines.
    arguments : argparse.Namespace
        Parsed by a parser of `make_parser`.
    """

    def __init__(self, name: str, arguments: argparse.Namespace) -> None:
        torch.set_num_threads(arguments.threads)
        self._limits = threadpool_limits(arguments.threads)
        self._environment = environment(arguments.threads)
        self._output: Path | None = arguments.output
        if self._output is not None:
            self._output.write_text("")
        directory = Path(arguments.results_dir)
        if arguments.smoke:
            # Kept by the attribute; removed at exit.
            self._temporary = tempfile.TemporaryDirectory()
            directory = Path(self._temporary.name)
        directory.mkdir(parents=True, exist_ok=True)
        self.path = directory / f"{name}.jsonl"
        self._finished = read_lines(self.path)

    def run(
        self, settings: Mapping[str, Any], measure: Callable[[], Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Result of a run, measured and appended unless it is already there."""
        key = key_of(settings)
        if key not in self._finished:
            line = {
                "settings": dict(settings),
                "result": dict(measure()),
                "environment": self._environment,
            }
            with self.path.open("a") as file:
                file.write(json.dumps(line, default=float) + "\n")
            self._finished[key] = line["result"]
        return self._finished[key]

    def table(
        self, title: str, header: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> None:
        """Print a table with aligned columns, unless it has no rows."""
        if not rows:
            return
        text = [[show(cell) for cell in row] for row in (header, *rows)]
        widths = [max(map(len, column)) for column in zip(*text, strict=True)]
        lines = [
            "  ".join(
                cell.rjust(width) for cell, width in zip(row, widths, strict=True)
            )
            for row in text
        ]
        lines.insert(1, "-" * len(lines[0]))
        block = "\n".join(["", title, *lines])
        print(block, flush=True)
        if self._output is not None:
            with self._output.open("a") as file:
                file.write(block + "\n")


def key_of(settings: Mapping[str, Any]) -> str:
    """Settings as text, whatever their order; the same in every process."""
    text = json.dumps(dict(settings), sort_keys=True, default=float)
    if " at 0x" in text:
        raise ValueError(
            "Settings must name what they hold, since an address is another one in "
            f"the next process. Got {text}."
        )
    return text


def read_lines(path: Path) -> dict[str, dict[str, Any]]:
    """Results of a file of JSON lines by key; a line cut short is left out."""
    found: dict[str, dict[str, Any]] = {}
    if not path.exists():
        return found
    text = path.read_text()
    if text and not text.endswith("\n"):
        text = text[: text.rfind("\n") + 1]
        path.write_text(text)
    for line in text.splitlines():
        record = json.loads(line)
        found[key_of(record["settings"])] = record["result"]
    return found


def environment(threads: int) -> dict[str, Any]:
    """Versions, machine and threads that a result belongs to."""
    versions = {name: __import__(name).__version__ for name in PACKAGES}
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
        "threads": threads,
        **versions,
    }


def median_time(
    function: Callable[[], Any], *, repeats: int = 5, warm_up: int = 1
) -> float:
    """Median wall time of some calls in seconds, after calls that do not count."""
    for _ in range(warm_up):
        function()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def show(cell: Any) -> str:
    """Text of a table cell."""
    if isinstance(cell, float):
        small = cell != 0 and abs(cell) < 1e-2
        return f"{cell:.1e}" if small else f"{cell:.4g}"
    return str(cell)
