"""How few features a linear predictor reads."""

from __future__ import annotations

from numbers import Real

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils._param_validation import Interval, validate_params

from ..exceptions import InvalidInputError


@validate_params(
    {"coef": ["array-like"], "tol": [Interval(Real, 0, None, closed="left")]},
    prefer_skip_nested_validation=True,
)
def feature_sparsity(coef: ArrayLike, tol: float = 0.0) -> float | np.ndarray:
    r"""Share of features that no class uses.

    .. math:: \frac1d\,\#\{j : |w_{cj}| \le \mathrm{tol}
              \text{ for every class } c\}

    Parameters
    ----------
    coef : array-like of shape (n_features,) or (..., n_classes, n_features)
        Weights of one predictor, or of several along leading axes.
    tol : float, default=0.0
        Largest absolute weight that counts as zero.

    Returns
    -------
    sparsity : float or ndarray of shape (...)
        Between 0 (every feature is used) and 1 (none is). A float for one
        predictor; one value per predictor if `coef` has leading axes.

    Raises
    ------
    InvalidInputError
        If `coef` has no weights, or NaN or infinite ones.

    Examples
    --------
    >>> from skcausalmeta.metrics import feature_sparsity
    >>> coef = [[0.0, 1.5, 0.0, 0.0], [0.0, -0.5, 0.0, 2.0]]
    >>> print(feature_sparsity(coef))
    0.5
    """
    weights = np.asarray(coef, dtype=np.float64)
    if weights.ndim == 0 or weights.size == 0:
        raise InvalidInputError(
            "coef must hold at least one weight, features last. Got shape "
            f"{weights.shape}; pass coef_ of a fitted linear predictor."
        )
    if not np.isfinite(weights).all():
        raise InvalidInputError(
            "coef must be finite. Got "
            f"{np.count_nonzero(~np.isfinite(weights))} NaN or infinite weights; the "
            "predictor was not solved."
        )
    unused = (np.abs(np.atleast_2d(weights)) <= tol).all(axis=-2)  # (..., n_features)
    share = unused.mean(axis=-1)
    return float(share) if share.ndim == 0 else share
