"""How much of the factors a linear map can read from the codes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils._param_validation import validate_params

from ._codes import check_factors_and_codes, standardize


@validate_params(
    {"factors": ["array-like"], "codes": ["array-like"], "squared": ["boolean"]},
    prefer_skip_nested_validation=True,
)
def r_score(factors: ArrayLike, codes: ArrayLike, *, squared: bool = False) -> float:
    r"""Mean multiple correlation R of the factors given all codes.

    .. math:: \frac1m \sum_{i=1}^m R_i, \qquad
              R_i^2 = 1 - \frac{\min_{a, b} \sum_n (z_{ni} - a'\hat z_n - b)^2}
                               {\sum_n (z_{ni} - \bar z_i)^2}

    R is 1 where the codes are any invertible linear mixture of the factors; only
    the difference to `mean_corr_coef` tells disentangled codes from mixed ones.

    Parameters
    ----------
    factors : array-like of shape (n_samples, n_factors)
        True factors.
    codes : array-like of shape (n_samples, n_codes)
        Learned codes of the same samples.
    squared : bool, default=False
        Average :math:`R_i^2` instead of :math:`R_i`.

    Returns
    -------
    float
        Between 0 and 1. The regression is evaluated on the samples it was fitted
        to, so that noise gives about ``sqrt(n_codes / n_samples)``.

    Raises
    ------
    InvalidInputError
        If the two are no finite matrices with the same number of rows, or a
        factor is constant.

    References
    ----------
    .. [1] S. Lachapelle et al. (2023). Synergies between disentanglement and
       sparsity: generalization and identifiability in multi-task learning.
       ICML.

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.metrics import mean_corr_coef, r_score
    >>> factors = np.random.default_rng(0).normal(size=(100, 2))
    >>> codes = factors @ [[1.0, 1.0], [1.0, -1.0]]
    >>> print(f"{r_score(factors, codes):.3f} {mean_corr_coef(factors, codes):.3f}")
    1.000 0.707
    """
    true, learned = check_factors_and_codes(factors, codes)
    targets, inputs = standardize(true), standardize(learned)
    coef = np.linalg.lstsq(inputs, targets, rcond=None)[0]
    unexplained = ((targets - inputs @ coef) ** 2).mean(axis=0)
    r_squared = np.clip(1 - unexplained, 0, 1)  # targets have variance 1
    return float(np.mean(r_squared if squared else np.sqrt(r_squared)))
