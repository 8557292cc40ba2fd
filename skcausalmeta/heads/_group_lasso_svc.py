"""Multiclass SVM with a group Lasso on features: estimator and layer."""

from __future__ import annotations

from functools import partial
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor

from ..implicit import solve_psd
from ..losses import CrammerSinger
from ..solvers import (
    Problem,
    ReducedSystem,
    Solution,
    narrow,
    solve_auto,
    solve_compiled,
    solve_fista,
    solve_newton,
    solve_working_set,
)
from ._group_lasso_base import GroupLassoClassifier, polished, polisher
from ._group_lasso_problem import (
    Adjoint,
    Gradients,
    Solved,
    Solver,
    apply_jacobian,
    compiled_first,
    gradients_of_inputs,
)

_TIE = 1e-9
_SOLVERS = ("cvxpy", "auto", "compiled", "newton", "fista")


def svm_adjoint(gradient: Tensor, solved: Solved, problem: Problem) -> Gradients:
    """Gradients of a loss in F, lambda1, lambda2, s and O, given the one in W.

    At the optimum the free entries of every row of B share one value of the
    dual gradient. With M the Jacobian of V -> W(V) at V = F'R and E, H as in
    `ReducedSystem`, the change of B solves a linear system, whose adjoint is ::

        H u = E' S F M G,           U = S E u

    and `gradients_of_inputs` has what follows from U. Features that are off have
    no curvature and no gradient: they are left out.

    Where strict complementarity fails, H may be singular and W is not
    differentiable; the least-norm solution picks one of the limits.

    Parameters
    ----------
    gradient : Tensor of shape (n_tasks, n_features, n_classes)
        Gradient G in W.
    solved : Solved
        Solution B and the features in use.
    problem : Problem
        The problem that B solves.

    Returns
    -------
    tuple of Tensor
        Gradients in features, lambda1, lambda2, weights and offset.
    """
    penalty = problem.penalty
    if penalty.groups is not None or not bool((penalty.lambda1 > 0).any()):
        return _adjoint(gradient, solved.dual, problem)
    part, positions, valid = narrow(problem, solved.support)
    rows = positions[..., None].expand(-1, -1, gradient.shape[-1])
    kept = gradient.gather(1, rows) * valid[..., None]
    d_part, *others = _adjoint(kept, solved.dual, part)
    columns = positions[:, None, :].expand_as(d_part)
    d_features = torch.zeros_like(problem.features).scatter_add_(2, columns, d_part)
    d_lambda1, d_lambda2, d_weights, d_offset = others
    return d_features, d_lambda1, d_lambda2, d_weights, d_offset


def _adjoint(gradient: Tensor, dual: Tensor, problem: Problem) -> Gradients:
    weights = problem.weights[..., None]
    correlation = problem.correlation(dual)
    system = ReducedSystem(problem, dual, correlation)
    through = apply_jacobian(problem.penalty, correlation, gradient)
    right = system.restrict(weights * (problem.features @ through))
    moved = weights * system.extend(solve_psd(system.matrix(), right))
    return gradients_of_inputs(gradient, dual, problem, moved)


