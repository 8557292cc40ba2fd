"""Group-Lasso classifiers along a sequence of strengths, each from the one before."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from ..exceptions import ConvergenceWarning, InvalidInputError
from ..losses import CrammerSinger
from ..solvers import (
    Problem,
    Solution,
    solve_auto,
    solve_newton,
    solve_softmax_newton,
)
from ._group_lasso_base import GroupLassoClassifier, polished, polisher
from ._group_lasso_logistic import GroupLassoLogistic
from ._group_lasso_svc import GroupLassoSVC
from ._inputs import TrainingBatch, training_batch

_HEADS: dict[str, type[GroupLassoClassifier]] = {
    "hinge": GroupLassoSVC,
    "logistic": GroupLassoLogistic,
}


class GroupLassoPath(NamedTuple):
    """Solutions along a sequence of strengths of the group Lasso.

    Parameters
    ----------
    group_regs : ndarray of shape (n_regs,)
        Strengths, descending.
    coefs : ndarray of shape (n_regs, n_classes, n_features)
        Weights, as `coef_` of the classifier.
    intercepts : ndarray of shape (n_regs, n_classes)
        Intercepts, 0 without `fit_intercept`.
    dual_gaps : ndarray of shape (n_regs,)
        Certificate P(W) - D(B) of every solution.
    n_iter : ndarray of shape (n_regs,)
        Iterations for every solution, from the one before.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skcausalmeta.heads import GroupLassoPath, group_lasso_path
    >>> path = group_lasso_path(*load_iris(return_X_y=True), group_regs=[1.0, 0.5])
    >>> isinstance(path, GroupLassoPath)
    True
    >>> path.coefs.shape
    (2, 3, 4)
    """

    group_regs: NDArray[Any]
    coefs: NDArray[Any]
    intercepts: NDArray[Any]
    dual_gaps: NDArray[Any]
    n_iter: NDArray[Any]


@validate_params(
    {
        "group_regs": ["array-like", None],
        "n_regs": [Interval(Integral, 1, None, closed="left")],
        "eps": [Interval(Real, 0, 1, closed="neither")],
        "ridge_reg": [Interval(Real, 0, None, closed="neither")],
        "reg_scale": [StrOptions({"relative", "absolute"})],
        "groups": ["array-like", None],
        "fit_intercept": ["boolean"],
        "intercept_scaling": [Interval(Real, 0, None, closed="neither")],
        "loss": [StrOptions(set(_HEADS))],
        "class_weight": [dict, StrOptions({"auto", "balanced"}), None],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
    },
    prefer_skip_nested_validation=True,
)
def group_lasso_path(
    X: ArrayLike,
    y: ArrayLike,
    *,
    group_regs: ArrayLike | None = None,
    n_regs: int = 30,
    eps: float = 1e-2,
    ridge_reg: float = 1.0,
    reg_scale: str = "relative",
    groups: ArrayLike | None = None,
    fit_intercept: bool = True,
    intercept_scaling: float = 1.0,
    loss: str = "hinge",
    sample_weight: ArrayLike | None = None,
    offset: ArrayLike | None = None,
    classes: ArrayLike | None = None,
    class_weight: dict[Any, float] | str | None = "auto",
    tol: float = 1e-6,
    max_iter: int = 10_000,
) -> GroupLassoPath:
    """Solve a group-Lasso classifier for a descending sequence of strengths.

    The dual point of one strength is feasible for the next one, which starts from
    it. The result is that of independent fits of `GroupLassoSVC`
    (`GroupLassoLogistic`) with the same parameters.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Features; dense.
    y : array-like of shape (n_samples,)
        Class labels, at least two classes unless `classes` names them.
    group_regs : array-like of shape (n_regs,), default=None
        Strengths of the group Lasso, >= 0, strictly descending. None: a
        geometric sequence from the strength that switches every feature off
        (1 with the relative scale) down to `eps` times that.
    n_regs : int, default=30
        Length of the sequence, if `group_regs` is None.
    eps : float, default=1e-2
        Last strength over the first one, if `group_regs` is None.
    ridge_reg : float, default=1.0
        Strength of the ridge, > 0.
    reg_scale : {"relative", "absolute"}, default="relative"
        As in `GroupLassoSVC`.
    groups : array-like of shape (n_features,), default=None
        Group label of every feature.
    fit_intercept : bool, default=True
        As in `GroupLassoSVC`.
    intercept_scaling : float, default=1.0
        As in `GroupLassoSVC`.
    loss : {"hinge", "logistic"}, default="hinge"
        Loss of `GroupLassoSVC` or of `GroupLassoLogistic`.
    sample_weight : array-like of shape (n_samples,), default=None
        Row weights >= 0. None: 1.
    offset : array-like of shape (n_samples, n_classes) or (n_samples,), default=None
        Scores to add, as in `GroupLassoSVC.fit`. None: 0.
    classes : array-like of shape (n_classes,), default=None
        All labels that there are. None: the labels in y.
    class_weight : dict, "balanced", "auto" or None, default="auto"
        Weight of every class; multiplies the row weights. "balanced": all classes
        weigh the same, whatever their numbers of rows, in `fit` and in the layer.
        "auto": balanced, unless there is an offset, which knows the shares of the
        classes. A dict by label counts in `fit` only. None: rows weigh the same.
    tol : float, default=1e-6
        Relative duality gap to reach at every strength.
    max_iter : int, default=10_000
        Largest number of iterations for every strength.

    Returns
    -------
    GroupLassoPath
        Strengths, weights, intercepts, gaps and iterations.

    Raises
    ------
    ValueError
        For invalid data or parameters.

    Warns
    -----
    ConvergenceWarning
        If the gap of some strength stays above `tol`.

    See Also
    --------
    GroupLassoSVCCV : Picks a strength by cross-validation.
    sklearn.linear_model.lasso_path : The model of this function.

    References
    ----------
    .. [1] J. Friedman, T. Hastie, R. Tibshirani (2010). Regularization paths for
       generalized linear models via coordinate descent. J. Stat. Softw. 33(1).

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.preprocessing import scale
    >>> from skcausalmeta.heads import group_lasso_path
    >>> X, y = load_iris(return_X_y=True)
    >>> path = group_lasso_path(scale(X), y, n_regs=4, fit_intercept=True)
    >>> path.group_regs.round(3)
    array([1.   , 0.215, 0.046, 0.01 ])
    >>> (path.coefs != 0).any(axis=1).sum(axis=1)
    array([0, 3, 4, 4])
    """
    head = _HEADS[loss](
        1.0,
        ridge_reg,
        reg_scale=reg_scale,
        groups=groups,
        fit_intercept=fit_intercept,
        intercept_scaling=intercept_scaling,
        solver="auto",
        class_weight=class_weight,
    )
    task = training_batch(
        head, X, y, sample_weight, class_weight, offset=offset, classes=classes
    )
    if group_regs is None:
        regs = geometric_regs(head, task, n_regs, eps)
    else:
        regs = checked_strengths(group_regs, "group_regs")
        _require_descending(regs)
    problem, columns = head._problem(*task[:3], task.offset)
    steps = list(path_of_tasks(problem, regs, tol=tol, max_iter=max_iter))
    coefs, intercepts = zip(*(head._split(s.coef, columns) for s in steps), strict=True)
    warn_above(tol, (float(s.relative_gap) for s in steps), "group_lasso_path")
    return GroupLassoPath(
        regs,
        torch.cat(coefs).mT.contiguous().numpy(),
        torch.cat(intercepts).numpy(),
        torch.cat([s.gap for s in steps]).numpy(),
        torch.cat([s.n_iter for s in steps]).numpy(),
    )


def path_of_tasks(
    problem: Problem,
    group_regs: NDArray[Any],
    *,
    tol: float = 1e-6,
    max_iter: int = 10_000,
) -> Iterator[Solution]:
    """Solve a batch of tasks for one strength after the other.

    Every solution gets a few Newton steps more, to the level of rounding, as `fit`
    of the classifiers does: equal problems give equal weights whatever they
    started from.

    Parameters
    ----------
    problem : Problem
        The tasks, with loss `CrammerSinger` or `Logistic`; ``penalty.lambda1`` is
        the unit of the strengths.
    group_regs : ndarray of shape (n_regs,)
        Strengths; ``lambda1 = group_reg * problem.penalty.lambda1`` in every task.
    tol : float, default=1e-6
        Relative duality gap to reach.
    max_iter : int, default=10_000
        Largest number of iterations for every strength.

    Yields
    ------
    Solution
        Of all tasks at the next strength.
    """
    hinge = isinstance(problem.loss, CrammerSinger)
    polish = polisher(solve_newton if hinge else solve_softmax_newton)
    start = None
    for reg in group_regs:
        lambda1 = float(reg) * problem.penalty.lambda1
        here = replace(problem, penalty=replace(problem.penalty, lambda1=lambda1))
        found = solve_auto(here, tol=tol, max_iter=max_iter, start=start)
        refined = polished(polish, here, found)
        start = refined.dual
        yield refined


def geometric_regs(
    head: GroupLassoClassifier, task: TrainingBatch, n_regs: int, eps: float
) -> NDArray[Any]:
    """Strengths from the one that switches every feature off downwards.

    With the absolute scale that is the lambda1 of the relative strength 1; for
    data without any signal, which switch nothing on, it is 1.
    """
    largest = 1.0
    if head.reg_scale == "absolute":
        relative = clone(head).set_params(reg_scale="relative", group_reg=1.0)
        problem, _ = relative._problem(*task[:3], task.offset)
        largest = float(problem.penalty.lambda1) or 1.0
    return largest * np.geomspace(1.0, eps, n_regs)


def checked_strengths(strengths: ArrayLike, name: str) -> NDArray[Any]:
    """Strengths as an array of floats.

    Raises
    ------
    InvalidInputError
        If there is none, one is negative or not finite, or they form no list.
    """
    values = np.asarray(strengths, dtype=np.float64)
    if values.ndim != 1 or not values.size:
        raise InvalidInputError(
            f"{name} must be a list of at least one strength. Got shape "
            f"{values.shape}; pass for example np.geomspace(1, 0.01, 10)."
        )
    if not (np.isfinite(values).all() and (values >= 0).all()):
        raise InvalidInputError(
            f"{name} must be finite and >= 0. Got values from {values.min():g} to "
            f"{values.max():g}; remove what is not."
        )
    return values


def warn_above(tol: float, relative_gaps: Iterable[float], name: str) -> None:
    """Warn if a solution on the path has not reached its tolerance."""
    gaps = np.fromiter(relative_gaps, dtype=np.float64)
    above = ~(gaps <= tol)
    if above.any():
        warnings.warn(
            f"{name} stopped before its tolerance at {above.sum()} of {len(gaps)} "
            f"strengths. Largest relative gap: {gaps.max():.1e}, tolerance: "
            f"{tol:.1e}. Raise max_iter or tol, or scale the features.",
            ConvergenceWarning,
            stacklevel=4,  # the caller of what validates its parameters
        )


def _require_descending(regs: NDArray[Any]) -> None:
    rises = np.flatnonzero(np.diff(regs) >= 0)
    if rises.size:
        first, second = regs[rises[0]], regs[rises[0] + 1]
        raise InvalidInputError(
            "group_regs must be strictly descending, because each solution starts "
            f"from the one before. Got {first:g} before {second:g}; sort them with "
            "np.unique(group_regs)[::-1]."
        )
