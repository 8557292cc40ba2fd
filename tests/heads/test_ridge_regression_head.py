"""RidgeRegressionHead against scikit-learn's Ridge and finite differences."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.heads import LassoHead, RidgeHead, RidgeRegressionHead

RNG = np.random.default_rng(0)
X = RNG.standard_normal((20, 6)) + 1.0
Y = X[:, 0] - 2 * X[:, 3] + RNG.standard_normal(20) + 5.0


def tensors(*arrays):
    return [torch.from_numpy(np.asarray(a, dtype=np.float64)) for a in arrays]


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("n_outputs", [None, 1, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_fit_is_ridge_of_scikit_learn(intercept, n_outputs, weighted):
    y = Y if n_outputs is None else Y[:, None] + RNG.standard_normal((20, n_outputs))
    weights = RNG.uniform(0.5, 2.0, 20) if weighted else None
    head = RidgeRegressionHead(0.7, reg_scale="absolute", fit_intercept=intercept)
    head.fit(X, y, sample_weight=weights)
    other = Ridge(0.7, fit_intercept=intercept).fit(X, y, sample_weight=weights)
    # Ridge drops the axis of a single output.
    np.testing.assert_allclose(head.coef_.ravel(), other.coef_.ravel(), rtol=1e-8)
    np.testing.assert_allclose(head.intercept_, other.intercept_, rtol=1e-8)
    assert head.predict(X).shape == y.shape
    assert head.lambda2_ == 0.7
    assert 0 <= head.dual_gap_ <= 1e-9 * head.objective_
    assert head.sparsity_ == 0.0
    assert head.support_features_.tolist() == list(range(6))


def test_relative_strength_is_free_of_units_and_the_lasso_head_without_lasso():
    one = RidgeRegressionHead(0.5).fit(X, Y).predict(X)
    np.testing.assert_allclose(
        RidgeRegressionHead(0.5).fit(1e3 * X, Y).predict(1e3 * X), one, rtol=1e-9
    )
    lasso = LassoHead(0.0, 0.5 / 20, tol=1e-12).fit(X, Y)
    np.testing.assert_allclose(lasso.predict(X), one, rtol=1e-6)


@pytest.mark.parametrize("n_outputs", [None, 2])
def test_layer_is_fit_of_every_task_and_padding_counts_nothing(n_outputs):
    shape = (3, 10) if n_outputs is None else (3, 10, n_outputs)
    features, query = RNG.standard_normal((3, 10, 4)), RNG.standard_normal((3, 5, 4))
    targets = RNG.standard_normal(shape)
    weights = np.ones((3, 10))
    weights[1, 7:] = 0
    head = RidgeRegressionHead(0.3)
    support, y, rows, s = tensors(features, targets, query, weights)
    found = head.episode_predictions(support, y, rows, sample_weight=s)
    solution = head.solve_episodes(support, y, sample_weight=s)
    for k in range(3):
        keep = weights[k] > 0
        alone = RidgeRegressionHead(0.3).fit(features[k][keep], targets[k][keep])
        np.testing.assert_allclose(found[k].numpy(), alone.predict(query[k]))
        coef = np.atleast_2d(alone.coef_).T
        np.testing.assert_allclose(solution.coef[k].numpy(), coef, atol=1e-12)
    assert float(solution.relative_gap.max()) < 1e-9
    assert solution.n_iter.tolist() == [1, 1, 1]
    single = head.episode_predictions(support.float(), y.float(), rows.float())
    assert single.dtype == torch.float32


def test_layer_has_the_gradients_of_finite_differences():
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 5, 3), (2, 5), (2, 4, 3), (2, 5)]
    inputs = [
        torch.rand(shape, generator=generator, dtype=torch.float64) + 0.5
        for shape in shapes
    ]
    inputs.append(torch.tensor([0.3, 0.6], dtype=torch.float64))
    inputs = [tensor.requires_grad_() for tensor in inputs]

    def layer(support, targets, query, weights, strength):
        head = RidgeRegressionHead(strength)
        return head.episode_predictions(support, targets, query, sample_weight=weights)

    assert torch.autograd.gradcheck(layer, inputs)
    assert torch.autograd.gradgradcheck(layer, inputs)


def test_a_classifier_hands_its_parameters_on():
    given = {"reg_gradient": False, "fit_intercept": False}
    head = RidgeHead(0.2, reg_scale="absolute", **given).as_regressor()
    assert head.get_params() == {
        "ridge_reg": 0.2,
        "reg_scale": "absolute",
        "reg_gradient": False,
        "fit_intercept": False,
    }
    with pytest.raises(InvalidInputError, match="Got class_weight='balanced'; set it"):
        RidgeHead(class_weight="balanced").as_regressor()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"ridge_reg": 0.0}, "The 'ridge_reg' parameter"),
        ({"reg_scale": "x"}, "The 'reg_scale' parameter"),
        ({"fit_intercept": 2}, "The 'fit_intercept' parameter"),
    ],
)
def test_bad_parameters_are_refused(params, message):
    with pytest.raises(ValueError, match=message):
        RidgeRegressionHead(**params).fit(X, Y)
    with pytest.raises(ValueError, match=message):
        RidgeRegressionHead(**params).solve_episodes(*tensors(X[None], Y[None]))


@pytest.mark.parametrize(
    ("features", "targets", "weights", "message"),
    [
        (X, Y, None, "Support features must have shape"),
        (X[None], Y[None, :5], None, r"Got \(1, 20, 6\) and \(1, 5\)"),
        (X[None] * np.nan, Y[None], None, "Support features must be finite"),
        (X[None], Y[None] * np.inf, None, "Support targets must be finite"),
        (X[None], Y[None], np.ones((1, 3)), r"Got shape \(1, 3\), expected \(1, 20\)"),
        (X[None], Y[None], np.zeros((1, 20)), "with a row > 0 in every task"),
    ],
)
def test_bad_episodes_are_refused(features, targets, weights, message):
    support, y = tensors(features, targets)
    s = None if weights is None else tensors(weights)[0]
    with pytest.raises(InvalidInputError, match=message):
        RidgeRegressionHead().solve_episodes(support, y, sample_weight=s)


def test_a_refused_fit_changes_nothing():
    head = RidgeRegressionHead().fit(X, Y)
    before = vars(head).copy()
    with pytest.raises(ValueError, match="contains NaN"):
        head.fit(X * np.nan, Y)
    assert vars(head) == before
