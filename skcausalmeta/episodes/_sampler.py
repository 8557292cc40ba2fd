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
from ._environments import check_envs, pairs_of_environments
from ._episode import Episode
from ._rows import check_labels, draw_class_episode, group_rows


class EpisodeSampler:
    """Draw N-way K-shot episodes from a label vector.

    Every episode takes `n_way` classes at random and, of each, `n_shot` support
    rows and `n_query` other rows as query. The classes get the labels
    0, ..., n_way - 1 in random order, anew in every episode, so that a label
    carries no information about the class. Classes may differ in size.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Label of each row: integers, strings, or other values of one type.
    n_way : int, default=5
        Number of classes in an episode, at least 2.
    n_shot : int, default=1
        Number of support rows of each class.
    n_query : int, default=15
        Number of query rows of each class.
    classes : array-like of shape (n_candidates,), default=None
        Classes to draw from. None takes all classes of `y`.
    envs : array-like of shape (n_samples,), default=None
        Environment of each row. Given, support and query of an episode come from
        two different environments, in random roles; classes without enough rows in
        both are left out of that episode.
    random_state : int, RandomState instance or None, default=None
        Decides the episodes. With an int, two samplers draw the same sequence.

    Attributes
    ----------
    classes_ : ndarray of shape (n_candidates,)
        Sorted classes that episodes are drawn from.

    Raises
    ------
    EpisodeError
        If a class has fewer than ``n_shot + n_query`` rows, if there are fewer
        than `n_way` classes, if `classes` names one that `y` does not hold, or if
        with `envs` no two environments have enough rows of `n_way` classes.
    InvalidInputError
        If `y` or `classes` is not one-dimensional, or holds missing or
        continuous values.

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
    """

    _parameter_constraints: ClassVar[dict] = {
        "n_way": [Interval(Integral, 2, None, closed="left")],
        "n_shot": [Interval(Integral, 1, None, closed="left")],
        "n_query": [Interval(Integral, 1, None, closed="left")],
        "classes": ["array-like", None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        y: ArrayLike,
        *,
        n_way: int = 5,
        n_shot: int = 1,
        n_query: int = 15,
        classes: ArrayLike | None = None,
        envs: ArrayLike | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        validate_parameter_constraints(
            self._parameter_constraints,
            {
                "n_way": n_way,
                "n_shot": n_shot,
                "n_query": n_query,
                "classes": classes,
                "random_state": random_state,
            },
            caller_name="EpisodeSampler",
        )
        self.n_way = n_way
        self.n_shot = n_shot
        self.n_query = n_query
        self.classes_, self._class_rows = _select(
            *group_rows(check_labels(y, "y"), "y"), classes
        )
        self._check_sizes()
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
        classes, support, query = self.classes_, self._class_rows, None
        if self._pairs is not None:
            pair = self._pairs[self._rng.integers(len(self._pairs))]
            classes, support, query = self.classes_[pair[0]], pair[1], pair[2]
        return draw_class_episode(
            self._rng,
            classes,
            support,
            n_way=self.n_way,
            n_shot=self.n_shot,
            n_query=self.n_query,
            query_rows=query,
        )

    def draw(self, n_episodes: int) -> list[Episode]:
        """Draw several episodes.

        Parameters
        ----------
        n_episodes : int
            Number of episodes.

        Returns
        -------
        episodes : list of Episode
            Independent draws; classes and rows may recur between episodes.
        """
        return [self.sample() for _ in range(n_episodes)]

    def __iter__(self) -> Iterator[Episode]:
        """Yield fresh episodes without end."""
        while True:
            yield self.sample()

    def _find_pairs(
        self, envs: ArrayLike, n_rows: int
    ) -> list[tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]]:
        found = pairs_of_environments(
            self._class_rows, check_envs(envs, n_rows), self.n_shot, self.n_query
        )
        pairs = [pair for pair in found if len(pair[0]) >= self.n_way]
        if not pairs:
            raise EpisodeError(
                "Support and query from different environments need two environments "
                f"with n_shot={self.n_shot} and n_query={self.n_query} rows of "
                f"n_way={self.n_way} classes. Got none; lower the sizes, or leave envs "
                "out."
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
        small = np.flatnonzero(sizes < self.n_shot + self.n_query)
        if len(small):
            worst = small[np.argmin(sizes[small])]
            raise EpisodeError(
                "n_shot + n_query must be at most the rows of every drawn class. Got "
                f"class {self.classes_.tolist()[worst]!r} with {sizes[worst]} rows "
                f"for n_shot={self.n_shot}, n_query={self.n_query} "
                f"({len(small)} of {len(sizes)} classes are too small); lower n_shot "
                "or n_query, or leave small classes out with classes=."
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
