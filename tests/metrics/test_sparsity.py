"""feature_sparsity on hand-worked cases and on scikit-learn's sparse models."""

import numpy as np
import pytest
from sklearn.datasets import make_regression
from sklearn.linear_model import MultiTaskLasso

from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.metrics import feature_sparsity


def test_single_predictor():
    assert feature_sparsity([0.0, 1.0, 0.0, -2.0, 0.0]) == 0.6
    assert feature_sparsity(np.zeros(3)) == 1.0
    assert feature_sparsity([[1.0, -1.0]]) == 0.0


def test_a_feature_is_used_if_any_class_uses_it():
    # Weights that cancel over the classes are weights nonetheless.
    coef = [[1.0, 0.0, 0.0, 0.0], [-1.0, 0.0, 3.0, 0.0]]
    sparsity = feature_sparsity(coef)
    assert isinstance(sparsity, float)
    assert sparsity == 0.5


def test_leading_axes_are_predictors():
    coef = np.zeros((3, 2, 4))
    coef[1, 0, 2] = 5.0
    coef[2, :, :3] = -1.0
    np.testing.assert_array_equal(feature_sparsity(coef), [1.0, 0.75, 0.25])
    assert feature_sparsity(coef[np.newaxis]).shape == (1, 3)


def test_tolerance_is_inclusive():
    coef = [1e-8, -1e-6, 0.5, 0.0]
    assert feature_sparsity(coef) == 0.25
    assert feature_sparsity(coef, tol=1e-6) == 0.75


def test_agrees_with_the_rows_of_multi_task_lasso():
    X, Y = make_regression(
        n_samples=60, n_features=20, n_informative=4, n_targets=3, random_state=0
    )
    model = MultiTaskLasso(alpha=20.0).fit(X, Y)
    used = np.linalg.norm(model.coef_, axis=0) > 0
    assert 0 < used.sum() < 20
    assert feature_sparsity(model.coef_) == pytest.approx(1 - used.mean())


@pytest.mark.parametrize("coef", [np.empty((2, 0)), np.empty(0)])
def test_empty_coef(coef):
    with pytest.raises(InvalidInputError, match="at least one weight"):
        feature_sparsity(coef)


def test_coef_must_be_finite():
    with pytest.raises(InvalidInputError, match="Got 1 NaN or infinite weights"):
        feature_sparsity([[0.0, np.nan], [0.0, 1.0]])


@pytest.mark.parametrize("tol", [-1e-9, "small"])
def test_tol_must_not_be_negative(tol):
    with pytest.raises(ValueError, match="'tol' parameter of feature_sparsity"):
        feature_sparsity([0.0, 1.0], tol=tol)
