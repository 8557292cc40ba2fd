"""A page that tells what many solved tasks are."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..exceptions import InvalidInputError
from ..learners import SolvedTasks, names_of
from ..persistence import in_one_step

_TASKS_AT_ONCE = 4096
_SHARES = (0.0, 0.5, 0.9, 1.0)
_STYLE = (
    "body{font:15px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}"
    "table{border-collapse:collapse}td,th{border:1px solid #bbb;padding:.2em .6em;"
    "text-align:left}"
)


class _Section(NamedTuple):
    title: str
    text: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


class _Facts(NamedTuple):
    """What is read of all tasks; weights are empty where there are none."""

    n_labels: NDArray[np.int64]
    gaps: NDArray[np.float64]
    classes: Counter[Any]
    n_columns: NDArray[np.int64]
    counts: NDArray[np.int64]
    sums: NDArray[np.float64]
    sizes: NDArray[np.float64]


def report(
    solved: SolvedTasks,
    path: str | PathLike[str],
    *,
    n_rows: int = 10,
    n_groups: int = 8,
    random_state: int | None = 0,
) -> Path:
    """Write a page about solved tasks.

    It has the number of tasks, labels and certificates, the tasks that were left out
    with the reasons, and, of linear heads, the columns in which most tasks differ from
    what they share, groups of tasks that differ alike, and those that differ most.

    Parameters
    ----------
    solved : SolvedTasks
        In memory or in a folder.
    path : str or path-like
        File to write, .html or .md. It appears in one step.
    n_rows : int, default=10
        Rows of a table.
    n_groups : int, default=8
        Most groups of tasks.
    random_state : int, default=0
        As in `SolvedTasks.groups`.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InvalidInputError
        If the file is none of the two kinds, or a number is not positive.
    ImportError
        If pandas is not installed.

    See Also
    --------
    skcausalmeta.inspection.DeviationDisplay : Draws what differs in some tasks.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skcausalmeta.datasets import make_shared_tasks
    >>> from skcausalmeta.learners import SparseMetaClassifier
    >>> from skcausalmeta.tasks import report
    >>> data = make_shared_tasks(n_tasks=12, random_state=0)
    >>> learner = SparseMetaClassifier(
    ...     backbone="identity", max_epochs=1, verbose=0, random_state=0
    ... )
    >>> learner = learner.fit(data.data, data.target, tasks=data.tasks)
    >>> solved = learner.adapt_tasks(data.data, data.target, data.tasks)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = report(solved, Path(folder) / "tasks.md").read_text()
    >>> print(page.splitlines()[2])
    12 tasks of SparseMetaClassifier are solved, 0 were left out.
    """
    path = Path(path)
    writers = {".html": _as_html, ".md": _as_markdown}
    if path.suffix not in writers:
        raise InvalidInputError(
            f"A report is an .html or .md file. Got {path.name!r}; name one of them."
        )
    for name, value in (("n_rows", n_rows), ("n_groups", n_groups)):
        if value < 1:
            raise InvalidInputError(f"{name} must be at least 1. Got {value}.")
    facts = _facts_of(solved)
    sections = [_overview(solved, facts), _left_out(solved, n_rows)]
    if len(facts.sizes):
        groups = solved.groups(n_groups, random_state=random_state)
        sections += [
            _columns(solved, facts, n_rows),
            _groups(solved, groups),
            _largest(solved, facts, n_rows),
        ]
    text = writers[path.suffix](sections)
    with in_one_step(path) as file:
        file.write(text.encode("utf-8", "replace"))
    return path


def _facts_of(solved: SolvedTasks) -> _Facts:
    n_labels, gaps, n_columns, sizes = [], [], [], []
    classes: Counter[Any] = Counter()
    counts: Any = 0
    sums: Any = 0
    linear = True
    for part in _parts(solved.ids_):
        frame = solved.to_frame(part)
        n_labels.append(frame["n_labels"].to_numpy())
        gaps.append(frame["certificate"].to_numpy())
        classes.update(frame["classes"])
        try:
            weights = np.abs(solved.deviations(part)) if linear else None
        except InvalidInputError:  # no linear heads
            linear, weights = False, None
        if weights is None:
            continue
        largest = weights.max(axis=1, initial=0.0)  # (n_tasks, n_features)
        n_columns.append(np.count_nonzero(largest, axis=1))
        counts, sums = counts + (largest > 0).sum(axis=0), sums + largest.sum(axis=0)
        sizes.append(np.sqrt((weights**2).sum(axis=(1, 2))))
    empty = np.empty(0)
    return _Facts(
        np.concatenate([empty, *n_labels]).astype(np.int64),
        np.concatenate([empty, *gaps]),
        classes,
        np.concatenate([empty, *(n_columns if linear else [])]).astype(np.int64),
        np.atleast_1d(counts),
        np.atleast_1d(sums),
        np.concatenate([empty, *(sizes if linear else [])]),
    )


def _parts(ids: NDArray[Any]) -> Iterator[NDArray[Any]]:
    for begin in range(0, len(ids), _TASKS_AT_ONCE):
        yield ids[begin : begin + _TASKS_AT_ONCE]


def _overview(solved: SolvedTasks, facts: _Facts) -> _Section:
    text = (
        f"{len(solved):,} tasks of {type(solved.learner).__name__} are solved, "
        f"{len(solved.failed_):,} were left out."
    )
    if solved.n_unknown_:
        text += f" {solved.n_unknown_:,} rows of unknown tasks were asked."
    certified = facts.gaps[np.isfinite(facts.gaps)]
    rows = [
        _shares_of("labels of a task", facts.n_labels, "{:.0f}"),
        _shares_of("columns that differ", facts.n_columns, "{:.0f}"),
        _shares_of("certificate (duality gap)", certified, "{:.1e}"),
    ]
    for classes, count in facts.classes.most_common(3):
        if classes is not None:
            rows.append(
                [f"tasks of classes {_name(classes)}", f"{count:,}", "", "", ""]
            )
    header = ["", "smallest", "median", "of 9 in 10", "largest"]
    return _Section("Tasks", text, header, rows)


def _shares_of(name: str, values: NDArray[Any], form: str) -> list[str]:
    if not len(values):
        return [name, "none", "", "", ""]
    return [name, *(form.format(v) for v in np.quantile(values, _SHARES))]


def _left_out(solved: SolvedTasks, n_rows: int) -> _Section:
    reasons = Counter(solved.failed_.values())
    examples: dict[str, Any] = {}
    for task, why in solved.failed_.items():
        examples.setdefault(why, task)
    rows = [
        [f"{count:,}", _name(examples[why]), why]
        for why, count in reasons.most_common(n_rows)
    ]
    text = "Every task was solved." if not rows else "The most frequent reasons:"
    return _Section("Left out", text, ["tasks", "such as", "why"], rows)


def _columns(solved: SolvedTasks, facts: _Facts, n_rows: int) -> _Section:
    names = _names(solved, len(facts.counts))
    order = np.argsort(-facts.counts, kind="stable")[:n_rows]
    rows = [
        [
            names[k],
            f"{facts.counts[k]:,}",
            f"{facts.counts[k] / len(solved):.1%}",
            f"{facts.sums[k] / facts.counts[k]:.3g}",
        ]
        for k in order
        if facts.counts[k]
    ]
    text = "The columns in which most tasks differ from what they share."
    header = ["column", "tasks", "share", "mean size of the weight there"]
    return _Section("What differs", text, header, rows)


def _groups(solved: SolvedTasks, groups: NDArray[np.int64]) -> _Section:
    rows = []
    for number in range(-1, groups.max(initial=-1) + 1):
        ids = solved.ids_[groups == number]
        if not len(ids):
            continue
        some = np.abs(solved.deviations(ids[:_TASKS_AT_ONCE])).max(axis=1, initial=0.0)
        names, mean = _names(solved, some.shape[1]), some.mean(axis=0)
        order = [k for k in np.argsort(-mean, kind="stable")[:3] if mean[k] > 0]
        columns = ", ".join(names[k] for k in order) or "nothing"
        rows.append([columns, f"{len(ids):,}", _name(names_of(ids[:1])[0])])
    text = "Tasks by the columns in which they differ most, whatever how much."
    return _Section("Groups", text, ["columns", "tasks", "such as"], rows)


def _largest(solved: SolvedTasks, facts: _Facts, n_rows: int) -> _Section:
    ids = solved.ids_[np.argsort(-facts.sizes, kind="stable")[:n_rows]]
    rows = []
    for task, weights in zip(names_of(ids), solved.deviations(ids), strict=True):
        largest = np.abs(weights).max(axis=0)
        names = _names(solved, len(largest))
        order = [k for k in np.argsort(-largest, kind="stable")[:3] if largest[k] > 0]
        found = ", ".join(f"{names[k]} ({largest[k]:.3g})" for k in order)
        size = np.sqrt((weights**2).sum())
        rows.append([_name(task), f"{size:.3g}", found or "nothing"])
    text = "By the Euclidean norm of the weights by which a task differs."
    header = ["task", "norm", "largest weights"]
    return _Section("Tasks that differ most", text, header, rows)


def _names(solved: SolvedTasks, width: int) -> list[str]:
    names = solved.feature_names_
    return [_name(name) for name in (range(width) if names is None else names)]


def _name(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _as_markdown(sections: Sequence[_Section]) -> str:
    def cell(text: str) -> str:
        for sign in "\\`*_{}[]<>#|":
            text = text.replace(sign, f"\\{sign}")
        return " ".join(text.split())

    lines = []
    for title, text, header, rows in sections:
        lines += [f"## {title}", "", cell(text), ""]
        if rows:
            lines += [f"| {' | '.join(header)} |", "|" + " --- |" * len(header)]
            lines += [f"| {' | '.join(map(cell, row))} |" for row in rows]
            lines.append("")
    return "\n".join(lines)


def _as_html(sections: Sequence[_Section]) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        return "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)

    parts = ["<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'>"]
    parts.append(f"<title>Solved tasks</title><style>{_STYLE}</style></head><body>")
    for title, text, header, rows in sections:
        parts.append(f"<h2>{html.escape(title)}</h2><p>{html.escape(text)}</p>")
        if rows:
            body = "".join(f"<tr>{row(cells, 'td')}</tr>" for cells in rows)
            parts.append(f"<table><tr>{row(header, 'th')}</tr>{body}</table>")
    return "\n".join([*parts, "</body></html>\n"])