class GroupLassoSVC(GroupLassoClassifier):
    """Multiclass SVM that uses few features, with a certificate.

    For rows x_i, one-hot labels Y, row weights s and weights W (n_features,
    n_classes), it solves ::

        min_W  lambda2 / 2 ||W||_F^2 + lambda1 sum_g ||W_g||_F
               + sum_i s_i max_l [1 - Y_il + z_il - z_{i y_i}],   z_i = W'x_i + o_i

    through its dual: for B with rows in the probability simplex and
    V = F'diag(s)(Y - B) ::

        max_B  sum_i s_i (<1 - Y_i, B_i> + <B_i - Y_i, o_i>)
               - 1 / (2 lambda2) ||BST(V, lambda1)||_F^2,
        W(B) = BST(V, lambda1) / lambda2,
        BST(V, t)_g = max(0, 1 - t / ||V_g||_F) V_g

    A feature (or a group of features, `groups`) whose ``||V_g||`` is at most
    lambda1 is not used by any class. ``dual_gap_ = P(W(B)) - D(B) >= 0`` proves
    how far the returned point is from the optimum, whatever solved it.
    ``group_reg=0`` gives the SVM of Crammer and Singer. The offset o_i,
    scores of the row that are known beforehand, is 0 unless `fit` gets one.

    Parameters
    ----------
    group_reg : float, default=0.1
        Strength of the group Lasso, >= 0. With ``reg_scale="relative"`` it is
        the fraction of the lambda1 that provably switches every feature off:
        at 1 all features are off. (For two classes that is the smallest such
        lambda1, for more classes it is an upper bound of it; beside the intercept
        of classes of unequal weight it is neither, and some feature may stay on.)
        A tensor is accepted by the layer and gets its gradient. "learn" is for
        learners around a common predictor, whose `fit` finds the fraction.
    ridge_reg : float, default=1.0
        Strength of the ridge, > 0. Relative: lambda2 in units of the mean
        squared row norm of the features. "learn" is for the same learners, which
        scale the features by what tasks deviate in them, for a ridge of 1.
    reg_scale : {"relative", "ridge-absolute", "absolute"}, default="relative"
        Relative: both strengths are free of the units of the features.
        Absolute: ``group_reg`` is lambda1, ``ridge_reg`` is lambda2 as written.
        Ridge-absolute: ``ridge_reg`` is lambda2, ``group_reg`` a fraction.
    groups : array-like of shape (n_features,), default=None
        Group label of every feature; the features of a group are on or off
        together. None: every feature is a group of its own.
    fit_intercept : bool, default=True
        Take the weighted mean off every column and append a constant feature of
        value `intercept_scaling` (times the unit of the features if relative) that
        the group Lasso leaves alone. The ridge applies to its weight, as in
        scikit-learn's `LinearSVC`. Without it hyperplanes pass through the origin.
    intercept_scaling : float, default=1.0
        Value of the constant feature; the larger, the freer the intercept.
    solver : {"cvxpy", "auto", "compiled", "newton", "fista"}, default="cvxpy"
        "cvxpy": conic solvers on a working set of features, verified on all.
        "compiled": Newton steps on the dual by a compiled kernel, on the CPU;
        where that was not built at installation, "newton" takes its place and
        a warning says so once. "newton": projected Newton on the dual, batched.
        "fista": accelerated projected gradient on the dual, batched. "auto": the
        compiled kernel where it is there and the tensors are on the CPU, else
        one of the last two, by the shapes and `tol`. The layer
        (`episode_logits`, `solve_episodes`) takes "auto" in the place of
        "cvxpy".
    tol : float, default=1e-6
        Relative duality gap ``dual_gap_ / P(W)`` to reach.
    max_iter : int, default=10_000
        Largest number of iterations of any solver but "cvxpy".
    class_weight : dict, "balanced", "auto" or None, default="auto"
        Weight of every class; multiplies the row weights. "balanced": all classes
        weigh the same, whatever their numbers of rows, in `fit` and in the layer.
        "auto": balanced, unless there is an offset, which knows the shares of the
        classes. A dict by label counts in `fit` only. None: rows weigh the same.
    refit : bool, default=False
        Relaxed group Lasso [3]_: it only chooses the features, whose weights are then
        solved for once more with ``group_reg=0``, so that they are not shrunk by it.
        The derivative holds the choice fixed.
    n_reweight : int, default=0
        Rounds of an adaptive group Lasso: the problem is solved again with
        ``lambda1 u_g`` in the place of lambda1, where ``u_g = 1.1 / (n_g + 0.1)`` and
        n_g is the norm of the group in the solution before, relative to the largest.
        Features that matter are shrunk less, others more. The layer holds u_g
        constant in its derivative; gap and objective are those of the last problem.
    reg_gradient : bool, default=True
        Whether gradients of the layer pass through the units of relative strengths: the
        lambda1 that switches every feature off, and the mean squared row norm. False
        treats both as constants of the task, as `LassoHead` does by default: the
        gradient then is not the one of finite differences of the features, which move
        the units too. Without effect on `fit` and on absolute strengths.
    dual_reg : float, default=0.0
        Strength rho of ``- rho / (2 lambda2) ||diag(s) (B - Y)||_F^2`` in the dual,
        which makes it strongly concave. It is the same as a feature of square rho that
        every row has for itself, without a group penalty; relative: rho in units of
        the mean squared row norm. The official code of [1]_ has 1 in the units of its
        features.
    solver_options : dict, default=None
        ``{"solver": name, ...}``: conic solver for "cvxpy" and its keywords.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    coef_ : ndarray of shape (n_classes, n_features)
        Weights W'.
    intercept_ : ndarray of shape (n_classes,)
        Intercepts, 0 without `fit_intercept`.
    dual_coef_ : ndarray of shape (n_samples, n_classes)
        Dual point B.
    dual_gap_ : float
        P(W) - D(B) at the returned point; with `refit` of the second problem.
    selection_gap_ : float
        With `refit` only: the same of the problem that chose.
    objective_ : float
        P(W), with `refit` of the second problem.
    lambda1_, lambda2_ : float
        Strengths as written in the objective, in the units of the features.
    support_features_ : ndarray of shape (n_used,)
        Indices of the features that are used.
    sparsity_ : float
        Share of features that are not used.
    n_iter_ : int
        Iterations of the solver, or restricted programs of "cvxpy".
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if X has string column names.

    See Also
    --------
    skcausalmeta.learners.SparseMetaClassifier : Learns the features for it.

    References
    ----------
    .. [1] S. Lachapelle et al. (2023). Synergies between disentanglement and
       sparsity: generalization and identifiability in multi-task learning.
       ICML, section 4.
    .. [2] K. Crammer, Y. Singer (2001). On the algorithmic implementation of
       multiclass kernel-based vector machines. JMLR 2, 265-292.
    .. [3] N. Meinshausen (2007). Relaxed Lasso. Computational Statistics & Data
       Analysis 52(1), 374-393.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.preprocessing import scale
    >>> from skcausalmeta.heads import GroupLassoSVC
    >>> X, y = load_iris(return_X_y=True)
    >>> svc = GroupLassoSVC(group_reg=0.1, fit_intercept=True).fit(scale(X), y)
    >>> svc.support_features_
    array([1, 2, 3])
    >>> print(f"{svc.score(scale(X), y):.2f}")
    0.96
    """

    _loss = CrammerSinger()
    _adjoint = staticmethod(svm_adjoint)

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **GroupLassoClassifier._parameter_constraints,
        "solver": [StrOptions(set(_SOLVERS))],
        "dual_reg": [Interval(Real, 0, None, closed="left")],
        "solver_options": [dict, None],
    }

    def __init__(
        self,
        group_reg: float = 0.1,
        ridge_reg: float = 1.0,
        *,
        reg_scale: str = "relative",
        groups: ArrayLike | None = None,
        fit_intercept: bool = True,
        intercept_scaling: float = 1.0,
        solver: str = "cvxpy",
        tol: float = 1e-6,
        max_iter: int = 10_000,
        class_weight: dict[Any, float] | str | None = "auto",
        refit: bool = False,
        n_reweight: int = 0,
        reg_gradient: bool = True,
        dual_reg: float = 0.0,
        solver_options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            group_reg,
            ridge_reg,
            reg_scale=reg_scale,
            groups=groups,
            fit_intercept=fit_intercept,
            intercept_scaling=intercept_scaling,
            solver=solver,
            tol=tol,
            max_iter=max_iter,
            class_weight=class_weight,
            refit=refit,
            n_reweight=n_reweight,
            reg_gradient=reg_gradient,
        )
        self.dual_reg = dual_reg
        self.solver_options = solver_options

    def _solver(self, tol: float | None = None, *, layer: bool = False) -> Solver:
        tol = self.tol if tol is None else tol
        if self.solver == "cvxpy" and not layer:
            options = self.solver_options
            return partial(solve_working_set, tol=tol, solver_options=options)
        solvers = {
            "compiled": solve_compiled,
            "newton": solve_newton,
            "fista": solve_fista,
        }
        solve = solvers.get(self.solver, solve_auto)
        return partial(solve, tol=tol, max_iter=self.max_iter)

    def _chosen_adjoint(self) -> Adjoint:
        by_tensors = self.solver in ("newton", "fista")
        return svm_adjoint if by_tensors else compiled_first(svm_adjoint)

    def _refined(self, problem: Problem, solution: Solution) -> Solution:
        if self.solver == "fista":
            return solution
        by_kernel = self.solver in ("auto", "compiled")
        polish = polisher(solve_newton) if by_kernel else solve_newton
        return polished(polish, problem, solution)

    def _scores(self, X: NDArray[Any]) -> NDArray[Any]:
        return _without_ties(super()._scores(X))


def _without_ties(scores: NDArray[Any]) -> NDArray[Any]:
    """Scores in which differences at the level of rounding are ties.

    The optimum often gives wrong classes exactly equal scores; the order of
    summation must not choose between them.
    """
    top = scores.max(axis=1, keepdims=True)
    return np.where(top - scores <= _TIE * (1.0 + np.abs(top)), top, scores)
