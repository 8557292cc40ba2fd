"""RidgeHead against scikit-learn's ridge, and as a layer."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import Ridge, RidgeClassifier
from torch.autograd import gradcheck, gradgradcheck

from skcausalmeta.datasets import make_sparse_classes
from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.heads import HeadSolution, RidgeHead
from skcausalmeta.learners import SparseMetaClassifier

EXACT = {"rtol": 1e-8, "atol": 1e-10}
SHAPES = [(12, 30), (30, 6)]


def make_data(n_samples=18, n_features=7, n_classes=3, seed=0):
    """Classes around different means, away from the origin; uneven row weights."""
    rng = np.random.RandomState(seed)
    y = np.arange(n_samples) % n_classes
    X = rng.randn(n_samples, n_features) + 2.0
    X[:, :2] += 2.0 * rng.randn(n_classes, 2)[y]
    return X, y, rng.uniform(0.2, 2.0, n_samples)


def make_tasks(n_tasks=2, n_way=3, n_shot=2, n_features=5, seed=0):
    """Support features, targets and row weights, query features; float64."""
    rng = np.random.RandomState(seed)
    support = torch.from_numpy(rng.randn(n_tasks, n_way * n_shot, n_features) + 1.0)
    targets = torch.arange(n_way).repeat(n_shot).expand(n_tasks, -1)
    weights = torch.from_numpy(rng.uniform(0.5, 1.5, targets.shape))
    query = torch.from_numpy(rng.randn(n_tasks, 3, n_features) + 1.0)
    return support, targets, weights, query


# -- against an outsider ----------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n_classes", [2, 3, 5])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_it_is_the_ridge_of_scikit_learn_on_one_hot_targets(
    shape, n_classes, fit_intercept
):
    X, y, weights = make_data(*shape, n_classes)
    peer = Ridge(alpha=1.7, fit_intercept=fit_intercept)
    peer.fit(X, np.eye(n_classes)[y], sample_weight=weights)
    head = RidgeHead(
        1.7, reg_scale="absolute", fit_intercept=fit_intercept, class_weight=None
    )
    head.fit(X, y, sample_weight=weights)
    np.testing.assert_allclose(head.coef_, peer.coef_, **EXACT)
    np.testing.assert_allclose(head.intercept_, peer.intercept_, **EXACT)
    scores = peer.predict(X)
    if n_classes == 2:
        scores = scores[:, 1] - scores[:, 0]
    np.testing.assert_allclose(head.decision_function(X), scores, **EXACT)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_the_coding_of_the_targets_does_not_matter(n_classes):
    X, y, weights = make_data(20, 6, n_classes)
    peer = RidgeClassifier(alpha=3.0).fit(X, y, sample_weight=weights)
    head = RidgeHead(3.0, reg_scale="absolute", class_weight=None)
    head.fit(X, y, sample_weight=weights)
    np.testing.assert_array_equal(head.predict(X), peer.predict(X))
    scores = head.decision_function(X) * (1 if n_classes == 2 else 2)
    shift = 0 if n_classes == 2 else 1  # targets -1 and 1 in the place of 0 and 1
    np.testing.assert_allclose(scores - shift, peer.decision_function(X), **EXACT)


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_relative_strength_is_in_units_of_the_rows(fit_intercept):
    X, y, weights = make_data()
    relative = RidgeHead(0.4, fit_intercept=fit_intercept, class_weight=None)
    relative.fit(X, y, sample_weight=weights)
    middle = np.average(X, axis=0, weights=weights) * fit_intercept
    squares = np.average(((X - middle) ** 2).sum(1), weights=weights)
    assert relative.lambda2_ == pytest.approx(0.4 * squares)
    absolute = clone(relative).set_params(
        ridge_reg=relative.lambda2_, reg_scale="absolute"
    )
    absolute.fit(X, y, sample_weight=weights)
    np.testing.assert_allclose(absolute.coef_, relative.coef_, **EXACT)
    scaled = clone(relative).fit(1000 * X, y, sample_weight=weights)
    np.testing.assert_allclose(1000 * scaled.coef_, relative.coef_, **EXACT)
    moved = clone(relative).fit(X + 5.0, y, sample_weight=weights)
    assert np.allclose(moved.coef_, relative.coef_) == fit_intercept


@pytest.mark.parametrize("shape", SHAPES)
def test_facts_are_those_of_the_returned_point(shape):
    X, y, weights = make_data(*shape)
    head = RidgeHead(0.3, class_weight=None).fit(X, y, sample_weight=weights)
    errors = np.eye(3)[y] - X @ head.coef_.T - head.intercept_
    objective = weights @ (errors**2).sum(1) + head.lambda2_ * np.sum(head.coef_**2)
    assert head.objective_ == pytest.approx(objective / 2)
    np.testing.assert_allclose(head.dual_coef_, weights[:, None] * errors, **EXACT)
    np.testing.assert_allclose(
        head.dual_coef_.T @ X / head.lambda2_, head.coef_, **EXACT
    )
    assert 0 <= head.dual_gap_ <= 1e-20 * head.objective_
    assert 0 <= head.residual_ <= 1e-14
    assert head.sparsity_ == 0.0
    assert head.support_features_.tolist() == list(range(shape[1]))


def test_features_of_zeros_are_not_used():
    X, y, _ = make_data()
    X[:, [1, 4]] = 0.0
    head = RidgeHead().fit(X, y)
    assert head.support_features_.tolist() == [0, 2, 3, 5, 6]
    assert head.sparsity_ == pytest.approx(2 / 7)


def test_weights_are_repetitions():
    X, y, _ = make_data()
    counts = np.random.RandomState(1).randint(0, 4, size=len(X))
    rows = np.repeat(np.arange(len(X)), counts)
    for class_weight in (None, "auto", "balanced", {0: 2.0, 1: 0.5, 2: 1.0}):
        head = RidgeHead(class_weight=class_weight)
        repeated = clone(head).fit(X[rows], y[rows])
        weighted = clone(head).fit(X, y, sample_weight=counts)
        np.testing.assert_allclose(weighted.coef_, repeated.coef_, **EXACT)
        np.testing.assert_allclose(weighted.intercept_, repeated.intercept_, **EXACT)


def test_class_weight_multiplies_the_row_weights():
    X, y, weights = make_data()
    factors = {"a": 1.0, "b": 3.0, "c": 0.5}
    names = np.array(["a", "b", "c"])[y]
    by_class = RidgeHead(class_weight=factors).fit(X, names, sample_weight=weights)
    product = weights * np.array([factors[name] for name in names])
    by_row = RidgeHead(class_weight=None).fit(X, y, sample_weight=product)
    np.testing.assert_allclose(by_class.coef_, by_row.coef_, **EXACT)
    assert set(by_class.predict(X)) <= {"a", "b", "c"}


def test_pickle_and_clone():
    X, y, _ = make_data()
    head = RidgeHead(0.2, class_weight="balanced").fit(X, y)
    again = pickle.loads(pickle.dumps(head))
    np.testing.assert_array_equal(again.predict(X), head.predict(X))
    assert clone(head).get_params() == head.get_params()


# -- layer ------------------------------------------------------------------------


@pytest.mark.parametrize("n_features", [5, 40])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_solve_episodes_is_fit_task_by_task(n_features, fit_intercept):
    support, targets, weights, query = make_tasks(3, 3, 4, n_features)
    head = RidgeHead(0.7, fit_intercept=fit_intercept)
    solution = head.solve_episodes(support, targets, 3, sample_weight=weights)
    logits = head.episode_logits(support, targets, query, 3, sample_weight=weights)
    assert isinstance(solution, HeadSolution)
    assert solution.n_iter.tolist() == [1, 1, 1]
    assert bool((solution.relative_gap <= 1e-14).all())
    for k in range(3):
        alone = clone(head).fit(
            support[k].numpy(), targets[k].numpy(), sample_weight=weights[k].numpy()
        )
        np.testing.assert_allclose(solution.coef[k].T, alone.coef_, **EXACT)
        np.testing.assert_allclose(solution.intercept[k], alone.intercept_, **EXACT)
        np.testing.assert_allclose(solution.dual[k], alone.dual_coef_, **EXACT)
        np.testing.assert_allclose(
            logits[k], alone.decision_function(query[k].numpy()), **EXACT
        )


@pytest.mark.parametrize("keywords", [{}, {"fit_intercept": False}])
@pytest.mark.parametrize("n_features", [4, 9])
def test_first_and_second_derivatives(keywords, n_features):
    support, targets, weights, query = make_tasks(n_features=n_features)
    ridge_reg = torch.tensor([0.3, 2.0], dtype=torch.float64)

    def logits(support, query, weights, ridge_reg):
        head = RidgeHead(ridge_reg, **keywords)
        return head.episode_logits(support, targets, query, 3, sample_weight=weights)

    inputs = [x.requires_grad_() for x in (support, query, weights, ridge_reg)]
    for gradient in torch.autograd.grad(logits(*inputs).square().sum(), inputs):
        assert bool(gradient.any())
    assert gradcheck(logits, inputs, fast_mode=True)
    assert gradgradcheck(logits, inputs, fast_mode=True, atol=1e-4)


def test_padded_rows_change_nothing():
    support, targets, weights, query = make_tasks()
    rows = torch.full((2, 5, 5), 100.0).double()
    padded = RidgeHead().episode_logits(
        torch.cat([support, rows], dim=1),
        torch.cat([targets, torch.zeros(2, 5, dtype=torch.int64)], dim=1),
        query,
        3,
        sample_weight=torch.cat([weights, torch.zeros(2, 5).double()], dim=1),
    )
    plain = RidgeHead().episode_logits(
        support, targets, query, 3, sample_weight=weights
    )
    torch.testing.assert_close(padded, plain, **EXACT)


@pytest.mark.parametrize("n_features", [2, 40])
def test_a_class_without_rows_scores_zero_and_never_wins(n_features):
    support, targets, _, query = make_tasks(n_features=n_features)
    support.requires_grad_()
    logits = RidgeHead().episode_logits(support, targets, 10 * query, 4)
    assert not bool(logits[..., 3].any())
    assert bool((logits.argmax(-1) != 3).all())
    torch.testing.assert_close(logits.sum(-1), torch.ones(2, 3).double())
    logits.square().sum().backward()
    assert bool(torch.isfinite(support.grad).all())


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_rows_without_any_signal(fit_intercept):
    support = torch.zeros(1, 4, 3).double().requires_grad_()
    targets = torch.tensor([[0, 1, 1, 1]])
    for class_weight, first in ((None, 0.25), ("auto", 0.5)):
        head = RidgeHead(fit_intercept=fit_intercept, class_weight=class_weight)
        logits = head.episode_logits(support, targets, support, 2)
        shares = [first, 1 - first] if fit_intercept else [0.0, 0.0]
        expected = torch.tensor(shares).double().expand(1, 4, 2)
        torch.testing.assert_close(logits, expected)
    logits.square().sum().backward()
    assert bool(torch.isfinite(support.grad).all())


def test_single_precision_and_inputs_are_kept():
    support, targets, _, query = make_tasks(n_features=20)
    tensors = support.float(), targets, query.float()
    before = copy.deepcopy(tensors)
    exact = RidgeHead().episode_logits(support, targets, query, 3)
    found = RidgeHead().episode_logits(*tensors, 3)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(a, b) for a, b in zip(tensors, before, strict=True))


def test_fit_takes_a_strength_that_is_a_tensor():
    X, y, _ = make_data()
    strength = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    np.testing.assert_allclose(
        RidgeHead(strength).fit(X, y).coef_, RidgeHead(0.3).fit(X, y).coef_
    )


# -- as a base-predictor ----------------------------------------------------------


def test_it_trains_a_backbone():
    bunch = make_sparse_classes(10, 14, 8, n_factors=6, n_informative=3, random_state=0)
    X, y = bunch.data, bunch.target
    learner = SparseMetaClassifier(
        RidgeHead(), max_epochs=1, batches_per_epoch=5, verbose=0, random_state=0
    ).fit(X[y < 6], y[y < 6])
    new = np.flatnonzero(y >= 6)
    support, query = new[::2], new[1::2]
    learner.adapt(X[support], y[support])
    assert learner.score(X[query], y[query]) > 0.6
    assert learner.dual_gap_ <= 1e-12
    assert 0 <= learner.sparsity_ < 1
    found = learner.predict_episodes(X[support][None], y[support][None], X[query][None])
    np.testing.assert_array_equal(found[0], learner.predict(X[query]))


# -- errors -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keywords", "match"),
    [
        ({"ridge_reg": 0.0}, "The 'ridge_reg' parameter of RidgeHead must be"),
        ({"reg_scale": "metric"}, "The 'reg_scale' parameter of RidgeHead must be"),
        ({"ridge_reg": torch.tensor(-1.0)}, "ridge_reg must be > 0.*-1.0 for 1 tasks"),
        ({"ridge_reg": torch.ones(3)}, "ridge_reg must be > 0.*for 1 tasks"),
    ],
)
def test_invalid_parameters_leave_the_head_as_it_was(keywords, match):
    X, y, _ = make_data()
    head = RidgeHead().fit(X, y)
    facts = {name: value for name, value in vars(head).items() if name.endswith("_")}
    head.set_params(**keywords)
    with pytest.raises(ValueError, match=match):
        head.fit(X[:, :3], y)
    assert {n: v for n, v in vars(head).items() if n.endswith("_")} == facts


def test_invalid_data():
    X, y, weights = make_data()
    with pytest.raises(ValueError, match=r"RidgeHead needs at least 2 .* class: 'a'"):
        RidgeHead().fit(X, ["a"] * len(X))
    with pytest.raises(ValueError, match="Negative values in data passed to `sample"):
        RidgeHead().fit(X, y, sample_weight=-weights)
    with pytest.raises(ValueError, match=r"class_weight must be >= 0 .* from 0 to 0"):
        RidgeHead(class_weight={0: 0.0, 1: 0.0, 2: 0.0}).fit(X, y)
    support, targets, _, query = make_tasks()
    with pytest.raises(InvalidInputError, match=r"must be class numbers 0\.\.1"):
        RidgeHead().episode_logits(support, targets, query, 2)
    with pytest.raises(ValueError, match="'ridge_reg' parameter of RidgeHead"):
        RidgeHead(-1.0).solve_episodes(support, targets, 3)
