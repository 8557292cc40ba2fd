"""How many rows an episode takes, and what a small class or task gives instead."""

from __future__ import annotations

import math
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils._param_validation import Interval

from ..exceptions import InvalidInputError

SHOT_CONSTRAINT = [Interval(Integral, 1, None, closed="left"), tuple, list]
FEWEST_CONSTRAINT = [tuple, list, None]


class RowCounts:
    """Support and query rows of a group: a class, or a task of real targets.

    Parameters
    ----------
    n_shot : int or pair of int
        Support rows, or the range (low, high) that they are drawn from.
    n_query : int
        Query rows.
    fewest : pair of int or None
        Support and query rows that a group has to give at least. None: as many as
        asked for; one support row with a range.

    Raises
    ------
    InvalidInputError
        If a pair is none, or not in order.

    Examples
    --------
    >>> from skcausalmeta.episodes._row_counts import RowCounts
    >>> counts = RowCounts(5, 10, fewest=(1, 1))
    >>> counts.divide(40, 5), counts.divide(12, 5), counts.divide(2, 5)
    ((5, 10), (5, 7), (1, 1))
    """

    def __init__(
        self, n_shot: Any, n_query: int, fewest: tuple[int, int] | None = None
    ) -> None:
        self.low, self.high = shot_range(n_shot)
        self.query = int(n_query)
        varied = not isinstance(n_shot, Integral)
        if fewest is None:
            fewest = (1 if varied else self.low, self.query)
        self.fewest = _check_fewest(fewest, self.low, self.query, varied)
        self._varied = varied

    @property
    def smallest(self) -> int:
        """Fewest rows of a group that serves."""
        return sum(self.fewest)

    @property
    def rule(self) -> str:
        """What a group must have, for messages."""
        if not self._varied and self.fewest == (self.low, self.query):
            return "n_shot + n_query"
        return f"{self.fewest[0]} support and {self.fewest[1]} query rows"

    @property
    def remedy(self) -> str:
        """Begin of the advice on groups that are too small, for messages."""
        if self.fewest == (1, 1):
            return "collect more rows, or"
        return "lower n_shot or n_query, or"

    def draw_shot(self, rng: np.random.Generator) -> int:
        """Draw the support rows, log-uniformly; a single number needs no draw."""
        if not self._varied:
            return self.low
        drawn = math.exp(rng.uniform(math.log(self.low), math.log(self.high + 1)))
        return min(max(int(drawn), self.low), self.high)

    def divide(self, n_rows: int, shot: int) -> tuple[int, int]:
        """Divide the rows of a group into support and query.

        What is too small gives half of its rows as support, or what the query
        leaves if that is more, and the rest as query.
        """
        wanted = min(shot, max(n_rows - self.query, n_rows // 2))
        least = min(shot, self.fewest[0])
        support = max(least, min(wanted, n_rows - self.fewest[1]))
        return support, min(self.query, n_rows - support)


def shot_range(n_shot: Any) -> tuple[int, int]:
    """Return the range of the support rows; of a number, itself twice.

    Raises
    ------
    InvalidInputError
        If a pair is not (low, high) with 1 <= low <= high.
    """
    if isinstance(n_shot, Integral):
        return int(n_shot), int(n_shot)
    if not _is_pair(n_shot) or not 1 <= n_shot[0] <= n_shot[1]:
        raise InvalidInputError(
            "n_shot must be an int, or a pair (low, high) of int with 1 <= low <= "
            f"high. Got {n_shot!r}; write for instance n_shot=(1, 20)."
        )
    return int(n_shot[0]), int(n_shot[1])


def _is_pair(given: Any) -> bool:
    return (
        isinstance(given, tuple | list)
        and len(given) == 2
        and all(isinstance(one, Integral) for one in given)
    )


def _check_fewest(fewest: Any, shot: int, query: int, varied: bool) -> tuple[int, int]:
    limits = f"n_shot={shot} and n_query={query}"
    within = _is_pair(fewest) and fewest[0] >= 1 and 1 <= fewest[1] <= query
    if not within or (fewest[0] > shot and not varied):
        raise InvalidInputError(
            "fewest must be a pair of int, support and query rows from 1 to "
            f"{limits}. Got {fewest!r}; write fewest=(1, 1) to take whatever there is."
        )
    return int(fewest[0]), int(fewest[1])
