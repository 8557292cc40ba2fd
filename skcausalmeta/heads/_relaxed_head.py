"""A sparse head chooses the features, a second head classifies by them."""

from __future__ import annotations

from inspect import Parameter, signature
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.base import MetaEstimatorMixin, _fit_context, clone
from sklearn.utils._param_validation import HasMethods
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import validate_data
from torch import Tensor

from ..utils import SparseRows
from ._contract import Head, HeadSolution, checked_rows
from ._group_lasso_svc import GroupLassoSVC
from ._prototype_head import PrototypeHead


def _head_has_probabilities(relaxed: RelaxedHead) -> bool:
    return hasattr(getattr(relaxed, "head_", relaxed._parts()[1]), "predict_proba")


class RelaxedHead(MetaEstimatorMixin, Head):
    """Classifier on the few features that a sparse head chooses.

    The group Lasso chooses features, and shrinks the weights of those that it keeps.
    Here it only chooses: with its solution W on the rows F, ::

        A    = {g : W_g != 0}
        head = argmin of the second head's own problem on the columns A of F

    which is the relaxed Lasso [1]_ for any second head. The features outside A do not
    take part: they are set to 0 in support and query rows alike, which for the heads
    of this package is the same as leaving them out. The derivative of the layer is the
    second head's with A constant, see the notes. Without any feature (A empty) every
    row gets the same scores.

    Parameters
    ----------
    selector : estimator, default=None
        Chooses the features: a classifier with ``support_features_`` after ``fit``
        and with ``solve_episodes``. None: ``GroupLassoSVC(solver="auto")``.
    head : estimator, default=None
        Classifies by the features that are left: a `Head`, or another classifier
        with ``episode_logits``. None: ``PrototypeHead()``.

    Attributes
    ----------
    selector_, head_ : estimator
        The two parts, fitted.
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    coef_ : ndarray of shape (n_classes, n_features)
        Weights of the second head if it has any, 0 for features that are not used.
    intercept_ : ndarray of shape (n_classes,)
        Its intercepts.
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
    A small change of the features leaves A as it is, almost everywhere. There the
    derivative of the logits, exactly, is that of the second head with A held fixed:
    it passes through every entry of `coef_` that is not 0, and features outside A get
    no gradient from the task. None says which features to choose; a backbone that is
    to learn this by the sparse problem is trained under `selector` itself.

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

    @property
    def fixed_origin(self) -> str:  # type: ignore[override]
        """Why a number added to a feature matters; empty: it does not."""
        reasons = (getattr(part, "fixed_origin", "") for part in self._parts())
        return "; ".join(dict.fromkeys(filter(None, reasons)))

    def _parts(self) -> tuple[Any, Any]:
        """Selector and second head, the defaults filled in."""
        selector, head = self.selector, self.head
        return (
            GroupLassoSVC(solver="auto") if selector is None else selector,
            PrototypeHead() if head is None else head,
        )

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        offset: ArrayLike | None = None,
        classes: ArrayLike | None = None,
    ) -> Self:
        """Choose the features, then solve the second head on them.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features. A sparse matrix is solved as a dense array of its shape.
        y : array-like of shape (n_samples,)
            Class labels, at least two classes unless `classes` names them.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights >= 0, for both parts. None: 1.
        offset : array-like of shape (n_samples[, n_classes]), default=None
            Scores to add, for both parts; as in `Head.fit`. None: 0.
        classes : array-like of shape (n_classes,), default=None
            All labels that there are. None: the labels in y.

        Returns
        -------
        self : object
            Itself.
        """
        selector, head = (clone(part) for part in self._parts())
        keywords = {"sample_weight": sample_weight, "offset": offset}
        keywords |= {"classes": classes}
        for part in (selector, head):
            _refuse_unknown(part.fit, keywords)
        _call(selector.fit, X, y, **keywords)
        chosen = selector.support_features_
        rows = _only(checked_rows(selector, X), chosen)
        _call(head.fit, rows, y, **keywords)
        validate_data(self, X, skip_check_array=True)
        self.selector_, self.head_ = selector, head
        self.classes_, self.support_features_ = head.classes_, chosen
        self.sparsity_ = 1.0 - len(chosen) / self.n_features_in_
        self.dual_gap_ = getattr(selector, "dual_gap_", 0.0)
        return self

    @property
    def coef_(self) -> NDArray[Any]:  # type: ignore[override]
        """Weights of the second head, 0 for features that are not used."""
        return _only(self.head_.coef_, self.support_features_)

    @property
    def intercept_(self) -> NDArray[Any]:  # type: ignore[override]
        """Intercepts of the second head."""
        intercept: NDArray[Any] = self.head_.intercept_
        return intercept

    def predict(self, X: ArrayLike, offset: ArrayLike | None = None) -> NDArray[Any]:
        """Classes that the second head predicts.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        offset : array-like of shape (n_samples[, n_classes]), default=None
            Scores to add, as in `decision_function`. None: 0.

        Returns
        -------
        ndarray of shape (n_samples,)
            Class labels.
        """
        chosen = self._chosen(X)
        labels: NDArray[Any] = _call(self.head_.predict, chosen, offset=offset)
        return labels

    def decision_function(
        self, X: ArrayLike, offset: ArrayLike | None = None
    ) -> NDArray[Any]:
        """Scores of the second head.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        offset : array-like of shape (n_samples[, n_classes]), default=None
            Scores to add, as in `decision_function`. None: 0.

        Returns
        -------
        ndarray of shape (n_samples, n_classes) or (n_samples,)
            For two classes the score of ``classes_[1]`` minus the one of
            ``classes_[0]``.
        """
        chosen = self._chosen(X)
        ask = self.head_.decision_function
        scores: NDArray[Any] = _call(ask, chosen, offset=offset)
        return scores

    @available_if(_head_has_probabilities)
    def predict_proba(
        self, X: ArrayLike, offset: ArrayLike | None = None
    ) -> NDArray[Any]:
        """Probabilities of the second head, if it has them.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        offset : array-like of shape (n_samples[, n_classes]), default=None
            Scores to add, as in `decision_function`. None: 0.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Probabilities of the classes.
        """
        chosen = self._chosen(X)
        shares: NDArray[Any] = _call(self.head_.predict_proba, chosen, offset=offset)
        return shares

    def _chosen(self, X: ArrayLike) -> NDArray[Any]:
        """Checked rows with the features that are not used at 0."""
        rows = checked_rows(self, X)
        return _only(rows, self.support_features_)

    def _layer(
        self,
        features: Tensor,
        targets: Tensor,
        weights: Tensor,
        tol: float | None,
        offset: Tensor | None = None,
    ) -> ChosenTask:
        selector, labels = self._parts()[0], targets.argmax(dim=-1)
        given = {"sample_weight": weights, "tol": tol}
        with torch.no_grad():
            solve, n_classes = selector.solve_episodes, targets.shape[-1]
            solution = _call(solve, features, labels, n_classes, **given, offset=offset)
        used = (solution.coef != 0).any(-1)[:, None].to(features)
        return ChosenTask(features * used, labels, n_classes, used, given, offset)

    def _logits(self, solved: ChosenTask, query: Tensor) -> Tensor:
        logits: Tensor = _call(
            self._parts()[1].episode_logits,
            solved.features,
            solved.labels,
            query * solved.used,
            solved.n_classes,
            **solved.given,
            support_offset=solved.offset,
        )
        return logits

    def _solve(
        self,
        features: Tensor,
        targets: Tensor,
        weights: Tensor,
        tol: float | None,
        offset: Tensor | None = None,
    ) -> HeadSolution:
        chosen = self._layer(features, targets, weights, tol, offset)
        solution: HeadSolution = _call(
            self._parts()[1].solve_episodes,
            chosen.features,
            chosen.labels,
            chosen.n_classes,
            **chosen.given,
            offset=offset,
        )
        return solution._replace(coef=solution.coef * chosen.used.mT)


class ChosenTask(NamedTuple):
    """Tasks with the features that are not used at 0, for the second head."""

    features: Tensor  # (n_tasks, n_support, n_features)
    labels: Tensor  # (n_tasks, n_support), class numbers
    n_classes: int
    used: Tensor  # (n_tasks, 1, n_features), 1 for the chosen features, else 0
    given: dict[str, Any]  # keywords of the layer
    offset: Tensor | None  # (n_tasks, n_support, n_classes)


def _call(method: Any, *args: Any, **optional: Any) -> Any:
    """Ask a part, which may be the user's, with those keywords that are not None."""
    _refuse_unknown(method, optional)
    return method(*args, **{k: v for k, v in optional.items() if v is not None})


def _refuse_unknown(method: Any, optional: dict[str, Any]) -> None:
    """Refuse, by name, what a method of a part has no parameter for."""
    known = signature(method).parameters.values()
    if any(parameter.kind is Parameter.VAR_KEYWORD for parameter in known):
        return
    names = {parameter.name for parameter in known}
    unknown = [k for k, v in optional.items() if v is not None and k not in names]
    if unknown:
        owner = type(getattr(method, "__self__", method)).__name__
        raise TypeError(
            f"{owner}.{method.__name__} takes no {' and no '.join(unknown)}, which "
            "RelaxedHead was given. Leave it out, or use a part that takes it."
        )


def _only(rows: NDArray[Any], features: NDArray[Any]) -> NDArray[Any]:
    """Rows with all other features at 0."""
    if isinstance(rows, SparseRows):
        kept = np.isin(np.arange(rows.shape[1]), features).astype(float)
        chosen = sparse.dia_array((kept[None], [0]), shape=(len(kept), len(kept)))
        return rows.matrix() @ chosen  # type: ignore[no-any-return]
    return np.where(np.isin(np.arange(rows.shape[1]), features), rows, 0.0)
