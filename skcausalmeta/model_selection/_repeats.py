"""Rows that stand in support and query of one episode."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ..episodes import Episode
from ..utils import read_rows

_ROWS_AT_ONCE = 1000


def warn_of_repeats(X: Any, episodes: Sequence[Episode]) -> None:
    """Warn, once, if a query row is a copy of a support row of its episode.

    A learner then has seen the label of that row, and its score is too high.

    Parameters
    ----------
    X : array-like, sparse matrix or data frame of shape (n_samples, ...)
        Rows, on disk too.
    episodes : sequence of Episode
        Episodes with row numbers of `X`.

    Warns
    -----
    UserWarning
        With the number of such episodes and of such rows.

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.episodes import EpisodeSampler
    >>> from skcausalmeta.model_selection._repeats import warn_of_repeats
    >>> sampler = EpisodeSampler(np.arange(8) % 2, n_way=2, n_shot=1, n_query=1)
    >>> warn_of_repeats(np.arange(8.0)[:, None], sampler.draw(3))
    """
    apart = [one for one in episodes if one.query is not one.support]
    if not apart:
        return
    drawn = [part for one in apart for part in (one.support, one.query)]
    every = np.unique(np.concatenate(drawn))
    first = _first_equal(X, every)
    if (first == np.arange(len(every))).all():
        return
    n_episodes, n_rows, n_query = 0, 0, 0
    for one in apart:
        support = first[np.searchsorted(every, one.support)]
        query = first[np.searchsorted(every, one.query)]
        shared = int(np.isin(query, support).sum())
        n_episodes += shared > 0
        n_rows += shared
        n_query += len(query)
    if n_episodes:
        warnings.warn(
            f"Rows of X are repeated: in {n_episodes} of {len(episodes)} episodes, "
            f"{n_rows} of {n_query} query rows are copies of support rows, whose "
            "labels the estimator was given. The score is that much too high; drop the "
            "copies, for instance with numpy.unique(X, axis=0, return_index=True).",
            UserWarning,
            stacklevel=4,
        )


def _first_equal(X: Any, index: NDArray[Any]) -> NDArray[np.int64]:
    """Return for each of some rows the place of the first that is equal."""
    seen: dict[bytes, int] = {}
    found = np.empty(len(index), dtype=np.int64)
    for begin in range(0, len(index), _ROWS_AT_ONCE):
        part = index[begin : begin + _ROWS_AT_ONCE]
        for place, digest in enumerate(_digests(X, part), begin):
            found[place] = seen.setdefault(digest, place)
    return found


def _digests(X: Any, index: NDArray[Any]) -> list[bytes]:
    if sparse.issparse(X):
        rows = X[index].toarray()
    elif hasattr(X, "iloc"):
        rows = X.iloc[index].to_numpy()
    elif isinstance(X, list | tuple):
        rows = np.asarray([X[k] for k in index])
    else:
        rows = np.asarray(read_rows(X, index) if hasattr(X, "shape") else X[index])
    if rows.dtype == object:
        return [repr(row.tolist()).encode() for row in rows]
    rows = rows + 0.0 if rows.dtype.kind == "f" else rows  # -0.0 is 0.0
    return [blake2b(row.tobytes(), digest_size=16).digest() for row in rows]
