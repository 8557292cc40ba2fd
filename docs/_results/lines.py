"""Lines of the benchmarks: where they are, what is in them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from benchmarks._harness import read_lines

Line = dict[str, Any]
Values = list[float]

_COMMIT_DIGITS = 7


def read(path: Path) -> list[Line]:
    """Return the lines of a file; what is no complete line is left out.

    Of a run that was repeated with the same settings, the last line stands.
    """
    found: dict[str, Line] = {}
    for line in read_lines(path):
        key = json.dumps(line["settings"], sort_keys=True)
        found.pop(key, None)
        found[key] = line
    return list(found.values())


def at(record: Any, path: str) -> Any:
    """Return the entry under keys joined by "/", or None."""
    for key in path.split("/"):
        if isinstance(record, list) and key.lstrip("-").isdigit():
            inside = -len(record) <= int(key) < len(record)
            record = record[int(key)] if inside else None
        else:
            record = record.get(key) if isinstance(record, dict) else None
    return record


def numbers(entry: Any) -> Values:
    """Return the finite numbers of an entry, whether it is one or a list."""
    entries = entry if isinstance(entry, list) else [entry]
    plain = [value for value in entries if isinstance(value, int | float)]
    return [float(value) for value in plain if math.isfinite(value)]


def commit_of(line: Line) -> str | None:
    """Return the commit of a line, with "+" where the code had changes besides it."""
    commit = line.get("commit")
    if not commit:
        return None
    return str(commit)[:_COMMIT_DIGITS] + ("+" if line.get("dirty") else "")
