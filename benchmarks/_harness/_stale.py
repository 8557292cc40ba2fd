"""Lines that are older than the code they measure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ._commits import date_of, files_changed
from ._lines import read_lines


def stale_rows(path: Path, measured: Sequence[str]) -> list[list[Any]]:
    """Commit, its day, lines of it, lines in all and files changed since.

    Commits of which nothing has changed since are left out; a commit that is not in
    the checkout counts as changed, with "?" for what is not known.
    """
    lines = read_lines(path)
    counts = Counter(line.get("commit") for line in lines)
    rows = []
    for commit, count in counts.items():
        changed = files_changed(commit, measured)
        if changed != []:
            files = "?" if changed is None else len(changed)
            day = date_of(commit) or "?"
            rows.append([commit or "?", day, count, len(lines), files])
    return sorted(rows, key=lambda row: row[1])
