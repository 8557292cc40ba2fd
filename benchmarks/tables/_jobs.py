"""Training and new tasks, and jobs: a new task with nested supports and a query."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ._data import Array, Table, groups_of

_INNER_JOBS, _MOST_INNER, _INNER_QUERY = 12, 20, 500


@dataclass(frozen=True)
class Job:
    """A new task: rows of the support for every number of labels, rows to predict."""

    task: int
    support: dict[int, Array]
    query: Array


@dataclass(frozen=True)
class Choice:
    """How jobs are drawn: natural class shares, and no molecule of the training."""

    natural: bool = False
    disjoint: bool = False


class Train:
    """What a contender may see: the training tasks, and a split of them to choose by.

    Parameters
    ----------
    table : Table
    index : array of shape (n_rows,)
        Training rows.
    choice : Choice
    seed : int
        Draws the inner split.
    threads : int
    brief : bool
        Whether all should be as small as can be.
    """

    def __init__(
        self,
        table: Table,
        index: Array,
        choice: Choice,
        seed: int,
        threads: int,
        brief: bool = False,
    ) -> None:
        self.table, self.index, self.threads = table, index, threads
        self.shots, self.kind, self.seed = table.shots, table.kind, seed
        self.brief = brief
        # Pooled models that contenders share, and those that the last one asked for.
        self.kept: dict[Any, Any] = {}
        self.asked: set[Any] = set()
        self._groups = groups_of(table.X)
        own = table.tasks[index]
        present = usable_tasks(table, index)
        rng = np.random.default_rng([seed, 7])
        n_inner = min(max(2, len(np.unique(own)) // 4), _MOST_INNER)
        held = rng.permutation(present)[:n_inner]
        self.inner_index = index[~np.isin(own, held)]
        inner = index[np.isin(own, held)]
        draws = 1 if brief else -(-_INNER_JOBS // len(held))
        plain = replace(choice, disjoint=False)
        small = replace(table, max_query=min(table.max_query, _INNER_QUERY))
        self.inner_jobs = make_jobs(small, inner, held, draws, plain, seed + 1000)

    def rows(self, inner: bool) -> tuple[Array, Array, Array]:
        """Features, targets and tasks of all training rows, or of the inner split's."""
        index = self.inner_index if inner else self.index
        return self.table.rows(index), self.table.y[index], self.table.tasks[index]

    def merged(self, inner: bool) -> tuple[Array, Array, Array]:
        """Features, targets and weights of the rows that differ, for pooled models."""
        index = self.inner_index if inner else self.index
        if self.kind == "regression" or self.table.X.dtype != np.uint8:
            return *self.rows(inner)[:2], np.ones(len(index))
        y = self.table.y[index]
        keys = self._groups[self.table.source[index]] * self.table.n_classes + y
        _, first, weight = np.unique(keys, return_index=True, return_counts=True)
        kept = index[first]
        return self.table.rows(kept), self.table.y[kept], weight.astype(float)


def usable_tasks(table: Table, index: Array) -> Array:
    """Tasks that can be new: those with two rows at least, of two classes."""
    found = []
    for task in np.unique(table.tasks[index]):
        y = table.y[index[table.tasks[index] == task]]
        counts = np.unique(y, return_counts=True)[1]
        enough = len(y) > 1 if table.kind == "regression" else (counts > 1).sum() > 1
        found += [task] if enough else []
    return np.array(found)


def divide(
    table: Table,
    split: int,
    supports: int,
    choice: Choice,
    threads: int,
    brief: bool = False,
) -> tuple[Train, list[Job]]:
    """Training rows and jobs of a split of the tasks."""
    everything = np.arange(len(table.y))
    rng = np.random.default_rng([zlib.crc32(table.name.encode()), split])
    drawn = rng.permutation(usable_tasks(table, everything))[: table.n_new]
    new = np.array(table.first_new) if split == 0 and table.first_new else drawn
    is_new = np.isin(table.tasks, new)
    index = _capped(table, everything[~is_new], rng, choice.natural)
    known, allowed = everything[is_new], None
    if choice.disjoint:
        apart = _apart(table, rng)
        index, allowed = index[~apart[index]], known[apart[known]]
        known = known[~apart[known]]
    jobs = make_jobs(table, known, np.sort(new), supports, choice, split, allowed)
    return Train(table, index, choice, split, threads, brief), jobs


def _apart(table: Table, rng: np.random.Generator) -> Array:
    """Whether a row is of the third of the molecules that is only ever asked for."""
    groups = groups_of(table.X)[table.source]
    names = np.unique(groups)
    return np.isin(groups, rng.permutation(names)[: len(names) // 3])


def _capped(
    table: Table, index: Array, rng: np.random.Generator, natural: bool
) -> Array:
    """Some rows of every task: of either class as many, or twice that as they come."""
    if table.max_train is None:
        return index
    most = table.max_train * (2 if natural else 1)
    kept = []
    for task in np.unique(table.tasks[index]):
        own = index[table.tasks[index] == task]
        kept += [part[:most] for part in _parts(table, own, rng, natural)]
    return np.sort(np.concatenate(kept))


def make_jobs(
    table: Table,
    index: Array,
    tasks: Sequence[int] | Array,
    draws: int,
    choice: Choice,
    seed: int,
    allowed: Array | None = None,
) -> list[Job]:
    """Jobs task by task; supports of a draw are nested, their query rows the same.

    Supports are of the rows `index`, and so are query rows unless some are `allowed`.
    """
    found = []
    own_tasks = table.tasks[index]
    name = zlib.crc32(table.name.encode())
    for task in tasks:
        own = index[own_tasks == task]
        for draw in range(draws):
            rng = np.random.default_rng([name, seed, int(task), draw, 1])
            parts = _parts(table, own, rng, choice.natural)
            # Of 2k rows without regard to the class, k are as many as of two classes.
            factor = 2 if choice.natural and table.kind != "regression" else 1
            support = {
                k: np.concatenate([p[: min(factor * k, len(p) // 2)] for p in parts])
                for k in table.shots
            }
            used = np.concatenate(list(support.values()))
            rest = np.setdiff1d(own, used)
            if allowed is not None:
                rest = allowed[table.tasks[allowed] == task]
            query = np.sort(rng.permutation(rest)[: table.max_query])
            found.append(Job(int(task), support, query))
    return found


def _parts(
    table: Table, own: Array, rng: np.random.Generator, whole: bool
) -> list[Array]:
    """Rows of a task in random order, class by class unless it is one whole."""
    order = rng.permutation(own)
    if whole or table.kind == "regression":
        return [order]
    return [order[table.y[order] == c] for c in np.unique(table.y[order])]


def digest(jobs: Sequence[Job]) -> str:
    """Short text that is the same where contenders had the same jobs."""
    found = 0
    for job in jobs:
        for rows in (*job.support.values(), job.query):
            found = zlib.crc32(np.ascontiguousarray(rows, dtype="<i8").tobytes(), found)
    return f"{found:08x}"
