"""N-way K-shot episodes drawn from the classes of a label vector."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils._param_validation import Interval, validate_parameter_constraints

from ..exceptions import EpisodeError
from ..utils import named_seeds
from ._environments import WITHOUT_ENVS, check_envs, pairs_of_environments
from ._episode import Episode
from ._row_counts import FEWEST_CONSTRAINT, SHOT_CONSTRAINT, RowCounts
from ._rows import check_labels, check_weights, draw_class_episode, group_rows


class EpisodeSampler:
    """Draw N-way K-shot episodes from a label vector.

    Every episode takes `n_way` classes at random and, of each, `n_shot` support
    rows and `n_query` other rows as query. The classes get the labels
    0, ..., n_way - 1 in random order, anew in every episode, so that a label
    carries no information about the class. Classes may differ in size.

    With a range of support rows the number is drawn log-uniformly, so that few rows
    and many are practised alike: k of (low, high) with probability
    ``log((k + 1) / k) / log((high + 1) / low)``.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Label of each row: integers, strings, or other values of one type.
    n_way : int, default=5
        Number of classes in an episode, at least 2.
    n_shot : int or pair of int, default=1
        Number of support rows of each class. A pair (low, high): drawn anew, one
        number for all episodes of a `draw`.
    n_query : int, default=15
        Number of query rows of each class.
    unequal : bool, default=False
        Draw the support rows of a pair `n_shot` anew for every class, so that the
        classes of an episode differ in them.
    fewest : pair of int, default=None
        Support and query rows that a class must be able to give at the least. A class
        with fewer rows than an episode asks for gives what it has. None: `n_shot` and
        `n_query`; one support row and `n_query` if `n_shot` is a pair.
    classes : array-like of shape (n_candidates,), default=None
        Classes to draw from. None takes all classes of `y`.
    envs : array-like of shape (n_samples,), default=None
        Environment of each row. Given, support and query of an episode come from
        two different environments, in random roles; classes without enough rows in
        both are left out of that episode.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows, > 0. Of the rows of a class, those of greater weight
        are drawn more often, for support and query alike. None: all as often.
    random_state : int, RandomState instance or None, default=None
        Decides the episodes. With an int, two samplers draw the same sequence.

    Attributes
    ----------
    classes_ : ndarray of shape (n_candidates,)
        Sorted classes that episodes are drawn from.

    Raises
    ------
    EpisodeError
        If a class has fewer rows than `fewest` asks for, without it
        ``n_shot + n_query``; if there are fewer than `n_way` classes; if `classes`
        names one that `y` does not hold; or if with `envs` no two environments have
        enough rows of `n_way` classes.
    InvalidInputError
        If `y` or `classes` is not one-dimensional, or holds missing or
        continuous values, or if a pair is none.

    See Also
    --------
    TaskSampler : Episodes from data that is already divided into tasks.

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.episodes import EpisodeSampler
    >>> y = np.repeat(["flute", "harp", "oboe", "viola"], 10)
    >>> sampler = EpisodeSampler(y, n_way=3, n_shot=2, n_query=5, random_state=0)
    >>> episode = sampler.sample()
    >>> bool((y[episode.query] == episode.classes[episode.query_targets]).all())
    True
    >>> print(episode.n_support, episode.n_query)
    6 15

    From 1 to 4 support rows, another number in every class:

    >>> sampler = EpisodeSampler(
    ...     y, n_way=3, n_shot=(1, 4), n_query=5, unequal=True, random_state=0
    ... )
    >>> print(np.bincount(sampler.sample().support_targets))
    [1 3 1]
    """

    _parameter_constraints: ClassVar[dict] = {
        "n_way": [Interval(Integral, 2, None, closed="left")],
        "n_shot": SHOT_CONSTRAINT,
        "n_query": [Interval(Integral, 1, None, closed="left")],
        "classes": ["array-like", None],
        "unequal": ["boolean"],
        "fewest": FEWEST_CONSTRAINT,
        "sample_weight": ["array-like", None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        y: ArrayLike,
        *,
        n_way: int = 5,
        n_shot: int | tuple[int, int] = 1,
        n_query: int = 15,
        unequal: bool = False,
        fewest: tuple[int, int] | None = None,
        classes: ArrayLike | None = None,
        envs: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        validate_parameter_constraints(
            self._parameter_constraints,
            {
                "n_way": n_way,
                "n_shot": n_shot,
                "n_query": n_query,
                "unequal": unequal,
                "fewest": fewest,
                "classes": classes,
                "sample_weight": sample_weight,
                "random_state": random_state,
            },
            caller_name="EpisodeSampler",
        )
        self.n_way = n_way
        self.n_shot = n_shot
        self.n_query = n_query
        self.unequal = unequal
        self._counts = RowCounts(n_shot, n_query, fewest)
        self.classes_, self._class_rows = _select(
            *group_rows(check_labels(y, "y"), "y"), classes
        )
        self._check_sizes()
        self._weights = check_weights(sample_weight, len(y))  # type: ignore[arg-type]
        self._pairs = None if envs is None else self._find_pairs(envs, len(y))  # type: ignore[arg-type]
        seed = named_seeds(random_state, "episodes")["episodes"]
        self._rng = np.random.default_rng(seed)

    @property
    def generator(self) -> np.random.Generator:
        """Source of all draws: with its state, the episodes go on as before."""
        return self._rng

    def sample(self) -> Episode:
        """Draw one episode.

        Returns
        -------
        episode : Episode
            A fresh episode at every call.
        """
        return self._sample(self._draw_shot())

    def draw(self, n_episodes: int, *, alike: bool = True) -> list[Episode]:
        """Draw several episodes.

        Parameters
        ----------
        n_episodes : int
            Number of episodes.
        alike : bool, default=True
            Draw the support rows of a pair `n_shot` once for all these episodes,
            which then are solved in one batch. False: anew for every episode.

        Returns
        -------
        episodes : list of Episode
            Independent draws; classes and rows may recur between episodes.
        """
        if not alike:
            return [self.sample() for _ in range(n_episodes)]
        shot = self._draw_shot()
        return [self._sample(shot) for _ in range(n_episodes)]

    def __iter__(self) -> Iterator[Episode]:
        """Yield fresh episodes without end."""
        while True:
            yield self.sample()

    def _draw_shot(self) -> int | None:
        return None if self.unequal else self._counts.draw_shot(self._rng)

    def _sample(self, shot: int | None) -> Episode:
        classes, support, query = self.classes_, self._class_rows, None
        if self._pairs is not None:
            pair = self._pairs[self._rng.integers(len(self._pairs))]
            classes, support, query = self.classes_[pair[0]], pair[1], pair[2]
        return draw_class_episode(
            self._rng,
            classes,
            support,
            n_way=self.n_way,
            counts=self._counts,
            shot=shot,
            query_rows=query,
            weights=self._weights,
        )

    def _find_pairs(
        self, envs: ArrayLike, n_rows: int
    ) -> list[tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]]:
        found = pairs_of_environments(
            self._class_rows, check_envs(envs, n_rows), self._counts.fewest
        )
        pairs = [pair for pair in found if len(pair[0]) >= self.n_way]
        if not pairs:
            raise EpisodeError(
                "Support and query from different environments need two environments "
                f"with n_shot={self.n_shot} and n_query={self.n_query} rows of "
                f"n_way={self.n_way} classes. Got none; lower the sizes, or draw "
                f"{WITHOUT_ENVS}."
            )
        return pairs

    def _check_sizes(self) -> None:
        if len(self.classes_) < self.n_way:
            raise EpisodeError(
                "n_way must be at most the number of classes to draw from. Got "
                f"n_way={self.n_way} for {len(self.classes_)} classes; lower n_way "
                "or pass more classes."
            )
        sizes = np.array([len(rows) for rows in self._class_rows])
        small = np.flatnonzero(sizes < self._counts.smallest)
        if len(small):
            worst = small[np.argmin(sizes[small])]
            raise EpisodeError(
                f"{self._counts.rule} must be at most the rows of every drawn class. "
                f"Got class {self.classes_.tolist()[worst]!r} with {sizes[worst]} rows "
                f"for n_shot={self.n_shot}, n_query={self.n_query} "
                f"({len(small)} of {len(sizes)} classes are too small); "
                f"{self._counts.remedy} leave out the rows of small classes."
            )


def _select(
    values: np.ndarray, rows: list[np.ndarray], classes: ArrayLike | None
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Keep the wanted classes and their rows."""
    if classes is None:
        return values, rows
    wanted, _ = group_rows(check_labels(classes, "classes"), "classes")
    unknown = wanted[~np.isin(wanted, values)]
    if len(unknown):
        raise EpisodeError(
            "classes must name labels that occur in y. Got "
            f"{unknown.tolist()[:5]!r}, of which y has no row; leave them out."
        )
    kept = np.flatnonzero(np.isin(values, wanted))
    return values[kept], [rows[k] for k in kept]
