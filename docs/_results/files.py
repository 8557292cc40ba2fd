"""The table of damaged and forged files."""

from __future__ import annotations

from typing import Any

from .tables import Benchmark, Column, Table


def _faults(result: Any) -> float:
    return float(len(result.get("faults", ())))


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
    )
]
