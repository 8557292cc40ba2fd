"""GroupLassoSVC that picks its regularisation by cross-validation."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import signature
from numbers import Integral, Real
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, _fit_context, clone
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
from ._contract import LargestScoreMixin, store_support
from ._group_lasso_path import (
    checked_strengths,
    geometric_regs,
    path_of_tasks,
    warn_above,
)
from ._group_lasso_svc import GroupLassoSVC, _without_ties
from ._inputs import TrainingBatch, training_batch

_MOST_FOLDS = 5
_EPS = 1e-2
_ROUNDING = 1e-12
_SHARED_CONSTRAINTS = {
    name: rules
    for name, rules in GroupLassoSVC._parameter_constraints.items()
    if name not in ("group_reg", "ridge_reg")
}


class GroupLassoSVCCV(LargestScoreMixin, BaseEstimator):
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
    reg_scale : {"relative", "ridge-absolute", "absolute"}, default="relative"
        As in `GroupLassoSVC`. The relative scale refers to the training rows of
        every fold.
    groups : array-like of shape (n_features,), default=None
        Group label of every feature.
    fit_intercept : bool, default=True
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
        its "auto".
    tol : float, default=1e-6
        Relative duality gap to reach.
    max_iter : int, default=10_000
        Largest number of iterations.
    class_weight : dict, "balanced", "auto" or None, default="auto"
        Weight of every class; multiplies the row weights. "balanced": all classes
        weigh the same, whatever their numbers of rows, in `fit` and in the layer.
        "auto": balanced, unless there is an offset, which knows the shares of the
        classes. A dict by label counts in `fit` only. None: rows weigh the same.
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
    >>> X, y = scale(X[::3]), y[::3]
    >>> svc = GroupLassoSVCCV(4, fit_intercept=True).fit(X, y)
    >>> print(f"{svc.scores_.mean(axis=-1).max():.2f}")
    0.96
    >>> svc.group_regs_.round(3), round(svc.group_reg_, 3)
    (array([1.   , 0.215, 0.046, 0.01 ]), 0.01)
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
        fit_intercept: bool = True,
        intercept_scaling: float = 1.0,
        cv: Any = None,
        scoring: Any = None,
        selection: str = "best",
        solver: str = "cvxpy",
        tol: float = 1e-6,
        max_iter: int = 10_000,
        class_weight: dict[Any, float] | str | None = "auto",
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
        *,
        offset: ArrayLike | None = None,
        classes: ArrayLike | None = None,
        **params: Any,
    ) -> Self:
        """Pick the strengths on the folds and solve the problem on all rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features; dense.
        y : array-like of shape (n_samples,)
            Class labels, at least two classes unless `classes` names them.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights >= 0, for the fits and for the scores (a callable
            `scoring` gets them if it has a parameter of this name). None: 1.
        offset : array-like of shape (n_samples[, n_classes]), default=None
            Scores to add, for the fits and for the scores; as in
            `GroupLassoSVC.fit`. A callable `scoring` must ask its estimator about all
            rows that it is given at once. None: 0.
        classes : array-like of shape (n_classes,), default=None
            All labels that there are. None: the labels in y.
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
        given = {"offset": offset, "classes": classes}
        task = training_batch(self, X, y, sample_weight, self.class_weight, **given)
        regs, ridges = self._strengths(task)
        for_split, for_scorer = self._routed(sample_weight, params)
        named = offset is not None or classes is not None
        folds = self._folds(task, sample_weight, for_split, named)
        # 1. every model on every fold
        results = [self._results(task, folds, regs, r, for_scorer) for r in ridges]
        scores, n_used, gaps = np.stack(results, axis=1)
        # 2. the strengths that are kept, on all rows
        ridge_at, reg_at = _pick(scores, n_used, self.selection)
        final = self._head(float(regs[reg_at]), float(ridges[ridge_at]))
        final.fit(X, y, sample_weight, **given)
        warn_above(self.tol, gaps.max(axis=(0, 2)), "The cross-validation")
        # 3. only now: a failure above leaves the estimator as it was
        validate_data(self, X, skip_check_array=True)
        for name, value in vars(final).items():
            if name.endswith("_"):
                setattr(self, name, value)
        self.group_reg_, self.ridge_reg_ = final.group_reg, final.ridge_reg
        self.group_regs_, self.ridge_regs_, self.scores_ = regs, ridges, scores
        return self

    def _scores(self, X: NDArray[Any]) -> NDArray[Any]:
        return _without_ties(super()._scores(X))

    def _head(self, group_reg: float, ridge_reg: float) -> GroupLassoSVC:
        return GroupLassoSVC(
            group_reg,
            ridge_reg,
            reg_scale=self.reg_scale,
            groups=self.groups,
            fit_intercept=self.fit_intercept,
            intercept_scaling=self.intercept_scaling,
            solver=self.solver,
            tol=self.tol,
            max_iter=self.max_iter,
            class_weight=self.class_weight,
            solver_options=self.solver_options,
        )

    def _scorer(self) -> Any:
        return get_scorer(self.scoring or "accuracy")

    def _strengths(self, task: TrainingBatch) -> tuple[NDArray[Any], NDArray[Any]]:
        """Strengths of the group Lasso, descending, and of the ridge."""
        if isinstance(self.group_regs, Integral):
            regs = geometric_regs(self._head(1.0, 1.0), task, self.group_regs, _EPS)
        else:
            regs = np.unique(checked_strengths(self.group_regs, "group_regs"))[::-1]
        ridges = checked_strengths(self.ridge_regs, "ridge_regs")
        if not ridges.all():
            raise InvalidInputError(
                "ridge_regs must be > 0, because the dual needs a ridge. Got "
                f"{ridges.tolist()}; replace 0 by a small value such as 1e-3."
            )
        return regs, ridges

    def _routed(
        self, sample_weight: ArrayLike | None, params: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Keywords for ``cv.split`` and for the scorer."""
        if _routing_enabled():
            routed = process_routing(self, "fit", sample_weight=sample_weight, **params)
            return routed.splitter.split, routed.scorer.score
        takes = "sample_weight" in signature(self._scorer()).parameters
        if sample_weight is None or not takes:
            return {}, {}
        return {}, {"sample_weight": sample_weight}

    def _folds(
        self,
        task: TrainingBatch,
        sample_weight: ArrayLike | None,
        for_split: dict[str, Any],
        named: bool,
    ) -> list[_Fold]:
        """Folds with the row weights and the classes of their training rows.

        If the classes are `named`, a class without training rows takes part.
        """
        rows, labels = _rows_and_labels(task)
        splitter = _splitter(self.cv, labels)
        splits = list(splitter.split(rows, labels, **for_split))
        least = 1 if self.selection == "best" else 2
        if len(splits) < least:
            raise InvalidInputError(
                f"cv must yield at least {least} fold(s) for "
                f"selection={self.selection!r}. Got {len(splits)}; pass cv=5."
            )
        weights = _check_sample_weight(sample_weight, rows, dtype=np.float64)
        head, folds = self._head(1.0, 1.0), []
        classes = task.classes if named else None
        for number, (train, test) in enumerate(splits):
            train, test = (np.arange(len(rows))[part] for part in (train, test))
            try:
                part = training_batch(
                    head,
                    rows[train],
                    labels[train],
                    weights[train],
                    self.class_weight,
                    classes=classes,
                )
            except ValueError as error:
                raise InvalidInputError(
                    "Every training fold of cv must be a problem that GroupLassoSVC "
                    f"can be fitted to. Got for fold {number}: {error} Use a "
                    "stratified splitter or fewer folds."
                ) from error
            whole = np.zeros(len(rows))
            np.add.at(whole, train, part.weights[0].numpy())
            present = np.searchsorted(task.classes, part.classes)
            folds.append(_Fold(test, torch.from_numpy(whole), tuple(present)))
        return folds

    def _results(
        self,
        task: TrainingBatch,
        folds: list[_Fold],
        regs: NDArray[Any],
        ridge_reg: float,
        for_scorer: dict[str, Any],
    ) -> NDArray[Any]:
        """Scores, numbers of features, relative gaps: (3, n_regs, n_folds)."""
        head, scorer = self._head(1.0, float(ridge_reg)), self._scorer()
        rows, labels = _rows_and_labels(task)
        out = np.empty((3, len(regs), len(folds)))
        for batch in _batches(head, task, folds):
            solved = _models(head, task, [folds[i] for i in batch], regs)
            for (at, slot), (model, gap) in solved:
                test = folds[batch[slot]].test
                if task.offset is not None:
                    model = _shifted(model, task.offset[0, test].numpy())
                keywords = _check_method_params(rows, for_scorer, indices=test)
                score = scorer(model, rows[test], labels[test], **keywords)
                _require_finite(score, batch[slot])
                out[:, at, batch[slot]] = score, len(model.support_features_), gap
        return out


class _ShiftedSVC(GroupLassoSVC):
    """The model of a fold; scores hold the offset of the rows that scorers know."""

    offset_: NDArray[Any]

    def _scores(self, X: NDArray[Any]) -> NDArray[Any]:
        return super()._scores(X) + self.offset_


def _shifted(model: GroupLassoSVC, offset: NDArray[Any]) -> _ShiftedSVC:
    moved = _ShiftedSVC(**model.get_params(deep=False))
    moved.__dict__.update(model.__dict__)
    moved.offset_ = offset
    return moved


class _Fold(NamedTuple):
    """Test rows, weights of all rows (0: not in training), classes in training."""

    test: NDArray[Any]
    weights: Tensor
    present: tuple[int, ...]


def _splitter(cv: Any, labels: NDArray[Any]) -> Any:
    if cv is not None:
        return check_cv(cv, labels, classifier=True)
    rarest = int(np.unique(labels, return_counts=True)[1].min())
    return StratifiedKFold(min(_MOST_FOLDS, max(2, rarest)))


def _rows_and_labels(task: TrainingBatch) -> tuple[NDArray[Any], NDArray[Any]]:
    codes = task.targets[0].argmax(-1).numpy()
    return task.features[0].numpy(), task.classes[codes]


def _batches(
    head: GroupLassoSVC, task: TrainingBatch, folds: list[_Fold]
) -> Iterator[list[int]]:
    """Numbers of the folds that are solved together, bounded in memory.

    Folds whose training rows lack a class are problems of another shape.
    """
    for present in dict.fromkeys(fold.present for fold in folds):
        same = [i for i, fold in enumerate(folds) if fold.present == present]
        features = task.features.expand(len(same), -1, -1)
        for size in head._chunks(features, len(present)):
            yield same[:size]
            same = same[size:]


def _models(
    head: GroupLassoSVC, task: TrainingBatch, folds: list[_Fold], regs: NDArray[Any]
) -> Iterator[tuple[tuple[int, int], tuple[GroupLassoSVC, float]]]:
    """Yield, for every strength and fold, its indices, model and relative gap.

    The folds have the same classes; they are solved as one batch.
    """
    present = list(folds[0].present)
    targets = task.targets[..., present]
    # A row of an absent class has weight 0 and needs some target.
    targets[..., 0] += 1.0 - targets.sum(-1)
    problem, columns = head._problem(
        task.features.expand(len(folds), -1, -1),
        targets.expand(len(folds), -1, -1),
        torch.stack([fold.weights for fold in folds]),
        None if task.offset is None else task.offset.expand(len(folds), -1, -1),
    )
    path = path_of_tasks(problem, regs, tol=head.tol, max_iter=head.max_iter)
    for at, solution in enumerate(path):
        coef, intercept = head._split(solution.coef, columns)
        for slot in range(len(folds)):
            model = clone(head)
            model.classes_ = task.classes[present]
            model.coef_ = coef[slot].T.numpy()
            model.intercept_ = intercept[slot].numpy()
            model.n_features_in_ = model.coef_.shape[1]
            store_support(model, model.coef_)
            yield (at, slot), (model, float(solution.relative_gap[slot]))


def _require_finite(score: Any, fold: int) -> None:
    if not (isinstance(score, Real) and np.isfinite(float(score))):
        raise InvalidInputError(
            f"scoring must give a finite number for every fold. Got {score!r} for "
            f"fold {fold}; use another scoring, or folds whose test rows hold every "
            "class."
        )


def _pick(
    scores: NDArray[Any], n_used: NDArray[Any], selection: str
) -> tuple[int, int]:
    """Indices of the ridge and of the group Lasso, as `selection` says."""
    means = scores.mean(axis=-1)
    best = _sparsest(n_used, means, means.max() - _ROUNDING * abs(means.max()))
    if selection == "best":
        return best
    error = scores[best].std(ddof=1) / np.sqrt(scores.shape[-1])
    return _sparsest(n_used, means, means[best] - error)


def _sparsest(
    n_used: NDArray[Any], means: NDArray[Any], least: float
) -> tuple[int, int]:
    """The model with the fewest features among those that score enough."""
    ridge_at, reg_at = np.nonzero(means >= least)
    features = n_used.mean(axis=-1)[ridge_at, reg_at]
    first = np.lexsort((ridge_at, reg_at, features))[0]
    return int(ridge_at[first]), int(reg_at[first])
