"""A sparse head chooses the features, a second head classifies by them."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    MetaEstimatorMixin,
    _fit_context,
    clone,
)
from sklearn.utils._param_validation import HasMethods
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from ..utils import saying_where_text_is
from ._base import HeadSolution
from ._group_lasso_svc import GroupLassoSVC
from ._prototype_head import PrototypeHead


def _head_has_probabilities(relaxed: RelaxedHead) -> bool:
    return hasattr(getattr(relaxed, "head_", relaxed._parts()[1]), "predict_proba")


class RelaxedHead(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):
    """Classifier on the few features that a sparse head chooses.

    The group Lasso chooses features, and shrinks the weights of those that it keeps.
    Here it only chooses: with its solution W on the rows F, ::

        A    = {g : W_g != 0}
        head = argmin of the second head's own problem on the columns A of F

    which is the relaxed Lasso [1]_ for any second head. The features outside A do not
    take part: they are set to 0 in support and query rows alike, which for the heads
    of this package is the same as leaving them out. Without any feature (A empty)
    every row gets the same scores.

    Parameters
    ----------
    selector : estimator, default=None
        Chooses the features: a classifier with ``support_features_`` after ``fit``
        and with ``solve_episodes``. None: ``GroupLassoSVC(solver="newton")``.
    head : estimator, default=None
        Classifies by the features that are left: offers ``fit`` and
        ``episode_logits``. None: ``PrototypeHead()``.

    Attributes
    ----------
    selector_, head_ : estimator
        The two parts, fitted.
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    support_features_ : ndarray of shape (n_used,)
        Indices of the features that are used, A.
    sparsity_ : float
        Share of features that are not used.
    dual_gap_ : float
        Certificate of the choice, ``selector_.dual_gap_``.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if X has string column names.

    See Also
    --------
    GroupLassoSVC : The sparse head by itself; its weights are shrunk.
    skcausalmeta.learners.SparseMetaClassifier : Learns the features for it.

    Notes
    -----
    A small change of the features leaves A as it is, almost everywhere. So the
    derivative of the logits is that of the second head with A held fixed, and the
    features outside A get no gradient from the task.

    References
    ----------
    .. [1] N. Meinshausen (2007). Relaxed Lasso. Computational Statistics & Data
       Analysis 52(1), 374-393.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.preprocessing import scale
    >>> from skcausalmeta.heads import GroupLassoSVC, RelaxedHead
    >>> X, y = load_wine(return_X_y=True)
    >>> head = RelaxedHead(GroupLassoSVC(0.6)).fit(scale(X), y)
    >>> head.support_features_
    array([ 0,  6,  9, 10, 11, 12])
    >>> print(f"{head.score(scale(X), y):.2f}")
    0.97
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "selector": [HasMethods(["fit", "solve_episodes"]), None],
        "head": [HasMethods(["fit", "predict", "episode_logits"]), None],
    }

    def __init__(self, selector: Any = None, head: Any = None) -> None:
        self.selector = selector
        self.head = head

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        for part in self._parts():
            own = part.__sklearn_tags__().classifier_tags
            tags.classifier_tags.poor_score |= own.poor_score
        return tags

    def _parts(self) -> tuple[Any, Any]:
        """Selector and second head, the defaults filled in."""
        selector, head = self.selector, self.head
        return (
            GroupLassoSVC(solver="newton") if selector is None else selector,
            PrototypeHead() if head is None else head,
        )

    # -- scikit-learn estimator ------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Choose the features, then solve the second head on them.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features; dense.
        y : array-like of shape (n_samples,)
            Class labels, at least two classes.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights >= 0, for both parts. None: 1.

        Returns
        -------
        self : object
            Itself.

        Raises
        ------
        ValueError
            For invalid data or parameters; the estimator stays as it was.
        SolverError
            If no solver of the selector returns a point.
        """
        selector, head = (clone(part) for part in self._parts())
        selector.fit(X, y, sample_weight=sample_weight)
        rows = _only(np.asarray(X, dtype=np.float64), selector.support_features_)
        head.fit(rows, y, sample_weight=sample_weight)
        validate_data(self, X, skip_check_array=True)
        self.selector_, self.head_ = selector, head
        self.classes_ = head.classes_
        return self

    @property
    def support_features_(self) -> NDArray[Any]:
        """Features that are used."""
        return self.selector_.support_features_

    @property
    def sparsity_(self) -> float:
        """Share of features that are not used."""
        return self.selector_.sparsity_

    @property
    def dual_gap_(self) -> float:
        """Certificate of the choice."""
        return self.selector_.dual_gap_

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
        rows = self._chosen(X)
        return self.head_.predict(rows)

    def decision_function(self, X: ArrayLike) -> NDArray[Any]:
        """Scores of the second head.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.

        Returns
        -------
        ndarray of shape (n_samples, n_classes) or (n_samples,)
            For two classes the score of ``classes_[1]`` minus the one of
            ``classes_[0]``.
        """
        rows = self._chosen(X)
        return self.head_.decision_function(rows)

    @available_if(_head_has_probabilities)
    def predict_proba(self, X: ArrayLike) -> NDArray[Any]:
        """Probabilities of the second head, if it has them.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Probabilities of the classes.
        """
        rows = self._chosen(X)
        return self.head_.predict_proba(rows)

    def _chosen(self, X: ArrayLike) -> NDArray[Any]:
        """Checked rows with the features that are not used at 0."""
        check_is_fitted(self)
        with saying_where_text_is(X):
            rows = validate_data(self, X, dtype=np.float64, reset=False)
        return _only(rows, self.support_features_)

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
            Relative gap of both parts. None: their own tolerance.

        Returns
        -------
        HeadSolution
            Of the second head, with weights 0 for the features that are not used.

        Raises
        ------
        InvalidInputError
            If shapes do not agree, a feature is not finite, a label is
            outside 0..n_classes-1, or a task has no row of positive weight.
        """
        given: dict[str, Any] = {"sample_weight": sample_weight, "tol": tol}
        used = self._used(features, targets, n_classes, given)
        head = self._parts()[1]
        solution: HeadSolution = head.solve_episodes(
            features * used, targets, n_classes, **given
        )
        return solution._replace(coef=solution.coef * used.mT)

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
        """Logits of query rows by heads solved on the chosen features.

        Differentiable in both sets of features and in the row weights as the
        second head is; the choice is held fixed.

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
            Relative gap of both parts. None: their own tolerance.

        Returns
        -------
        Tensor of shape (n_tasks, n_query, n_classes)

        Raises
        ------
        InvalidInputError
            If shapes do not agree, a feature is not finite, a label is
            outside 0..n_classes-1, or a task has no row of positive weight.
        """
        given: dict[str, Any] = {"sample_weight": sample_weight, "tol": tol}
        used = self._used(support_features, support_targets, n_classes, given)
        logits: Tensor = self._parts()[1].episode_logits(
            support_features * used,
            support_targets,
            query_features * used,
            n_classes,
            **given,
        )
        return logits

    def _used(
        self, features: Tensor, targets: Tensor, n_classes: int, given: dict[str, Any]
    ) -> Tensor:
        """1 for the chosen features, 0 for others, (n_tasks, 1, n_features)."""
        self._validate_params()
        selector = self._parts()[0]
        with torch.no_grad():
            solution = selector.solve_episodes(features, targets, n_classes, **given)
        return (solution.coef != 0).any(-1)[:, None].to(features)


def _only(rows: NDArray[Any], features: NDArray[Any]) -> NDArray[Any]:
    """Rows with all other features at 0."""
    return np.where(np.isin(np.arange(rows.shape[1]), features), rows, 0.0)
