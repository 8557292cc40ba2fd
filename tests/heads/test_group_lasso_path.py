"""group_lasso_path against independent fits and a convex modelling language."""

import cvxpy as cp
import numpy as np
import pytest
import torch
from sklearn.base import clone

from skcausalmeta.exceptions import ConvergenceWarning, InvalidInputError
from skcausalmeta.heads import (
    GroupLassoLogistic,
    GroupLassoPath,
    GroupLassoSVC,
    group_lasso_path,
)
from skcausalmeta.heads._group_lasso_path import path_of_tasks
from skcausalmeta.heads._inputs import training_batch

HEADS = {"hinge": GroupLassoSVC, "logistic": GroupLassoLogistic}
REGS = [1.0, 0.6, 0.3, 0.1, 0.0]


def make_data(seed=0, n_samples=18, n_features=7, n_classes=3):
    """Classes around different means on the first two features, the rest noise."""
    rng = np.random.RandomState(seed)
    y = np.arange(n_samples) % n_classes
    X = rng.randn(n_samples, n_features)
    X[:, :2] += 1.5 * rng.randn(n_classes, 2)[y]
    return X, y


def cvxpy_coef(X, y, lambda1, lambda2):
    """W' of the group-Lasso SVM from its primal program."""
    n_classes = y.max() + 1
    W = cp.Variable((X.shape[1], n_classes))
    scores, targets = X @ W, np.eye(n_classes)[y]
    own = cp.sum(cp.multiply(scores, targets), axis=1)
    hinge = cp.sum(cp.max(scores + 1 - targets, axis=1) - own)
    lasso = cp.sum(cp.norm(W, 2, axis=1))
    objective = lambda2 / 2 * cp.sum_squares(W) + lambda1 * lasso + hinge
    cp.Problem(cp.Minimize(objective)).solve(
        solver="CLARABEL", tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10
    )
    return W.value.T


def test_the_path_is_that_of_a_convex_program():
    X, y = make_data(n_samples=12, n_features=5)
    regs = [4.0, 2.0, 1.0]
    path = group_lasso_path(
        X, y, group_regs=regs, ridge_reg=2.0, reg_scale="absolute", fit_intercept=False
    )
    for reg, coef in zip(regs, path.coefs, strict=True):
        np.testing.assert_allclose(coef, cvxpy_coef(X, y, reg, 2.0), atol=1e-6)
    assert 0 < (path.coefs[0] != 0).any(axis=0).sum() < 5


@pytest.mark.parametrize("loss", ["hinge", "logistic"])
@pytest.mark.parametrize("reg_scale", ["relative", "absolute"])
def test_the_path_is_that_of_independent_fits(loss, reg_scale):
    X, y = make_data()
    unit = {"relative": 1.0, "absolute": 20.0}[reg_scale]
    keywords = {
        "ridge_reg": 0.7 * unit,
        "reg_scale": reg_scale,
        "groups": [0, 0, 1, 2, 2, 3, 3],
        "fit_intercept": True,
        "intercept_scaling": 2.0,
        "class_weight": {0: 1.0, 1: 2.0, 2: 0.5},
    }
    weight = np.linspace(0.5, 1.5, len(X))
    # At exactly 1 rounding decides what is on, classes being of unequal weight.
    regs = unit * np.array([1.1, *REGS[1:]])
    path = group_lasso_path(
        X, y, group_regs=regs, loss=loss, sample_weight=weight, **keywords
    )
    assert isinstance(path, GroupLassoPath)
    np.testing.assert_array_equal(path.group_regs, regs)
    for at, reg in enumerate(regs):
        alone = HEADS[loss](reg, **keywords).fit(X, y, sample_weight=weight)
        np.testing.assert_allclose(path.coefs[at], alone.coef_, atol=1e-6)
        np.testing.assert_allclose(path.intercepts[at], alone.intercept_, atol=1e-6)
        np.testing.assert_array_equal(path.coefs[at] == 0, alone.coef_ == 0)
        assert path.dual_gaps[at] == pytest.approx(alone.dual_gap_, abs=1e-5)
    assert path.n_iter.shape == (5,)
    assert path.n_iter[1:].min() >= 1


