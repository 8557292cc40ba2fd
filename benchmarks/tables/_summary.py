"""Means of lines by number of labels, paired over the tasks of all splits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

# Scores by split and place of the task in it, and these by number of labels.
TaskScores = dict[tuple[int, int], float]
ByShots = dict[str, TaskScores]


def by_task(lines: Iterable[Mapping[str, Any]], measure: str) -> dict[str, ByShots]:
    """Scores by contender, each the mean of a task over its supports and seeds.

    Supports of a task are no independent draws, so that a task counts once. Tasks
    without a score are left out.
    """
    found: dict[str, dict[str, dict[tuple[int, int], list[float]]]] = {}
    for line in lines:
        settings, result = line["settings"], line["result"]
        name, split = settings["contender"], settings["split"]
        for k, scores in result["scores"].get(measure, {}).items():
            own = found.setdefault(name, {}).setdefault(k, {})
            for at, score in enumerate(scores):
                if np.isfinite(score):
                    key = (split, at // settings["supports"])
                    own.setdefault(key, []).append(score)
    return {
        name: {
            k: {key: float(np.mean(values)) for key, values in own.items()}
            for k, own in scores.items()
        }
        for name, scores in found.items()
    }


def best_simple(
    scores: Mapping[str, ByShots], simple: Sequence[str], more_is_better: bool
) -> dict[str, str]:
    """The simple method with the best mean over the tasks that all have, by labels."""
    best: dict[str, str] = {}
    sign = 1 if more_is_better else -1
    for k in {k for own in scores.values() for k in own}:
        known = [name for name in simple if scores.get(name, {}).get(k)]
        tasks = [set(scores[name][k]) for name in known]
        shared = set.intersection(*tasks) if tasks else set()
        if shared:
            means = {
                name: sign * float(np.mean([scores[name][k][task] for task in shared]))
                for name in known
            }
            best[k] = max(means, key=means.__getitem__)
    return best


def differences(own: TaskScores, base: TaskScores) -> TaskScores:
    """Score of every task less that of another method, where both have one."""
    return {key: score - base[key] for key, score in own.items() if key in base}
