"""Means of lines by number of labels, paired over the tasks of all splits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

# Scores by split and place of the task in it, and these by number of labels.
TaskScores = dict[tuple[int, int], float]
ByShots = dict[str, TaskScores]


def by_task(lines: Iterable[Mapping[str, Any]], measure: str) -> dict[str, ByShots]:
    """Scores by contender, each the mean of a task over its supports and seeds.

    Supports of a task are no independent draws, so that a task counts once. Splits
    that some contender lacks are left out, as tasks without a score are.
    """
    found: dict[str, dict[str, dict[tuple[int, int], list[float]]]] = {}
    splits: dict[str, set[int]] = {}
    for line in lines:
        settings, result = line["settings"], line["result"]
        name, split = settings["contender"], settings["split"]
        splits.setdefault(name, set()).add(split)
        for k, scores in result["scores"].get(measure, {}).items():
            own = found.setdefault(name, {}).setdefault(k, {})
            for at, score in enumerate(scores):
                if np.isfinite(score):
                    key = (split, at // settings["supports"])
                    own.setdefault(key, []).append(score)
    shared = set.intersection(*splits.values()) if splits else set()
    return {
        name: {
            k: {key: float(np.mean(own[key])) for key in own if key[0] in shared}
            for k, own in scores.items()
        }
        for name, scores in found.items()
    }


def best_simple(
    scores: Mapping[str, ByShots], simple: Iterable[str], more_is_better: bool
) -> dict[str, str]:
    """The simple method with the best mean, by number of labels."""
    best: dict[str, str] = {}
    sign = 1 if more_is_better else -1
    simple = list(simple)
    for k in {k for own in scores.values() for k in own}:
        means = {
            name: sign * float(np.mean(list(scores[name][k].values())))
            for name in simple
            if scores.get(name, {}).get(k)
        }
        if means:
            best[k] = max(means, key=means.__getitem__)
    return best


def differences(own: TaskScores, base: TaskScores) -> TaskScores:
    """Score of every task less that of another method, where both have one."""
    return {key: score - base[key] for key, score in own.items() if key in base}
