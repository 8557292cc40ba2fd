"""Ridge regression on one-hot targets: estimator and layer."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import validate_data
from torch import Tensor

from ..exceptions import InvalidInputError
from ._base import HeadSolution
from ._classifier import HeadClassifierMixin, episode_inputs, training_batch
from ._ridge_fit import RidgeRegression, fit_ridge
from ._ridge_regression_head import RidgeRegressionHead


class RidgeHead(HeadClassifierMixin, BaseEstimator):
    """Classifier by ridge regression on one-hot targets, in closed form.

    For rows x_i, one-hot targets y_i, row weights s_i, it solves ::

        min_{W, b}  1/2 sum_i s_i ||W'x_i + b - y_i||^2 + lambda2 / 2 ||W||_F^2

    With rows and targets minus their weighted means (as they are and b = 0 without
    intercept), F, Y and S = diag(s), the weights come from the smaller system ::

        W = (F'SF + lambda2 I)^-1 F'SY = F' (FF' + lambda2 S^-1)^-1 Y

    which for few rows of many features has one unknown per row. The dual point is
    the weighted residuals R = S (Y - FW) and
    ``dual_gap_ = ||lambda2 W - F'R||_F^2 / (2 lambda2)`` is P(W) - D(R), computed
    at the returned weights.

    Targets are 0 and 1, so a score estimates the probability of a class. With the
    intercept any other pair of numbers, or targets centred beforehand, would give
    the same classes: scores change by one factor and one summand.

    Parameters
    ----------
    ridge_reg : float, default=1.0
        Strength of the ridge, > 0. Relative: lambda2 in units of the mean squared
        norm of the rows, which are centred first if there is an intercept.
        A tensor (one number, or one per task) is accepted by the layer and gets
        its gradient.
    reg_scale : {"relative", "absolute"}, default="relative"
        Relative: the strength is free of the units of the features. Absolute:
        ``ridge_reg`` is lambda2 as written.
    fit_intercept : bool, default=True
        Fit b, which the ridge leaves alone, as in scikit-learn's `Ridge`. Without
        it hyperplanes pass through the origin and rows should be centred.
    class_weight : dict or "balanced", default=None
        Weight of every class in `fit`; multiplies the row weights.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    coef_ : ndarray of shape (n_classes, n_features)
        Weights W'.
    intercept_ : ndarray of shape (n_classes,)
        Intercepts b, 0 without `fit_intercept`.
    dual_coef_ : ndarray of shape (n_samples, n_classes)
        Dual point R; ``coef_ = dual_coef_.T @ X / lambda2_``.
    dual_gap_ : float
        P(W) - D(R) at the returned point.
    residual_ : float
        ``||lambda2 W - F'R||_F / (||S^1/2 F||_F ||S^1/2 Y||_F)``.
    objective_ : float
        P(W).
    lambda2_ : float
        Strength as written in the objective, in the units of the features.
    support_features_ : ndarray of shape (n_used,)
        Features with a weight that is not 0; here nearly always all of them.
    sparsity_ : float
        Share of features without any weight.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if X has string column names.

    See Also
    --------
    GroupLassoSVC : Uses few features.
    PrototypeHead : Class means; nothing to tune.
    RidgeRegressionHead : The same for real targets, also by `as_regressor`.

    Notes
    -----
    The layer is differentiated through the closed form, any number of times, in
    features, row weights and `ridge_reg`. A class without rows in a task scores 0
    everywhere. With an intercept the scores of the other classes sum to 1, so it
    never wins.

    References
    ----------
    .. [1] L. Bertinetto, J. F. Henriques, P. H. S. Torr, A. Vedaldi (2019).
       Meta-learning with differentiable closed-form solvers. ICLR.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skcausalmeta.heads import RidgeHead
    >>> X, y = load_iris(return_X_y=True)
    >>> head = RidgeHead(ridge_reg=0.1).fit(X, y)
    >>> head.coef_.shape
    (3, 4)
    >>> print(f"{head.score(X, y):.2f}")
    0.85
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "ridge_reg": [Interval(Real, 0, None, closed="neither"), Tensor],
        "reg_scale": [StrOptions({"relative", "absolute"})],
        "fit_intercept": ["boolean"],
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }

    def __init__(
        self,
        ridge_reg: float | Tensor = 1.0,
        *,
        reg_scale: str = "relative",
        fit_intercept: bool = True,
        class_weight: dict[Any, float] | str | None = None,
    ) -> None:
        self.ridge_reg = ridge_reg
        self.reg_scale = reg_scale
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # Hyperplanes through the origin cannot follow data that are not centred.
        tags.classifier_tags.poor_score = not self.fit_intercept
        return tags

    # -- scikit-learn estimator ------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> RidgeHead:
        """Solve the regression on the rows of X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features; dense.
        y : array-like of shape (n_samples,)
            Class labels, at least two classes.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights >= 0. None: 1.

        Returns
        -------
        RidgeHead
            Itself.

        Raises
        ------
        ValueError
            For invalid data or parameters; the estimator stays as it was.
        """
        task = training_batch(self, X, y, sample_weight, self.class_weight)
        # The strength may be a tensor that asks for gradients; fit needs none.
        with torch.no_grad():
            fitted = self._regress(task.features, task.targets, task.weights)
            certificate = fitted.certificate()
        validate_data(self, X, skip_check_array=True)
        self.classes_ = task.classes
        self.coef_ = fitted.coef[0].T.numpy()
        self.intercept_ = fitted.intercept[0].numpy()
        self.dual_coef_ = certificate.dual[0].numpy()
        self.dual_gap_ = float(certificate.gap)
        self.residual_ = float(certificate.residual)
        self.objective_ = float(certificate.primal)
        self.lambda2_ = float(fitted.lambda2)
        self._store_support(self.coef_)
        return self

    def as_regressor(self) -> RidgeRegressionHead:
        """The same regression for real targets, as an estimator that is not fitted.

        Returns
        -------
        RidgeRegressionHead
            With this head's strength, scale and intercept.

        Raises
        ------
        InvalidInputError
            If `class_weight` is set.
        """
        if self.class_weight is not None:
            raise InvalidInputError(
                "class_weight has no meaning for real targets. Got class_weight="
                f"{self.class_weight!r}; set it to None."
            )
        return RidgeRegressionHead(
            self.ridge_reg,
            reg_scale=self.reg_scale,
            fit_intercept=self.fit_intercept,
        )

    def _scores(self, X: NDArray[Any]) -> NDArray[Any]:
        return X @ self.coef_.T + self.intercept_

    # -- layer -------------------------------------------------------------------

    def solve_episodes(
        self,
        features: Tensor,
        targets: Tensor,
        n_classes: int,
        *,
        sample_weight: Tensor | None = None,
        tol: float | None = None,
    ) -> HeadSolution:
        """Solve many tasks at once, without gradients.

        Parameters
        ----------
        features : Tensor of shape (n_tasks, n_support, n_features)
            Support features.
        targets : Tensor of shape (n_tasks, n_support)
            Class numbers 0..n_classes-1.
        n_classes : int
            Number of classes of every task.
        sample_weight : Tensor of shape (n_tasks, n_support), default=None
            Row weights; rows of weight 0 pad smaller tasks.
        tol : float, default=None
            Not needed by the closed form; taken so that heads are called alike.

        Returns
        -------
        HeadSolution
            ``dual`` is R, ``coef = F'R / lambda2``.

        Raises
        ------
        InvalidInputError
            If shapes do not agree, a feature is not finite, a label is outside
            0..n_classes-1, a task has no row of positive weight, or a tensor
            `ridge_reg` is not positive.
        """
        self._validate_params()
        with torch.no_grad():
            encoded, weights = episode_inputs(
                features, targets, n_classes, sample_weight
            )
            fitted = self._regress(features, encoded, weights)
            certificate = fitted.certificate()
        return HeadSolution(
            fitted.coef,
            certificate.dual,
            certificate.gap,
            torch.ones_like(certificate.gap, dtype=torch.int64),
            fitted.intercept,
            certificate.relative_gap,
        )

    def episode_logits(
        self,
        support_features: Tensor,
        support_targets: Tensor,
        query_features: Tensor,
        n_classes: int,
        *,
        sample_weight: Tensor | None = None,
        tol: float | None = None,
    ) -> Tensor:
        """Scores of query rows by heads solved on support rows.

        Differentiable any number of times in both sets of features, in the row
        weights, and in `ridge_reg` where it is a tensor.

        Parameters
        ----------
        support_features : Tensor of shape (n_tasks, n_support, n_features)
            Support features.
        support_targets : Tensor of shape (n_tasks, n_support)
            Class numbers 0..n_classes-1.
        query_features : Tensor of shape (n_tasks, n_query, n_features)
            Query features.
        n_classes : int
            Number of classes of every task.
        sample_weight : Tensor of shape (n_tasks, n_support), default=None
            Row weights; rows of weight 0 pad smaller tasks.
        tol : float, default=None
            Not needed by the closed form; taken so that heads are called alike.

        Returns
        -------
        Tensor of shape (n_tasks, n_query, n_classes)

        Raises
        ------
        InvalidInputError
            If shapes do not agree, a feature is not finite, a label is outside
            0..n_classes-1, a task has no row of positive weight, or a tensor
            `ridge_reg` is not positive.
        """
        self._validate_params()
        encoded, weights = episode_inputs(
            support_features, support_targets, n_classes, sample_weight
        )
        fitted = self._regress(support_features, encoded, weights)
        return query_features @ fitted.coef + fitted.intercept[:, None]

    def _regress(
        self, features: Tensor, targets: Tensor, weights: Tensor
    ) -> RidgeRegression:
        return fit_ridge(
            features,
            targets,
            weights,
            self.ridge_reg,
            relative=self.reg_scale == "relative",
            fit_intercept=self.fit_intercept,
        )
