"""Classes that differ in few latent factors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch, check_random_state

from ..exceptions import InvalidInputError


def make_sparse_classes(
    n_classes: int = 20,
    n_per_class: int = 20,
    n_features: int = 40,
    *,
    n_informative: int = 4,
    n_factors: int = 10,
    separation: float = 3.0,
    noise: float = 1.0,
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    """Classes whose means differ in a few of the latent factors.

    Factors ``z = mean_c + noise * e`` with e standard normal; the mean of a class
    is ``separation`` times a random sign in `n_informative` factors of its own
    and 0 elsewhere. Rows are ``x = A z`` with a random matrix A of orthonormal
    columns, so a backbone has to find the factors.

    Parameters
    ----------
    n_classes : int, default=20
        Number of classes.
    n_per_class : int, default=20
        Rows of every class.
    n_features : int, default=40
        Length of a row, at least `n_factors`.
    n_informative : int, default=4
        Factors in which the mean of a class is not 0.
    n_factors : int, default=10
        Number of factors.
    separation : float, default=3.0
        Size of the entries of the means.
    noise : float, default=1.0
        Standard deviation of the factors within a class.
    random_state : int, RandomState instance or None, default=None
        Decides everything.

    Returns
    -------
    Bunch
        ``data`` (n_samples, n_features), ``target`` (n_samples,), ``factors``
        (n_samples, n_factors), ``supports`` (n_classes, n_factors) boolean,
        ``mixing`` (n_features, n_factors).

    Raises
    ------
    InvalidInputError
        If ``n_informative <= n_factors <= n_features`` does not hold.

    Examples
    --------
    >>> from skcausalmeta.datasets import make_sparse_classes
    >>> bunch = make_sparse_classes(n_classes=6, n_per_class=5, random_state=0)
    >>> bunch.data.shape, bunch.supports.sum(axis=1).tolist()
    ((30, 40), [4, 4, 4, 4, 4, 4])
    """
    if not 1 <= n_informative <= n_factors <= n_features:
        raise InvalidInputError(
            "make_sparse_classes needs 1 <= n_informative <= n_factors <= n_features. "
            f"Got {n_informative}, {n_factors} and {n_features}."
        )
    rng = check_random_state(random_state)
    supports = np.zeros((n_classes, n_factors), dtype=bool)
    for row in supports:
        row[rng.choice(n_factors, n_informative, replace=False)] = True
    means = separation * supports * rng.choice([-1.0, 1.0], size=supports.shape)
    target = np.repeat(np.arange(n_classes), n_per_class)
    factors = means[target] + noise * rng.standard_normal((len(target), n_factors))
    mixing = _orthonormal(rng, n_features, n_factors)
    return Bunch(
        data=factors @ mixing.T,
        target=target,
        factors=factors,
        supports=supports,
        mixing=mixing,
    )


def _orthonormal(rng: Any, n_rows: int, n_columns: int) -> NDArray[Any]:
    return np.linalg.qr(rng.standard_normal((n_rows, n_columns)))[0]
