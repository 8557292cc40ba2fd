"""What every head offers to the learners, told once: heads of classes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache
from inspect import signature
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from ..exceptions import InvalidInputError
from ..utils import (
    SparseRows,
    refuse_masked,
    refuse_other_index,
    refuse_other_kinds,
    without_graph,
)
from ._inputs import (
    TrainingBatch,
    balanced_weights,
    check_parameters,
    check_query,
    episode_inputs,
    episode_offset,
    is_balanced,
    remember_columns,
    score_offset,
    training_batch,
)


class HeadSolution(NamedTuple):
    """Solved heads of a batch of tasks.

    Parameters
    ----------
    coef : Tensor of shape (n_tasks, n_features, n_classes)
        Weights W; scores are ``F W + intercept``.
    dual : Tensor of shape (n_tasks, n_samples, n_classes)
        Dual point B.
    gap : Tensor of shape (n_tasks,)
        Certificate P(W) - D(B).
    n_iter : Tensor of shape (n_tasks,)
        Iterations of the solver.
    intercept : Tensor of shape (n_tasks, n_classes)
        Intercepts, 0 without one.
    relative_gap : Tensor of shape (n_tasks,)
        ``gap / P(W)``.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.heads import GroupLassoSVC
    >>> features = torch.eye(4, dtype=torch.float64)[None]
    >>> labels = torch.tensor([[0, 0, 1, 1]])
    >>> solution = GroupLassoSVC(solver="fista").solve_episodes(features, labels, 2)
    >>> solution.coef.shape
    torch.Size([1, 4, 2])
    """

    coef: Tensor
    dual: Tensor
    gap: Tensor
    n_iter: Tensor
    intercept: Tensor
    relative_gap: Tensor


class LargestScoreMixin(ClassifierMixin):
    """Predictions of a fitted classifier that scores every class."""

    classes_: NDArray[Any]
    coef_: NDArray[Any]
    intercept_: NDArray[Any]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        # Hyperplanes through the origin cannot follow data that are not centred.
        tags.classifier_tags.poor_score = not getattr(self, "fit_intercept", True)
        return tags

    def decision_function(
        self, X: ArrayLike, offset: ArrayLike | None = None
    ) -> NDArray[Any]:
        """Scores of the classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        offset : array-like of shape (n_samples[, n_classes]), default=None
            Scores to add, for example of a common predictor. Columns in the order of
            `classes_`; for two classes, one number is the score of ``classes_[1]``
            minus the one of ``classes_[0]``. None: 0.

        Returns
        -------
        ndarray of shape (n_samples, n_classes) or (n_samples,)
            For two classes the score of ``classes_[1]`` minus the one of
            ``classes_[0]``.
        """
        scores = self._answers(X, offset)
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    def predict(self, X: ArrayLike, offset: ArrayLike | None = None) -> NDArray[Any]:
        """Class of the largest score.

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
        winners = self._answers(X, offset).argmax(axis=1)
        return self.classes_[winners]

    def score(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> float:
        """Accuracy of `predict`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,)
            True labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights.

        Returns
        -------
        float

        Raises
        ------
        InvalidInputError
            If pandas objects among them have different indices.
        """
        refuse_other_index(X=X, y=y, sample_weight=sample_weight)
        return float(super().score(X, y, sample_weight))

    def _answers(self, X: ArrayLike, offset: ArrayLike | None) -> NDArray[Any]:
        """Scores (n_samples, n_classes), those of the offset among them."""
        scores = self._scores(checked_rows(self, X))
        return (
            scores if offset is None else scores + score_offset(offset, *scores.shape)
        )

    def _scores(self, X: NDArray[Any]) -> NDArray[Any]:
        """Scores (n_samples, n_classes) of checked rows."""
        return X @ self.coef_.T + self.intercept_


class Head(LargestScoreMixin, BaseEstimator, ABC):
    """Classifier of one task: scikit-learn estimator and differentiable layer.

    As an estimator it is fitted to the rows of a task. As a layer it solves a batch
    of tasks, tensors with a leading axis of tasks, and answers query rows with
    gradients in the features. A head of your own supplies `_layer`; a head with a
    solver also tells its certificate (`_solve`), and a head whose scores are not
    ``F W + intercept`` what they are (`_logits` for tensors, `_scores` for the rows
    of a fitted head). Where these methods have a parameter `offset`, scores that are
    known beforehand can be given. `check_head` runs all that is promised here.

    Attributes
    ----------
    inexact_gradient : str
        Why the gradient in the features is not the one of finite differences;
        empty where it is.
    fixed_origin : str
        Why a number that is added to a feature of all rows matters; empty where it
        does not.
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    coef_ : ndarray of shape (n_classes, n_features)
        Weights W'.
    intercept_ : ndarray of shape (n_classes,)
        Intercepts.
    dual_gap_ : float
        Certificate of the solution; 0 where there is no solver.
    support_features_ : ndarray of shape (n_used,)
        Indices of the features that are used.
    sparsity_ : float
        Share of features that are not used.

    See Also
    --------
    RegressionHead : The same for real targets.
    check_head : Runs this contract on a head.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skcausalmeta.heads import Head
    >>> class MeansHead(Head):
    ...     def _layer(self, features, targets, weights, tol):
    ...         shares = targets * weights[..., None]
    ...         shares = shares / shares.sum(dim=1, keepdim=True).clamp_min(1e-9)
    ...         means = shares.mT @ features  # (n_tasks, n_classes, n_features)
    ...         return 2 * means.mT, -means.square().sum(-1)
    >>> head = MeansHead().fit(*load_iris(return_X_y=True))
    >>> print(f"{head.score(*load_iris(return_X_y=True)):.2f}")
    0.93
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {}
    inexact_gradient: str = ""
    fixed_origin: str = ""
    dual_gap_: float
    support_features_: NDArray[Any]
    sparsity_: float

    @abstractmethod
    def _layer(
        self,
        features: Tensor,
        targets: Tensor,
        weights: Tensor,
        tol: float | None,
        offset: Tensor | None = None,
    ) -> Any:
        """Solve checked tasks, with gradients.

        Parameters
        ----------
        features : Tensor of shape (n_tasks, n_support, n_features)
            Support features.
        targets : Tensor of shape (n_tasks, n_support, n_classes)
            One-hot targets, like the features.
        weights : Tensor of shape (n_tasks, n_support)
            Row weights.
        tol : float or None
            Relative gap to reach. None: the head's own.
        offset : Tensor of shape (n_tasks, n_support, n_classes), default=None
            What is added to the scores of the support rows. Passed if there is one
            only; a head without the parameter refuses offsets.

        Returns
        -------
        tuple of Tensor
            Weights (n_tasks, n_features, n_classes) and intercepts (n_tasks,
            n_classes), or whatever else the `_logits` of the head takes.
        """

    def _solve(
        self,
        features: Tensor,
        targets: Tensor,
        weights: Tensor,
        tol: float | None,
        offset: Tensor | None = None,
    ) -> HeadSolution:
        """Solutions with certificates; called like `_layer`, without gradients."""
        coef, intercept = self._layer(features, targets, weights, tol, *given(offset))
        return exact_solution(coef, intercept, targets)

    def _logits(self, solved: Any, query: Tensor) -> Tensor:
        """Scores (n_tasks, n_query, n_classes) by `_layer`, without their offset."""
        coef, intercept = solved
        return query @ coef + intercept[:, None]

    def _fit(self, task: TrainingBatch) -> dict[str, Any]:
        """Attributes of the fitted head by name, `coef_` among them; no gradients."""
        solution = self._solve(*task[:3], None, *given(task.offset))
        return {
            "coef_": solution.coef[0].T.numpy(),
            "intercept_": solution.intercept[0].numpy(),
            "dual_gap_": float(solution.gap),
        }

    def _class_weighted(
        self, targets: Tensor, weights: Tensor, offset: Tensor | None
    ) -> Tensor:
        """Row weights of the layer; a dict by label is for `fit`, which has labels."""
        if not is_balanced(getattr(self, "class_weight", None), offset):
            return weights
        return balanced_weights(targets, weights)

    def _validate_params(self) -> None:
        check_parameters(self)

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        offset: ArrayLike | None = None,
        classes: ArrayLike | None = None,
    ) -> Self:
        """Solve the task that the rows of X are.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features. A sparse matrix is solved as a dense array of its shape.
        y : array-like of shape (n_samples,)
            Class labels, at least two classes unless `classes` names them.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights >= 0. None: 1.
        offset : array-like of shape (n_samples[, n_classes]), default=None
            Scores to add, for example of a common predictor. Columns in the order of
            the sorted labels; for two classes, one number is the score of the second
            minus the one of the first. None: 0.
        classes : array-like of shape (n_classes,), default=None
            All labels that there are. One without rows in y is answered by the
            offset and the intercept. None: the labels in y.

        Returns
        -------
        self : object
            Itself.

        Raises
        ------
        ValueError
            For invalid data or parameters; the estimator stays as it was.
        SolverError
            If a solver returns no point.

        Warns
        -----
        ConvergenceWarning
            If the gap of a solver stays above its tolerance.
        """
        class_weight = getattr(self, "class_weight", None)
        refuse_offset(self, offset)
        task = training_batch(
            self, X, y, sample_weight, class_weight, offset=offset, classes=classes
        )
        # A parameter may be a tensor that asks for gradients; fit needs none.
        with torch.no_grad():
            facts = self._fit(task)
        # Only now: a failure above leaves the estimator as it was.
        remember_columns(self, X)
        self.classes_ = task.classes
        store_support(self, facts["coef_"])
        for name, value in facts.items():
            setattr(self, name, value)
        return self

    def solve_episodes(
        self,
        features: Tensor,
        targets: Tensor,
        n_classes: int,
        *,
        sample_weight: Tensor | None = None,
        tol: float | None = None,
        offset: Tensor | None = None,
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
            Relative gap to reach; a closed form needs none. None: the parameter
            `tol` of the head.
        offset : Tensor of shape (n_tasks, n_support, n_classes), default=None
            Scores that are added to those of the head. None: 0.

        Returns
        -------
        HeadSolution
            In the units of the features.

        Raises
        ------
        InvalidInputError
            If shapes do not agree, a feature is not finite, a label is outside
            0..n_classes-1, a task has no row of positive weight, or a parameter
            is out of its range.
        """
        self._validate_params()
        refuse_offset(self, offset)
        with torch.no_grad():
            encoded, weights = episode_inputs(
                features, targets, n_classes, sample_weight
            )
            offset = episode_offset(offset, tuple(encoded.shape), features, "offset")
            weights = self._class_weighted(encoded, weights, offset)
            return self._solve(features, encoded, weights, tol, *given(offset))

    def episode_logits(
        self,
        support_features: Tensor,
        support_targets: Tensor,
        query_features: Tensor,
        n_classes: int,
        *,
        sample_weight: Tensor | None = None,
        tol: float | None = None,
        support_offset: Tensor | None = None,
        query_offset: Tensor | None = None,
    ) -> Tensor:
        """Scores of query rows by heads solved on support rows.

        Differentiable in both sets of features, in the row weights, in both offsets,
        and in the parameters of the head that are tensors. Where a solver is at
        work, the optimality conditions of the solved problem are differentiated, not
        its iterations, and once only; a closed form has gradients of gradients.

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
            Relative gap to reach; a closed form needs none. None: the parameter
            `tol` of the head.
        support_offset : Tensor of shape (n_tasks, n_support, n_classes), default=None
            Scores that are added to those of the head on the support rows, for
            example of a common predictor. None: 0.
        query_offset : Tensor of shape (n_tasks, n_query, n_classes), default=None
            Scores that are added to those of the head on the query rows. None: 0.

        Returns
        -------
        Tensor of shape (n_tasks, n_query, n_classes)

        Raises
        ------
        InvalidInputError
            If shapes do not agree, a support feature is not finite, a label is
            outside 0..n_classes-1, a task has no row of positive weight, or a
            parameter is out of its range.
        RuntimeError
            On double backward through a solver.
        """
        self._validate_params()
        refuse_offset(self, support_offset)
        encoded, weights = episode_inputs(
            support_features, support_targets, n_classes, sample_weight
        )
        check_query(query_features, support_features)
        support_offset = episode_offset(
            support_offset, tuple(encoded.shape), support_features, "support_offset"
        )
        shape = (*query_features.shape[:2], n_classes)
        query_offset = episode_offset(
            query_offset, shape, query_features, "query_offset"
        )
        weights = self._class_weighted(encoded, weights, support_offset)
        solved = self._layer(
            support_features, encoded, weights, tol, *given(support_offset)
        )
        logits = self._logits(solved, query_features)
        return logits if query_offset is None else logits + query_offset


def given(offset: Tensor | None) -> tuple[Tensor, ...]:
    """The last argument of `_layer` and `_solve`, where there is one."""
    return () if offset is None else (offset,)


def takes_offset(head: Any) -> bool:
    """Tell whether a head can be solved around scores that are known beforehand.

    Parameters
    ----------
    head : estimator
        With the contract of `Head` or `RegressionHead`.

    Returns
    -------
    bool
        Whether its methods, and those of heads that it holds, have the parameters
        `offset` and `support_offset`.

    Examples
    --------
    >>> from skcausalmeta.heads import RidgeHead, takes_offset
    >>> takes_offset(RidgeHead())
    True
    """
    needed = [(head.fit, "offset")]
    if isinstance(head, Head):  # whose public methods refuse by these
        needed += [(head._layer, "offset"), (head._solve, "offset")]
    for name in ("episode_logits", "episode_predictions"):
        if hasattr(head, name):
            needed.append((getattr(head, name), "support_offset"))
    held = head.get_params(deep=False).values() if hasattr(head, "get_params") else ()
    parts = [part for part in held if hasattr(part, "episode_logits")]
    return all(name in signature(method).parameters for method, name in needed) and all(
        map(takes_offset, parts)
    )


def refuse_offset(head: Any, offset: Any) -> None:
    """Refuse an offset if the head has no place for it.

    Raises
    ------
    InvalidInputError
    """
    kind: Any = type(head)
    if offset is None or _have_offset(kind):
        return
    name = type(head).__name__
    raise InvalidInputError(
        f"{name} takes no offset of the scores: its _layer (or _solve) has no "
        "parameter offset. Got an offset; leave it out, or use a head that takes one."
    )


@lru_cache(maxsize=128)
def _have_offset(kind: Any) -> bool:
    """Whether the layer of a kind of head, called in every step, has an offset."""
    methods = kind._layer, kind._solve
    return all("offset" in signature(method).parameters for method in methods)


def exact_solution(coef: Tensor, intercept: Tensor, targets: Tensor) -> HeadSolution:
    """Solution of a head without a solver: no dual point, a gap of 0."""
    zeros = torch.zeros_like(coef[:, 0, 0])
    return HeadSolution(
        coef, torch.zeros_like(targets), zeros, zeros.long(), intercept, zeros
    )


def store_support(head: Any, coef: NDArray[Any]) -> None:
    """Keep the features that some class has a weight for, (n_classes, n_features)."""
    head.support_features_ = np.flatnonzero((coef != 0).any(axis=0))
    head.sparsity_ = 1.0 - len(head.support_features_) / coef.shape[1]


def checked_rows(head: Any, X: ArrayLike) -> NDArray[Any]:
    """Rows that a fitted head is asked about, in double, as `SparseRows` if sparse."""
    check_is_fitted(head)
    X = without_graph(X)
    refuse_masked(X)
    try:
        rows: Any = validate_data(
            head, X, accept_sparse="csr", dtype=np.float64, reset=False
        )
    except ValueError as error:
        refuse_other_kinds(X, "X", error)
        raise
    return SparseRows(rows) if sparse.issparse(rows) else rows  # type: ignore[return-value]
