"""Two processes that write one file, and four that read it.

Every read must be whole, one of the two values that are written in turn, and none may
be refused. ``python -m benchmarks shared_file`` runs for ten minutes and writes one
JSON line to ``benchmarks/results/shared_file.jsonl``.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from benchmarks._harness import Harness, make_parser
from skcausalmeta.persistence import read_value, write_value

MEASURES = ("skcausalmeta/persistence",)

N_WRITERS, N_READERS, SECONDS, N_VALUES = 2, 4, 600, 100_000


def write(path: Path, value: float, end: float, counts: Any) -> None:
    """Write an array of one value until the time is up."""
    n_writes = 0
    while time.time() < end:
        write_value(path, np.full(N_VALUES, value))
        n_writes += 1
    counts.put(("writes", n_writes, []))


def read(path: Path, end: float, counts: Any) -> None:
    """Read until the time is up, and note what was not whole."""
    n_reads, faults = 0, []
    while time.time() < end:
        try:
            found = np.unique(read_value(path))
        except Exception as error:
            faults.append(repr(error)[:200])
        else:
            if len(found) != 1 or found[0] >= N_WRITERS:
                faults.append(f"a mixture of {found[:5]}")
        n_reads += 1
    counts.put(("reads", n_reads, faults[:5]))


def run(seconds: float) -> dict[str, Any]:
    """Start all processes, and count."""
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as name:
        path, counts = Path(name) / "file", context.Queue()
        write_value(path, np.zeros(N_VALUES))
        end = time.time() + seconds
        processes = [
            context.Process(target=write, args=(path, float(k), end, counts))
            for k in range(N_WRITERS)
        ]
        processes += [
            context.Process(target=read, args=(path, end, counts))
            for _ in range(N_READERS)
        ]
        for process in processes:
            process.start()
        told = [counts.get() for _ in processes]
        for process in processes:
            process.join()
        left = [entry.name for entry in os.scandir(name) if entry.name != "file"]
    result: dict[str, Any] = {
        kind: sum(n for what, n, _ in told if what == kind)
        for kind in ("writes", "reads")
    }
    return {**result, "faults": [f for *_, fs in told for f in fs], "left": left}


def main() -> int:
    """Run once; exit code 1 if a read was not whole or a draft was left."""
    arguments = make_parser(__doc__).parse_args()
    harness = Harness("shared_file", arguments)
    seconds = 3 if arguments.smoke else SECONDS
    settings = {"writers": N_WRITERS, "readers": N_READERS, "seconds": seconds}
    result = harness.run(settings, partial(run, seconds))
    harness.table(
        "Writers and readers of one file",
        ["writes", "reads", "faults", "drafts left"],
        [
            [
                result["writes"],
                result["reads"],
                len(result["faults"]),
                len(result["left"]),
            ]
        ],
    )
    for fault in result["faults"]:
        print(fault)
    return int(bool(result["faults"] or result["left"]))


if __name__ == "__main__":
    sys.exit(main())
