"""Arguments, results on disk and tables of a benchmark.

A benchmark writes one JSON line per run to ``results/NAME.jsonl``; a run whose
settings (seed included) are already there is not repeated, so an interrupted
benchmark continues where it stopped. Tables are made from the lines.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from ._commits import commit_now
from ._lines import append_line, end_last_line, key_of, results_by_key
from ._peers import Peer
from ._process import ROOT
from ._tables import table_text

RESULTS = ROOT / "benchmarks" / "results"
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
    peers : sequence of Peer, default=()
        Packages that are compared with: named in every line, and in a table that says
        which of them are left out and why.
    """

    def __init__(
        self, name: str, arguments: argparse.Namespace, peers: Sequence[Peer] = ()
    ) -> None:
        torch.set_num_threads(arguments.threads)
        self._limits = threadpool_limits(arguments.threads)
        self._of = {"environment": environment(arguments.threads), **commit_now()}
        states = {peer.name: peer.state for peer in peers}
        if states:
            self._of["environment"]["peers"] = states
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
        end_last_line(self.path)
        self._finished = results_by_key(self.path)
        self.table("peers", ["peer", "version"], [list(one) for one in states.items()])

    def run(
        self, settings: Mapping[str, Any], measure: Callable[[], Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Result of a run, measured and appended unless it is already there."""
        key = key_of(settings)
        if key not in self._finished:
            result = dict(measure())
            append_line(self.path, settings, result, self._of)
            self._finished[key] = result
        return self._finished[key]

    def table(
        self, title: str, header: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> None:
        """Print a table with aligned columns, unless it has no rows."""
        if not rows:
            return
        block = f"\n{title}\n{table_text(header, rows)}"
        print(block, flush=True)
        if self._output is not None:
            with self._output.open("a") as file:
                file.write(block + "\n")


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
