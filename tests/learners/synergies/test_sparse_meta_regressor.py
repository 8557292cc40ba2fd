"""SparseMetaRegressor: heads, tasks, prediction, copies."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Lasso, Ridge
from torch import nn

from skcausalmeta.backbones import Conv4
from skcausalmeta.heads import LassoHead, RidgeHead
from skcausalmeta.learners import SparseMetaRegressor

RNG = np.random.default_rng(0)
FACTORS = RNG.standard_normal((240, 4))
X = FACTORS @ RNG.standard_normal((4, 5))
TASKS = np.array(["ann", "bob", "cid", "dot"])[np.arange(240) // 60]
WEIGHTS = {"ann": [2, 0, 0, 0], "bob": [0, -1, 0, 0], "cid": [0, 0, 1, 1]}
WEIGHTS["dot"] = [1, 0, 0, -1]
Y = (FACTORS * np.array([WEIGHTS[name] for name in TASKS])).sum(axis=1) + 3.0


def make_learner(head=None, **params):
    small = {
        "max_epochs": 1,
        "batches_per_epoch": 3,
        "tasks_per_batch": 2,
        "verbose": 0,
        "random_state": 0,
        "common": None,
    }
    return SparseMetaRegressor(head, **{**small, **params})


@pytest.fixture(scope="module")
def fitted():
    return make_learner().fit(X, Y, tasks=TASKS)


@pytest.fixture
def learner(fitted):
    return copy.copy(fitted)


def test_fit_states_its_facts(fitted):
    assert fitted.n_features_in_ == 5
    assert fitted.n_features_out_ == fitted.transform(X[:1]).shape[1] == 64
    assert fitted.n_iter_ == len(fitted.history_) == 1
    assert {"epoch", "train_loss", "dur"} <= fitted.history_[0].keys()
    assert fitted.task_ids_.tolist() == ["ann", "bob", "cid", "dot"]
    assert fitted.task_coef_.shape == (4, 64)
    used = np.flatnonzero(fitted.head_.coef_)
    np.testing.assert_array_equal(fitted.support_features_, used)
    assert fitted.sparsity_ == 1 - len(used) / 64 > 0
    assert 0 <= fitted.dual_gap_ <= 1e-8 * fitted.head_.objective_


def test_codes_are_standardised_on_the_training_rows(fitted):
    codes = fitted.transform(X)
    np.testing.assert_allclose(codes.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(codes.std(axis=0), 1, atol=1e-3)
    free = make_learner(normalize_codes=False).fit(X, Y).transform(X)
    assert np.abs(free.std(axis=0) - 1).max() > 0.1


@pytest.mark.parametrize("kind", ["lasso", "ridge"])
def test_heads_of_the_tasks_are_those_of_scikit_learn(kind):
    head = LassoHead(0.2) if kind == "lasso" else RidgeHead(0.5)
    learner = make_learner(head).fit(X, Y, tasks=TASKS)
    codes = learner.transform(X)
    for k, name in enumerate(learner.task_ids_):
        rows, y = codes[name == TASKS], Y[name == TASKS]
        centred = rows - rows.mean(axis=0)
        if kind == "lasso":
            strength = 0.2 * np.abs(centred.T @ (y - y.mean())).max() / len(y)
            other = Lasso(strength, tol=1e-12, max_iter=100_000).fit(rows, y)
        else:
            other = Ridge(0.5 * (centred**2).sum(axis=1).mean()).fit(rows, y)
        np.testing.assert_allclose(learner.task_coef_[k], other.coef_, atol=1e-5)
        np.testing.assert_allclose(learner.task_intercept_[k], other.intercept_)
        predicted = learner.predict(X[name == TASKS], tasks=TASKS[name == TASKS])
        np.testing.assert_allclose(predicted, other.predict(rows), atol=1e-4)
    assert (learner.task_dual_gap_ >= 0).all()
    assert ((learner.task_coef_ == 0).mean() > 0.5) == (kind == "lasso")


def test_predict_without_task_ids_is_one_regression_of_all_rows(fitted):
    head = LassoHead().fit(fitted.transform(X), Y)
    np.testing.assert_allclose(
        fitted.predict(X), head.predict(fitted.transform(X)), atol=1e-6
    )


def test_task_ids_in_any_order_and_their_score(fitted):
    order = RNG.permutation(240)
    expected = fitted.predict(X, tasks=TASKS)[order]
    found = fitted.predict(X[order], tasks=TASKS[order])
    np.testing.assert_allclose(found, expected, atol=1e-12)
    by_hand = 1 - np.square(found - Y[order]).sum() / np.square(Y - Y.mean()).sum()
    score = fitted.score(X[order], Y[order], tasks=TASKS[order])
    assert score == pytest.approx(by_hand)
    assert score > fitted.score(X, Y) + 0.3
    half = np.arange(240) < 120
    assert fitted.score(X, Y, half, tasks=TASKS) == pytest.approx(
        fitted.score(X[:120], Y[:120], tasks=TASKS[:120])
    )


def test_tasks_of_different_sizes_are_solved_together():
    keep = (TASKS != "bob") | (np.arange(240) % 7 == 0)
    learner = make_learner().fit(X[keep], Y[keep], tasks=TASKS[keep])
    rows = TASKS[keep] == "bob"
    alone = copy.copy(learner).adapt(X[keep][rows], Y[keep][rows])
    np.testing.assert_allclose(learner.task_coef_[1], alone.head_.coef_, atol=1e-8)


def test_adapt_speaks_of_the_new_task_and_leaves_the_backbone(learner):
    before = {k: v.clone() for k, v in learner.net_.module_.state_dict().items()}
    by_task = learner.predict(X, tasks=TASKS)
    rows = TASKS == "cid"
    assert learner.adapt(X[rows], Y[rows]) is learner
    np.testing.assert_allclose(learner.predict(X[rows]), by_task[rows], atol=1e-8)
    assert learner.score(X[rows], Y[rows]) > 0.5
    np.testing.assert_array_equal(learner.predict(X, tasks=TASKS), by_task)
    for name, value in learner.net_.module_.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_copy_adapts_by_itself_and_shares_the_net(fitted):
    before = fitted.predict(X)
    twin = copy.copy(fitted).adapt(X[:30], -Y[:30])
    assert twin.net_ is fitted.net_
    assert twin.predict(X[:30]).mean() < 0 < before.mean()
    np.testing.assert_array_equal(fitted.predict(X), before)


@pytest.mark.parametrize("batch_norm", ["running", "episode"])
def test_predict_episodes_is_adapt_and_predict_of_every_task(batch_norm):
    learner = make_learner(batch_norm=batch_norm).fit(X, Y, tasks=TASKS)
    support, targets = X.reshape(4, 60, 5)[:, :40], Y.reshape(4, 60)[:, :40]
    query = X.reshape(4, 60, 5)[:, 40:]
    before = vars(learner).copy()
    found = learner.predict_episodes(support, targets, query)
    assert vars(learner) == before
    assert found.shape == (4, 20)
    for k in range(4):
        alone = copy.copy(learner).adapt(support[k], targets[k])
        np.testing.assert_allclose(found[k], alone.predict(query[k]), atol=1e-5)


def test_predictions_do_not_depend_on_which_rows_come_together(learner):
    for method in ("transform", "predict"):
        together = getattr(learner, method)(X)
        alone = [getattr(learner, method)(row[None]) for row in X[:20]]
        np.testing.assert_array_equal(
            np.concatenate(alone), together[:20], err_msg=method
        )


def test_transform_names_its_features(learner):
    names = learner.get_feature_names_out()
    assert names[0] == "sparsemetaregressor0"
    frame = learner.set_output(transform="pandas").transform(X)
    assert frame.columns.tolist() == names.tolist()
    np.testing.assert_array_equal(frame.to_numpy(), learner.transform(X).to_numpy())


def test_without_tasks_it_is_a_regressor_like_others():
    rows, y = X[TASKS == "ann"], Y[TASKS == "ann"]
    learner = make_learner(batches_per_epoch=30).fit(rows, y)
    assert learner.score(rows, y) > 0.5
    assert not hasattr(learner, "task_ids_")


def test_fit_head_false_leaves_the_head_to_adapt(fitted):
    learner = copy.copy(fitted).set_params(fit_head=False).fit(X, Y, tasks=TASKS)
    fitted.set_params(fit_head=True)
    with pytest.raises(NotFittedError, match="Call 'adapt' with the support rows"):
        learner.predict(X)
    for name in ("head_", "task_ids_", "task_coef_", "sparsity_"):
        assert not hasattr(learner, name)
    assert learner.transform(X).shape == (240, 64)
    assert learner.adapt(X[:60], Y[:60]).predict(X).shape == (240,)


@pytest.mark.parametrize("verbose", [0, 1])
@pytest.mark.parametrize("frozen", [False, True])
def test_pickles_and_deep_copies_predict_the_same(verbose, frozen):
    backbone = nn.Linear(5, 3).requires_grad_(not frozen)
    learner = make_learner(verbose=verbose, backbone=backbone)
    learner.fit(X, Y, tasks=TASKS)
    for twin in (pickle.loads(pickle.dumps(learner)), copy.deepcopy(learner)):
        assert twin.net_ is not learner.net_
        np.testing.assert_array_equal(twin.predict(X), learner.predict(X))
        found = twin.predict(X, tasks=TASKS)
        np.testing.assert_array_equal(found, learner.predict(X, tasks=TASKS))


def test_clone_is_unfitted_with_equal_parameters(fitted):
    twin = clone(fitted)
    assert not hasattr(twin, "net_")
    assert twin.get_params() == fitted.get_params()


def test_identity_backbone_gives_standardised_rows():
    learner = make_learner(backbone="identity").fit(X, Y, tasks=TASKS)
    expected = (X - X.mean(axis=0)) / X.std(axis=0)
    np.testing.assert_allclose(learner.transform(X), expected, atol=1e-4)
    assert np.isfinite(learner.history_[0]["train_loss"])
    plain = make_learner(backbone="identity", normalize_codes=False).fit(X, Y)
    np.testing.assert_allclose(plain.transform(X), X, rtol=1e-6)


def test_ready_module_is_copied_and_can_be_frozen():
    module = nn.Linear(5, 3)
    before = copy.deepcopy(module.state_dict())
    still = copy.deepcopy(module).requires_grad_(False)
    frozen = make_learner(backbone=still, normalize_codes=False).fit(X, Y)
    make_learner(backbone=module, lr=0.1).fit(X, Y)
    with torch.no_grad():
        features = module(torch.from_numpy(X).float()).double().numpy()
    np.testing.assert_allclose(frozen.transform(X), features, atol=1e-5)
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])


def test_images_are_reshaped():
    images = RNG.integers(256, size=(40, 8, 8, 3), dtype=np.uint8)
    y = images[:, :4].mean(axis=(1, 2, 3)) / 255
    params = {"backbone": Conv4(n_filters=4, n_blocks=1)}
    one = make_learner(**params).fit(images, y)
    two = make_learner(**params, input_shape=(8, 8, 3)).fit(images.reshape(40, -1), y)
    np.testing.assert_allclose(
        two.predict(images.reshape(40, -1)), one.predict(images), atol=1e-5
    )


def test_parameters_of_the_head_are_reached_without_naming_it():
    learner = make_learner()
    assert learner.set_params(head__lasso_reg=0.7).head.lasso_reg == 0.7
    learner.set_params(head=RidgeHead(), head__ridge_reg=2.0).fit(X, Y)
    assert learner.head_.ridge_reg == 2.0
    assert learner.sparsity_ == 0.0
    assert not hasattr(learner.head, "coef_")
