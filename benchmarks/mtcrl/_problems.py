"""Problems of the multi-task benchmark: training rows, validation, two tests.

All have environments. The unshifted test comes from the training environments, the
shifted one from elsewhere: ties turned around (Multi-SEM, scenes) or broken
(Multi-MNIST), or the latest slice of time (MovieLens).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from skcausalmeta.datasets import (
    fetch_mnist,
    fetch_movielens,
    make_dense_scenes,
    make_multi_mnist,
    make_multi_sem,
)

VALID_SHARE = 0.2
RHO = (0.9, 0.2)


@dataclass
class Rows:
    """Rows with targets and environments."""

    X: NDArray[Any]
    Y: NDArray[Any]
    envs: NDArray[Any]

    def __getitem__(self, index: NDArray[Any]) -> Rows:
        return Rows(self.X[index], self.Y[index], self.envs[index])


@dataclass
class Problem:
    """One problem with one seed."""

    train: Rows
    valid: Rows
    unshifted: Rows
    shifted: Rows
    groups: NDArray[Any] | None = None  # group of every input
    task_types: Any = None
    truth: dict[str, Any] = field(default_factory=dict)  # graph and causal mask


def cut(rows: Rows, seed: int) -> tuple[Rows, Rows]:
    """Training and validation rows of the same distribution."""
    order = np.random.RandomState(seed).permutation(len(rows.X))
    size = int(VALID_SHARE * len(order))
    return rows[order[size:]], rows[order[:size]]


def rows_of(bunch: Any, transform: Callable[[Any], Any] = np.asarray) -> Rows:
    """Rows of a generated bunch."""
    return Rows(transform(bunch.data), bunch.target, bunch.envs)


def multi_sem(seed: int, size: float, data_dir: str | None) -> Problem:
    """Eight binary tasks on four tied factors."""
    bunch = make_multi_sem(int(3000 * size), rho=RHO, random_state=seed)
    n_test = int(4000 * size)
    tests = [
        make_multi_sem(n_test, rho=rho, random_state=1000 * k + seed)
        for k, rho in ((1, RHO), (2, -0.9))
    ]
    truth = {"graph": bunch.graph, "mask": bunch.causal_mask}
    return Problem(
        *cut(rows_of(bunch), seed), *map(rows_of, tests), bunch.groups, None, truth
    )


def multi_mnist(seed: int, size: float, data_dir: str | None) -> Problem:
    """Two overlaid digits; 18 x 18 means of 2 x 2 pixels in 9 patches."""
    if size < 1:
        digits = load_digits()
        sets = [(digits.images.repeat(2, 1).repeat(2, 2), digits.target)] * 2
        sets = [(np.pad(x, ((0, 0), (6, 6), (6, 6))) * 15, y) for x, y in sets]
    else:
        parts = [fetch_mnist(data_home=data_dir, split=s) for s in ("train", "test")]
        sets = [(part.data, part.target) for part in parts]

    def means(images: NDArray[Any]) -> NDArray[Any]:
        small = images.reshape(len(images), 18, 2, 18, 2).mean(axis=(2, 4)) / 255.0
        return small.reshape(len(images), -1).astype(np.float32)

    n = int(3000 * size)
    bunch = make_multi_mnist(*sets[0], n, rho=RHO, canvas=36, random_state=seed)
    tests = [
        make_multi_mnist(*sets[1], n, rho=rho, canvas=36, random_state=1000 * k + seed)
        for k, rho in ((1, RHO), (2, 0.0))
    ]
    third = np.arange(18) // 6
    patches = (3 * third[:, None] + third).ravel()
    return Problem(
        *cut(rows_of(bunch, means), seed),
        *(rows_of(test, means) for test in tests),
        patches,
    )


def movielens(seed: int, size: float, data_dir: str | None) -> Problem:
    """Does a user like a film (4 or 5 stars): a task per genre, slices of time."""
    bunch = small_ratings() if size < 1 else fetch_movielens(data_home=data_dir)
    last = bunch.envs == bunch.envs.max()
    order = np.random.RandomState(seed).permutation(np.flatnonzero(~last))
    n_test = len(order) // 10
    n_valid = int(VALID_SHARE * len(order))
    learn = order[n_test + n_valid :]
    history = [
        past_ratings(getattr(bunch, who), bunch.rating, learn)
        for who in ("user", "item")
    ]
    X = np.hstack([*history, bunch.data])
    n_genres = X.shape[1] - 4 - 2 - 21
    groups = np.repeat([0, 1, 2, 3], [2, 2, 2 + 21, n_genres])
    Y = np.where(np.isnan(bunch.target), np.nan, bunch.target >= 4)
    rows = Rows(X, Y, bunch.envs)
    return Problem(
        rows[learn],
        rows[order[n_test : n_test + n_valid]],
        rows[order[:n_test]],
        rows[np.flatnonzero(last)],
        groups,
    )


def past_ratings(
    who: NDArray[Any], rating: NDArray[Any], learn: NDArray[Any]
) -> NDArray[Any]:
    """Shrunken mean of the other training ratings of a user or film, and their log."""
    n = int(who.max()) + 1
    inside = np.zeros(len(who), dtype=bool)
    inside[learn] = True
    centred = np.where(inside, rating - rating[inside].mean(), 0.0)
    total = np.bincount(who, centred, n)[who] - centred
    count = np.bincount(who[inside], minlength=n)[who] - inside
    return np.column_stack([total / (count + 5.0), np.log1p(count)])


def small_ratings() -> Any:
    """Ratings in the shape of MovieLens, for runs without the file."""
    rng = np.random.RandomState(0)
    n, bunch = 600, make_multi_sem(1)
    bunch.user, bunch.item = rng.randint(20, size=(2, n))
    bunch.rating = rng.randint(1, 6, size=n).astype(float)
    genres = rng.uniform(size=(n, 3)) < 0.7
    bunch.target = np.where(genres, bunch.rating[:, None], np.nan)
    bunch.data = np.hstack([rng.uniform(size=(n, 23)), genres])
    bunch.envs = np.arange(n) * 3 // n
    return bunch


def dense_scenes(seed: int, size: float, data_dir: str | None) -> Problem:
    """Segmentation, depth and normals of rendered scenes."""
    side = 24 if size == 1 else 8
    n = int(150 * size)
    bunch = make_dense_scenes(n, size=side, rho=RHO, random_state=seed)
    tests = [
        make_dense_scenes(n // 2, size=side, rho=rho, random_state=1000 * k + seed)
        for k, rho in ((1, RHO), (2, (-0.9,)))
    ]
    return Problem(
        *cut(rows_of(bunch), seed),
        *map(rows_of, tests),
        task_types=bunch.task_types,
    )


PROBLEMS = {
    "Multi-SEM": multi_sem,
    "Multi-MNIST": multi_mnist,
    "MovieLens": movielens,
    "scenes": dense_scenes,
}
