"""GroupLassoSVC that picks its regularisation by cross-validation."""

from __future__ import annotations

from inspect import signature
from numbers import Integral
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, _fit_context
from sklearn.metrics import get_scorer, get_scorer_names
from sklearn.model_selection import StratifiedKFold, check_cv
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    _raise_for_params,
    _routing_enabled,
    process_routing,
)
from sklearn.utils.validation import (
    _check_method_params,
    _check_sample_weight,
    validate_data,
)
from torch import Tensor

from ..exceptions import InvalidInputError
from ._classifier import HeadClassifierMixin, TrainingTask, training_task
from ._group_lasso_path import checked_regs, geometric_regs, path_of_tasks, warn_above
from ._group_lasso_svc import GroupLassoSVC, _without_ties

_MOST_FOLDS = 5
_EPS = 1e-2
_ROUNDING = 1e-12
_SHARED_CONSTRAINTS = {
    name: rules
    for name, rules in GroupLassoSVC._parameter_constraints.items()
    if name not in ("group_reg", "ridge_reg")
}


class GroupLassoSVCCV(HeadClassifierMixin, BaseEstimator):
    """`GroupLassoSVC` with strengths picked by cross-validation.

    For every `ridge_regs`, the descending sequence of `group_regs` is solved with
    warm starts, all folds as one batch; the rows of a test fold have weight 0 in
    it. The scores are those of `GridSearchCV` over `GroupLassoSVC` with the same
    splits. A `GroupLassoSVC` with the strengths picked is then fitted on all rows.

    Parameters
    ----------
    group_regs : int or array-like of shape (n_regs,), default=10
        Strengths of the group Lasso to try, >= 0. An integer: the length of a
        geometric sequence from the strength that switches every feature off
        (1 with the relative scale) down to 0.01 times that.
    ridge_regs : array-like of shape (n_ridge,), default=(1.0,)
        Strengths of the ridge to try, > 0.
    reg_scale : {"relative", "absolute"}, default="relative"
        As in `GroupLassoSVC`. The relative scale refers to the training rows of
        every fold.
    groups : array-like of shape (n_features,), default=None
        Group label of every feature.
    fit_intercept : bool, default=False
        As in `GroupLassoSVC`.
    intercept_scaling : float, default=1.0
        As in `GroupLassoSVC`.
    cv : int, cross-validation generator or iterable, default=None
        Folds: a number of stratified ones, a splitter, or pairs of arrays of
        training and test indices. None: 5 stratified folds, or as many as the
        rarest class has rows if that is fewer, but at least 2.
    scoring : str or callable, default=None
        Name of a scorer or ``scorer(estimator, X, y)``; larger is better. None:
        accuracy.
    selection : {"best", "one-standard-error"}, default="best"
        "best": the strengths with the largest mean score. "one-standard-error":
        the model with the fewest features among those whose mean score is within
        one standard error (over folds) of the largest. Ties go to fewer features,
        then to the larger `group_reg`, then to the first `ridge_reg`.
    solver : str, default="cvxpy"
        Solver of the last fit, as in `GroupLassoSVC`. The folds are solved by
        its "newton".
    tol : float, default=1e-6
        Relative duality gap to reach.
    max_iter : int, default=10_000
        Largest number of iterations.
    class_weight : dict or "balanced", default=None
        Weight of every class; multiplies the row weights.
    solver_options : dict, default=None
        As in `GroupLassoSVC`, for the last fit.

    Attributes
    ----------
    group_reg_ : float
        Strength of the group Lasso that was picked.
    ridge_reg_ : float
        Strength of the ridge that was picked.
    group_regs_ : ndarray of shape (n_regs,)
        Strengths of the group Lasso that were tried, descending.
    ridge_regs_ : ndarray of shape (n_ridge,)
        Strengths of the ridge that were tried.
    scores_ : ndarray of shape (n_ridge, n_regs, n_folds)
        Score of every model on every test fold.
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
        Iterations of the last fit.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if X has string column names.

    See Also
    --------
    GroupLassoSVC : The classifier with given strengths.
    group_lasso_path : Its solutions for a sequence of strengths.

    References
    ----------
    .. [1] T. Hastie, R. Tibshirani, J. Friedman (2009). The elements of statistical
       learning, 2nd ed., section 7.10 (the one-standard-error rule).

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.preprocessing import scale
    >>> from skcausalmeta.heads import GroupLassoSVCCV
    >>> X, y = load_iris(return_X_y=True)
    >>> svc = GroupLassoSVCCV(
    ...     5, fit_intercept=True, selection="one-standard-error", solver="newton"
    ... ).fit(scale(X), y)
    >>> svc.support_features_
    array([2, 3])
    >>> print(f"{svc.scores_.mean(axis=-1).max():.2f}")
    0.96
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **_SHARED_CONSTRAINTS,
        "group_regs": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "ridge_regs": ["array-like"],
        "cv": ["cv_object"],
        "scoring": [StrOptions(set(get_scorer_names())), callable, None],
        "selection": [StrOptions({"best", "one-standard-error"})],
    }

    def __init__(
        self,
        group_regs: int | ArrayLike = 10,
        ridge_regs: ArrayLike = (1.0,),
        *,
        reg_scale: str = "relative",
        groups: ArrayLike | None = None,
        fit_intercept: bool = False,
        intercept_scaling: float = 1.0,
        cv: Any = None,
        scoring: Any = None,
        selection: str = "best",
        solver: str = "cvxpy",
        tol: float = 1e-6,
        max_iter: int = 10_000,
        class_weight: dict[Any, float] | str | None = None,
        solver_options: dict[str, Any] | None = None,
    ) -> None:
        self.group_regs = group_regs
        self.ridge_regs = ridge_regs
        self.reg_scale = reg_scale
        self.groups = groups
        self.fit_intercept = fit_intercept
        self.intercept_scaling = intercept_scaling
        self.cv = cv
        self.scoring = scoring
        self.selection = selection
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

    def get_metadata_routing(self) -> MetadataRouter:
        """Metadata that `fit` passes on to the splitter and to the scorer.

        Returns
        -------
        MetadataRouter
            The routing of ``cv.split`` and of the scorer.
        """
        router = MetadataRouter(owner=self).add_self_request(self)
        split = MethodMapping().add(caller="fit", callee="split")
        router.add(splitter=self.cv, method_mapping=split)
        score = MethodMapping().add(caller="fit", callee="score")
        return router.add(scorer=self._scorer(), method_mapping=score)

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        **params: Any,
    ) -> Self:
        """Pick the strengths on the folds and solve the problem on all rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features; dense.
        y : array-like of shape (n_samples,)
            Class labels, at least two classes.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights >= 0, for the fits and for the scores (a callable
            `scoring` gets them if it has a parameter of this name). None: 1.
        **params : dict
            Metadata for the splitter and the scorer, for example the ``groups``
            of `GroupKFold`; needs metadata routing to be enabled.

        Returns
        -------
        self : object
            Itself.

        Raises
        ------
        ValueError
            For invalid data or parameters, folds that cannot be solved, and
            scores that are not finite.
        SolverError
            If no solver returns a point in the last fit.

        Warns
        -----
        ConvergenceWarning
            If a gap stays above `tol`.
        """
        _raise_for_params(params, self, "fit")
        # 1. data, strengths, folds
        task = training_task(self, X, y, sample_weight, self.class_weight)
        regs, ridges = self._strengths(task)
        rows, labels = _rows_and_labels(task)
        weights = _check_sample_weight(sample_weight, rows, dtype=np.float64)
        split_params, score_params = self._routed(sample_weight, params)
        splitter = _splitter(self.cv, labels)
        splits = list(splitter.split(rows, labels, **split_params))
        folds = self._folds(rows, labels, weights, splits)
        # 2. scores of every model
        scores = np.empty((len(ridges), len(regs), len(folds)))
        n_used, gaps = np.empty_like(scores), np.empty_like(scores)
        for batch in _batches(folds):
            numbers = [fold.number for fold in batch]
            for i, ridge in enumerate(ridges):
                head = self._head(1.0, ridge)
                for j, found in enumerate(_models(head, task, batch, regs)):
                    models, gaps[i, j, numbers] = found
                    for fold, model in zip(batch, models, strict=True):
                        test = rows[fold.test], labels[fold.test]
                        keywords = _check_method_params(rows, score_params, fold.test)
                        score = self._scorer()(model, *test, **keywords)
                        scores[i, j, fold.number] = _checked_score(score, fold.number)
                        n_used[i, j, fold.number] = len(model.support_features_)
        # 3. the model that is kept
        ridge_at, reg_at = _pick(scores, n_used.mean(-1), self.selection)
        final = self._head(regs[reg_at], ridges[ridge_at])
        final.fit(X, y, sample_weight)
        warn_above(self.tol, gaps.max(axis=(0, 2)), f"The path of {_name(self)}")
        # Only now: a failure above leaves the estimator as it was.
        validate_data(self, X, skip_check_array=True)
        fitted = {name: vars(final)[name] for name in vars(final) if name[-1] == "_"}
        vars(self).update(fitted)
        self.group_reg_, self.ridge_reg_ = final.group_reg, final.ridge_reg
        self.group_regs_, self.ridge_regs_, self.scores_ = regs, ridges, scores
        return self
