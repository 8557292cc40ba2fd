"""Tables of hostile files and of calls in any order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .tables import Benchmark, Column, Table


def _faults(result: Any) -> float:
    return float(len(result.get("faults", ())))


def _count(name: str) -> Callable[[Any], float]:
    return lambda result: float(result.get(name, 0))


def _last(result: Any) -> float:
    return float(result["resident, MB"][-1])


def _left_open(result: Any) -> float:
    return float(len(result["descriptors"]) + len(result["threads"]) - 2)


BENCHMARKS = [
    Benchmark(
        "fuzz_persistence",
        "Saved files",
        [
            Table(
                "Damaged and forged files",
                "Refused with the package's own error; unchanged and loaded identical; "
                "forged with a right checksum and loaded to something else, as they "
                "may. A fault is code that ran, a file that was written or another "
                "error.",
                (),
                [
                    Column("files", "files", "sum"),
                    Column("refused", "refused", "sum"),
                    Column("identical", "identical", "sum"),
                    Column("forged and loaded", "forged and loaded", "sum"),
                    Column("faults", _faults, "sum"),
                    Column("slowest, s", "slowest, s", "max"),
                ],
            )
        ],
    ),
    Benchmark(
        "fuzz_inputs",
        "Tables, arrays and archives",
        [
            Table(
                "Odd tables, arrays and archives",
                "CSV files, npz files and archives of images, changed byte by byte and "
                "by structure: read, or refused with the package's own error.",
                (),
                [
                    Column("files", "files", "sum"),
                    Column("refused", "refused", "sum"),
                    Column("read", "read", "sum"),
                    Column("faults", _faults, "sum"),
                    Column("slowest, s", "slowest, s", "max"),
                ],
            )
        ],
    ),
    Benchmark(
        "shared_file",
        "One file for many processes",
        [
            Table(
                "Two writers and four readers of one file",
                "A fault is a read that was refused or not whole.",
                ("seconds",),
                [
                    Column("writes", "writes", "sum"),
                    Column("reads", "reads", "sum"),
                    Column("faults", _faults, "sum"),
                ],
            )
        ],
    ),
    Benchmark(
        "state_machine",
        "Calls in any order",
        [
            Table(
                "Calls in any order, refused and interrupted ones among them",
                "A fault is a change of what was learned by anything but a fit, of "
                "parameters by a call that failed, of the caller's arrays, or another "
                "answer to the same question.",
                ("learner",),
                [
                    Column("steps", "steps", "sum"),
                    *(
                        Column(name, _count(name), "sum")
                        for name in ("fits", "adapts", "copies", "refused")
                    ),
                    Column("interruptions", _count("interruptions"), "sum"),
                    Column("faults", _faults, "sum"),
                ],
            )
        ],
    ),
    Benchmark(
        "memory_of_use",
        "What use leaves in a process",
        [
            Table(
                "Memory over thousands of calls",
                "Growth over the last half of the calls; descriptors and threads that "
                "came or went in it.",
                ("what", "learner"),
                [
                    Column("MB at the end", _last, "median"),
                    Column("growth, %", "growth of the last half, %", "median"),
                    Column("descriptors and threads", _left_open, "sum"),
                ],
            )
        ],
    ),
]
