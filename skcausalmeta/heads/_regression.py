"""What the regression heads share: checks of their data, and predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_array, check_X_y
from sklearn.utils.validation import (
    _check_sample_weight,
    check_is_fitted,
    validate_data,
)
from torch import Tensor

from ..exceptions import InvalidInputError
from ..utils import saying_where_text_is
from ._base import check_weights


def training_rows(
    head: Any, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Rows, targets of one or two axes, and row weights of `fit`, in double."""
    with saying_where_text_is(X), saying_where_text_is(y, "y"):
        rows, y = check_X_y(
            X, y, dtype=np.float64, multi_output=True, y_numeric=True, estimator=head
        )
    targets = check_array(
        y, dtype=np.float64, ensure_2d=False, input_name="y", estimator=head
    )
    weights = _check_sample_weight(
        sample_weight, rows, dtype=np.float64, ensure_non_negative=True
    )
    return rows, targets, weights


def precision(features: Tensor) -> torch.dtype:
    """Double, where the device has it: signs are decided by small differences."""
    return features.dtype if features.device.type == "mps" else torch.float64


def check_regression(
    features: Tensor, targets: Tensor, sample_weight: Tensor | None
) -> None:
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
    for name, tensor in (("features", features), ("targets", targets)):
        if not bool(torch.isfinite(tensor.detach()).all()):
            raise InvalidInputError(
                f"Support {name} must be finite. Got NaN or infinity; if they come "
                "from a backbone, its training diverged: lower its learning rate."
            )
    if sample_weight is not None:
        check_weights(sample_weight.detach(), features)


class LinearPredictionsMixin:
    """`predict` of a head with weights and intercept."""

    coef_: NDArray[Any]
    intercept_: Any

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Predict targets.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            ``X @ coef_.T + intercept_``.
        """
        check_is_fitted(self)
        with saying_where_text_is(X):
            X = validate_data(self, X, dtype=np.float64, reset=False)
        return X @ self.coef_.T + self.intercept_
