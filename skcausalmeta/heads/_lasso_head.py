"""Lasso regression: estimator and layer."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import validate_data
from torch import Tensor

from ..exceptions import ConvergenceWarning
from ..solvers import Problem, Solution, solve_lasso, solve_proximal_gradient
from ._base import HeadSolution
from ._lasso_problem import LassoData, LassoSettings, build_data, solve_layer
from ._regression import (
    LinearPredictionsMixin,
    check_regression,
    precision,
    training_rows,
)


class LassoHead(
    LinearPredictionsMixin, MultiOutputMixin, RegressorMixin, BaseEstimator
):
    """Lasso or elastic-net regression, with a certificate.

    For rows x_i, targets y_i, row weights s and n = sum_i s_i it solves, for
    every output ::

        min_{w, b}  1 / (2 n) sum_i s_i (x_i'w + b - y_i)^2
                    + lambda1 ||w||_1 + lambda2 / 2 ||w||^2

    exactly, by an active-set method; ``dual_gap_`` proves how far the returned
    point is from the optimum. The same problem is a differentiable layer for many
    tasks at once: `episode_predictions`.

    Parameters
    ----------
    lasso_reg : float, default=0.3
        Strength of the Lasso, >= 0. With ``reg_scale="relative"`` it is the
        fraction of the smallest lambda1 that switches every feature off,
        ``max_j |F_j'S(y - mean y)| / n``, for every output; at 1 all are off. A
        tensor is accepted by the layer and gets its gradient: one number, one a
        task, or (n_tasks, n_outputs).
    ridge_reg : float, default=0.0
        Strength of the ridge, >= 0. Relative: lambda2 in units of the mean
        squared row norm of the (centred) features. A tensor is accepted by the
        layer: one number or one a task.
    reg_scale : {"relative", "absolute"}, default="relative"
        Relative: both strengths are free of the units of features and targets.
        Absolute: ``lasso_reg`` is lambda1, ``ridge_reg`` is lambda2 as written.
    reg_gradient : bool, default=False
        Whether gradients pass through the units of relative strengths. False
        treats lambda1 and lambda2 as constants of the task, as in [1]_: the
        gradient then is not the one of finite differences of the features, which
        move the units too. Without effect on `fit` and on absolute strengths.
    fit_intercept : bool, default=True
        Fit the intercept b, which is not penalised.
    solver : {"active-set", "fista"}, default="active-set"
        "active-set": exact steps between sign patterns, `solve_lasso`. "fista":
        accelerated proximal gradient, `solve_proximal_gradient`.
    tol : float, default=1e-8
        Relative duality gap to reach, for every output.
    max_iter : int, default=10_000
        Largest number of iterations.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,) or (n_outputs, n_features)
        Weights; two axes if y has two.
    intercept_ : float or ndarray of shape (n_outputs,)
        Intercepts, 0 without `fit_intercept`.
    dual_gap_ : float
        Objective minus its lower bound at the returned point, all outputs together.
    objective_ : float
        The objective, all outputs together.
    lambda1_ : float or ndarray of shape (n_outputs,)
        Strength of the Lasso as written in the objective.
    lambda2_ : float
        Strength of the ridge as written in the objective.
    support_features_ : ndarray of shape (n_used,)
        Indices of the features that any output uses.
    sparsity_ : float
        Share of features that no output uses.
    n_iter_ : int
        Iterations of the solver.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if X has string column names.

    See Also
    --------
    sklearn.linear_model.Lasso : The same problem, by coordinate descent.

    References
    ----------
    .. [1] S. Lachapelle et al. (2023). Synergies between disentanglement and
       sparsity: generalization and identifiability in multi-task learning.
       ICML, section 5.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skcausalmeta.heads import LassoHead
    >>> X, y = load_diabetes(return_X_y=True)
    >>> head = LassoHead(lasso_reg=0.2).fit(X, y)
    >>> head.support_features_
    array([2, 3, 6, 8])
    >>> print(f"{head.score(X, y):.2f}")
    0.46
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "lasso_reg": [Interval(Real, 0, None, closed="left"), Tensor],
        "ridge_reg": [Interval(Real, 0, None, closed="left"), Tensor],
        "reg_scale": [StrOptions({"relative", "absolute"})],
        "reg_gradient": ["boolean"],
        "fit_intercept": ["boolean"],
        "solver": [StrOptions({"active-set", "fista"})],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        lasso_reg: float = 0.3,
        ridge_reg: float = 0.0,
        *,
        reg_scale: str = "relative",
        reg_gradient: bool = False,
        fit_intercept: bool = True,
        solver: str = "active-set",
        tol: float = 1e-8,
        max_iter: int = 10_000,
    ) -> None:
        self.lasso_reg = lasso_reg
        self.ridge_reg = ridge_reg
        self.reg_scale = reg_scale
        self.reg_gradient = reg_gradient
        self.fit_intercept = fit_intercept
        self.solver = solver
        self.tol = tol
        self.max_iter = max_iter

    # -- scikit-learn estimator ------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> LassoHead:
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
        LassoHead
            Itself.

        Raises
        ------
        ValueError
            For invalid data or parameters; the estimator stays as it was.

        Warns
        -----
        ConvergenceWarning
            If the gap stays above `tol`.
        """
        rows, targets, weights = training_rows(self, X, y, sample_weight)
        # Regularisation may be a tensor that asks for gradients; fit needs none.
        with torch.no_grad():
            data = self._data(
                torch.from_numpy(np.array(rows))[None],
                torch.from_numpy(targets.reshape(len(rows), -1).copy())[None],
                torch.from_numpy(weights)[None],
            )
            problem = data.problem()
            solution = self._solver()(problem)
            # Only now: a failure above leaves the estimator as it was.
            validate_data(self, X, skip_check_array=True)
            self._store(data, problem, solution, single=targets.ndim == 1)
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
            Relative gap to reach. None: the parameter `tol`.

        Returns
        -------
        HeadSolution
            In the units of the data, with outputs in the place of classes. The
            dual point belongs to the centred targets.

        Raises
        ------
        InvalidInputError
            If shapes do not agree, a feature or target is not finite, a strength
            is out of range, or a task has no row of positive weight.
        """
        with torch.no_grad():
            data = self._episode_data(features, targets, sample_weight)
            solution = self._solver(tol)(data.problem())
            intercept = data.intercept(solution.coef)
        return HeadSolution(
            solution.coef.to(features.dtype),
            solution.dual.to(features.dtype),
            solution.gap.to(features.dtype),
            solution.n_iter,
            intercept.to(features.dtype),
            solution.relative_gap.to(features.dtype),
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

        Differentiable in both sets of features, in the targets, in the row
        weights, and in `lasso_reg` and `ridge_reg` where they are tensors: the
        optimality conditions on the used features are differentiated, not the
        iterations; unused weights have no gradient. See `reg_gradient` for the
        units of relative strengths. Solved in double precision.

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
            Relative gap to reach. None: the parameter `tol`.

        Returns
        -------
        Tensor of shape (n_tasks, n_query[, n_outputs])
            With the axis of outputs if the targets have it.

        Raises
        ------
        InvalidInputError
            If shapes do not agree, a feature or target is not finite, a strength
            is out of range, or a task has no row of positive weight.
        RuntimeError
            On double backward.
        """
        data = self._episode_data(support_features, support_targets, sample_weight)
        coef = solve_layer(data, self._solver(tol))
        intercept = data.intercept(coef)[:, None, :].to(query_features.dtype)
        predictions = query_features @ coef.to(query_features.dtype) + intercept
        return predictions[..., 0] if support_targets.ndim == 2 else predictions

    # -- shared --------------------------------------------------------------------

    def _episode_data(
        self, features: Tensor, targets: Tensor, sample_weight: Tensor | None
    ) -> LassoData:
        self._validate_params()
        check_regression(features, targets, sample_weight)
        if sample_weight is None:
            sample_weight = features.new_ones(features.shape[:2])
        precise = precision(features)
        return self._data(
            features.to(precise),
            targets.reshape(*targets.shape[:2], -1).to(precise),
            sample_weight.to(precise),
        )

    def _data(self, features: Tensor, targets: Tensor, weights: Tensor) -> LassoData:
        settings = LassoSettings(
            lasso_reg=self.lasso_reg,
            ridge_reg=self.ridge_reg,
            relative=self.reg_scale == "relative",
            reg_gradient=self.reg_gradient,
            fit_intercept=self.fit_intercept,
        )
        return build_data(features, targets, weights, settings)

    def _solver(self, tol: float | None = None) -> Callable[[Problem], Solution]:
        solve = solve_lasso if self.solver == "active-set" else solve_proximal_gradient
        tol = self.tol if tol is None else tol
        return partial(solve, tol=tol, max_iter=self.max_iter)

    def _store(
        self, data: LassoData, problem: Problem, solution: Solution, *, single: bool
    ) -> None:
        coef, lambda1 = solution.coef[0].T.numpy(), data.lambda1[0].numpy()
        intercept = data.intercept(solution.coef)[0].numpy()
        self.coef_ = coef[0] if single else coef
        self.intercept_ = float(intercept[0]) if single else intercept
        self.lambda1_ = float(lambda1[0]) if single else lambda1
        self.lambda2_ = float(data.lambda2)
        self.dual_gap_ = float(solution.gap)
        self.objective_ = float(problem.primal(solution.coef))
        self.support_features_ = np.flatnonzero((coef != 0).any(axis=0))
        self.sparsity_ = float((coef == 0).all(axis=0).mean())
        self.n_iter_ = max(1, int(solution.n_iter))
        if not float(solution.relative_gap) <= self.tol:
            warnings.warn(
                f"LassoHead stopped before its tolerance. Duality gap: "
                f"{self.dual_gap_:.1e}, objective: {self.objective_:.3e}, relative "
                f"gap: {float(solution.relative_gap):.1e}, tolerance: {self.tol:.1e}. "
                "Raise max_iter, tol or lasso_reg.",
                ConvergenceWarning,
                stacklevel=4,  # the caller of fit, behind _fit_context
            )
