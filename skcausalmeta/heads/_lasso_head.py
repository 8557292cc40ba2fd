"""Lasso regression: estimator and layer."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor

from ..exceptions import ConvergenceWarning
from ..solvers import Problem, Solution, solve_lasso, solve_proximal_gradient
from ._contract import HeadSolution
from ._inputs import held_units
from ._lasso_problem import LassoData, LassoSettings, build_data, solve_layer
from ._lasso_refit import ridge_on_chosen, solve_again
from ._regression_contract import RegressionBatch, RegressionHead


class LassoHead(RegressionHead):
    """Lasso or elastic-net regression, with a certificate.

    For rows x_i, targets y_i, row weights s and n = sum_i s_i it solves, for
    every output ::

        min_{w, b}  1 / (2 n) sum_i s_i (x_i'w + b - y_i)^2
                    + lambda1 ||w||_1 + lambda2 / 2 ||w||^2

    exactly, by an active-set method; ``dual_gap_`` proves how far the returned
    point is from the optimum. An offset, predictions that are known beforehand, is
    taken off the targets if `fit` gets one. The same problem is a differentiable layer
    for many tasks at once: `episode_predictions`.

    Parameters
    ----------
    lasso_reg : float, default=0.3
        Strength of the Lasso, >= 0. With ``reg_scale="relative"`` it is the
        fraction of the smallest lambda1 that switches every feature off,
        ``max_j |F_j'S(y - mean y)| / n``, for every output; at 1 all are off. A
        tensor is accepted by the layer and gets its gradient: one number, one a
        task, or (n_tasks, n_outputs). "learn" is for learners around a common
        predictor, whose `fit` finds the fraction.
    ridge_reg : float, default=0.0
        Strength of the ridge, >= 0. Relative: lambda2 in units of the mean
        squared row norm of the (centred) features. A tensor is accepted by the
        layer: one number or one a task. "learn" is for the same learners, which
        scale the features by what tasks deviate in them, for a ridge of 1 / n.
    reg_scale : {"relative", "ridge-absolute", "absolute"}, default="relative"
        Relative: both strengths are free of the units of features and targets.
        Absolute: ``lasso_reg`` is lambda1, ``ridge_reg`` is lambda2 as written.
        Ridge-absolute: ``ridge_reg`` is lambda2, ``lasso_reg`` a fraction.
    reg_gradient : bool, default=False
        Whether gradients of the layer pass through the units of relative strengths.
        False treats lambda1 and lambda2 as constants of the task, as in [1]_: the
        gradient then is not the one of finite differences of the features, which
        move the units too. Without effect on `fit` and on absolute strengths.
    fit_intercept : bool, default=True
        Fit the intercept b, which is not penalised.
    refit : bool, default=False
        Relaxed Lasso [2]_: it only chooses the features, for every output, whose
        weights are then solved for once more with ``lasso_reg=0``, by ridge regression.
        The second problem has a ridge of at least 1e-10 in the units of a relative one.
        The derivative holds the choice fixed.
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
        Objective minus its lower bound at the returned point, all outputs together;
        with `refit` of the second problem.
    selection_gap_ : float
        With `refit` only: the same of the problem that chose.
    objective_ : float
        The objective, all outputs together; with `refit` of the second problem.
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
    .. [2] N. Meinshausen (2007). Relaxed Lasso. Computational Statistics & Data
       Analysis 52(1), 374-393.

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
        "reg_scale": [StrOptions({"relative", "ridge-absolute", "absolute"})],
        "reg_gradient": ["boolean"],
        "fit_intercept": ["boolean"],
        "refit": ["boolean"],
        "solver": [StrOptions({"active-set", "fista"})],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        lasso_reg: Any = 0.3,
        ridge_reg: Any = 0.0,
        *,
        reg_scale: str = "relative",
        reg_gradient: bool = False,
        fit_intercept: bool = True,
        refit: bool = False,
        solver: str = "active-set",
        tol: float = 1e-8,
        max_iter: int = 10_000,
    ) -> None:
        self.lasso_reg = lasso_reg
        self.ridge_reg = ridge_reg
        self.reg_scale = reg_scale
        self.reg_gradient = reg_gradient
        self.fit_intercept = fit_intercept
        self.refit = refit
        self.solver = solver
        self.tol = tol
        self.max_iter = max_iter

    @property
    def inexact_gradient(self) -> str:  # type: ignore[override]
        """What the gradient holds fixed; empty: nothing."""
        return held_units(self)

    @property
    def fixed_origin(self) -> str:  # type: ignore[override]
        """Why a number added to a feature matters; empty: it does not."""
        return "" if self.fit_intercept else "hyperplanes pass through the origin"

    def _fit(self, task: RegressionBatch) -> dict[str, Any]:
        data = self._data(task.features, task.targets, task.weights)
        problem = data.problem()
        solution = self._solver()(problem)
        self._warn_above_tol(problem, solution)
        lambda1 = data.lambda1[0].numpy()
        objective, choice = float(problem.primal(solution.coef)), {}
        if self.refit:
            choice = {"selection_gap_": float(solution.gap)}
            again = solve_again(data, solution.coef)
            objective, solution = float(again.primal), again.solution
        return {
            **choice,
            "coef_": solution.coef[0].T.numpy(),
            "intercept_": data.intercept(solution.coef)[0].numpy(),
            "lambda1_": float(lambda1[0]) if task.single else lambda1,
            "lambda2_": float(data.lambda2),
            "dual_gap_": float(solution.gap),
            "objective_": objective,
            "n_iter_": max(1, int(solution.n_iter)),
        }

    def _layer(
        self, features: Tensor, targets: Tensor, weights: Tensor, tol: float | None
    ) -> tuple[Tensor, Tensor]:
        data = self._data(features, targets, weights)
        if self.refit:
            with torch.no_grad():
                choice = self._solver(tol)(data.problem()).coef
            coef = ridge_on_chosen(data, choice)
        else:
            coef = solve_layer(data, self._solver(tol))
        return coef, data.intercept(coef)

    def _solve(
        self, features: Tensor, targets: Tensor, weights: Tensor, tol: float | None
    ) -> HeadSolution:
        data = self._data(features, targets, weights)
        solution = self._solver(tol)(data.problem())
        if self.refit:
            solution = solve_again(data, solution.coef).solution
        return HeadSolution(
            solution.coef,
            solution.dual,  # of the centred targets
            solution.gap,
            solution.n_iter,
            data.intercept(solution.coef),
            solution.relative_gap,
        )

    def _data(self, features: Tensor, targets: Tensor, weights: Tensor) -> LassoData:
        settings = LassoSettings(
            lasso_reg=self.lasso_reg,
            ridge_reg=self.ridge_reg,
            relative=self.reg_scale != "absolute",
            relative_ridge=self.reg_scale == "relative",
            reg_gradient=self.reg_gradient,
            fit_intercept=self.fit_intercept,
        )
        return build_data(features, targets, weights, settings)

    def _solver(self, tol: float | None = None) -> Callable[[Problem], Solution]:
        solve = solve_lasso if self.solver == "active-set" else solve_proximal_gradient
        tol = self.tol if tol is None else tol
        return partial(solve, tol=tol, max_iter=self.max_iter)

    def _warn_above_tol(self, problem: Problem, solution: Solution) -> None:
        if not float(solution.relative_gap) <= self.tol:
            objective = float(problem.primal(solution.coef))
            warnings.warn(
                f"LassoHead stopped before its tolerance. Duality gap: "
                f"{float(solution.gap):.1e}, objective: {objective:.3e}, relative "
                f"gap: {float(solution.relative_gap):.1e}, tolerance: {self.tol:.1e}. "
                "Raise max_iter, tol or lasso_reg.",
                ConvergenceWarning,
                stacklevel=5,  # the caller of fit, behind _fit_context
            )
