"""Sizes of the episodes of a learner, and which rows can give them."""

from __future__ import annotations

from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..exceptions import EpisodeError, InvalidInputError
from ..utils import few_of

# Caps of "auto" sizes: support and query rows of a class, or of a regression task.
MOST_WAYS, MOST_PER_CLASS, MOST_PER_TASK = 5, (5, 10), (25, 25)


class EpisodeSizes(NamedTuple):
    """Way, shot and query of the episodes, "auto" where the data decide.

    `n_shot` may be a pair (low, high), whose episodes draw their support rows; with
    `unequal` every class of an episode draws its own.
    """

    n_way: int | str
    n_shot: int | str | tuple[int, int]
    n_query: int | str
    unequal: bool = False


class ValueSizes(NamedTuple):
    """Support and query rows of an episode, "auto" where the data decide.

    `n_shot` may be a pair (low, high). With `disjoint` False both together are
    support and query at once.
    """

    n_shot: int | str | tuple[int, int]
    n_query: int | str
    disjoint: bool = True


def shots_of(n_shot: Any) -> tuple[Any, bool]:
    """Return `n_shot` without its third part, and whether that is "class".

    Raises
    ------
    InvalidInputError
        If there is a third part, and it is another one.

    Examples
    --------
    >>> from skcausalmeta.learners._episode_sizes import shots_of
    >>> shots_of((1, 10, "class")), shots_of((1, 10)), shots_of(5)
    (((1, 10), True), ((1, 10), False), (5, False))
    """
    if not isinstance(n_shot, tuple | list) or len(n_shot) != 3:
        return n_shot, False
    if n_shot[2] != "class":
        raise InvalidInputError(
            'n_shot must be an int, or a pair (low, high), with a third part "class" '
            f"to draw the support rows of every class anew. Got {n_shot!r}."
        )
    return tuple(n_shot[:2]), True


class Serving(NamedTuple):
    """Rows that episodes may be drawn from, and what to tell about the others."""

    rows: NDArray[np.bool_]
    note: str | None = None


def fewest_rows(sizes: EpisodeSizes | ValueSizes) -> tuple[int, int]:
    """Return the rows that a class or task has to give: what was asked for as a number.

    One row of each kind where the data decide, or where a range was given.
    """
    shot, query = sizes.n_shot, sizes.n_query
    return (
        int(shot) if isinstance(shot, Integral) else 1,
        int(query) if isinstance(query, Integral) else 1,
    )


def typical(counts: NDArray[Any]) -> int:
    """Return the median of the row counts, the greater one of two.

    At least half of the classes or tasks has as many rows, however small the
    smallest is.
    """
    return int(np.sort(counts)[len(counts) // 2])


def shot_and_query(
    sizes: EpisodeSizes | ValueSizes, n_rows: int, most: tuple[int, int]
) -> tuple[int | tuple[int, int], int]:
    """Choose "auto" sizes: half of the rows of a class or task, the rest, capped."""
    shot: Any = sizes.n_shot
    query: Any = sizes.n_query
    if shot == "auto":
        rest = n_rows // 2 if query == "auto" else n_rows - int(query)
        shot = max(1, min(most[0], rest))
    if query == "auto":
        taken = shot if isinstance(shot, Integral) else n_rows // 2
        query = max(1, min(most[1], n_rows - int(taken)))
    return shot, int(query)


def in_environments(
    sizes: EpisodeSizes | ValueSizes, n_rows: int, shot: Any, query: int
) -> tuple[Any, int]:
    """Lower "auto" sizes to the rows of an environment."""
    if sizes.n_shot == "auto":
        shot = min(shot, n_rows)
    if sizes.n_query == "auto":
        query = min(query, n_rows)
    return shot, query


def count_rows(*ids: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the combinations of ids that occur, as columns, and their row counts."""
    found, counts, _ = _count(*ids)
    return found, counts


def serving_classes(y: NDArray[Any], sizes: EpisodeSizes) -> Serving:
    """Return the rows of the classes that can give an episode.

    All rows where too few classes can, so that the sampler says what is wrong.

    Raises
    ------
    EpisodeError
        If one row of each kind would do, and two classes do not have them.
    """
    need = sum(fewest_rows(sizes))
    classes, numbers, counts = np.unique(y, return_inverse=True, return_counts=True)
    enough = counts >= need
    n_way = 2 if sizes.n_way == "auto" else int(sizes.n_way)
    if enough.sum() < 2 and need == 2:
        raise EpisodeError(
            "Episodes need at least 2 classes with 2 rows each. Got "
            f"{int(enough.sum())} such classes among {len(classes)}; "
            "collect more rows per class."
        )
    if enough.all() or enough.sum() < n_way:
        return Serving(np.ones(len(y), dtype=bool))
    note = _note(f"classes of at least {need} rows", classes, enough, "classes", need)
    return Serving(enough[numbers], note)


def serving_tasks(y: NDArray[Any], tasks: NDArray[Any], sizes: EpisodeSizes) -> Serving:
    """Return the rows of the tasks, and of their classes, that can give an episode.

    All rows where no task can, so that the sampler says what is wrong.
    """
    need = sum(fewest_rows(sizes))
    ids, task_numbers = np.unique(tasks, return_inverse=True)
    (of_task, _), counts, cells = _count(tasks, y)
    enough = counts >= need
    n_classes = np.bincount(of_task[enough], minlength=len(ids))
    kept = n_classes >= 2
    if not kept.any() or (kept.all() and enough.all()):
        return Serving(np.ones(len(y), dtype=bool))
    rule = f"tasks with at least 2 classes of {need} rows each"
    notes = [] if kept.all() else [_note(rule, ids, kept, "tasks", need)]
    partly = np.unique(of_task[kept[of_task] & ~enough])
    if len(partly):
        notes.append(
            f"Episodes take classes of at least {need} rows. Got fewer in classes of "
            f"{few_of(ids[partly].tolist())} of {len(ids)} tasks, whose other classes "
            "are used; add rows of the small ones."
        )
    return Serving(kept[task_numbers] & enough[cells], " ".join(notes))


def serving_whole_tasks(tasks: NDArray[Any], need: int) -> Serving:
    """Return the rows of the tasks of at least `need` rows, whatever their targets.

    All rows where no task has them, so that the sampler says what is wrong.
    """
    ids, numbers, counts = np.unique(tasks, return_inverse=True, return_counts=True)
    enough = counts >= need
    if enough.all() or not enough.any():
        return Serving(np.ones(len(tasks), dtype=bool))
    note = _note(f"tasks of at least {need} rows", ids, enough, "tasks", need)
    return Serving(enough[numbers], note)


def _note(
    rule: str, ids: NDArray[Any], kept: NDArray[np.bool_], units: str, need: int
) -> str:
    remedy = "add rows" if need == 2 else "lower n_shot or n_query, or add rows"
    return (
        f"Episodes take {rule}. Got less in {few_of(ids[~kept].tolist())} of "
        f"{len(ids)} {units}, which are left out of the episodes while the others keep "
        f"their size; {remedy}."
    )


def _count(
    *ids: NDArray[Any],
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return the combinations of ids, their row counts, and that of every row."""
    numbers = [np.unique(column, return_inverse=True)[1] for column in ids]
    shape = tuple(int(column.max(initial=0)) + 1 for column in numbers)
    joined = np.ravel_multi_index(tuple(numbers), shape)
    found, cells, counts = np.unique(joined, return_inverse=True, return_counts=True)
    return np.stack(np.unravel_index(found, shape)), counts, cells
