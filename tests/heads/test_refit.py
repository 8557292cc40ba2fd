"""Heads whose Lasso only chooses: the same problem without it, on what was chosen."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from torch.autograd import gradcheck

from skcausalmeta.heads import (
    GroupLassoLogistic,
    GroupLassoSVC,
    LassoHead,
    check_head,
)

CLASS_HEADS = {
    "logistic": GroupLassoLogistic(0.5, 1.0, reg_scale="ridge-absolute", tol=1e-12),
    "svc": GroupLassoSVC(
        0.5, 1.0, reg_scale="ridge-absolute", solver="newton", tol=1e-12
    ),
}
of_class_heads = pytest.mark.parametrize(
    "head", CLASS_HEADS.values(), ids=CLASS_HEADS.keys()
)


def make_rows(n_samples=30, n_features=8, n_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n_samples) % n_classes
    X = rng.standard_normal((n_samples, n_features))
    X[:, :2] += 2 * rng.standard_normal((n_classes, 2))[y]
    return X, y, rng.uniform(0.5, 2.0, n_samples)


def with_params(head, **params):
    return type(head)(**{**head.get_params(), **params})


@of_class_heads
def test_features_of_the_lasso_weights_without_it(head):
    X, y, weights = make_rows()
    chooser = head.fit(X, y, weights)
    found = with_params(head, refit=True).fit(X, y, weights)
    chosen = chooser.support_features_
    assert 0 < len(chosen) < X.shape[1]
    np.testing.assert_array_equal(found.support_features_, chosen)
    plain = with_params(head, group_reg=0.0).fit(X[:, chosen], y, weights)
    np.testing.assert_allclose(found.coef_[:, chosen], plain.coef_, atol=1e-9)
    np.testing.assert_allclose(found.intercept_, plain.intercept_, atol=1e-9)
    assert found.objective_ == pytest.approx(plain.objective_, rel=1e-9)
    assert found.dual_gap_ <= 1e-9
    assert found.selection_gap_ == pytest.approx(chooser.dual_gap_, abs=1e-12)
    assert np.linalg.norm(found.coef_) > np.linalg.norm(chooser.coef_)


def test_logistic_weights_are_those_of_scikit_learn():
    X, y, _ = make_rows()
    head = GroupLassoLogistic(
        0.5, 1.0, reg_scale="ridge-absolute", class_weight=None, refit=True,
        fit_intercept=False,
    ).fit(X, y)  # fmt: skip
    peer = LogisticRegression(fit_intercept=False, tol=1e-10, max_iter=1000)
    peer.fit(X[:, head.support_features_], y)
    np.testing.assert_allclose(
        head.coef_[:, head.support_features_], peer.coef_, atol=1e-5
    )


@of_class_heads
def test_a_batch_of_tasks_is_solved_as_each_alone(head):
    head = with_params(head, refit=True)
    tasks = [make_rows(seed=seed) for seed in range(3)]
    support, weights = (
        torch.from_numpy(np.stack([task[k] for task in tasks])) for k in (0, 2)
    )
    labels = torch.from_numpy(np.stack([task[1] for task in tasks]))
    query = torch.randn(3, 4, 8, dtype=torch.float64)
    logits = head.episode_logits(support, labels, query, 3, sample_weight=weights)
    solution = head.solve_episodes(support, labels, 3, sample_weight=weights)
    for k, (X, y, s) in enumerate(tasks):
        alone = with_params(head).fit(X, y, s)
        coef = solution.coef[k].T.numpy()
        np.testing.assert_allclose(coef, alone.coef_, atol=2e-6)
        scores = query[k].numpy() @ alone.coef_.T + alone.intercept_
        np.testing.assert_allclose(logits[k].numpy(), scores, atol=2e-6)
    assert len({tuple((row != 0).any(-1).tolist()) for row in solution.coef}) > 1


@of_class_heads
def test_gradients_with_the_choice_held_fixed(head):
    head = with_params(head, refit=True)
    X, y, weights = make_rows(15)
    query = torch.randn(1, 2, 8, dtype=torch.float64)

    def logits(features, rows):
        return head.episode_logits(
            features[None],
            torch.from_numpy(y)[None],
            query,
            3,
            sample_weight=rows[None],
        )

    inputs = [torch.from_numpy(part).requires_grad_() for part in (X, weights)]
    assert gradcheck(logits, inputs, atol=1e-5, fast_mode=True)


@pytest.mark.parametrize("refit", [False, True])
@of_class_heads
def test_the_weights_of_every_feature_in_use_have_a_derivative(head, refit):
    head = with_params(head, refit=refit)
    X, y, _ = make_rows(15)
    rows = torch.from_numpy(X)[None].requires_grad_()
    labels = torch.from_numpy(y)[None]
    query = torch.cat([torch.eye(8), torch.zeros(1, 8)]).double()[None]
    logits = head.episode_logits(rows, labels, query, 3)[0]
    coef = logits[:-1] - logits[-1]  # (n_features, n_classes)

    def moves(entry):
        (slope,) = torch.autograd.grad(entry, rows, retain_graph=True)
        return bool(slope.abs().max() > 1e-9)

    found = [any(map(moves, row)) for row in coef]
    used = (head.solve_episodes(rows, labels, 3).coef[0] != 0).any(-1).tolist()
    assert found == used
    assert 0 < sum(used) < 8


def test_columns_without_a_group_penalty_are_kept():
    X, y, _ = make_rows()
    both = {"dual_reg": 0.5, "solver": "newton", "reg_scale": "ridge-absolute"}
    chosen = GroupLassoSVC(0.5, **both).fit(X, y).support_features_
    found = GroupLassoSVC(0.5, refit=True, **both).fit(X, y)
    plain = GroupLassoSVC(0.0, **both).fit(X[:, chosen], y)
    np.testing.assert_allclose(found.coef_[:, chosen], plain.coef_, atol=1e-6)


def test_nothing_chosen_is_answered_by_the_offset():
    X, y, _ = make_rows(n_classes=2)
    offset = np.random.default_rng(1).standard_normal(len(y))
    head = GroupLassoLogistic(2.0, refit=True).fit(X, y, offset=offset)
    assert len(head.support_features_) == 0
    scores = head.decision_function(X, offset)
    assert np.ptp(scores - offset) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("n_outputs", [1, 2])
def test_regression_on_the_features_of_the_lasso(n_outputs):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((30, 8))
    Y = X[:, :n_outputs] + 0.1 * rng.standard_normal((30, n_outputs))
    Y = Y[:, 0] if n_outputs == 1 else Y
    chooser = LassoHead(0.5, 0.01).fit(X, Y)
    found = LassoHead(0.5, 0.01, refit=True).fit(X, Y)
    for k in range(n_outputs):
        coef, target = np.atleast_2d(found.coef_)[k], Y.reshape(30, -1)[:, k]
        chosen = np.flatnonzero(np.atleast_2d(chooser.coef_)[k])
        np.testing.assert_array_equal(np.flatnonzero(coef), chosen)
        peer = Ridge(found.lambda2_ * len(X)).fit(X[:, chosen], target)
        np.testing.assert_allclose(coef[chosen], peer.coef_, atol=1e-9)
        predicted = found.predict(X).reshape(30, -1)[:, k]
        np.testing.assert_allclose(predicted, peer.predict(X[:, chosen]), atol=1e-9)
    assert found.dual_gap_ <= 1e-12
    assert found.selection_gap_ == chooser.dual_gap_


def test_regression_of_a_batch_and_its_gradients():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2, 12, 6))
    Y = X[..., 0] + 0.1 * rng.standard_normal((2, 12))
    head = LassoHead(0.5, 0.01, reg_scale="ridge-absolute", refit=True)
    features, targets = torch.from_numpy(X), torch.from_numpy(Y)
    found = head.episode_predictions(features, targets, features[:, :3])
    for k in range(2):
        alone = with_params(head).fit(X[k], Y[k]).predict(X[k, :3])
        np.testing.assert_allclose(found[k].numpy(), alone, atol=1e-9)
    inputs = features.requires_grad_(), targets.requires_grad_()
    query = torch.randn(2, 3, 6, dtype=torch.float64)
    assert gradcheck(lambda F, y: head.episode_predictions(F, y, query), inputs)


def test_regression_without_a_ridge_is_least_squares_on_the_chosen_features():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((30, 8))
    y = X[:, 0] + 0.1 * rng.standard_normal(30)
    head = LassoHead(0.5, refit=True).fit(X, y)
    peer = LinearRegression().fit(X[:, head.support_features_], y)
    np.testing.assert_allclose(
        head.predict(X), peer.predict(X[:, head.support_features_]), atol=1e-7
    )
    assert head.dual_gap_ <= 1e-9


@pytest.mark.parametrize(
    "head",
    [
        GroupLassoLogistic(0.3, refit=True),
        GroupLassoSVC(0.3, solver="auto", refit=True),
        LassoHead(0.3, 0.1, refit=True),
    ],
    ids=["logistic", "svc", "lasso"],
)
def test_the_contract_holds(head):
    check_head(head)
