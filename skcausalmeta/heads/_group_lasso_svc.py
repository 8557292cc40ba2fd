"""Multiclass SVM with a group Lasso on features: estimator and layer."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context
from sklearn.preprocessing import LabelEncoder
from sklearn.utils import check_X_y, compute_class_weight
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_sample_weight,
    check_is_fitted,
    validate_data,
)
from torch import Tensor
from torch.nn.functional import one_hot

from ..exceptions import ConvergenceWarning, InvalidInputError
from ..losses import CrammerSinger
from ..solvers import (
    Problem,
    Solution,
    solve_fista,
    solve_newton,
    solve_working_set,
)
from ._base import HeadSolution, check_episodes
from ._group_lasso_problem import GroupLassoSettings, build_problem
from ._svm_layer import Solver, solve_layer

_TIE = 1e-9
_POLISH_TOL = 1e-15
_POLISH_STEPS = 3


class GroupLassoSVC(ClassifierMixin, BaseEstimator):
    """Multiclass SVM that uses few features, with a certificate.

    For rows x_i, one-hot labels Y, row weights s and weights W (n_features,
    n_classes), it solves ::

        min_W  lambda2 / 2 ||W||_F^2 + lambda1 sum_g ||W_g||_F
               + sum_i s_i max_l [1 - Y_il + x_i'W_l - x_i'W_{y_i}]

    through its dual: for B with rows in the probability simplex and
    V = F'diag(s)(Y - B) ::

        max_B  sum_i s_i <1 - Y_i, B_i> - 1 / (2 lambda2) ||BST(V, lambda1)||_F^2,
        W(B) = BST(V, lambda1) / lambda2,
        BST(V, t)_g = max(0, 1 - t / ||V_g||_F) V_g

    A feature (or a group of features, `groups`) whose ``||V_g||`` is at most
    lambda1 is not used by any class. ``dual_gap_ = P(W(B)) - D(B) >= 0`` proves
    how far the returned point is from the optimum, whatever solved it.
    ``group_reg=0`` gives the SVM of Crammer and Singer.

    Parameters
    ----------
    group_reg : float, default=0.1
        Strength of the group Lasso, >= 0. With ``reg_scale="relative"`` it is
        the fraction of the lambda1 that provably switches every feature off:
        at 1 all features are off. (For two classes that is the smallest such
        lambda1, for more classes it is an upper bound of it; beside the intercept
        of classes of unequal weight it is neither, and some feature may stay on.)
        A tensor is accepted by the layer and gets its gradient.
    ridge_reg : float, default=1.0
        Strength of the ridge, > 0. Relative: lambda2 in units of the mean
        squared row norm of the features.
    reg_scale : {"relative", "absolute"}, default="relative"
        Relative: both strengths are free of the units of the features.
        Absolute: ``group_reg`` is lambda1, ``ridge_reg`` is lambda2 as written.
    groups : array-like of shape (n_features,), default=None
        Group label of every feature; the features of a group are on or off
        together. None: every feature is a group of its own.
    fit_intercept : bool, default=False
        Append a constant feature of value `intercept_scaling` (times the unit
        of the features if relative) that the group Lasso leaves alone. The
        ridge applies to its weight, as in scikit-learn's `LinearSVC`.
    intercept_scaling : float, default=1.0
        Value of the constant feature; the larger, the freer the intercept.
    solver : {"cvxpy", "newton", "fista"}, default="cvxpy"
        "cvxpy": conic solvers on a working set of features, verified on all.
        "newton": projected Newton on the dual, batched. "fista": accelerated
        projected gradient on the dual, batched. The layer (`episode_logits`,
        `solve_episodes`) takes "newton" in the place of "cvxpy".
    tol : float, default=1e-6
        Relative duality gap ``dual_gap_ / P(W)`` to reach.
    max_iter : int, default=10_000
        Largest number of iterations of "newton" or "fista".
    class_weight : dict or "balanced", default=None
        Weight of every class; multiplies the row weights.
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
        P(W) - D(B) at the returned point.
    objective_ : float
        P(W).
    lambda1_, lambda2_ : float
        Strengths as written in the objective, in the units of the features.
    support_features_ : ndarray of shape (n_used,)
        Indices of the features that are used.
    sparsity_ : float
        Share of features that are not used.
    n_iter_ : int
        Iterations of "newton" or "fista", or restricted programs of "cvxpy".
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

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "group_reg": [Interval(Real, 0, None, closed="left"), Tensor],
        "ridge_reg": [Interval(Real, 0, None, closed="neither"), Tensor],
        "reg_scale": [StrOptions({"relative", "absolute"})],
        "groups": ["array-like", None],
        "fit_intercept": ["boolean"],
        "intercept_scaling": [Interval(Real, 0, None, closed="neither")],
        "solver": [StrOptions({"cvxpy", "newton", "fista"})],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "solver_options": [dict, None],
    }

    def __init__(
        self,
        group_reg: float = 0.1,
        ridge_reg: float = 1.0,
        *,
        reg_scale: str = "relative",
        groups: ArrayLike | None = None,
        fit_intercept: bool = False,
        intercept_scaling: float = 1.0,
        solver: str = "cvxpy",
        tol: float = 1e-6,
        max_iter: int = 10_000,
        class_weight: dict[Any, float] | str | None = None,
        solver_options: dict[str, Any] | None = None,
    ) -> None:
        self.group_reg = group_reg
        self.ridge_reg = ridge_reg
        self.reg_scale = reg_scale
        self.groups = groups
        self.fit_intercept = fit_intercept
        self.intercept_scaling = intercept_scaling
        self.solver = solver
        self.tol = tol
        self.max_iter = max_iter
        self.class_weight = class_weight
        self.solver_options = solver_options

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # Hyperplanes through the origin cannot follow data that are not centred.
        tags.classifier_tags.poor_score = not self.fit_intercept
        return tags

    # -- scikit-learn estimator ------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> GroupLassoSVC:
        """Solve the SVM on the rows of X.

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
        GroupLassoSVC
            Itself.

        Raises
        ------
        ValueError
            For invalid data or parameters.
        SolverError
            If no conic solver returns a point.

        Warns
        -----
        ConvergenceWarning
            If the gap stays above `tol`.
        """
        rows, y = check_X_y(X, y, dtype=np.float64, order="C", estimator=self)
        check_classification_targets(y)
        encoder = LabelEncoder().fit(y)
        codes, classes = encoder.transform(y), encoder.classes_
        weights = _check_sample_weight(
            sample_weight, rows, dtype=np.float64, ensure_non_negative=True
        )
        factors = compute_class_weight(self.class_weight, classes=classes, y=y)
        if self.class_weight == "balanced":
            factors = _balanced(codes, weights)
        weights = weights * factors[codes]
        _check_classes(classes, weights)
        # Regularisation may be a tensor that asks for gradients; fit needs none.
        with torch.no_grad():
            problem, unit = self._problem(
                torch.from_numpy(np.array(rows))[None],
                one_hot(torch.from_numpy(codes), len(classes))[None].double(),
                torch.from_numpy(weights)[None],
            )
            solution = self._solver()(problem)
            if self.solver != "fista":
                solution = _polished(problem, solution)
            # Only now: a failure above leaves the estimator as it was.
            validate_data(self, X, skip_check_array=True)
            self._store(problem, solution, float(unit), classes)
        return self

    def decision_function(self, X: ArrayLike) -> NDArray[Any]:
        """Scores of the classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.

        Returns
        -------
        ndarray of shape (n_samples, n_classes) or (n_samples,)
            ``X @ coef_.T + intercept_``; for two classes the score of
            ``classes_[1]`` minus the one of ``classes_[0]``.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        scores = _without_ties(X @ self.coef_.T + self.intercept_)
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Class of the largest score.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.

        Returns
        -------
        ndarray of shape (n_samples,)
            Class labels.
        """
        scores = self.decision_function(X)
        winners = scores > 0 if scores.ndim == 1 else scores.argmax(axis=1)
        return self.classes_[np.asarray(winners, dtype=np.intp)]

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
            Relative gap to reach. None: the parameter `tol`.

        Returns
        -------
        HeadSolution
            In the units of the features.

        Raises
        ------
        InvalidInputError
            If shapes do not agree, a feature is not finite, a label is
            outside 0..n_classes-1, or a task has no row of positive weight.
        """
        with torch.no_grad():
            problem, unit = self._episode_problem(
                features, targets, n_classes, sample_weight
            )
            solution = self._solver(tol, layer=True)(problem)
            coef, intercept = self._split(solution.coef, unit)
        return HeadSolution(
            coef,
            solution.dual,
            solution.gap,
            solution.n_iter,
            intercept,
            solution.relative_gap,
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

        Differentiable in both sets of features, in the row weights, and in
        `group_reg` and `ridge_reg` where they are tensors: the optimality
        conditions of the solved problem are differentiated, not the iterations.

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
            Relative gap to reach. None: the parameter `tol`.

        Returns
        -------
        Tensor of shape (n_tasks, n_query, n_classes)

        Raises
        ------
        InvalidInputError
            If shapes do not agree, a feature is not finite, a label is
            outside 0..n_classes-1, or a task has no row of positive weight.
        RuntimeError
            On double backward.
        """
        problem, unit = self._episode_problem(
            support_features, support_targets, n_classes, sample_weight
        )
        weights = solve_layer(problem, self._solver(tol, layer=True))
        coef, intercept = self._split(weights, unit)
        return query_features @ coef + intercept[:, None, :]

    # -- shared --------------------------------------------------------------------

    def _episode_problem(
        self,
        features: Tensor,
        targets: Tensor,
        n_classes: int,
        sample_weight: Tensor | None,
    ) -> tuple[Problem, Tensor]:
        self._validate_params()
        check_episodes(features, targets, n_classes, sample_weight)
        if sample_weight is None:
            sample_weight = features.new_ones(features.shape[:2])
        encoded = one_hot(targets.long(), n_classes).to(features.dtype)
        return self._problem(features, encoded, sample_weight.to(features.dtype))

    def _problem(
        self, features: Tensor, targets: Tensor, weights: Tensor
    ) -> tuple[Problem, Tensor]:
        settings = GroupLassoSettings(
            group_reg=self.group_reg,
            ridge_reg=self.ridge_reg,
            relative=self.reg_scale == "relative",
            intercept=self.intercept_scaling if self.fit_intercept else 0.0,
            groups=_group_numbers(self.groups, features.shape[-1], features.device),
        )
        return build_problem(features, targets, weights, CrammerSinger(), settings)

    def _solver(self, tol: float | None = None, *, layer: bool = False) -> Solver:
        tol = self.tol if tol is None else tol
        if self.solver == "fista":
            return partial(solve_fista, tol=tol, max_iter=self.max_iter)
        if self.solver == "newton" or layer:
            return partial(solve_newton, tol=tol, max_iter=self.max_iter)
        return partial(solve_working_set, tol=tol, solver_options=self.solver_options)

    def _split(self, weights: Tensor, unit: Tensor) -> tuple[Tensor, Tensor]:
        """Weights in standard units -> coef and intercept in those of the data."""
        if not self.fit_intercept:
            return weights / unit[:, None, None], torch.zeros_like(weights[:, 0])
        coef = weights[:, :-1] / unit[:, None, None]
        return coef, weights[:, -1] * self.intercept_scaling

    def _store(
        self,
        problem: Problem,
        solution: Solution,
        unit: float,
        classes: NDArray[Any],
    ) -> None:
        coef, intercept = self._split(solution.coef, solution.coef.new_tensor([unit]))
        self.classes_ = classes
        self.coef_ = coef[0].T.numpy()
        self.intercept_ = intercept[0].numpy()
        self.dual_coef_ = solution.dual[0].numpy()
        self.dual_gap_ = float(solution.gap)
        self.objective_ = float(problem.primal(solution.coef))
        self.lambda1_ = float(problem.penalty.lambda1) * unit
        self.lambda2_ = float(problem.penalty.lambda2) * unit**2
        self.support_features_ = np.flatnonzero((self.coef_ != 0).any(axis=0))
        self.sparsity_ = 1.0 - len(self.support_features_) / self.coef_.shape[1]
        self.n_iter_ = max(1, int(solution.n_iter))
        if not float(solution.relative_gap) <= self.tol:
            warnings.warn(
                f"GroupLassoSVC stopped before its tolerance. Duality gap: "
                f"{self.dual_gap_:.1e}, objective: {self.objective_:.3e}, relative "
                f"gap: {float(solution.relative_gap):.1e}, tolerance: {self.tol:.1e}. "
                "Raise max_iter or tol, or scale the features.",
                ConvergenceWarning,
                stacklevel=4,  # the caller of fit, behind _fit_context
            )


