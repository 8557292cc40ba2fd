"""Tasks that share their predictor except in a few columns."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch
from sklearn.utils._param_validation import Interval, validate_params

from ..exceptions import InvalidInputError
from ..utils import named_seeds

_COUNT = Interval(Integral, 1, None, closed="left")
_SIZE = [Interval(Real, 0, None, closed="left")]


@validate_params(
    {
        "n_tasks": [_COUNT],
        "n_samples": [_COUNT],
        "n_features": [_COUNT],
        "n_deviating": [Interval(Integral, 0, None, closed="left")],
        "n_classes": [Interval(Integral, 2, None, closed="left"), None],
        "n_common": [Interval(Integral, 0, None, closed="left"), None],
        "class_sep": _SIZE,
        "deviation_size": _SIZE,
        "intercept_spread": _SIZE,
        "noise": _SIZE,
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_shared_tasks(
    n_tasks: int = 30,
    n_samples: int = 100,
    n_features: int = 20,
    n_deviating: int = 2,
    *,
    n_classes: int | None = 2,
    n_common: int | None = None,
    class_sep: float = 2.0,
    deviation_size: float = 2.0,
    intercept_spread: float = 0.5,
    noise: float = 0.5,
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    r"""Tasks with common coefficients, of which a few differ from task to task.

    .. math:: z_t(x) = x'(w + d_t) + b_t, \qquad d_{tj} \ne 0 \iff j \in S_t

    with independent standard normal columns. Regression targets are
    :math:`z + \sigma e` with e standard normal. The label of two classes is 1 where
    :math:`z + \sigma e > 0` with e standard logistic; of more classes, with a score
    each, it is the largest :math:`z_c + \sigma e_c` with e standard Gumbel. So for
    ``noise=1`` the labels follow logistic regression with these coefficients.

    Parameters
    ----------
    n_tasks : int, default=30
        Number of tasks.
    n_samples : int, default=100
        Rows of every task.
    n_features : int, default=20
        Number of columns.
    n_deviating : int, default=2
        Columns in which a task differs, drawn anew for every task.
    n_classes : int, default=2
        Number of classes, the same in all tasks. None: regression.
    n_common : int, default=None
        Number of columns with a common coefficient that is not 0. None: all.
    class_sep : float, default=2.0
        Length of the vector of common coefficients, of every class where there are
        more than two: the standard deviation of the common score.
    deviation_size : float, default=2.0
        Length of what a column of a task differs by: the absolute value of the
        coefficient, or the Euclidean norm over the classes, whose sum is 0.
    intercept_spread : float, default=0.5
        Standard deviation of the intercepts of the tasks.
    noise : float, default=0.5
        The :math:`\sigma` above.
    random_state : int, RandomState instance or None, default=None
        Decides everything. Rows, coefficients, deviations and noise are drawn from
        streams of their own.

    Returns
    -------
    Bunch
        ``data`` (n_tasks * n_samples, n_features), ``target`` and ``tasks``
        (n_tasks * n_samples,), rows task by task; ``common_coef`` (n_features,);
        ``deviation`` (n_tasks, n_features); ``support`` (n_tasks, n_features)
        boolean, where a task differs; ``intercept`` (n_tasks,); ``scores``
        (n_tasks * n_samples,) without noise. For more than two classes all but
        ``support`` have a last axis of classes.

    Raises
    ------
    InvalidInputError
        If `n_deviating` or `n_common` is larger than `n_features`.

    See Also
    --------
    make_sparse_tasks : Regression tasks on few latent factors, with nothing in common.

    Examples
    --------
    >>> from skcausalmeta.datasets import make_shared_tasks
    >>> bunch = make_shared_tasks(8, 25, 10, n_deviating=3, random_state=0)
    >>> bunch.data.shape, bunch.common_coef.shape, bunch.deviation.shape
    ((200, 10), (10,), (8, 10))
    >>> bunch.support.sum(axis=1).tolist()
    [3, 3, 3, 3, 3, 3, 3, 3]
    """
    n_common = n_features if n_common is None else n_common
    for name, value in (("n_deviating", n_deviating), ("n_common", n_common)):
        if value > n_features:
            raise InvalidInputError(
                f"{name} must be at most n_features={n_features}. Got {value}."
            )
    seeds = named_seeds(
        random_state, "rows", "common", "support", "deviation", "intercept", "noise"
    )
    rngs = {name: np.random.default_rng(seed) for name, seed in seeds.items()}
    n_scores = 1 if n_classes is None or n_classes == 2 else n_classes
    common = _common(rngs["common"], n_features, n_common, n_scores, class_sep)
    ranks = rngs["support"].random((n_tasks, n_features)).argsort(1).argsort(1)
    support = ranks < n_deviating
    drawn = _directions(rngs["deviation"], (n_tasks, n_features, n_scores))
    deviation = deviation_size * support[..., None] * drawn
    intercept = intercept_spread * rngs["intercept"].standard_normal(
        (n_tasks, n_scores)
    )
    rows = rngs["rows"].standard_normal((n_tasks, n_samples, n_features))
    scores = rows @ (common + deviation) + intercept[:, None]
    target = _targets(rngs["noise"], scores, n_classes, noise)
    arrays = {
        "scores": scores.reshape(n_tasks * n_samples, n_scores),
        "common_coef": common,
        "deviation": deviation,
        "intercept": intercept,
    }
    if n_scores == 1:
        arrays = {name: values[..., 0] for name, values in arrays.items()}
    return Bunch(
        data=rows.reshape(n_tasks * n_samples, n_features),
        target=target.ravel(),
        tasks=np.repeat(np.arange(n_tasks), n_samples),
        support=support,
        **arrays,
    )


def _common(
    rng: np.random.Generator, n: int, n_common: int, n_scores: int, length: float
) -> NDArray[np.float64]:
    """Common coefficients (n_features, n_scores), every score of the same length."""
    coef = rng.standard_normal((n, n_scores))
    coef[rng.permutation(n)[n_common:]] = 0
    norms = np.linalg.norm(coef, axis=0)
    return length * coef / np.where(norms > 0, norms, 1)


def _directions(
    rng: np.random.Generator, shape: tuple[int, int, int]
) -> NDArray[np.float64]:
    """Unit vectors along the last axis, which sum to 0 where they are no signs."""
    drawn = rng.standard_normal(shape)
    if shape[-1] > 1:
        drawn -= drawn.mean(axis=-1, keepdims=True)
    return drawn / np.linalg.norm(drawn, axis=-1, keepdims=True)


def _targets(
    rng: np.random.Generator,
    scores: NDArray[np.float64],
    n_classes: int | None,
    noise: float,
) -> NDArray[Any]:
    """Targets (n_tasks, n_samples) of scores with a last axis."""
    if n_classes is None:
        return scores[..., 0] + noise * rng.standard_normal(scores.shape[:-1])
    if n_classes == 2:
        noisy = scores[..., 0] + noise * rng.logistic(size=scores.shape[:-1])
        return (noisy > 0).astype(np.int64)
    return (scores + noise * rng.gumbel(size=scores.shape)).argmax(axis=-1)
