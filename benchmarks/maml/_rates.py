"""The inner rate of a contender, searched where it is best."""

from __future__ import annotations

from collections.abc import Callable, Iterable

# Three times as much or as little a step, more or less.
LADDER = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


def best_rate(judge: Callable[[float], float], start: Iterable[float]) -> float:
    """Rate with the best score, of a grid that is widened until none is at its end.

    Parameters
    ----------
    judge : callable
        ``judge(rate)``, the score of a rate; called once a rate.
    start : iterable of float
        Steps of `LADDER` to begin with.

    Returns
    -------
    float
        The smallest of the best, inside the grid unless the ladder ends there.

    Raises
    ------
    ValueError
        If a rate of `start` is no step of the ladder, or there is none.

    Examples
    --------
    >>> best_rate(lambda rate: -abs(rate - 3.0), [0.1, 0.3])
    3.0
    """
    given = list(start)
    if not given or not set(given) <= set(LADDER):
        raise ValueError(f"The rates must be some of {LADDER}. Got {given}.")
    places = [LADDER.index(rate) for rate in given]
    scores = {k: judge(LADDER[k]) for k in range(min(places), max(places) + 1)}
    while True:
        best = max(sorted(scores), key=scores.__getitem__)
        beside = [k for k in (best - 1, best + 1) if 0 <= k < len(LADDER)]
        missing = [k for k in beside if k not in scores]
        if not missing:
            return LADDER[best]
        scores.update({k: judge(LADDER[k]) for k in missing})
