"""What the classifiers among the heads have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin
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

from ..utils import saying_where_text_is
from ._base import check_episodes


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


class HeadClassifierMixin(ClassifierMixin, ABC):
    """Prediction from scores, one per class; a head supplies `_scores`."""

    classes_: NDArray[Any]
    support_features_: NDArray[Any]
    sparsity_: float

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
        scores = self._checked_scores(X)
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
        winners = self._checked_scores(X).argmax(axis=1)
        return self.classes_[winners]

    def _checked_scores(self, X: ArrayLike) -> NDArray[Any]:
        check_is_fitted(self)
        with saying_where_text_is(X):
            rows = validate_data(self, X, dtype=np.float64, reset=False)
        return self._scores(rows)

    @abstractmethod
    def _scores(self, X: NDArray[Any]) -> NDArray[Any]:
        """Scores (n_samples, n_classes) of checked rows."""

    def _store_support(self, coef: NDArray[Any]) -> None:
        """Features that a class has a weight for, coef (n_classes, n_features)."""
        self.support_features_ = np.flatnonzero((coef != 0).any(axis=0))
        self.sparsity_ = 1.0 - len(self.support_features_) / coef.shape[1]


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
    with saying_where_text_is(X):
        rows, y = check_X_y(X, y, dtype=np.float64, order="C", estimator=estimator)
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
        As `check_episodes` says.
    """
    weights = episode_weights(features, targets, n_classes, sample_weight)
    return encoded(targets, n_classes, features), weights


def episode_weights(
    features: Tensor,
    targets: Tensor,
    n_classes: int,
    sample_weight: Tensor | None,
) -> Tensor:
    """Check support sets; row weights like the features, 1 where not given.

    Raises
    ------
    InvalidInputError
        As `check_episodes` says.
    """
    check_episodes(features, targets, n_classes, sample_weight)
    if sample_weight is None:
        return features.new_ones(features.shape[:2])
    return sample_weight.to(features)


def encoded(targets: Tensor, n_classes: int, like: Tensor) -> Tensor:
    """One-hot targets with the dtype and device of `like`."""
    return one_hot(targets.long(), n_classes).to(like)


def _balanced(codes: NDArray[Any], weights: NDArray[Any]) -> NDArray[Any]:
    """n / (n_classes * rows of the class), rows counted with their weights."""
    counts = np.bincount(codes, weights=weights)
    return weights.sum() / (len(counts) * np.maximum(counts, np.finfo(float).tiny))
