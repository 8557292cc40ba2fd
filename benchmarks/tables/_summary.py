"""Means of lines by number of labels, paired over the tasks of all splits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

# Scores of a contender by number of labels: task by task of all splits.
ByTask = dict[str, list[float]]


def by_task(lines: Iterable[Mapping[str, Any]], measure: str) -> dict[str, ByTask]:
    """Scores by contender, each the mean of a task over its supports and seeds.

    Supports of a task are no independent draws, so that a task counts once. Tasks of
    a split that some contender lacks are left out, as those without a score are.
    """
    found: dict[str, dict[str, dict[tuple[int, int], list[float]]]] = {}
    splits: dict[str, set[int]] = {}
    for line in lines:
        settings, result = line["settings"], line["result"]
        name, split = settings["contender"], settings["split"]
        splits.setdefault(name, set()).add(split)
        for k, scores in result["scores"].get(measure, {}).items():
            own = found.setdefault(name, {}).setdefault(k, {})
            n_supports = settings["supports"]
            for at, score in enumerate(scores):
                own.setdefault((split, at // n_supports), []).append(score)
    shared = set.intersection(*splits.values()) if splits else set()
    return {
        name: {
            k: [_mean(own[key]) for key in sorted(own) if key[0] in shared]
            for k, own in scores.items()
        }
        for name, scores in found.items()
    }


def best_simple(
    scores: Mapping[str, ByTask], simple: Iterable[str], more_is_better: bool
) -> dict[str, str]:
    """The simple method with the best mean, by number of labels."""
    best: dict[str, str] = {}
    sign = 1 if more_is_better else -1
    for k in {k for own in scores.values() for k in own}:
        means = {
            name: sign * float(np.nanmean(scores[name][k]))
            for name in simple
            if k in scores.get(name, {})
        }
        if means:
            best[k] = max(means, key=means.__getitem__)
    return best


def differences(own: Iterable[float], base: Iterable[float]) -> list[float]:
    """Score of every task less that of another method, where both have one."""
    pairs = zip(own, base, strict=True)
    found = [one - other for one, other in pairs]
    return [value for value in found if np.isfinite(value)]


def _mean(values: list[float]) -> float:
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else float("nan")
