"""Disentanglement, completeness and informativeness of codes."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import entropy
from sklearn.base import RegressorMixin, clone
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import Lasso, LassoCV, LinearRegression
from sklearn.model_selection import train_test_split
from sklearn.utils import Bunch
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    StrOptions,
    validate_params,
)

from ..exceptions import InvalidInputError
from ..utils import named_seeds
from ._codes import check_factors_and_codes, standardize

_MIN_SAMPLES = 20
_N_FOLDS = 5
_NAMES = {"lasso", "linear", "boosting"}


@validate_params(
    {
        "factors": ["array-like"],
        "codes": ["array-like"],
        "importance": [StrOptions(_NAMES), HasMethods(["fit", "predict"])],
        "test_size": [Interval(Real, 0, 1, closed="neither")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def dci_scores(
    factors: ArrayLike,
    codes: ArrayLike,
    *,
    importance: str | RegressorMixin = "lasso",
    test_size: float = 0.25,
    random_state: int | np.random.RandomState | None = 0,
) -> Bunch:
    r"""Disentanglement, completeness and informativeness (DCI) of codes.

    A regressor per factor, fitted to all d standardised codes, gives the
    importance :math:`R_{ij} \ge 0` of code i for factor j of m:

    .. math::
        D_i &= 1 - H_m\left(R_{i\cdot} / \textstyle\sum_j R_{ij}\right), &
        D &= \textstyle\sum_i \rho_i D_i, \quad
        \rho_i = \textstyle\sum_j R_{ij} / \sum_{ij} R_{ij} \\
        C_j &= 1 - H_d\left(R_{\cdot j} / \textstyle\sum_i R_{ij}\right), &
        C &= \textstyle\frac1m \sum_j C_j

    with :math:`H_k` the entropy to base k. D is 1 when every code serves one factor,
    C is 1 when every factor is served by one code, and informativeness is the
    share of the variance of the factors that the regressors explain on held-out
    samples.

    Parameters
    ----------
    factors : array-like of shape (n_samples, n_factors)
        True factors, at least 2 columns. Each is treated as a number.
    codes : array-like of shape (n_samples, n_codes)
        Learned codes of the same samples, at least 2 columns and 20 samples.
    importance : {"lasso", "linear", "boosting"} or regressor, default="lasso"
        "lasso": absolute coefficients at the largest penalty whose error in
        5-fold cross-validation is within one standard error of the least, which
        are 0 where a code says nothing. "linear": of least squares. "boosting":
        feature importances of gradient-boosted trees, for codes in a non-linear
        relation to the factors. Or a regressor with ``coef_`` or
        ``feature_importances_``.
    test_size : float, default=0.25
        Share of the samples held out for informativeness.
    random_state : int, RandomState instance or None, default=0
        Decides the held-out samples and the trees.

    Returns
    -------
    Bunch
        ``disentanglement``, ``completeness``, ``informativeness`` (mean R^2 on
        held-out samples, at most 1, about 0 or below for noise), ``error`` (mean
        root mean squared error of standardised factors, the measure of [1]_),
        ``importances`` (n_codes, n_factors), and one value each in
        ``disentanglement_per_code`` (n_codes,), ``completeness_per_factor`` and
        ``informativeness_per_factor`` (n_factors,). Codes and factors without
        any importance score 0.

    Raises
    ------
    InvalidInputError
        If the matrices do not fit each other, are too small, or a factor is
        constant; or if a regressor has no importances.

    References
    ----------
    .. [1] C. Eastwood, C. Williams (2018). A framework for the quantitative
       evaluation of disentangled representations. ICLR.

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.metrics import dci_scores
    >>> factors = np.random.default_rng(0).normal(size=(200, 3))
    >>> scores = dci_scores(factors, factors[:, [2, 0, 1]] * [1.0, -2.0, 0.1])
    >>> scores.disentanglement, scores.completeness
    (1.0, 1.0)
    >>> print(f"{scores.informativeness:.3f}")
    1.000
    """
    true, learned = check_factors_and_codes(factors, codes)
    _check_sizes(true, learned)
    seeds = named_seeds(random_state, "split", "regressor")
    split = train_test_split(
        standardize(learned),
        standardize(true),
        test_size=test_size,
        random_state=seeds["split"],
    )
    fits = [
        _fit_factor(importance, split, j, seeds["regressor"])
        for j in range(true.shape[1])
    ]
    importances = np.column_stack([weights for weights, _ in fits])
    r_squared = np.array([value for _, value in fits])
    per_code = one_sidedness(importances)
    per_factor = one_sidedness(importances.T)
    return Bunch(
        disentanglement=_weighted_mean(per_code, importances.sum(axis=1)),
        completeness=float(per_factor.mean()),
        informativeness=float(r_squared.mean()),
        error=float(np.sqrt(1 - r_squared).mean()),
        importances=importances,
        disentanglement_per_code=per_code,
        completeness_per_factor=per_factor,
        informativeness_per_factor=r_squared,
    )


def _weighted_mean(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    return float(np.average(values, weights=weights)) if weights.any() else 0.0


def one_sidedness(importances: NDArray[np.float64]) -> NDArray[np.float64]:
    """One minus the entropy of every row, to the base of its length; 0 for no row."""
    totals = importances.sum(axis=1, keepdims=True)
    used = totals[:, 0] > 0
    result = np.zeros(len(importances))
    shares = importances[used] / totals[used]
    result[used] = 1 - entropy(shares, base=importances.shape[1], axis=1)
    return np.clip(result, 0, 1)


def _fit_factor(
    importance: Any, split: list[NDArray[np.float64]], factor: int, seed: int
) -> tuple[NDArray[np.float64], float]:
    """Importances of the codes for a factor, and R^2 on the held-out samples."""
    codes, held_out_codes, factors, held_out_factors = split
    fitted = _fit(importance, codes, factors[:, factor], seed)
    weights = getattr(fitted, "feature_importances_", None)
    if weights is None:
        weights = getattr(fitted, "coef_", None)
    if weights is None:
        raise InvalidInputError(
            "importance must be a regressor with coef_ or feature_importances_ after "
            f"fit. Got {importance!r} without; choose a linear or a tree-based one."
        )
    weights = np.abs(np.ravel(weights)).astype(np.float64)
    weights[weights <= 1e-12 * weights.max()] = 0  # rounding, not importance
    target = held_out_factors[:, factor]
    residual = target - np.ravel(fitted.predict(held_out_codes))
    # Codes and factors have variance 1 over all samples; the mean of the factor
    # is 0, so that this is the error relative to guessing the mean.
    return weights, float(1 - np.mean(residual**2) / np.mean(target**2))


def _fit(
    importance: Any,
    codes: NDArray[np.float64],
    target: NDArray[np.float64],
    seed: int,
) -> Any:
    if importance == "lasso":
        return _simplest_lasso(codes, target)
    if importance == "linear":
        return LinearRegression().fit(codes, target)
    if importance == "boosting":
        return GradientBoostingRegressor(random_state=seed).fit(codes, target)
    return clone(importance).fit(codes, target)


def _simplest_lasso(codes: NDArray[np.float64], target: NDArray[np.float64]) -> Lasso:
    """Lasso of the largest penalty that is within one standard error of the best.

    The penalty of the least error keeps some codes in pure noise, and a code with
    a single spurious coefficient would count as disentangled.
    """
    path = LassoCV(cv=_N_FOLDS, precompute=True, tol=1e-3, max_iter=10_000)
    path.fit(codes, target)
    errors = path.mse_path_.mean(axis=1)  # (n_alphas,)
    spread = path.mse_path_.std(axis=1, ddof=1) / np.sqrt(_N_FOLDS)
    best = errors.argmin()
    alpha = path.alphas_[errors <= errors[best] + spread[best]].max()
    # Entries end at exactly 0 only once coordinate descent has converged.
    lasso = Lasso(alpha=alpha, precompute=True, tol=1e-12, max_iter=100_000)
    return lasso.fit(codes, target)


def _check_sizes(factors: NDArray[np.float64], codes: NDArray[np.float64]) -> None:
    for name, matrix in (("factors", factors), ("codes", codes)):
        if matrix.shape[1] < 2:
            raise InvalidInputError(
                f"dci_scores needs at least 2 {name}, since an entropy over one has no "
                "meaning. Got 1 column."
            )
    if len(factors) < _MIN_SAMPLES:
        raise InvalidInputError(
            f"dci_scores needs at least {_MIN_SAMPLES} samples to fit and to hold out. "
            f"Got {len(factors)}."
        )
