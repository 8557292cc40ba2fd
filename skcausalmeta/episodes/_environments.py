"""Which environments can be support and query of an episode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike

from ..utils import ids_of
from ._rows import check_labels

# Part of the advice in messages, for samplers and learners.
WITHOUT_ENVS = "from all environments (no envs= here, across_envs=False in a learner)"


def check_envs(envs: ArrayLike, n_rows: int) -> np.ndarray:
    """Number of the environment of every row."""
    ids = check_labels(ids_of(envs, "envs", n_rows), "envs")
    return np.unique(ids, return_inverse=True)[1]


def pairs_of_environments(
    groups: Sequence[np.ndarray], envs: np.ndarray, fewest: tuple[int, int]
) -> Iterator[tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]]:
    """Ordered pairs of environments that can supply an episode.

    Parameters
    ----------
    groups : sequence of ndarray
        Rows of every class, or all rows of a task as one group.
    envs : ndarray of shape (n_samples,)
        Number of the environment of every row.
    fewest : tuple of int
        Rows that a group needs in the first and in the second environment.

    Yields
    ------
    tuple
        Numbers of the groups with enough rows in both, their rows in the first,
        and their rows in the second environment.
    """
    present = np.unique(envs[np.concatenate(list(groups))])
    members = {env: [rows[envs[rows] == env] for rows in groups] for env in present}
    for one in present:
        for other in present:
            if one == other:
                continue
            enough = [
                k
                for k in range(len(groups))
                if len(members[one][k]) >= fewest[0]
                and len(members[other][k]) >= fewest[1]
            ]
            if enough:
                yield (
                    np.array(enough),
                    [members[one][k] for k in enough],
                    [members[other][k] for k in enough],
                )
