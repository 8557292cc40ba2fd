"""Tables that are made of lines: rows by settings, columns of numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from skcausalmeta.metrics import mean_confidence_interval

from .lines import Line, Values, at, commit_of, numbers

MISSING = "--"
_BULLETS = ("- ", "+ ", "* ")

Wanted = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """Numbers of a column: where they are and how they are shown.

    Parameters
    ----------
    header : str
        Head of the column.
    path : str or callable
        Keys of the result joined by "/" (a number indexes a list), or a function of
        the result.
    show : str
        "mean", "change" (a mean with its sign), "percent" and "points" (both times
        100), each with its interval; "median", "max", "sum" or "plain" (the mean
        alone).
    scale : float
        What the numbers are multiplied by.
    where : mapping
        Further settings of the lines of this column.
    minus : mapping
        Settings in which other lines differ whose numbers are subtracted, those of
        the same seed. None: nothing is subtracted.
    """

    header: str
    path: str | Callable[[Any], Any]
    show: str = "mean"
    scale: float = 1.0
    where: Wanted = field(default_factory=dict)
    minus: dict[str, Any] | None = None

    def values(
        self, lines: Sequence[Line], others: Sequence[Line], rows: Sequence[str]
    ) -> Values:
        """Return the numbers of lines, less those of the others that they belong to.

        These have the settings of `minus`, and those of the rows, of the column and
        of the seed otherwise.
        """
        found: Values = []
        for line in lines:
            own = self._numbers(line)
            if self.minus is None:
                found += own
                continue
            same = (*rows, *self.where, "seed")
            wanted = {path: at(line["settings"], path) for path in same}
            wanted |= self.minus
            bases = [one for one in others if one is not line and meets(one, wanted)]
            for base in bases:
                # Over the first episodes, those that both have.
                pairs = zip(own, self._numbers(base), strict=False)
                found += [mine - other for mine, other in pairs]
        return found

    def _numbers(self, line: Line) -> Values:
        own = self.path
        result = line["result"]
        found = own(result) if callable(own) else at(result, own)
        return [self.scale * value for value in numbers(found)]


@dataclass(frozen=True)
class Table:
    """One table: the lines it is made of, its rows and its columns.

    Parameters
    ----------
    title, text : str
        What stands above the table.
    rows : sequence of str
        Settings that make the rows, keys joined by "/".
    columns : sequence of Column
    where : mapping
        Settings that the lines have; a callable value judges the setting.
    prepare : callable
        Makes other lines of all lines first, such as one for every head that was read.
    names : mapping
        How rows are called, by what is in the lines; others keep their name. With
        `only_named`, others are left out.
    """

    title: str
    text: str
    rows: Sequence[str]
    columns: Sequence[Column]
    where: Wanted = field(default_factory=dict)
    prepare: Callable[[list[Line]], list[Line]] = list
    names: Mapping[str, str] = field(default_factory=dict)
    only_named: bool = False

    def text_of(self, lines: list[Line]) -> str:
        """Return the table as reStructuredText, "" where there are no lines for it."""
        lines = [line for line in self.prepare(lines) if meets(line, self.where)]
        rows: dict[tuple[str, ...], list[Line]] = {}
        for line in lines:
            key = tuple(_label(at(line["settings"], path)) for path in self.rows)
            if not self.only_named or key[-1] in self.names:
                rows.setdefault(key, []).append(line)
        if not rows:
            return ""
        if self.only_named:
            order = list(self.names)
            rows = dict(sorted(rows.items(), key=lambda row: order.index(row[0][-1])))
        header = [path.split("/")[-1] for path in self.rows]
        cells = [[*header, "runs", *(column.header for column in self.columns)]]
        for key, own in rows.items():
            names = [self.names.get(label, label) for label in key]
            cells.append([*names, *self._cells(own, lines)])
        used = [line for own in rows.values() for line in own]
        parts = [heading(self.title, "~"), self.text, "\n\n", list_table(cells)]
        return "".join([*parts, _measured_at(used), "\n"])

    def _cells(self, own: list[Line], lines: list[Line]) -> list[str]:
        """Return the number of runs behind a cell, and the cells of a row."""
        runs, cells = 0, []
        for column in self.columns:
            found = [line for line in own if meets(line, column.where)]
            runs = max(runs, len(found))
            cells.append(shown(column.values(found, lines, self.rows), column.show))
        return [str(runs), *cells]


@dataclass(frozen=True)
class Benchmark:
    """Tables of one file of lines."""

    name: str
    title: str
    tables: Sequence[Table]


def meets(line: Line, wanted: Wanted) -> bool:
    """Return whether the settings of a line are those wanted."""
    for path, value in wanted.items():
        found = at(line["settings"], path)
        if not (value(found) if callable(value) else found == value):
            return False
    return True


def one_of(*values: Any) -> Callable[[Any], bool]:
    """Return a judge of settings that may have several values."""
    return lambda found: found in values


def ratio(first: str, second: str) -> Callable[[Any], Values]:
    """Return the function of a result that divides its numbers, one by one."""

    def ratios(result: Any) -> Values:
        above, below = numbers(at(result, first)), numbers(at(result, second))
        return [one / two for one, two in zip(above, below, strict=False)]

    return ratios


def shown(values: Values, show: str) -> str:
    """Return the text of a cell."""
    if not values:
        return MISSING
    if show in ("median", "max", "sum", "plain"):
        figure = {"median": np.median, "max": max, "sum": sum, "plain": np.mean}[show]
        number = float(figure(values))
        return f"{number:,.0f}" if show == "sum" else f"{number:.3g}"
    mean, half = mean_confidence_interval(values)
    factor, digits = (100, 1) if show in ("percent", "points") else (1, 3)
    sign = "+" if show in ("points", "change", "gain") else ""
    digits = 1 if show == "gain" else digits
    text = f"{factor * mean:{sign}.{digits}f}"
    return text if np.isnan(half) else f"{text} +- {factor * half:.{digits}f}"


def heading(title: str, rule: str) -> str:
    """Return a title over its rule."""
    return f"{title}\n{rule * len(title)}\n\n"


def list_table(cells: list[list[str]]) -> str:
    """Return rows of cells as a table, the first row its head."""
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in cells:
        for k, cell in enumerate(row):
            # A cell that begins like an item of a list would become one.
            text = f"\\{cell}" if cell.startswith(_BULLETS) else cell
            lines.append(f"   {'* -' if k == 0 else '  -'} {text}")
    return "\n".join(lines) + "\n"


def _measured_at(lines: list[Line]) -> str:
    """Return a line about the commits that lines were measured at, if they tell."""
    commits = list(dict.fromkeys(filter(None, map(commit_of, lines))))
    if not commits:
        return ""
    without = sum(commit_of(line) is None for line in lines)
    more = f"; {without} of {len(lines)} lines keep no commit" if without else ""
    return f"\nMeasured at {', '.join(commits)}{more}.\n"


def _label(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return MISSING if value is None else str(value)
