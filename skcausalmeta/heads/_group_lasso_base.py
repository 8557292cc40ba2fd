"""What the group-Lasso classifiers have in common, whatever their loss."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import validate_data
from torch import Tensor

from ..exceptions import ConvergenceWarning, InvalidInputError
from ..solvers import Problem, Solution
from ._base import HeadSolution
from ._chunks import chunk_sizes
from ._classifier import HeadClassifierMixin, encoded, episode_weights, training_batch
from ._group_lasso_problem import (
    GroupLassoSettings,
    build_group_lasso_problem,
    standardised,
)

Solver = Callable[[Problem], Solution]
_POLISH_TOL = 1e-15
_POLISH_STEPS = 3


class GroupLassoClassifier(HeadClassifierMixin, BaseEstimator):
    """Template of a classifier with a group Lasso on features and a ridge.

    A subclass names its loss, picks a solver (`_solver`), joins it with its
    derivative (`_layer`) and may refine what `fit` has solved (`_refined`).
    """

    _loss: ClassVar[Any]

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "group_reg": [Interval(Real, 0, None, closed="left"), Tensor],
        "ridge_reg": [Interval(Real, 0, None, closed="neither"), Tensor],
        "reg_scale": [StrOptions({"relative", "absolute"})],
        "groups": ["array-like", None],
        "fit_intercept": ["boolean"],
        "intercept_scaling": [Interval(Real, 0, None, closed="neither")],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "class_weight": [dict, StrOptions({"balanced"}), None],
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
        solver: str = "newton",
        tol: float = 1e-6,
        max_iter: int = 10_000,
        class_weight: dict[Any, float] | str | None = None,
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

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # Hyperplanes through the origin cannot follow data that are not centred.
        tags.classifier_tags.poor_score = not self.fit_intercept
        return tags

    # -- what a subclass supplies ----------------------------------------------

    @abstractmethod
    def _solver(self, tol: float | None = None, *, layer: bool = False) -> Solver:
        """The chosen solver at the given tolerance, None: the parameter `tol`."""

    @abstractmethod
    def _layer(self, problem: Problem, solver: Solver) -> Tensor:
        """W of every task, differentiable (n_tasks, n_features, n_classes)."""

    def _refined(self, problem: Problem, solution: Solution) -> Solution:
        """The solution that `fit` keeps."""
        return solution

    # -- scikit-learn estimator ------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Solve the problem on the rows of X.

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
        self : object
            Itself.

        Raises
        ------
        ValueError
            For invalid data or parameters.
        SolverError
            If no solver returns a point.

        Warns
        -----
        ConvergenceWarning
            If the gap stays above `tol`.
        """
        task = training_batch(self, X, y, sample_weight, self.class_weight)
        # Regularisation may be a tensor that asks for gradients; fit needs none.
        with torch.no_grad():
            problem, constant = self._problem(task.features, task.targets, task.weights)
            standard, unit = standardised(problem)
            solution = self._refined(standard, self._solver()(standard))
            solution = replace(solution, coef=solution.coef / unit)
            # Only now: a failure above leaves the estimator as it was.
            validate_data(self, X, skip_check_array=True)
            self._store(problem, solution, constant, task.classes)
        return self

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
        weights = self._checked_weights(features, targets, n_classes, sample_weight)
        sizes = self._chunks(features, n_classes)
        with torch.no_grad():
            parts = [
                self._solve_chunk(rows, labels, n_classes, given, tol)
                for rows, labels, given in zip(
                    features.split(sizes),
                    targets.split(sizes),
                    weights.split(sizes),
                    strict=True,
                )
            ]
        return HeadSolution(*(torch.cat(field) for field in zip(*parts, strict=True)))

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
        weights = self._checked_weights(
            support_features, support_targets, n_classes, sample_weight
        )
        sizes = self._chunks(support_features, n_classes)
        parts = [
            self._chunk_logits(rows, labels, n_classes, given, queries, tol)
            for rows, labels, given, queries in zip(
                support_features.split(sizes),
                support_targets.split(sizes),
                weights.split(sizes),
                query_features.split(sizes),
                strict=True,
            )
        ]
        return torch.cat(parts)

    def _chunk_logits(
        self,
        features: Tensor,
        targets: Tensor,
        n_classes: int,
        weights: Tensor,
        query_features: Tensor,
        tol: float | None,
    ) -> Tensor:
        problem, constant = self._problem(
            features, encoded(targets, n_classes, features), weights
        )
        solved = self._layer(problem, self._solver(tol, layer=True))
        coef, intercept = self._split(solved, constant)
        return query_features @ coef + intercept[:, None, :]

    def _solve_chunk(
        self,
        features: Tensor,
        targets: Tensor,
        n_classes: int,
        weights: Tensor,
        tol: float | None,
    ) -> HeadSolution:
        problem, constant = self._problem(
            features, encoded(targets, n_classes, features), weights
        )
        solution = self._solver(tol, layer=True)(problem)
        coef, intercept = self._split(solution.coef, constant)
        return HeadSolution(
            coef,
            solution.dual,
            solution.gap,
            solution.n_iter,
            intercept,
            solution.relative_gap,
        )

    # -- shared --------------------------------------------------------------------

    def _checked_weights(
        self,
        features: Tensor,
        targets: Tensor,
        n_classes: int,
        sample_weight: Tensor | None,
    ) -> Tensor:
        self._validate_params()
        return episode_weights(features, targets, n_classes, sample_weight)

    def _chunks(self, features: Tensor, n_classes: int) -> list[int]:
        n_samples, n_features = features.shape[1:]
        entries = n_samples * n_features + (n_samples * n_classes) ** 2
        return chunk_sizes(features, entries)

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
        return build_group_lasso_problem(
            features, targets, weights, self._loss, settings
        )

    def _split(self, weights: Tensor, constant: Tensor) -> tuple[Tensor, Tensor]:
        """Weights of all columns -> coef and intercept."""
        if not self.fit_intercept:
            return weights, torch.zeros_like(weights[:, 0])
        return weights[:, :-1], weights[:, -1] * constant[:, None]

    def _store(
        self,
        problem: Problem,
        solution: Solution,
        constant: Tensor,
        classes: NDArray[Any],
    ) -> None:
        coef, intercept = self._split(solution.coef, constant)
        self.classes_ = classes
        self.coef_ = coef[0].T.numpy()
        self.intercept_ = intercept[0].numpy()
        self.dual_coef_ = solution.dual[0].numpy()
        self.dual_gap_ = float(solution.gap)
        self.objective_ = float(problem.primal(solution.coef))
        self.lambda1_ = float(problem.penalty.lambda1)
        self.lambda2_ = float(problem.penalty.lambda2)
        self._store_support(self.coef_)
        self.n_iter_ = max(1, int(solution.n_iter))
        if not float(solution.relative_gap) <= self.tol:
            warnings.warn(
                f"{type(self).__name__} stopped before its tolerance. Duality gap: "
                f"{self.dual_gap_:.1e}, objective: {self.objective_:.3e}, relative "
                f"gap: {float(solution.relative_gap):.1e}, tolerance: {self.tol:.1e}. "
                "Raise max_iter or tol, or scale the features.",
                ConvergenceWarning,
                stacklevel=4,  # the caller of fit, behind _fit_context
            )


def polished(
    solve: Callable[..., Solution], problem: Problem, solution: Solution
) -> Solution:
    """A few steps of a Newton solver to the level of rounding, where they help.

    Makes equal problems (row weights or repeated rows, permuted columns) give
    equal weights, far below any tolerance.
    """
    refined = solve(
        problem, tol=_POLISH_TOL, max_iter=_POLISH_STEPS, start=solution.dual
    )
    # A solution may be a primal point; its dual point need not be as good.
    better = refined.relative_gap <= solution.relative_gap
    matrices = better[:, None, None]
    return Solution(
        torch.where(matrices, refined.coef, solution.coef),
        torch.where(matrices, refined.dual, solution.dual),
        torch.where(better, refined.gap, solution.gap),
        torch.where(better, refined.relative_gap, solution.relative_gap),
        solution.n_iter,
    )


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
