"""What every head offers to the learners, told once: heads of real targets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin, _fit_context
from sklearn.utils import check_array, check_X_y
from sklearn.utils.validation import _check_sample_weight
from torch import Tensor

from ..exceptions import InvalidInputError
from ..utils import (
    dense_rows,
    refuse_masked,
    refuse_other_index,
    saying_where_text_is,
    without_graph,
)
from ._contract import HeadSolution, checked_rows, exact_solution
from ._inputs import (
    check_parameters,
    check_query,
    check_size,
    episode_offset,
    remember_columns,
    row_weights,
)


class RegressionBatch(NamedTuple):
    """The checked rows of `fit` as a batch of one task, float64.

    Parameters
    ----------
    features : Tensor of shape (1, n_samples, n_features)
        Rows.
    targets : Tensor of shape (1, n_samples, n_outputs)
        Targets, less their offset.
    weights : Tensor of shape (1, n_samples)
        Row weights.
    single : bool
        Whether y has one axis, and so do `coef_` and `intercept_` lack one.
    """

    features: Tensor
    targets: Tensor
    weights: Tensor
    single: bool


class RegressionHead(MultiOutputMixin, RegressorMixin, BaseEstimator, ABC):
    """Regression of one task: scikit-learn estimator and differentiable layer.

    What `Head` is for classes, with outputs in their place. The layer works in double
    precision, because signs are decided by small differences, and answers in the
    precision of the query features. An offset, predictions that are known beforehand,
    is taken off the targets that the layer is given, and added to its predictions.

    Attributes
    ----------
    inexact_gradient : str
        Why the gradient in the features is not the one of finite differences;
        empty where it is.
    fixed_origin : str
        Why a number that is added to a feature of all rows matters; empty where it
        does not.
    coef_ : ndarray of shape (n_features,) or (n_outputs, n_features)
        Weights; two axes if y has two.
    intercept_ : float or ndarray of shape (n_outputs,)
        Intercepts.
    dual_gap_ : float
        Certificate of the solution; 0 where there is no solver.
    support_features_ : ndarray of shape (n_used,)
        Indices of the features that any output uses.
    sparsity_ : float
        Share of features that no output uses.

    See Also
    --------
    Head : The same for classes.
    check_head : Runs this contract on a head.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_diabetes
    >>> from skcausalmeta.heads import RegressionHead
    >>> class LeastSquaresHead(RegressionHead):
    ...     def _layer(self, features, targets, weights, tol):
    ...         root = weights[..., None].sqrt()
    ...         rows = torch.nn.functional.pad(features, (0, 1), value=1.0)
    ...         coef = torch.linalg.lstsq(root * rows, root * targets).solution
    ...         return coef[:, :-1], coef[:, -1]
    >>> X, y = load_diabetes(return_X_y=True)
    >>> print(f"{LeastSquaresHead().fit(X, y).score(X, y):.2f}")
    0.52
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {}
    inexact_gradient: str = ""
    fixed_origin: str = ""
    coef_: NDArray[Any]
    intercept_: Any
    dual_gap_: float
    support_features_: NDArray[Any]
    sparsity_: float

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    @abstractmethod
    def _layer(
        self, features: Tensor, targets: Tensor, weights: Tensor, tol: float | None
    ) -> tuple[Tensor, Tensor]:
        """Solve checked tasks, with gradients, in double precision.

        Parameters
        ----------
        features : Tensor of shape (n_tasks, n_support, n_features)
            Support features.
        targets : Tensor of shape (n_tasks, n_support, n_outputs)
            Targets.
        weights : Tensor of shape (n_tasks, n_support)
            Row weights.
        tol : float or None
            Relative gap to reach. None: the head's own.

        Returns
        -------
        coef : Tensor of shape (n_tasks, n_features, n_outputs)
            Weights.
        intercept : Tensor of shape (n_tasks, n_outputs)
            Intercepts.
        """

    def _solve(
        self, features: Tensor, targets: Tensor, weights: Tensor, tol: float | None
    ) -> HeadSolution:
        """Solutions with certificates; called like `_layer`, without gradients."""
        coef, intercept = self._layer(features, targets, weights, tol)
        return exact_solution(coef, intercept, targets)

    def _fit(self, task: RegressionBatch) -> dict[str, Any]:
        """Attributes of the fitted head by name; no gradients.

        `coef_` (n_outputs, n_features) and `intercept_` (n_outputs,) are among them;
        `fit` takes the axis of outputs off if y has none.
        """
        solution = self._solve(task.features, task.targets, task.weights, None)
        return {
            "coef_": solution.coef[0].T.numpy(),
            "intercept_": solution.intercept[0].numpy(),
            "dual_gap_": float(solution.gap),
        }

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
    ) -> Self:
        """Solve the task that the rows of X are.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features. A sparse matrix is solved as a dense array of its shape.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights >= 0. None: 1.
        offset : array-like of the shape of y, default=None
            Predictions to add to those of the head, for example of a common
            predictor. None: 0.

        Returns
        -------
        self : object
            Itself.

        Raises
        ------
        ValueError
            For invalid data or parameters; the estimator stays as it was.

        Warns
        -----
        ConvergenceWarning
            If the gap of a solver stays above its tolerance.
        """
        task = regression_batch(self, X, y, sample_weight, offset)
        # A parameter may be a tensor that asks for gradients; fit needs none.
        with torch.no_grad():
            facts = self._fit(task)
        # Only now: a failure above leaves the estimator as it was.
        remember_columns(self, X)
        coef, intercept = facts["coef_"], facts["intercept_"]
        self.support_features_ = np.flatnonzero((coef != 0).any(axis=0))
        self.sparsity_ = float((coef == 0).all(axis=0).mean())
        if task.single:
            facts |= {"coef_": coef[0], "intercept_": float(intercept[0])}
        for name, value in facts.items():
            setattr(self, name, value)
        return self

    def predict(self, X: ArrayLike, offset: ArrayLike | None = None) -> NDArray[Any]:
        """Predict targets.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        offset : array-like of shape (n_samples[, n_outputs]), default=None
            Predictions to add, of the shape of those of the head. None: 0.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            ``X @ coef_.T + intercept_ + offset``.
        """
        predictions: NDArray[Any] = checked_rows(self, X) @ self.coef_.T
        predictions = predictions + self.intercept_
        if offset is None:
            return predictions
        return predictions + target_offset(offset, predictions.shape)

    def score(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> float:
        """R squared of `predict`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            True targets.
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

    def solve_episodes(
        self,
        features: Tensor,
        targets: Tensor,
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
        targets : Tensor of shape (n_tasks, n_support[, n_outputs])
            Targets.
        sample_weight : Tensor of shape (n_tasks, n_support), default=None
            Row weights; rows of weight 0 pad smaller tasks.
        tol : float, default=None
            Relative gap to reach; a closed form needs none. None: the parameter
            `tol` of the head.
        offset : Tensor of the shape of the targets, default=None
            Predictions that are added to those of the head. None: 0.

        Returns
        -------
        HeadSolution
            In the units of the data, with outputs in the place of classes.

        Raises
        ------
        InvalidInputError
            If shapes do not agree, a feature or target is not finite, a task has no
            row of positive weight, or a parameter is out of its range.
        """
        with torch.no_grad():
            task = self._checked_task(features, targets, sample_weight, offset)
            solution = self._solve(*task, tol)
        parts = (part.to(features.dtype) for part in solution)
        return HeadSolution(*parts)._replace(n_iter=solution.n_iter)

    def episode_predictions(
        self,
        support_features: Tensor,
        support_targets: Tensor,
        query_features: Tensor,
        *,
        sample_weight: Tensor | None = None,
        tol: float | None = None,
        support_offset: Tensor | None = None,
        query_offset: Tensor | None = None,
    ) -> Tensor:
        """Predictions for query rows by heads solved on support rows.

        Differentiable in both sets of features, in the targets, in the row weights,
        in both offsets, and in the parameters of the head that are tensors. Where a
        solver is at work, the optimality conditions of the solved problem are
        differentiated, not its iterations, and once only; a closed form has gradients
        of gradients.

        Parameters
        ----------
        support_features : Tensor of shape (n_tasks, n_support, n_features)
            Support features.
        support_targets : Tensor of shape (n_tasks, n_support[, n_outputs])
            Targets.
        query_features : Tensor of shape (n_tasks, n_query, n_features)
            Query features.
        sample_weight : Tensor of shape (n_tasks, n_support), default=None
            Row weights; rows of weight 0 pad smaller tasks.
        tol : float, default=None
            Relative gap to reach; a closed form needs none. None: the parameter
            `tol` of the head.
        support_offset : Tensor of the shape of the support targets, default=None
            Predictions that are added to those of the head on the support rows, for
            example of a common predictor. None: 0.
        query_offset : Tensor of shape (n_tasks, n_query[, n_outputs]), default=None
            Predictions that are added to those of the head on the query rows.
            None: 0.

        Returns
        -------
        Tensor of shape (n_tasks, n_query[, n_outputs])
            With the axis of outputs if the targets have it.

        Raises
        ------
        InvalidInputError
            If shapes do not agree, a support feature or target is not finite, a task
            has no row of positive weight, or a parameter is out of its range.
        RuntimeError
            On double backward through a solver.
        """
        task = self._checked_task(
            support_features, support_targets, sample_weight, support_offset
        )
        check_query(query_features, support_features)
        shape = (*query_features.shape[:2], *support_targets.shape[2:])
        query_offset = episode_offset(
            query_offset, shape, query_features, "query_offset"
        )
        coef, intercept = (
            part.to(query_features.dtype) for part in self._layer(*task, tol)
        )
        predictions = query_features @ coef + intercept[:, None]
        if support_targets.ndim == 2:
            predictions = predictions[..., 0]
        return predictions if query_offset is None else predictions + query_offset

    def _checked_task(
        self,
        features: Tensor,
        targets: Tensor,
        sample_weight: Tensor | None,
        offset: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Features, targets (n_tasks, n_support, n_outputs), weights; in double.

        The loss sees targets less predictions, so an offset is taken off the targets.
        """
        self._validate_params()
        check_regression(features, targets)
        precise = precision(features)
        offset = episode_offset(
            offset, tuple(targets.shape), features.to(precise), "The support's offset"
        )
        if offset is not None:
            targets = targets.to(precise) - offset
        outputs = targets.reshape(*targets.shape[:2], -1)
        weights = row_weights(features, sample_weight)
        return features.to(precise), outputs.to(precise), weights.to(precise)


def regression_batch(
    head: Any,
    X: ArrayLike,
    y: ArrayLike,
    sample_weight: ArrayLike | None,
    offset: ArrayLike | None = None,
) -> RegressionBatch:
    """Check what `fit` was given; the head stays as it was.

    Raises
    ------
    ValueError
        For invalid rows, targets, weights or offsets.
    """
    refuse_other_index(X=X, y=y, sample_weight=sample_weight, offset=offset)
    X, y = without_graph(X), without_graph(y)
    refuse_masked(X, "X")
    refuse_masked(y, "y")
    with saying_where_text_is(X), saying_where_text_is(y, "y"):
        rows, y = check_X_y(
            X,
            y,
            accept_sparse="csr",
            dtype=np.float64,
            multi_output=True,
            y_numeric=True,
            estimator=head,
        )
    if sparse.issparse(rows):
        rows = dense_rows(rows, type(head).__name__)
    targets = check_array(
        y, dtype=np.float64, ensure_2d=False, input_name="y", estimator=head
    )
    if offset is not None:
        targets = targets - target_offset(offset, targets.shape)
    weights = _check_sample_weight(
        sample_weight, rows, dtype=np.float64, ensure_non_negative=True
    )
    if not weights.any():  # older versions of scikit-learn let zeros pass
        raise InvalidInputError(
            "sample_weight must be > 0 for one row at least. Got zeros only; leave it "
            "out for equal weights."
        )
    features = torch.from_numpy(np.array(rows))[None]
    outputs = torch.from_numpy(targets.reshape(len(rows), -1).copy())[None]
    check_size(features, "The features of X")
    check_size(outputs, "The targets y")
    return RegressionBatch(
        features,
        outputs,
        torch.from_numpy(weights)[None],
        targets.ndim == 1,
    )


def target_offset(offset: ArrayLike, shape: tuple[int, ...]) -> NDArray[Any]:
    """An offset of predictions of the given shape, in double.

    Raises
    ------
    InvalidInputError
        If it has another shape.
    ValueError
        If it is not finite.
    """
    found: NDArray[Any] = check_array(
        offset, dtype=np.float64, ensure_2d=False, input_name="offset"
    )
    if found.shape != shape:
        raise InvalidInputError(
            "offset must hold a number for every target. Got shape "
            f"{found.shape}, expected {shape}."
        )
    return found


def precision(features: Tensor) -> torch.dtype:
    """Double, where the device has it: signs are decided by small differences."""
    return features.dtype if features.device.type == "mps" else torch.float64


def check_regression(features: Tensor, targets: Tensor) -> None:
    """Refuse support sets that no regression can be solved on.

    Raises
    ------
    InvalidInputError
        If shapes do not agree, or a feature or target is not finite.
    """
    if (
        features.ndim != 3
        or targets.ndim not in (2, 3)
        or targets.shape[:2] != features.shape[:2]
        or 0 in targets.shape
        or features.shape[-1] == 0
    ):
        raise InvalidInputError(
            "Support features must have shape (n_tasks, n_support, n_features) and "
            "targets (n_tasks, n_support) or (n_tasks, n_support, n_outputs), with no "
            f"empty axis. Got {tuple(features.shape)} and {tuple(targets.shape)}."
        )
    check_size(features, "Support features")
    check_size(targets, "Support targets")
