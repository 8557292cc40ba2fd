"""Ridge regression in closed form: on one-hot targets, and on real ones."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar, NamedTuple

import torch
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor

from ..exceptions import InvalidInputError
from ..solvers import (
    RidgeCertificate,
    positive_per_task,
    ridge_certificate,
    solve_ridge,
)
from ._contract import Head, HeadSolution
from ._inputs import TrainingBatch, centred, held_units
from ._regression_contract import RegressionBatch, RegressionHead


class RidgeHead(Head):
    """Classifier by ridge regression on one-hot targets, in closed form.

    For rows x_i, one-hot targets y_i, row weights s_i, it solves ::

        min_{W, b}  1/2 sum_i s_i ||W'x_i + b + o_i - y_i||^2 + lambda2 / 2 ||W||_F^2

    where o_i is the offset of the row, 0 if none is given: it is taken off the
    targets, and has their scale. With rows and targets minus their weighted means (as
    they are and b = 0 without intercept), F, Y and S = diag(s), the weights come from
    the smaller system ::

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
        its gradient. "learn" is for learners around a common predictor, whose `fit`
        scales the features by what tasks deviate in them, for an absolute ridge of 1.
    reg_scale : {"relative", "absolute"}, default="relative"
        Relative: the strength is free of the units of the features. Absolute:
        ``ridge_reg`` is lambda2 as written.
    reg_gradient : bool, default=True
        Whether gradients of the layer pass through the unit of a relative strength, the
        mean squared norm of the rows. False treats lambda2 as a constant of the task.
        Without effect on `fit` and on absolute strengths.
    fit_intercept : bool, default=True
        Fit b, which the ridge leaves alone, as in scikit-learn's `Ridge`. Without
        it hyperplanes pass through the origin and rows should be centred.
    class_weight : dict, "balanced", "auto" or None, default="auto"
        Weight of every class; multiplies the row weights. "balanced": all classes
        weigh the same, whatever their numbers of rows, in `fit` and in the layer.
        "auto": balanced, unless there is an offset, which knows the shares of the
        classes. A dict by label counts in `fit` only. None: rows weigh the same.

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
        "reg_gradient": ["boolean"],
        "fit_intercept": ["boolean"],
        "class_weight": [dict, StrOptions({"auto", "balanced"}), None],
    }

    def __init__(
        self,
        ridge_reg: float | Tensor = 1.0,
        *,
        reg_scale: str = "relative",
        reg_gradient: bool = True,
        fit_intercept: bool = True,
        class_weight: dict[Any, float] | str | None = "auto",
    ) -> None:
        self.ridge_reg = ridge_reg
        self.reg_scale = reg_scale
        self.reg_gradient = reg_gradient
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight

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
        if self.class_weight not in (None, "auto"):
            raise InvalidInputError(
                "class_weight has no meaning for real targets. Got class_weight="
                f"{self.class_weight!r}; set it to None."
            )
        return RidgeRegressionHead(
            self.ridge_reg,
            reg_scale=self.reg_scale,
            reg_gradient=self.reg_gradient,
            fit_intercept=self.fit_intercept,
        )

    @property
    def inexact_gradient(self) -> str:  # type: ignore[override]
        """What the gradient holds fixed; empty: nothing."""
        return held_units(self)

    @property
    def fixed_origin(self) -> str:  # type: ignore[override]
        """Why a number added to a feature matters; empty: it does not."""
        return "" if self.fit_intercept else "hyperplanes pass through the origin"

    def _fit(self, task: TrainingBatch) -> dict[str, Any]:
        fitted = fit_ridge(
            self, task.features, less(task.targets, task.offset), task.weights
        )
        certificate = fitted.certificate()
        return {
            "coef_": fitted.coef[0].T.numpy(),
            "intercept_": fitted.intercept[0].numpy(),
            "dual_coef_": certificate.dual[0].numpy(),
            "dual_gap_": float(certificate.gap),
            "residual_": float(certificate.residual),
            "objective_": float(certificate.primal),
            "lambda2_": float(fitted.lambda2),
        }

    def _layer(
        self,
        features: Tensor,
        targets: Tensor,
        weights: Tensor,
        tol: float | None,
        offset: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        fitted = fit_ridge(self, features, less(targets, offset), weights)
        return fitted.coef, fitted.intercept

    def _solve(
        self,
        features: Tensor,
        targets: Tensor,
        weights: Tensor,
        tol: float | None,
        offset: Tensor | None = None,
    ) -> HeadSolution:
        return fit_ridge(self, features, less(targets, offset), weights).solution()


class RidgeRegressionHead(RegressionHead):
    """Ridge regression of real targets, in closed form: `RidgeHead` for regression.

    For rows x_i, targets y_i and row weights s it solves, for every output ::

        min_{w, b}  1/2 sum_i s_i (x_i'w + b - y_i)^2 + lambda2 / 2 ||w||^2

    It uses all features: the dense counterpart of `LassoHead`. An offset,
    predictions that are known beforehand, is taken off the targets if `fit` gets one.

    Parameters
    ----------
    ridge_reg : float, default=1.0
        Strength of the ridge, > 0. Relative: lambda2 in units of the mean squared
        norm of the rows, which are centred first if there is an intercept.
        A tensor (one number, or one per task) is accepted by the layer and gets
        its gradient. "learn" is for learners around a common predictor, whose `fit`
        scales the features by what tasks deviate in them, for an absolute ridge of 1.
    reg_scale : {"relative", "absolute"}, default="relative"
        Relative: the strength is free of the units of the features. Absolute:
        ``ridge_reg`` is lambda2 as written.
    reg_gradient : bool, default=True
        Whether gradients of the layer pass through the unit of a relative strength, the
        mean squared norm of the rows. False treats lambda2 as a constant of the task.
        Without effect on `fit` and on absolute strengths.
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
        "reg_gradient": ["boolean"],
        "fit_intercept": ["boolean"],
    }

    def __init__(
        self,
        ridge_reg: float | Tensor = 1.0,
        *,
        reg_scale: str = "relative",
        reg_gradient: bool = True,
        fit_intercept: bool = True,
    ) -> None:
        self.ridge_reg = ridge_reg
        self.reg_scale = reg_scale
        self.reg_gradient = reg_gradient
        self.fit_intercept = fit_intercept

    @property
    def inexact_gradient(self) -> str:  # type: ignore[override]
        """What the gradient holds fixed; empty: nothing."""
        return held_units(self)

    @property
    def fixed_origin(self) -> str:  # type: ignore[override]
        """Why a number added to a feature matters; empty: it does not."""
        return "" if self.fit_intercept else "hyperplanes pass through the origin"

    def _fit(self, task: RegressionBatch) -> dict[str, Any]:
        fitted = fit_ridge(self, task.features, task.targets, task.weights)
        certificate = fitted.certificate()
        return {
            "coef_": fitted.coef[0].T.numpy(),
            "intercept_": fitted.intercept[0].numpy(),
            "dual_gap_": float(certificate.gap),
            "objective_": float(certificate.primal),
            "lambda2_": float(fitted.lambda2),
        }

    def _layer(
        self, features: Tensor, targets: Tensor, weights: Tensor, tol: float | None
    ) -> tuple[Tensor, Tensor]:
        fitted = fit_ridge(self, features, targets, weights)
        return fitted.coef, fitted.intercept

    def _solve(
        self, features: Tensor, targets: Tensor, weights: Tensor, tol: float | None
    ) -> HeadSolution:
        return fit_ridge(self, features, targets, weights).solution()


def less(targets: Tensor, offset: Tensor | None) -> Tensor:
    """What is left for the head to explain: Y - O."""
    return targets if offset is None else targets - offset


class RidgeRegression(NamedTuple):
    """Solved regressions of a batch of tasks, and the problems they solve."""

    features: Tensor
    targets: Tensor
    weights: Tensor
    lambda2: Tensor
    coef: Tensor
    intercept: Tensor

    def certificate(self) -> RidgeCertificate:
        """Dual point, gap and residual of the weights."""
        return ridge_certificate(*self[:5])

    def solution(self) -> HeadSolution:
        """What the layer of a head returns."""
        certificate = self.certificate()
        return HeadSolution(
            self.coef,
            certificate.dual,
            certificate.gap,
            torch.ones_like(certificate.gap, dtype=torch.int64),
            self.intercept,
            certificate.relative_gap,
        )


def fit_ridge(
    head: RidgeHead | RidgeRegressionHead,
    features: Tensor,
    targets: Tensor,
    weights: Tensor,
) -> RidgeRegression:
    """Ridge regression as `RidgeHead` describes it, for any targets.

    Parameters
    ----------
    head : RidgeHead or RidgeRegressionHead
        Strength, its scale, and whether there is an intercept.
    features : Tensor of shape (n_tasks, n_samples, n_features)
        Rows of the tasks.
    targets : Tensor of shape (n_tasks, n_samples, n_outputs)
        Targets.
    weights : Tensor of shape (n_tasks, n_samples)
        Row weights.

    Returns
    -------
    RidgeRegression
        Centred features and targets, weights, lambda2, W and b.
    """
    shares = weights / weights.sum(-1, keepdim=True)
    outputs = torch.zeros_like(targets[:, :1])
    middle = torch.zeros_like(features[:, :1])
    if head.fit_intercept:
        features, middle = centred(features, shares)
        outputs = shares[:, None] @ targets
        targets = targets - outputs
    lambda2 = positive_per_task(head.ridge_reg, "ridge_reg", features)
    if head.reg_scale == "relative":
        squares = (shares * features.square().sum(-1)).sum(-1)
        squares = torch.where(squares > 0, squares, 1.0)
        lambda2 = lambda2 * (squares if head.reg_gradient else squares.detach())
    coef = solve_ridge(features, targets, weights, lambda2)
    intercept = (outputs - middle @ coef)[:, 0]
    return RidgeRegression(features, targets, weights, lambda2, coef, intercept)
