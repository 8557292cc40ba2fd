"""Whether probabilities are as often right as they say."""

from __future__ import annotations

from numbers import Integral

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils._param_validation import Interval, validate_params

from ..exceptions import InvalidInputError


@validate_params(
    {
        "y_true": ["array-like"],
        "y_prob": ["array-like"],
        "classes": ["array-like", None],
        "n_bins": [Interval(Integral, 1, None, closed="left")],
    },
    prefer_skip_nested_validation=True,
)
def expected_calibration_error(
    y_true: ArrayLike,
    y_prob: ArrayLike,
    *,
    classes: ArrayLike | None = None,
    n_bins: int = 15,
) -> float:
    r"""Mean distance between how sure a classifier is and how often it is right.

    The confidence of a row is its largest probability. With the rows in bins
    :math:`B_b` of equal width by confidence ([1]_, equation 3)

    .. math:: \mathrm{ECE} = \sum_b \frac{|B_b|}{n}
              \bigl|\mathrm{acc}(B_b) - \mathrm{conf}(B_b)\bigr|

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True classes.
    y_prob : array-like of shape (n_samples, n_classes)
        Probabilities, rows that sum to 1.
    classes : array-like of shape (n_classes,), default=None
        Class of every column, as in ``classes_``. None: the columns are the
        classes 0, 1, ...
    n_bins : int, default=15
        Number of bins between 0 and 1.

    Returns
    -------
    error : float
        Between 0 (calibrated) and 1.

    Raises
    ------
    InvalidInputError
        If shapes do not match, or rows are no probabilities.

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger. "On calibration of modern
       neural networks". ICML 2017.

    Examples
    --------
    Sure by 0.8, right in one case of two:

    >>> from skcausalmeta.metrics import expected_calibration_error
    >>> error = expected_calibration_error([0, 1], [[0.8, 0.2], [0.8, 0.2]])
    >>> print(f"{error:.2f}")
    0.30
    """
    truth, proba = np.asarray(y_true), _checked(y_prob)
    if truth.shape != proba.shape[:1]:
        raise InvalidInputError(
            "y_true must hold one class for every row of y_prob. Got shapes "
            f"{truth.shape} and {proba.shape}; pass the rows that were predicted."
        )
    names = np.arange(proba.shape[1]) if classes is None else np.asarray(classes)
    if names.shape != proba.shape[1:]:
        raise InvalidInputError(
            "classes must name every column of y_prob. Got "
            f"{len(names)} classes for {proba.shape[1]} columns; pass classes_ of the "
            "classifier."
        )
    right = names[proba.argmax(axis=1)] == truth
    return error_of_confidences(proba.max(axis=1), right, n_bins)


def error_of_confidences(
    confidence: NDArray[np.floating], right: NDArray[np.bool_], n_bins: int = 15
) -> float:
    """Calibration error of predictions, each with a confidence, right or wrong.

    Parameters
    ----------
    confidence : ndarray of shape (n,)
        Between 0 and 1; a value on the border of two bins belongs to the lower one.
    right : ndarray of bool of shape (n,)
        Whether the prediction was right.
    n_bins : int, default=15
        Number of bins.

    Returns
    -------
    float
        Between 0 (calibrated) and 1.

    See Also
    --------
    expected_calibration_error : The same from probabilities and classes.

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.metrics import error_of_confidences
    >>> right = np.array([True, False])
    >>> print(f"{error_of_confidences(np.array([0.8, 0.8]), right):.2f}")
    0.30
    """
    bins = np.clip(np.ceil(confidence * n_bins).astype(np.intp) - 1, 0, n_bins - 1)
    excess = np.bincount(bins, weights=right - confidence, minlength=n_bins)
    return float(np.abs(excess).sum() / len(confidence))


def _checked(y_prob: ArrayLike) -> NDArray[np.float64]:
    proba = np.asarray(y_prob, dtype=np.float64)
    if proba.ndim != 2 or proba.size == 0:
        raise InvalidInputError(
            "y_prob must have the shape (n_samples, n_classes). Got shape "
            f"{proba.shape}; pass what predict_proba returns."
        )
    with np.errstate(invalid="ignore"):
        valid = (proba >= 0).all(axis=1) & (np.abs(proba.sum(axis=1) - 1) < 1e-4)
    if not valid.all():
        row = int(np.argmin(valid))
        raise InvalidInputError(
            "Every row of y_prob must be probabilities that sum to 1. Got "
            f"{proba[row].tolist()} in row {row}; pass what predict_proba returns."
        )
    return proba
