"""Ridge regression on real targets: estimator and layer."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import validate_data
from torch import Tensor

from ._base import HeadSolution
from ._regression import (
    LinearPredictionsMixin,
    check_regression,
    precision,
    training_rows,
)
from ._ridge_fit import RidgeRegression, fit_ridge


class RidgeRegressionHead(
    LinearPredictionsMixin, MultiOutputMixin, RegressorMixin, BaseEstimator
):
    """Ridge regression of real targets, in closed form: `RidgeHead` for regression.

    For rows x_i, targets y_i and row weights s it solves, for every output ::

        min_{w, b}  1/2 sum_i s_i (x_i'w + b - y_i)^2 + lambda2 / 2 ||w||^2

    It uses all features: the dense counterpart of `LassoHead`.

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
        Fit b, which the ridge leaves alone.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,) or (n_outputs, n_features)
        Weights; two axes if y has two.
    intercept_ : float or ndarray of shape (n_outputs,)
        Intercepts, 0 without `fit_intercept`.
    dual_gap_ : float
        Objective minus its lower bound at the returned point.
    objective_ : float
        The objective, all outputs together.
    lambda2_ : float
        Strength as written in the objective.
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
    LassoHead : Uses few features.
    RidgeHead : The classifier; ``RidgeHead(...).as_regressor()`` gives this one.

    Notes
    -----
    ``LassoHead(0.0, r)`` solves the same problem as ``ridge_reg = r * n``, since
    its loss is a mean over the n rows.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skcausalmeta.heads import RidgeRegressionHead
    >>> X, y = load_diabetes(return_X_y=True)
    >>> head = RidgeRegressionHead(ridge_reg=0.1).fit(X, y)
    >>> print(f"{head.score(X, y):.2f}")
    0.52
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "ridge_reg": [Interval(Real, 0, None, closed="neither"), Tensor],
        "reg_scale": [StrOptions({"relative", "absolute"})],
        "fit_intercept": ["boolean"],
    }

    def __init__(
        self,
        ridge_reg: float | Tensor = 1.0,
        *,
        reg_scale: str = "relative",
        fit_intercept: bool = True,
    ) -> None:
        self.ridge_reg = ridge_reg
        self.reg_scale = reg_scale
        self.fit_intercept = fit_intercept

    # -- scikit-learn estimator ------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> RidgeRegressionHead:
        """Solve the regression on the rows of X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features; dense.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights >= 0. None: 1.

        Returns
        -------
        RidgeRegressionHead
            Itself.

        Raises
        ------
        ValueError
            For invalid data or parameters; the estimator stays as it was.
        """
        rows, targets, weights = training_rows(self, X, y, sample_weight)
        # The strength may be a tensor that asks for gradients; fit needs none.
        with torch.no_grad():
            solved = self._regress(
                torch.from_numpy(np.array(rows))[None],
                torch.from_numpy(targets.reshape(len(rows), -1).copy())[None],
                torch.from_numpy(weights)[None],
            )
            certificate = solved.certificate()
        validate_data(self, X, skip_check_array=True)
        coef, intercept = solved.coef[0].T.numpy(), solved.intercept[0].numpy()
        single = targets.ndim == 1
        self.coef_ = coef[0] if single else coef
        self.intercept_ = float(intercept[0]) if single else intercept
        self.dual_gap_ = float(certificate.gap)
        self.objective_ = float(certificate.primal)
        self.lambda2_ = float(solved.lambda2)
        self.support_features_ = np.flatnonzero((coef != 0).any(axis=0))
        self.sparsity_ = float((coef == 0).all(axis=0).mean())
        return self

    # -- layer -------------------------------------------------------------------

    def solve_episodes(
        self,
        features: Tensor,
        targets: Tensor,
        *,
        sample_weight: Tensor | None = None,
        tol: float | None = None,
    ) -> HeadSolution:
        """Solve many tasks at once, without gradients.

        Parameters
        ----------
        features : Tensor of shape (n_tasks, n_support, n_features)
            Support features.
        targets : Tensor of shape (n_tasks, n_support[, n_outputs])
            Targets.
        sample_weight : Tensor of shape (n_tasks, n_support), default=None
            Row weights; rows of weight 0 pad smaller tasks.
        tol : float, default=None
            Not needed by the closed form; taken so that heads are called alike.

        Returns
        -------
        HeadSolution
            With outputs in the place of classes.

        Raises
        ------
        InvalidInputError
            If shapes do not agree, a feature or target is not finite, a tensor
            `ridge_reg` is not positive, or a task has no row of positive weight.
        """
        with torch.no_grad():
            solved = self._layer(features, targets, sample_weight)
            certificate = solved.certificate()
        return HeadSolution(
            solved.coef.to(features.dtype),
            certificate.dual.to(features.dtype),
            certificate.gap.to(features.dtype),
            torch.ones_like(certificate.gap, dtype=torch.int64),
            solved.intercept.to(features.dtype),
            certificate.relative_gap.to(features.dtype),
        )

    def episode_predictions(
        self,
        support_features: Tensor,
        support_targets: Tensor,
        query_features: Tensor,
        *,
        sample_weight: Tensor | None = None,
        tol: float | None = None,
    ) -> Tensor:
        """Predictions for query rows by heads solved on support rows.

        Differentiable any number of times in both sets of features, in the
        targets, in the row weights, and in `ridge_reg` where it is a tensor.
        Solved in double precision.

        Parameters
        ----------
        support_features : Tensor of shape (n_tasks, n_support, n_features)
            Support features.
        support_targets : Tensor of shape (n_tasks, n_support[, n_outputs])
            Targets.
        query_features : Tensor of shape (n_tasks, n_query, n_features)
            Query features.
        sample_weight : Tensor of shape (n_tasks, n_support), default=None
            Row weights; rows of weight 0 pad smaller tasks.
        tol : float, default=None
            Not needed by the closed form; taken so that heads are called alike.

        Returns
        -------
        Tensor of shape (n_tasks, n_query[, n_outputs])
            With the axis of outputs if the targets have it.

        Raises
        ------
        InvalidInputError
            If shapes do not agree, a feature or target is not finite, a tensor
            `ridge_reg` is not positive, or a task has no row of positive weight.
        """
        solved = self._layer(support_features, support_targets, sample_weight)
        coef = solved.coef.to(query_features.dtype)
        intercept = solved.intercept[:, None].to(query_features.dtype)
        predictions = query_features @ coef + intercept
        return predictions[..., 0] if support_targets.ndim == 2 else predictions

    def _layer(
        self, features: Tensor, targets: Tensor, sample_weight: Tensor | None
    ) -> RidgeRegression:
        self._validate_params()
        check_regression(features, targets, sample_weight)
        if sample_weight is None:
            sample_weight = features.new_ones(features.shape[:2])
        precise = precision(features)
        return self._regress(
            features.to(precise),
            targets.reshape(*targets.shape[:2], -1).to(precise),
            sample_weight.to(precise),
        )

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
