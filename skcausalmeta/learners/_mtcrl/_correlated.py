"""Groups of inputs that vary together in every environment."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import AgglomerativeClustering

from ...backbones import input_statistics
from ...exceptions import InvalidInputError

# Inputs whose correlations are held and clustered, at most.
_MOST_INPUTS = 4096
# Rows of an environment whose correlations count, at least.
_LEAST_ROWS = 4
# Standard deviations that an input is clipped to, so that one outlier is no tie.
_CLIP = 5.0


def correlated_groups(
    rows: NDArray[Any], envs: NDArray[Any], n_groups: int
) -> NDArray[np.intp]:
    """Return the group of every input, such that groups vary together.

    Inputs are described by the sizes of their `stable_correlations` with all inputs,
    and clustered by Ward's method, whose groups are of similar size. Inputs that show
    the same cause are correlated in every environment; a tie between causes that
    differs between environments counts less.

    Parameters
    ----------
    rows : ndarray of shape (n, n_inputs)
        Finite rows.
    envs : ndarray of shape (n,)
        Environment of every row.
    n_groups : int
        Number of groups.

    Returns
    -------
    ndarray of shape (n_inputs,)
        Groups 0, 1, ... in the order of their first inputs.

    Raises
    ------
    InvalidInputError
        If there are fewer inputs than groups, or too many to cluster.

    Examples
    --------
    >>> from skcausalmeta.datasets import make_multi_sem
    >>> from skcausalmeta.learners._mtcrl._correlated import correlated_groups
    >>> rows = make_multi_sem(2000, random_state=0)
    >>> correlated_groups(rows.data, rows.envs, 4)
    array([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3])
    """
    n_inputs = rows.shape[1]
    if not n_groups <= n_inputs <= _MOST_INPUTS:
        raise InvalidInputError(
            "module_inputs='correlated' needs at least n_modules values per row and at "
            f"most {_MOST_INPUTS}. Got {n_inputs} values and n_modules={n_groups}; "
            "lower n_modules, or give module_inputs as an array."
        )
    if n_groups == 1:
        return np.zeros(n_inputs, dtype=np.intp)
    profiles = np.abs(stable_correlations(rows, envs))
    found = AgglomerativeClustering(n_groups, linkage="ward").fit_predict(profiles)
    _, first, numbers = np.unique(found, return_index=True, return_inverse=True)
    order: NDArray[np.intp] = np.argsort(np.argsort(first))
    return order[numbers]


def stable_correlations(rows: NDArray[Any], envs: NDArray[Any]) -> NDArray[np.float64]:
    """Return correlations of inputs, less what differs between environments.

    The mean over environments, weighted by their rows, moved towards 0 by the
    standard deviation between environments beyond what chance explains. Environments
    of fewer than 4 rows are left out; if there are no others, all rows count as one.

    Parameters
    ----------
    rows : ndarray of shape (n, n_inputs)
        Finite rows.
    envs : ndarray of shape (n,)
        Environment of every row.

    Returns
    -------
    ndarray of shape (n_inputs, n_inputs)
        1 on the diagonal; 0 for an input that is constant.
    """
    center, scale = input_statistics(rows)
    ids, counts = np.unique(envs, return_counts=True)
    ids, counts = ids[counts >= _LEAST_ROWS], counts[counts >= _LEAST_ROWS]
    if len(ids) < 2:
        members = slice(None) if len(ids) == 0 else envs == ids[0]
        return _correlations(rows[members], center, scale)
    weights = counts / counts.sum()
    mean = squares = np.zeros((rows.shape[1], rows.shape[1]))
    for one, weight in zip(ids, weights, strict=True):
        found = _correlations(rows[envs == one], center, scale)
        mean, squares = mean + weight * found, squares + weight * found**2
    # The variance of a correlation r of n rows is (1 - r^2)^2 / (n - 1) by chance.
    chance = (1 - mean**2) ** 2 * (weights * (1 - weights) / (counts - 1)).sum()
    excess = np.maximum(squares - mean**2 - chance, 0.0)
    spread = np.sqrt(excess / (1 - (weights**2).sum()))
    shrunk: NDArray[np.float64] = np.sign(mean) * np.maximum(np.abs(mean) - spread, 0.0)
    return shrunk


def _correlations(
    rows: NDArray[Any], center: NDArray[Any], scale: NDArray[Any]
) -> NDArray[np.float64]:
    """Return Pearson correlations of clipped inputs, 0 for constant ones."""
    values = np.clip((rows - center) / scale, -_CLIP, _CLIP)
    values -= values.mean(axis=0)
    lengths = np.linalg.norm(values, axis=0)
    varies = lengths > 1e-9 * np.sqrt(len(values))
    values *= varies / np.where(varies, lengths, 1.0)
    found: NDArray[np.float64] = values.T @ values
    return found
