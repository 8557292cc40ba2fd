"""What the group-Lasso classifiers have in common, whatever their loss."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator
from numbers import Integral, Real
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor

from ..exceptions import ConvergenceWarning, InvalidInputError
from ..solvers import (
    Problem,
    Solution,
    compiled_applies,
    has_compiled_solver,
    solve_compiled,
)
from ._contract import Head, HeadSolution
from ._group_lasso_problem import (
    Adjoint,
    Gradients,
    GroupLassoSettings,
    Solved,
    Solver,
    build_group_lasso_problem,
    differentiable_coef,
    reweighted,
    standardised,
)
from ._inputs import TrainingBatch, centred, episode_inputs, held_units
from ._refit import on_chosen

# Larger chunks fall out of the cache of a CPU and need more memory (measured: 2**23
# is as fast as half or twice of it); a GPU wants work for all its cores.
_CPU_BYTES, _GPU_BYTES = 2**23, 2**30
# Tasks that are solved apart are many small systems: larger chunks pay.
_APART_BYTES = 2**25
_FEWEST_TASKS = 4
_POLISH_TOL = 1e-15
_POLISH_STEPS = 6


class Columns(NamedTuple):
    """How the columns of a problem have been made of the features."""

    constant: Tensor  # (n_tasks,), value of the last column, 0 without intercept
    middle: Tensor | None  # (n_tasks, 1, n_features), what was taken off
    n_features: int  # they come first


class GroupLassoClassifier(Head):
    """Template of a classifier with a group Lasso on features and a ridge.

    A subclass names its loss and the derivative of its solution, picks a solver
    (`_solver`) and may refine what `fit` has solved (`_refined`).
    """

    _loss: ClassVar[Any]
    _adjoint: ClassVar[staticmethod[[Tensor, Solved, Problem], Gradients]]

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "group_reg": [Interval(Real, 0, None, closed="left"), Tensor],
        "ridge_reg": [Interval(Real, 0, None, closed="neither"), Tensor],
        "reg_scale": [StrOptions({"relative", "ridge-absolute", "absolute"})],
        "groups": ["array-like", None],
        "fit_intercept": ["boolean"],
        "intercept_scaling": [Interval(Real, 0, None, closed="neither")],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "class_weight": [dict, StrOptions({"auto", "balanced"}), None],
        "refit": ["boolean"],
        "n_reweight": [Interval(Integral, 0, None, closed="left")],
        "reg_gradient": ["boolean"],
    }
    dual_reg: float = 0.0

    def __init__(
        self,
        group_reg: Any = 0.1,
        ridge_reg: Any = 1.0,
        *,
        reg_scale: str = "relative",
        groups: ArrayLike | None = None,
        fit_intercept: bool = True,
        intercept_scaling: float = 1.0,
        solver: str = "auto",
        tol: float = 1e-6,
        max_iter: int = 10_000,
        class_weight: dict[Any, float] | str | None = "auto",
        refit: bool = False,
        n_reweight: int = 0,
        reg_gradient: bool = True,
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
        self.refit = refit
        self.n_reweight = n_reweight
        self.reg_gradient = reg_gradient

    @property
    def inexact_gradient(self) -> str:  # type: ignore[override]
        """What the gradient holds fixed; empty: nothing."""
        weights = "the weights of an adaptive Lasso are held fixed"
        held = [held_units(self), weights if self.n_reweight else ""]
        return "; ".join(filter(None, held))

    @property
    def fixed_origin(self) -> str:  # type: ignore[override]
        """Why a number added to a feature matters; empty: it does not."""
        return "" if self.fit_intercept else "hyperplanes pass through the origin"

    @abstractmethod
    def _solver(self, tol: float | None = None, *, layer: bool = False) -> Solver:
        """The chosen solver at the given tolerance, None: the parameter `tol`."""

    def _chosen_adjoint(self) -> Adjoint:
        """The derivative that goes with the chosen solver."""
        return self._adjoint

    def _refined(self, problem: Problem, solution: Solution) -> Solution:
        """The solution that `fit` keeps."""
        return solution

    def _standard(
        self, problem: Problem, *, layer: bool = False
    ) -> tuple[Problem, Tensor | None]:
        """The problem in units that suit its solver, and what its weights are times.

        The compiled kernel finds units of its own: None, for 1.
        """
        slow = ("newton", "fista") if layer else ("newton", "fista", "cvxpy")
        if self.solver not in slow and compiled_applies(problem):
            return problem, None
        standard, unit = standardised(problem)
        return standard, 1.0 / unit[:, None, None]

    def _logits(self, solved: Any, query: Tensor) -> Tensor:
        # Without an intercept there is nothing to add, nor to differentiate.
        return (
            super()._logits(solved, query) if self.fit_intercept else query @ solved[0]
        )

    @property
    def solves_apart(self) -> bool:
        """Whether `fit_tasks` has a solver of batches that acts as `fit` does."""
        return False

    def _solve_apart(self, problem: Problem) -> Solution:
        """The solution of every task of a batch that `fit` would keep."""
        raise TypeError(f"{type(self).__name__} solves one task at a time; use fit.")

    @torch.no_grad()
    def fit_tasks(
        self,
        features: Tensor,
        targets: Tensor,
        n_classes: int,
        *,
        offset: Tensor | None = None,
    ) -> HeadSolution:
        """Solve many tasks of as many rows, each to the bit as `fit` alone does.

        `solve_episodes` is up to twice as fast, and agrees to the tolerance.

        Parameters
        ----------
        features : Tensor of shape (n_tasks, n_support, n_features)
            Features, in double precision.
        targets : Tensor of shape (n_tasks, n_support)
            Class numbers.
        n_classes : int
            Number of classes.
        offset : Tensor of shape (n_tasks, n_support, n_classes), default=None
            Scores to add. None: 0.

        Returns
        -------
        HeadSolution
            Weights, intercepts and certificates.

        Raises
        ------
        TypeError
            If the solver of the head is not one of batches (`solves_apart`).
        InvalidInputError
            For features or targets that a layer would refuse.

        Examples
        --------
        >>> import torch
        >>> from sklearn.datasets import load_iris
        >>> from skcausalmeta.heads import GroupLassoLogistic
        >>> X, y = load_iris(return_X_y=True)
        >>> alone = GroupLassoLogistic(0.2).fit(X, y)
        >>> rows, numbers = torch.tensor(X)[None], torch.tensor(y)[None]
        >>> found = GroupLassoLogistic(0.2).fit_tasks(rows, numbers, 3)
        >>> bool((found.coef[0].T.numpy() == alone.coef_).all())
        True
        """
        one_hot, ones = episode_inputs(features, targets, n_classes, None)
        weights = self._class_weighted(one_hot, ones, offset)
        parts = []
        problems = self._problems(features, one_hot, weights, offset, _APART_BYTES)
        for problem, columns in problems:
            standard, unit = self._standard(problem)
            found = self._solve_apart(standard)
            if self.refit:
                found = self._solve_apart(on_chosen(standard, found.coef))
            coef, intercept = self._split(found.coef, columns, unit)
            parts.append(
                HeadSolution(
                    coef,
                    found.dual,
                    found.gap,
                    found.n_iter,
                    intercept,
                    found.relative_gap,
                )
            )
        return _in_one(parts)

    def _fit(self, task: TrainingBatch) -> dict[str, Any]:
        problem, columns = self._problem(*task[:3], task.offset)
        standard, unit = self._standard(problem)
        solution = self._refined(standard, self._solver()(standard))
        self._warn_above_tol(standard, solution)
        choice = {"selection_gap_": float(solution.gap)} if self.refit else {}
        if self.refit:
            standard = on_chosen(standard, solution.coef)
            solution = self._refined(standard, self._solver()(standard))
            self._warn_above_tol(standard, solution)
        coef, intercept = self._split(solution.coef, columns, unit)
        return {
            **choice,
            "coef_": np.ascontiguousarray(coef[0].T.numpy()),
            "intercept_": intercept[0].numpy(),
            "dual_coef_": solution.dual[0].numpy(),
            "dual_gap_": float(solution.gap),
            "objective_": float(standard.primal(solution.coef)),
            "lambda1_": float(problem.penalty.lambda1),
            "lambda2_": float(problem.penalty.lambda2),
            "n_iter_": max(1, int(solution.n_iter)),
        }

    def _layer(
        self,
        features: Tensor,
        targets: Tensor,
        weights: Tensor,
        tol: float | None,
        offset: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        solver, parts = self._solver(tol, layer=True), []
        for problem, columns in self._problems(features, targets, weights, offset):
            standard, unit = self._standard(problem, layer=True)
            standard = self._last(standard, solver)
            coef = differentiable_coef(standard, solver, self._chosen_adjoint())
            parts.append(self._split(coef, columns, unit))
        return _joined(parts)

    def _solve(
        self,
        features: Tensor,
        targets: Tensor,
        weights: Tensor,
        tol: float | None,
        offset: Tensor | None = None,
    ) -> HeadSolution:
        solver, parts = self._solver(tol, layer=True), []
        for problem, columns in self._problems(features, targets, weights, offset):
            standard, unit = self._standard(problem, layer=True)
            found = solver(self._last(standard, solver))
            coef, intercept = self._split(found.coef, columns, unit)
            parts.append(
                HeadSolution(
                    coef,
                    found.dual,
                    found.gap,
                    found.n_iter,
                    intercept,
                    found.relative_gap,
                )
            )
        return _in_one(parts)

    def _last(self, problem: Problem, solver: Solver) -> Problem:
        """The problem whose solution counts; with `refit` on what another chose."""
        if not self.refit:
            return problem
        with torch.no_grad():
            coef = solver(problem).coef
        return on_chosen(problem, coef)

    def _problems(
        self,
        features: Tensor,
        targets: Tensor,
        weights: Tensor,
        offset: Tensor | None,
        limit: int | None = None,
    ) -> Iterator[tuple[Problem, Columns]]:
        """Problems of consecutive chunks of tasks, and their columns."""
        sizes = self._chunks(features, targets.shape[-1], limit)
        if len(sizes) == 1:  # the rule: splitting would be recorded for nothing
            yield self._problem(features, targets, weights, offset)
            return
        known = [None] * len(sizes) if offset is None else offset.split(sizes)
        rows, labels, each = (t.split(sizes) for t in (features, targets, weights))
        begin = 0
        for X, y, w, scores in zip(rows, labels, each, known, strict=True):
            tasks = slice(begin, begin + len(X))
            begin = tasks.stop
            yield self._problem(X, y, w, scores, tasks)

    def _chunks(
        self, features: Tensor, n_classes: int, limit: int | None = None
    ) -> list[int]:
        """Sizes of consecutive chunks of tasks, bounded in memory; at least one."""
        n_tasks, n_samples, n_features = features.shape
        entries = n_samples * n_features + (n_samples * n_classes) ** 2
        if limit is None:
            limit = _CPU_BYTES if features.device.type == "cpu" else _GPU_BYTES
        size = max(_FEWEST_TASKS, limit // (entries * features.element_size()))
        whole, rest = divmod(n_tasks, size)
        sizes = [size] * whole + [rest] * (rest > 0)
        return sizes or [0]

    def _problem(
        self,
        features: Tensor,
        targets: Tensor,
        weights: Tensor,
        offset: Tensor | None = None,
        tasks: slice = slice(None),
    ) -> tuple[Problem, Columns]:
        middle = None
        if self.fit_intercept:
            shares = weights / weights.sum(-1, keepdim=True)
            features, middle = centred(features, shares)
        settings = GroupLassoSettings(
            group_reg=_of_tasks(self.group_reg, tasks),
            ridge_reg=_of_tasks(self.ridge_reg, tasks),
            relative=self.reg_scale != "absolute",
            relative_ridge=self.reg_scale == "relative",
            intercept=self.intercept_scaling if self.fit_intercept else 0.0,
            groups=_group_numbers(self.groups, features.shape[-1], features.device),
            private=self.dual_reg,
            reg_gradient=self.reg_gradient,
        )
        problem, constant = build_group_lasso_problem(
            features, targets, weights, self._loss, settings, offset
        )
        columns = Columns(constant, middle, features.shape[-1])
        return self._adaptive(problem), columns

    def _adaptive(self, problem: Problem) -> Problem:
        """The problem with weights of the groups by solutions, which are constants."""
        for _ in range(self.n_reweight):
            with torch.no_grad():
                standard, _ = standardised(problem)
                coef = self._solver(layer=True)(standard).coef
            problem = reweighted(problem, coef)
        return problem

    def _split(
        self, weights: Tensor, columns: Columns, unit: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Weights of all columns -> coef and intercept of the features as given."""
        if unit is not None:
            weights = weights * unit
        coef = weights
        if weights.shape[1] > columns.n_features:
            coef = weights[:, : columns.n_features]
        if columns.middle is None:
            return coef, weights.new_zeros(weights.shape[::2])
        intercept = weights[:, -1] * columns.constant[:, None]
        return coef, intercept - (columns.middle @ coef)[:, 0]

    def _warn_above_tol(self, problem: Problem, solution: Solution) -> None:
        if not float(solution.relative_gap) <= self.tol:
            objective = float(problem.primal(solution.coef))
            warnings.warn(
                f"{type(self).__name__} stopped before its tolerance. Duality gap: "
                f"{float(solution.gap):.1e}, objective: {objective:.3e}, relative "
                f"gap: {float(solution.relative_gap):.1e}, tolerance: {self.tol:.1e}. "
                "Raise max_iter or tol, or scale the features.",
                ConvergenceWarning,
                stacklevel=5,  # the caller of fit, behind _fit_context
            )


def _in_one(parts: list[HeadSolution]) -> HeadSolution:
    """The solutions of all chunks."""
    if len(parts) == 1:
        return parts[0]
    return HeadSolution(*(torch.cat(field) for field in zip(*parts, strict=True)))


def _of_tasks(strength: Any, tasks: slice) -> Any:
    """The strengths of some tasks, where every task has its own."""
    if not isinstance(strength, Tensor) or strength.numel() == 1:
        return strength
    return strength[tasks]


def _joined(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Coefficients and intercepts of all chunks."""
    if len(parts) == 1:
        return parts[0]
    coefs, intercepts = zip(*parts, strict=True)
    return torch.cat(coefs), torch.cat(intercepts)


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


def polisher(newton: Callable[..., Solution]) -> Callable[..., Solution]:
    """The compiled solver where it was built, else Newton's method on tensors."""
    return solve_compiled if has_compiled_solver() else newton


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
