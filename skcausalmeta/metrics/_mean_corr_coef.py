"""How well single codes line up with single factors."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils._param_validation import StrOptions, validate_params

from ._codes import best_matching, check_factors_and_codes, factor_code_correlations


@validate_params(
    {
        "factors": ["array-like"],
        "codes": ["array-like"],
        "method": [StrOptions({"pearson", "spearman"})],
    },
    prefer_skip_nested_validation=True,
)
def mean_corr_coef(
    factors: ArrayLike, codes: ArrayLike, *, method: str = "pearson"
) -> float:
    r"""Mean correlation coefficient (MCC) of factors and codes, matched one to one.

    .. math:: \frac1m \max_\pi \sum_{i=1}^m
              \left|\mathrm{corr}(z_i, \hat z_{\pi(i)})\right|

    over all one-to-one assignments :math:`\pi` of codes to the m factors. It is
    1 if and only if every factor is a code of its own up to scale and offset
    (``method="pearson"``) or up to a monotone map (``"spearman"``).

    Parameters
    ----------
    factors : array-like of shape (n_samples, n_factors)
        True factors.
    codes : array-like of shape (n_samples, n_codes)
        Learned codes of the same samples. A factor that is left without a code,
        or whose code is constant, counts as 0; codes in excess are ignored.
    method : {"pearson", "spearman"}, default="pearson"
        Correlation of values or of ranks.

    Returns
    -------
    float
        Between 0 and 1. Independent noise gives about :math:`1 / \sqrt{n}` for n
        samples.

    Raises
    ------
    InvalidInputError
        If the two are no finite matrices with the same number of rows, or a
        factor is constant.

    References
    ----------
    .. [1] A. Hyvarinen, H. Morioka (2016). Unsupervised feature extraction by
       time-contrastive learning and nonlinear ICA. NeurIPS.

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.metrics import mean_corr_coef
    >>> factors = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 5.0], [3.0, 1.0]])
    >>> codes = factors[:, ::-1] * [-2.0, 0.5] + 1.0
    >>> mean_corr_coef(factors, codes)
    1.0
    """
    true, learned = check_factors_and_codes(factors, codes)
    scores = np.abs(factor_code_correlations(true, learned, method))
    return float(scores[best_matching(scores)].sum() / len(scores))
