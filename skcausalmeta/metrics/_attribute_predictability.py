"""How much better one code predicts a factor than every other code."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import balanced_accuracy_score
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils._param_validation import validate_params

from ..exceptions import InvalidInputError
from ._codes import check_factors_and_codes, factor_code_correlations, top_two_gap


@validate_params(
    {
        "factors": ["array-like"],
        "codes": ["array-like"],
        "categorical": ["array-like", None],
    },
    prefer_skip_nested_validation=True,
)
def separated_attribute_predictability(
    factors: ArrayLike, codes: ArrayLike, *, categorical: ArrayLike | None = None
) -> float:
    r"""Separated attribute predictability (SAP) of codes and factors.

    .. math:: \frac1m \sum_{i=1}^m \left( S_{i j(i)} - \max_{j \ne j(i)} S_{ij}
              \right), \qquad j(i) = \arg\max_j S_{ij}

    where :math:`S_{ij}` says how well code j alone predicts factor i: the squared
    correlation for a numeric factor; for a categorical one the balanced accuracy
    of thresholds on the code, as many as there are categories minus one.

    Parameters
    ----------
    factors : array-like of shape (n_samples, n_factors)
        True factors.
    codes : array-like of shape (n_samples, n_codes)
        Learned codes of the same samples. With a single code the second largest
        score counts as 0.
    categorical : array-like of shape (n_factors,), default=None
        Boolean, which factors are categories without order. None: none is.

    Returns
    -------
    float
        Between 0 and 1. It reaches 1 only where the factors are numeric and not
        correlated in the sample.

    Raises
    ------
    InvalidInputError
        If the matrices do not fit each other, a factor is constant, or
        `categorical` does not hold one boolean per factor.

    References
    ----------
    .. [1] A. Kumar, P. Sattigeri, A. Balakrishnan (2018). Variational inference
       of disentangled latent concepts from unlabeled observations. ICLR.

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.metrics import separated_attribute_predictability
    >>> factors = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    >>> separated_attribute_predictability(factors, -3.0 * factors[:, ::-1])
    1.0
    """
    true, learned = check_factors_and_codes(factors, codes)
    mask = _check_mask(categorical, true.shape[1])
    # (n_factors, n_codes)
    scores = factor_code_correlations(true, learned, "pearson") ** 2
    for i in np.flatnonzero(mask):
        scores[i] = [_balanced_accuracy(true[:, i], code) for code in learned.T]
    return float(top_two_gap(scores).mean())


def _check_mask(categorical: ArrayLike | None, n_factors: int) -> NDArray[np.bool_]:
    if categorical is None:
        return np.zeros(n_factors, dtype=bool)
    mask = np.asarray(categorical)
    if mask.shape != (n_factors,) or mask.dtype != bool:
        raise InvalidInputError(
            f"categorical must hold one boolean for each of the {n_factors} factors. "
            f"Got dtype {mask.dtype} and shape {mask.shape}."
        )
    return mask


def _balanced_accuracy(factor: NDArray[np.float64], code: NDArray[np.float64]) -> float:
    labels = np.unique(factor, return_inverse=True)[1]
    thresholds = DecisionTreeClassifier(
        max_leaf_nodes=int(labels.max()) + 1, class_weight="balanced", random_state=0
    )
    column = code.reshape(-1, 1)
    predicted = thresholds.fit(column, labels).predict(column)
    return float(balanced_accuracy_score(labels, predicted))
