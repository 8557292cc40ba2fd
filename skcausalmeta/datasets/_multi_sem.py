"""Several tasks whose factors are tied by a confounder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import Bunch, check_random_state

from ..exceptions import InvalidInputError

# One task per factor, then four that join one factor of each tied pair.
_GRAPH = [
    [1, 0, 0, 0],
    [0, 1, 0, 0],
    [0, 0, 1, 0],
    [0, 0, 0, 1],
    [1, 0, 1, 0],
    [0, 1, 0, 1],
    [1, 0, 0, 1],
    [0, 1, 1, 0],
]


def make_multi_sem(
    n_samples: int = 1000,
    *,
    rho: float | Sequence[float] = (0.9, 0.2),
    graph: ArrayLike | None = None,
    n_features_per_module: int = 3,
    reliability: float = 0.5,
    label_noise: float = 0.3,
    n_noise_features: int = 0,
    kind: str = "classification",
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    """Multi-SEM: tasks whose causes are tied in training by a confounder.

    Factors ``z_1..z_M`` are standard normal. A confounder ties the factors 2j and
    2j+1 with the correlation rho_e in environment e; other pairs are independent.
    Features show their factor with noise, and labels are made of the factors that
    the graph G names ::

        x_mj = z_m + s e_mj,   s^2 = d (1 - reliability) / reliability
        y_t  = sum_m G_tm z_m / sqrt(sum_m G_tm) + label_noise * e_t   (or its sign)

    The mean of the d features of a factor has the squared correlation
    `reliability` with it, so in training the features of the tied factor help as
    well; how much depends on rho_e, and for rho_e < 0 they mislead. Only the
    features of its own factors predict a label in the same way everywhere.

    Parameters
    ----------
    n_samples : int, default=1000
        Rows of every environment.
    rho : float or sequence of float, default=(0.9, 0.2)
        Correlation in [-1, 1] of tied factors, one environment each. Negative
        values turn the tie around: a shifted test.
    graph : array-like of shape (n_tasks, n_modules), default=None
        1 where a factor causes a label. No task may use both factors of a tied
        pair. None: 8 tasks of 4 factors.
    n_features_per_module : int, default=3
        Features d of a factor.
    reliability : float, default=0.5
        Squared correlation, in (0, 1], of the mean of its features with a factor.
    label_noise : float, default=0.3
        Standard deviation of the noise of a label.
    n_noise_features : int, default=0
        Further features that say nothing.
    kind : {"classification", "regression"}, default="classification"
        Signs (0 or 1) or values.
    random_state : int, RandomState instance or None, default=None
        Decides the rows; the mechanism is the same for all.

    Returns
    -------
    Bunch
        ``data`` (n, n_features), ``target`` (n, n_tasks), ``envs`` (n,),
        ``graph`` (n_tasks, n_modules) boolean, ``groups`` (n_features,) the module
        of every feature, ``causal_mask`` (n_tasks, n_features) boolean,
        ``factors`` (n, n_modules). Noise features form a group of their own.

    Raises
    ------
    InvalidInputError
        If a parameter is out of range or a task uses both factors of a pair.

    References
    ----------
    .. [1] Z. Hu et al. (2022). Improving multi-task generalization via regularizing
       spurious correlation. NeurIPS.

    Examples
    --------
    >>> from skcausalmeta.datasets import make_multi_sem
    >>> bunch = make_multi_sem(100, rho=(0.9, 0.2), random_state=0)
    >>> bunch.data.shape, bunch.target.shape, bunch.causal_mask.sum(axis=1).tolist()
    ((200, 12), (200, 8), [3, 3, 3, 3, 6, 6, 6, 6])
    """
    edges = _check_graph(_GRAPH if graph is None else graph)
    strengths = np.atleast_1d(np.asarray(rho, dtype=float))
    if strengths.ndim != 1 or not (np.abs(strengths) <= 1).all():
        raise InvalidInputError(f"rho must hold correlations in [-1, 1]. Got {rho!r}.")
    if not 0 < reliability <= 1:
        raise InvalidInputError(f"reliability must be in (0, 1]. Got {reliability!r}.")
    if kind not in ("classification", "regression"):
        raise InvalidInputError(
            f"kind must be 'classification' or 'regression'. Got {kind!r}."
        )
    rng = check_random_state(random_state)
    n_tasks, n_modules = edges.shape
    factors = np.concatenate(
        [_factors(rng, n_samples, n_modules, strength) for strength in strengths]
    )
    d, n = n_features_per_module, len(factors)
    noise = np.sqrt(d * (1 - reliability) / reliability)
    seen = np.repeat(factors, d, axis=1) + noise * rng.standard_normal(
        (n, d * n_modules)
    )
    rest = rng.standard_normal((n, n_noise_features))
    weights = edges / np.sqrt(edges.sum(axis=1, keepdims=True))
    target = factors @ weights.T + label_noise * rng.standard_normal((n, n_tasks))
    groups = np.repeat(np.arange(n_modules + 1), [d] * n_modules + [n_noise_features])
    padded = np.hstack([edges, np.zeros((n_tasks, 1), dtype=bool)])
    return Bunch(
        data=np.hstack([seen, rest]),
        target=target if kind == "regression" else (target > 0).astype(int),
        envs=np.repeat(np.arange(len(strengths)), n_samples),
        graph=edges,
        groups=groups,
        causal_mask=padded[:, groups],
        factors=factors,
    )


def _factors(rng: Any, n: int, n_modules: int, rho: float) -> NDArray[np.float64]:
    factors = rng.standard_normal((n, n_modules))
    own = factors[:, 1::2] * np.sqrt(1 - rho**2)
    factors[:, 1::2] = own + rho * factors[:, : 2 * (n_modules // 2) : 2]
    return factors


def _check_graph(graph: ArrayLike) -> NDArray[np.bool_]:
    edges = np.asarray(graph, dtype=bool)
    if edges.ndim != 2 or not edges.any(axis=1).all():
        raise InvalidInputError(
            "graph must have shape (n_tasks, n_modules) and name a factor for every "
            f"task. Got shape {edges.shape}."
        )
    even, odd = edges[:, : 2 * (edges.shape[1] // 2) : 2], edges[:, 1::2]
    both = np.flatnonzero((even & odd).any(axis=1))
    if len(both):
        raise InvalidInputError(
            "No task may use both factors 2j and 2j+1 of a tied pair, since what they "
            f"say together changes with rho. Got task {both[0]}; reorder the columns "
            "or drop one of them."
        )
    return edges
