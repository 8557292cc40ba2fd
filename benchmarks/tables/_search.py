"""The value of a parameter by number of labels, chosen on training tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ._data import Array
from ._jobs import Train
from ._scores import mean_scores

_WIDEN = 3


def choose_by_shots(
    train: Train,
    model_of: Callable[[Any], Any],
    grid: Iterable[float],
    *,
    limits: tuple[float, float] = (0.0, np.inf),
    whole: bool = False,
) -> tuple[dict[int, float], float]:
    """Best value by number of labels over the inner jobs, and the mean score of these.

    The grid is widened by its own step, some times, where a best value is its first
    or last and the limits allow more.
    """

    def judged(value: float) -> dict[int, float]:
        return mean_scores(model_of(value), train.table, train.inner_jobs)

    scores = {value: judged(value) for value in grid}
    for _ in range(_WIDEN):
        values = sorted(scores)
        best = set(_best(scores, train.shots).values())
        wider = [values[0] ** 2 / values[1]] if values[0] in best else []
        wider += [values[-1] ** 2 / values[-2]] if values[-1] in best else []
        wider = [round(v) if whole else v for v in wider]
        wider = [v for v in wider if limits[0] <= v <= limits[1] and v not in scores]
        if not wider:
            break
        scores.update({value: judged(value) for value in wider})
    found = _best(scores, train.shots)
    return found, float(np.mean([scores[value][k] for k, value in found.items()]))


def _best(
    scores: dict[float, dict[int, float]], shots: Iterable[int]
) -> dict[int, float]:
    return {k: max(sorted(scores), key=lambda v: scores[v][k]) for k in shots}


def best_on_grid(
    judge: Callable[[float], float],
    grid: Iterable[float],
    *,
    limits: tuple[float, float] = (0.0, np.inf),
) -> float:
    """Best value of a grid for all numbers of labels, widened like the others."""
    scores = {value: judge(value) for value in grid}
    for _ in range(_WIDEN if len(scores) > 1 else 0):
        values = sorted(scores)
        best = max(values, key=scores.__getitem__)
        edge = {values[0]: values[0] ** 2 / values[1]}
        edge[values[-1]] = values[-1] ** 2 / values[-2]
        if best not in edge or not limits[0] <= edge[best] <= limits[1]:
            break
        scores[edge[best]] = judge(edge[best])
    return max(sorted(scores), key=scores.__getitem__)


def shots_of(y: Array, kind: str) -> float:
    """Labels of a support: rows, or rows a class."""
    return len(y) if kind == "regression" else len(y) / max(1, len(np.unique(y)))


def nearest(chosen: dict[int, float], shots: float) -> float:
    """The value that was chosen for the number of labels next to this one."""
    k = min(chosen, key=lambda k: abs(np.log(k) - np.log(max(shots, 0.5))))
    return chosen[k]
