"""Multinomial logistic regression with a group Lasso: estimator and layer."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax, softmax
from sklearn.utils._param_validation import StrOptions
from torch import Tensor

from ..losses import Logistic
from ..solvers import (
    Problem,
    SoftmaxSystem,
    Solution,
    compiled_applies,
    solve_auto,
    solve_compiled,
    solve_proximal_gradient,
    solve_softmax_newton,
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

_SOLVERS = {
    "auto": solve_auto,
    "compiled": solve_compiled,
    "newton": solve_softmax_newton,
    "fista": solve_proximal_gradient,
}


def logistic_adjoint(gradient: Tensor, solved: Solved, problem: Problem) -> Gradients:
    """Gradients of a loss in F, lambda1, lambda2, s and O, given the one in W.

    The solution is the fixed point ``W = W(F'S(Y - softmax(F W + O)))``. With M the
    Jacobian of V -> W(V) and P, A as in `SoftmaxSystem`, a change of the inputs
    moves S B by ``P dZ``, ``dZ = dF W + F dW + dO``, and the adjoint of that is ::

        U = (I + P A)^-1 P F M G

    the same system as Newton's, with no eigenvalue below 1: the solution is
    differentiable unless some ``||V_g||`` equals its threshold.

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
    dual = solved.dual
    correlation = problem.correlation(dual)
    scores = dual.clamp_min(torch.finfo(dual.dtype).tiny).log()
    system = SoftmaxSystem(problem, scores, correlation)
    through = apply_jacobian(problem.penalty, correlation, gradient)
    moved = system.solve(problem.features @ through)
    return gradients_of_inputs(gradient, dual, problem, moved)


class GroupLassoLogistic(GroupLassoClassifier):
    """Multinomial logistic regression that uses few features, with a certificate.

    For rows x_i, one-hot labels y_i, row weights s_i and weights W (n_features,
    n_classes), it solves ::

        min_W  lambda2 / 2 ||W||_F^2 + lambda1 sum_g ||W_g||_F
               + sum_i s_i (logsumexp(z_i) - y_i'z_i),   z_i = W'x_i + o_i

    together with its dual: for B with rows in the probability simplex and
    V = F'diag(s)(Y - B) ::

        max_B  sum_i s_i (entropy(B_i) + <B_i - Y_i, o_i>)
               - 1 / (2 lambda2) ||BST(V, lambda1)||_F^2,
        W(B) = BST(V, lambda1) / lambda2,
        BST(V, t)_g = max(0, 1 - t / ||V_g||_F) V_g

    At the optimum B holds the class probabilities of the rows. A feature (or a
    group of features, `groups`) whose ``||V_g||`` is at most lambda1 is not used by
    any class. ``dual_gap_ = P(W) - D(B) >= 0`` proves how far the returned point is
    from the optimum, whatever solved it. ``group_reg=0`` gives scikit-learn's
    `LogisticRegression` with ``C = 1 / lambda2``. The offset o_i, scores of the
    row that are known beforehand, is 0 unless `fit` gets one.

    Parameters
    ----------
    group_reg : float, default=0.1
        Strength of the group Lasso, >= 0. With ``reg_scale="relative"`` it is
        the fraction of the smallest lambda1 that switches every feature off:
        at 1 all features are off. (Beside the intercept of classes of unequal
        weight it is not exact, and some feature may stay on.)
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
        the group Lasso leaves alone. The ridge applies to its weight. Without it
        hyperplanes pass through the origin.
    intercept_scaling : float, default=1.0
        Value of the constant feature; the larger, the freer the intercept.
    solver : {"auto", "compiled", "newton", "fista"}, default="auto"
        "newton": Newton's method on the scores, batched; it takes a few steps.
        "compiled": the same by a compiled kernel, on the CPU; where that was not
        built at installation, "newton" takes its place and a warning says so once.
        "fista": accelerated proximal gradient on W, batched; for problems with
        many rows and many features that are used. "auto": the compiled kernel
        where it is there and the tensors are on the CPU, else "newton".
    tol : float, default=1e-6
        Relative duality gap ``dual_gap_ / P(W)`` to reach.
    max_iter : int, default=10_000
        Largest number of iterations.
    class_weight : dict, "balanced", "auto" or None, default="auto"
        Weight of every class; multiplies the row weights. "balanced": all classes
        weigh the same, whatever their numbers of rows, in `fit` and in the layer.
        "auto": balanced, unless there is an offset, which knows the shares of the
        classes. A dict by label counts in `fit` only. None: rows weigh the same.
        Learners around a common predictor add the logarithms to their scores instead.
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
        Iterations of the solver.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if X has string column names.

    See Also
    --------
    GroupLassoSVC : The same with the multiclass hinge.

    References
    ----------
    .. [1] L. Meier, S. van de Geer, P. Buehlmann (2008). The group lasso for
       logistic regression. JRSS B 70, 53-71.
    .. [2] S. Lachapelle et al. (2023). Synergies between disentanglement and
       sparsity: generalization and identifiability in multi-task learning. ICML.
    .. [3] N. Meinshausen (2007). Relaxed Lasso. Computational Statistics & Data
       Analysis 52(1), 374-393.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.preprocessing import scale
    >>> from skcausalmeta.heads import GroupLassoLogistic
    >>> X, y = load_iris(return_X_y=True)
    >>> head = GroupLassoLogistic(group_reg=0.2, fit_intercept=True).fit(scale(X), y)
    >>> head.support_features_
    array([1, 2, 3])
    >>> print(f"{head.score(scale(X), y):.2f}")
    0.92
    """

    _loss = Logistic()
    _adjoint = staticmethod(logistic_adjoint)

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **GroupLassoClassifier._parameter_constraints,
        "solver": [StrOptions(set(_SOLVERS))],
    }

    def predict_proba(
        self, X: ArrayLike, offset: ArrayLike | None = None
    ) -> NDArray[Any]:
        """Probabilities of the classes, the softmax of the scores.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        offset : array-like of shape (n_samples[, n_classes]), default=None
            Scores to add, as in `decision_function`. None: 0.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Rows sum to 1; columns in the order of `classes_`.
        """
        return softmax(self._answers(X, offset), axis=1)

    def predict_log_proba(
        self, X: ArrayLike, offset: ArrayLike | None = None
    ) -> NDArray[Any]:
        """Logarithms of the probabilities, finite where these underflow.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        offset : array-like of shape (n_samples[, n_classes]), default=None
            Scores to add, as in `decision_function`. None: 0.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        return log_softmax(self._answers(X, offset), axis=1)

    def _solver(self, tol: float | None = None, *, layer: bool = False) -> Solver:
        tol = self.tol if tol is None else tol
        return partial(_SOLVERS[self.solver], tol=tol, max_iter=self.max_iter)

    def _chosen_adjoint(self) -> Adjoint:
        by_tensors = self.solver in ("newton", "fista")
        return logistic_adjoint if by_tensors else compiled_first(logistic_adjoint)

    @property
    def solves_apart(self) -> bool:
        """Whether `fit_tasks` has a solver of batches that acts as `fit` does."""
        return self.solver != "fista" and not isinstance(self.class_weight, dict)

    def _solve_apart(self, problem: Problem) -> Solution:
        if not self.solves_apart:
            return super()._solve_apart(problem)
        if self.solver != "newton" and compiled_applies(problem):
            # The kernel solves task by task.
            return self._refined(problem, self._solver()(problem))
        solve = partial(solve_softmax_newton, apart=True)
        found = solve(problem, tol=self.tol, max_iter=self.max_iter)
        return polished(solve, problem, found)

    def _refined(self, problem: Problem, solution: Solution) -> Solution:
        if self.solver == "fista":
            return solution
        newton = solve_softmax_newton
        polish = newton if self.solver == "newton" else polisher(newton)
        return polished(polish, problem, solution)