def _without_ties(scores: NDArray[Any]) -> NDArray[Any]:
    """Scores in which differences at the level of rounding are ties.

    The optimum often gives wrong classes exactly equal scores; the order of
    summation must not choose between them.
    """
    top = scores.max(axis=1, keepdims=True)
    return np.where(top - scores <= _TIE * (1.0 + np.abs(top)), top, scores)


def _polished(problem: Problem, solution: Solution) -> Solution:
    """A few Newton steps to the level of rounding.

    Makes equal problems (row weights or repeated rows, permuted columns) give
    equal weights, far below the tolerance of any conic solver.
    """
    refined = solve_newton(
        problem, tol=_POLISH_TOL, max_iter=_POLISH_STEPS, start=solution.dual
    )
    return replace(refined, n_iter=solution.n_iter)


def _check_classes(classes: NDArray[Any], weights: NDArray[Any]) -> None:
    if len(classes) < 2:
        raise ValueError(
            "GroupLassoSVC needs at least 2 classes in y. Got 1 class: "
            f"{classes.tolist()[0]!r}; add rows of another class."
        )
    if not weights.any() or (weights < 0).any():
        raise ValueError(
            "sample_weight times class_weight must be >= 0 for every row and > 0 "
            f"for one. Got values from {weights.min():g} to {weights.max():g}."
        )


def _balanced(codes: NDArray[Any], weights: NDArray[Any]) -> NDArray[Any]:
    """n / (n_classes * rows of the class), rows counted with their weights."""
    counts = np.bincount(codes, weights=weights)
    return weights.sum() / (len(counts) * np.maximum(counts, np.finfo(float).tiny))


def _group_numbers(
    groups: ArrayLike | None, n_features: int, device: torch.device
) -> Tensor | None:
    if groups is None:
        return None
    labels = np.asarray(groups)
    if labels.shape != (n_features,):
        raise InvalidInputError(
            "The 'groups' parameter must hold one group label for every feature. "
            f"Got shape {labels.shape}, expected ({n_features},)."
        )
    numbers = np.unique(labels, return_inverse=True)[1]
    return torch.as_tensor(numbers, dtype=torch.int64, device=device)