def test_tasks_of_a_batch_do_not_meet():
    X, y = make_data()
    svc = GroupLassoSVC(1.0, class_weight=None)
    task = training_batch(svc, X, y, None)
    weights = torch.ones(3, len(X)).double()
    for fold in range(3):
        weights[fold, fold::3] = 0.0
        weights[fold, 0] = 2.0
    batch = task.features.expand(3, -1, -1), task.targets.expand(3, -1, -1), weights
    problem, columns = svc._problem(*batch)
    for reg, solution in zip(REGS, path_of_tasks(problem, REGS), strict=True):
        coef, intercept = svc._split(solution.coef, columns)
        for fold in range(3):
            alone = clone(svc).set_params(group_reg=reg)
            alone.fit(X, y, sample_weight=weights[fold].numpy())
            np.testing.assert_allclose(coef[fold].T, alone.coef_, atol=1e-6)
            np.testing.assert_allclose(intercept[fold], alone.intercept_, atol=1e-6)


def test_the_sequence_starts_where_every_feature_is_off():
    X, y = make_data(n_classes=2)
    X = 5 * X
    relative = group_lasso_path(X, y, n_regs=3, eps=0.25)
    np.testing.assert_allclose(relative.group_regs, [1.0, 0.5, 0.25])
    absolute = group_lasso_path(
        X, y, n_regs=3, eps=0.25, reg_scale="absolute", ridge_reg=200.0
    )
    largest = np.linalg.norm(X.T @ (2 * np.eye(2)[y] - 1), axis=1).max()
    np.testing.assert_allclose(absolute.group_regs, largest * relative.group_regs)
    for path in (relative, absolute):
        assert not path.coefs[0].any()
        assert path.coefs[1].any()
    assert len(group_lasso_path(X, y).group_regs) == 30


def test_data_without_signal_have_an_empty_path():
    X, y = make_data()
    path = group_lasso_path(np.zeros_like(X), y, n_regs=3, reg_scale="absolute")
    np.testing.assert_allclose(path.group_regs, [1.0, 0.1, 0.01])
    assert not path.coefs.any()


@pytest.mark.parametrize(
    ("parameters", "match"),
    [
        ({"group_regs": []}, r"at least one strength. Got shape \(0,\)"),
        ({"group_regs": [[1.0]]}, r"at least one strength. Got shape \(1, 1\)"),
        ({"group_regs": [0.5, -0.1]}, r"must be finite and >= 0. Got .* -0.1 to 0.5"),
        ({"group_regs": [np.nan, 0.1]}, "must be finite and >= 0. Got"),
        ({"group_regs": [1.0, 0.1, 0.5]}, "descending.* Got 0.1 before 0.5; sort"),
        ({"group_regs": [1.0, 1.0]}, "descending.* Got 1 before 1; sort"),
        ({"groups": [0, 1]}, r"one group label for every feature. Got shape \(2,\)"),
    ],
)
def test_bad_sequences_are_refused(parameters, match):
    with pytest.raises(InvalidInputError, match=match):
        group_lasso_path(*make_data(), **parameters)


@pytest.mark.parametrize(
    "parameters",
    [
        {"group_regs": 0.5},
        {"n_regs": 0},
        {"eps": 1.0},
        {"ridge_reg": 0.0},
        {"reg_scale": "abs"},
        {"loss": "squared"},
        {"intercept_scaling": 0.0},
        {"class_weight": "even"},
        {"tol": 0.0},
        {"max_iter": 0},
    ],
)
def test_bad_parameters_are_refused(parameters):
    (name,) = parameters
    match = f"The '{name}' parameter of group_lasso_path must be"
    with pytest.raises(ValueError, match=match):
        group_lasso_path(*make_data(), **parameters)


def test_bad_data_are_refused():
    X, y = make_data()
    with pytest.raises(ValueError, match=r"at least 2 classes in y\. Got 1 class"):
        group_lasso_path(X, np.zeros(len(X)))
    with pytest.raises(ValueError, match="Input X contains NaN"):
        group_lasso_path(np.where(X > 1, np.nan, X), y)


def test_unfinished_strengths_warn_with_numbers(monkeypatch):
    # The tensor solver, of which one step is too few.
    tensors = "skcausalmeta.solvers._auto.compiled_applies"
    monkeypatch.setattr(tensors, lambda problem: False)
    polish = "skcausalmeta.heads._group_lasso_base.has_compiled_solver"
    monkeypatch.setattr(polish, lambda: False)
    X, y = make_data(n_samples=30)
    match = r"group_lasso_path stopped .* 1 of 2 strengths. Largest relative gap: .*e-"
    with pytest.warns(ConvergenceWarning, match=match) as record:
        group_lasso_path(X, y, group_regs=[1.0, 0.01], tol=1e-14, max_iter=1)
    assert record[0].filename == __file__
