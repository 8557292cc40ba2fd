"""What every head offers to the learners, told once: heads of classes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context
from sklearn.preprocessing import LabelEncoder
from sklearn.utils import check_X_y, compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_sample_weight,
    check_is_fitted,
    validate_data,
)
from torch import Tensor
from torch.nn.functional import one_hot

from ..exceptions import InvalidInputError
from ..utils import SparseRows, dense_rows, refuse_text


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


class TrainingBatch(NamedTuple):
    """The checked rows of `fit` as a batch of one task, float64.

    Parameters
    ----------
    features : Tensor of shape (1, n_samples, n_features)
        Rows.
    targets : Tensor of shape (1, n_samples, n_classes)
        One-hot targets.
    weights : Tensor of shape (1, n_samples)
        Row weights times class weights.
    classes : ndarray of shape (n_classes,)
        Labels of the classes.
    """

    features: Tensor
    targets: Tensor
    weights: Tensor
    classes: NDArray[Any]


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

    def decision_function(self, X: ArrayLike) -> NDArray[Any]:
        """Scores of the classes.

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
        scores = self._scores(checked_rows(self, X))
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
        winners = self._scores(checked_rows(self, X)).argmax(axis=1)
        return self.classes_[winners]

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
    of a fitted head). `check_head` runs all that is promised here.

    Attributes
    ----------
    inexact_gradient : str
        Why the gradient in the features is not the one of finite differences;
        empty where it is.
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
    dual_gap_: float
    support_features_: NDArray[Any]
    sparsity_: float

    @abstractmethod
    def _layer(
        self, features: Tensor, targets: Tensor, weights: Tensor, tol: float | None
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

        Returns
        -------
        tuple of Tensor
            Weights (n_tasks, n_features, n_classes) and intercepts (n_tasks,
            n_classes), or whatever else the `_logits` of the head takes.
        """

    def _solve(
        self, features: Tensor, targets: Tensor, weights: Tensor, tol: float | None
    ) -> HeadSolution:
        """Solutions with certificates; called like `_layer`, without gradients."""
        coef, intercept = self._layer(features, targets, weights, tol)
        return exact_solution(coef, intercept, targets)

    def _logits(self, solved: Any, query: Tensor) -> Tensor:
        """Scores (n_tasks, n_query, n_classes) by what `_layer` returned."""
        coef, intercept = solved
        return query @ coef + intercept[:, None]

    def _fit(self, task: TrainingBatch) -> dict[str, Any]:
        """Attributes of the fitted head by name, `coef_` among them; no gradients."""
        solution = self._solve(task.features, task.targets, task.weights, None)
        return {
            "coef_": solution.coef[0].T.numpy(),
            "intercept_": solution.intercept[0].numpy(),
            "dual_gap_": float(solution.gap),
        }

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Solve the task that the rows of X are.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features. A sparse matrix is solved as a dense array of its shape.
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
            For invalid data or parameters; the estimator stays as it was.
        SolverError
            If a solver returns no point.

        Warns
        -----
        ConvergenceWarning
            If the gap of a solver stays above its tolerance.
        """
        class_weight = getattr(self, "class_weight", None)
        task = training_batch(self, X, y, sample_weight, class_weight)
        # A parameter may be a tensor that asks for gradients; fit needs none.
        with torch.no_grad():
            facts = self._fit(task)
        # Only now: a failure above leaves the estimator as it was.
        validate_data(self, X, skip_check_array=True)
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
        with torch.no_grad():
            encoded, weights = episode_inputs(
                features, targets, n_classes, sample_weight
            )
            return self._solve(features, encoded, weights, tol)

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

        Differentiable in both sets of features, in the row weights, and in the
        parameters of the head that are tensors. Where a solver is at work, the
        optimality conditions of the solved problem are differentiated, not its
        iterations, and once only; a closed form has gradients of gradients.

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
        encoded, weights = episode_inputs(
            support_features, support_targets, n_classes, sample_weight
        )
        check_query(query_features, support_features)
        solved = self._layer(support_features, encoded, weights, tol)
        return self._logits(solved, query_features)


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
    try:
        rows: Any = validate_data(
            head, X, accept_sparse="csr", dtype=np.float64, reset=False
        )
    except ValueError as error:
        refuse_text(X, "X", error)
        raise
    return SparseRows(rows) if sparse.issparse(rows) else rows  # type: ignore[return-value]


def training_batch(
    estimator: Any,
    X: ArrayLike,
    y: ArrayLike,
    sample_weight: ArrayLike | None,
    class_weight: dict[Any, float] | str | None = None,
) -> TrainingBatch:
    """Check what `fit` was given; the estimator stays as it was.

    Raises
    ------
    ValueError
        For invalid rows, labels or weights, and for a single class.
    """
    try:
        rows, y = check_X_y(
            X,
            y,
            accept_sparse="csr",
            dtype=np.float64,
            order="C",
            estimator=estimator,
        )
    except ValueError as error:
        refuse_text(X, "X", error)
        raise
    if sparse.issparse(rows):
        rows = dense_rows(rows, type(estimator).__name__)
    check_classification_targets(y)
    encoder = LabelEncoder().fit(y)
    codes, classes = encoder.transform(y), encoder.classes_
    if len(classes) < 2:
        raise ValueError(
            f"{type(estimator).__name__} needs at least 2 classes in y. Got 1 class: "
            f"{classes.tolist()[0]!r}; add rows of another class."
        )
    weights = _check_sample_weight(
        sample_weight, rows, dtype=np.float64, ensure_non_negative=True
    )
    factors = compute_class_weight(class_weight, classes=classes, y=y)
    if class_weight == "balanced":
        factors = _balanced(codes, weights)
    weights = weights * factors[codes]
    if not weights.any() or (weights < 0).any():
        raise ValueError(
            "sample_weight times class_weight must be >= 0 for every row and > 0 "
            f"for one. Got values from {weights.min():g} to {weights.max():g}."
        )
    return TrainingBatch(
        torch.from_numpy(np.array(rows))[None],
        one_hot(torch.from_numpy(codes), len(classes))[None].double(),
        torch.from_numpy(weights)[None],
        classes,
    )


def _balanced(codes: NDArray[Any], weights: NDArray[Any]) -> NDArray[Any]:
    """n / (n_classes * rows of the class), rows counted with their weights."""
    counts = np.bincount(codes, weights=weights)
    return weights.sum() / (len(counts) * np.maximum(counts, np.finfo(float).tiny))


def episode_inputs(
    features: Tensor,
    targets: Tensor,
    n_classes: int,
    sample_weight: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Check support sets; one-hot targets and row weights like the features.

    Raises
    ------
    InvalidInputError
        If shapes do not agree, a feature is not finite, a label is outside
        0..n_classes-1 or a task has no row of positive weight.
    """
    if features.ndim != 3 or targets.shape != features.shape[:2]:
        raise InvalidInputError(
            "Support features must have shape (n_tasks, n_support, n_features) and "
            f"targets (n_tasks, n_support). Got {tuple(features.shape)} and "
            f"{tuple(targets.shape)}."
        )
    if n_classes < 2:
        raise InvalidInputError(
            f"A head needs at least 2 classes. Got n_classes={n_classes}."
        )
    if (
        targets.numel()
        and not 0 <= int(targets.min()) <= int(targets.max()) < n_classes
    ):
        raise InvalidInputError(
            f"Targets must be class numbers 0..{n_classes - 1}. Got values from "
            f"{int(targets.min())} to {int(targets.max())}."
        )
    if not bool(torch.isfinite(features.detach()).all()):
        raise InvalidInputError(
            "Support features must be finite. Got NaN or infinity; if they come "
            "from a backbone, its training diverged: lower its learning rate."
        )
    weights = row_weights(features, sample_weight)
    return one_hot(targets.long(), n_classes).to(features), weights


def row_weights(features: Tensor, sample_weight: Tensor | None) -> Tensor:
    """Row weights like the features, 1 where not given.

    Raises
    ------
    InvalidInputError
        If they do not fit the rows or leave a task without any.
    """
    if sample_weight is None:
        return features.new_ones(features.shape[:2])
    weights = sample_weight.detach()
    if weights.shape != features.shape[:2]:
        raise InvalidInputError(
            "sample_weight must have one weight for every row. Got shape "
            f"{tuple(weights.shape)}, expected {tuple(features.shape[:2])}."
        )
    if not bool((weights >= 0).all()) or not bool((weights > 0).any(-1).all()):
        raise InvalidInputError(
            "sample_weight must be >= 0, with a row > 0 in every task. Got a "
            "negative weight, NaN, or a task of zeros; drop that task."
        )
    return sample_weight.to(features)


def check_query(query: Tensor, support: Tensor) -> None:
    """Refuse query rows of other tasks or other features than the support rows.

    Raises
    ------
    InvalidInputError
    """
    if query.ndim != 3 or query.shape[::2] != support.shape[::2]:
        raise InvalidInputError(
            "Query features must have shape (n_tasks, n_query, n_features), with the "
            f"tasks and features of the support rows. Got {tuple(query.shape)} beside "
            f"{tuple(support.shape)}."
        )
