"""How much more one code knows about a factor than every other code."""

from __future__ import annotations

from numbers import Integral

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import entropy
from sklearn.metrics.cluster import contingency_matrix
from sklearn.utils._param_validation import Interval, validate_params

from ._codes import check_factors_and_codes, top_two_gap


@validate_params(
    {
        "factors": ["array-like"],
        "codes": ["array-like"],
        "n_bins": [Interval(Integral, 2, None, closed="left")],
    },
    prefer_skip_nested_validation=True,
)
def mutual_info_gap(factors: ArrayLike, codes: ArrayLike, *, n_bins: int = 20) -> float:
    r"""Mutual information gap (MIG) of codes and factors.

    .. math:: \frac1m \sum_{i=1}^m \frac{1}{H(z_i)} \left(
              I(z_i; \hat z_{j(i)}) - \max_{j \ne j(i)} I(z_i; \hat z_j) \right)

    where :math:`j(i)` is the code with the most mutual information. Columns with
    more than `n_bins` different values are cut into bins of equal width.

    Parameters
    ----------
    factors : array-like of shape (n_samples, n_factors)
        True factors.
    codes : array-like of shape (n_samples, n_codes)
        Learned codes of the same samples. With a single code the second largest
        information counts as 0.
    n_bins : int, default=20
        Number of bins, at least 2.

    Returns
    -------
    float
        Between 0 and 1. It reaches 1 only where the factors are independent in
        the sample, as on a full grid: the other codes must know nothing.

    Raises
    ------
    InvalidInputError
        If the two are no finite matrices with the same number of rows, or a
        factor is constant.

    References
    ----------
    .. [1] R. Chen, X. Li, R. Grosse, D. Duvenaud (2018). Isolating sources of
       disentanglement in variational autoencoders. NeurIPS.

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.metrics import mutual_info_gap
    >>> factors = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    >>> mutual_info_gap(factors, -3.0 * factors[:, ::-1])
    1.0
    >>> mutual_info_gap(factors, np.column_stack([factors[:, 0], factors[:, 0]]))
    0.0
    """
    true, learned = check_factors_and_codes(factors, codes)
    factor_bins = [_bins(column, n_bins) for column in true.T]
    code_bins = [_bins(column, n_bins) for column in learned.T]
    shares = np.array(
        [[_known_share(factor, code) for code in code_bins] for factor in factor_bins]
    )
    return float(top_two_gap(shares).mean())


def _bins(column: NDArray[np.float64], n_bins: int) -> NDArray[np.int64]:
    """Number the values of a column, or its bins of equal width."""
    values, numbers = np.unique(column, return_inverse=True)
    if len(values) <= n_bins:
        return numbers
    edges = np.linspace(values[0], values[-1], n_bins + 1)[1:-1]
    return np.digitize(column, edges)


def _known_share(factor: NDArray[np.int64], code: NDArray[np.int64]) -> float:
    """I(factor; code) / H(factor), a difference of rounding size being 0."""
    table = contingency_matrix(factor, code)  # (n_levels, n_code_bins)
    total = entropy(table.sum(axis=1))
    if total == 0:  # all samples in one bin, beside an outlier in none
        return 0.0
    left = np.average(entropy(table, axis=0), weights=table.sum(axis=0))
    share = float(1 - left / total)
    return share if share > 1e-12 else 0.0
