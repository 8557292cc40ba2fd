"""Tables of plain text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def table_text(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Rows below their header, with aligned columns."""
    text = [[show(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*text, strict=True)]
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in text
    ]
    lines.insert(1, "-" * len(lines[0]))
    return "\n".join(lines)


def show(cell: Any) -> str:
    """Text of a table cell."""
    if isinstance(cell, float):
        small = cell != 0 and abs(cell) < 1e-2
        return f"{cell:.1e}" if small else f"{cell:.4g}"
    return str(cell)
