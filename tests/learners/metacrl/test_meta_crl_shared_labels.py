"""MetaCRL around learners that keep the labels which tasks share."""

import copy
import pickle

import numpy as np
import pytest
from sklearn.base import clone

from skcausalmeta.backbones import MLP
from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.learners import (
    MAMLClassifier,
    MAMLRegressor,
    MetaCRLClassifier,
    MetaCRLRegressor,
)

SMALL = {
    "backbone": MLP(hidden=(6,), out_features=5),
    "max_epochs": 1,
    "batches_per_epoch": 4,
    "tasks_per_batch": 3,
    "inner_steps": 2,
    "fit_head": False,
    "verbose": 0,
    "random_state": 0,
}
RNG = np.random.default_rng(0)
TASKS, ENVS = np.repeat(np.arange(10), 24), np.tile(np.repeat([0, 1], 12), 10)
X = RNG.standard_normal((240, 4))
Y = np.where(X[:, 0] + 0.5 * RNG.normal(size=10)[TASKS] * X[:, 1] > 0, "yes", "no")
Y = Y.astype("<U4")
Y[(TASKS < 3) & (np.arange(240) % 5 == 0)] = "else"
Y[TASKS == 4] = "no"
KEPT = (TASKS != 6) | (np.cumsum(TASKS == 6) <= 3)
X, Y, TASKS, ENVS = X[KEPT], Y[KEPT], TASKS[KEPT], ENVS[KEPT]
LABELS = ["else", "no", "yes"]
X_NEW = RNG.standard_normal((12, 4))
Y_NEW = np.tile(["no", "yes"], 6)
SUPPORTS = {
    "one row": slice(0, 1),
    "one class": slice(0, 8, 2),
    "unequal": [0, 1, 3, 5, 7],
}
LEARNERS = {
    "maml": MAMLClassifier(**SMALL),
    "anil": MAMLClassifier(adapt_layers="head", **SMALL),
    "kfo": MAMLClassifier("kfo", n_shot=(1, 6), **SMALL),
    "first-order": MAMLClassifier(first_order=True, **SMALL),
}
EMBEDDINGS = pytest.mark.parametrize("embedding", ["labels", "mean"])


def make_model(learner, embedding="labels", **params):
    rates = {"xi_lr": 0.05, "group_lr": 0.05, "causal_every": 1}
    return MetaCRLClassifier(learner, task_embedding=embedding, **{**rates, **params})


@pytest.fixture(scope="module", params=LEARNERS)
def fitted(request):
    model = make_model(LEARNERS[request.param])
    return model.fit(X, Y, tasks=TASKS, envs=ENVS)


def test_both_levels_train_on_tasks_as_they_come(fitted):
    assert fitted.estimator_.shared_labels_
    assert fitted.classes_.tolist() == LABELS
    assert all(np.isfinite(value) for value in fitted.history_[0].values())
    assert np.isfinite(fitted.factors_).all()
    assert np.abs(fitted.factors_ - np.eye(5)).max() > 1e-3
    again = clone(fitted).fit(X, Y, tasks=TASKS, envs=ENVS)
    np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))


def test_the_start_answers_with_the_weights_of_all_tasks(fitted):
    found = fitted.predict_proba(X_NEW)
    assert found.shape == (12, 3)
    assert np.isfinite(found).all()
    code = fitted.estimator_.task_code_.numpy()[0]
    np.testing.assert_allclose(fitted.task_weights(X, Y), code, rtol=1e-5)
    twin = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(twin.predict_proba(X_NEW), found)


@pytest.mark.parametrize("name", SUPPORTS)
def test_a_new_task_may_have_any_of_the_labels(fitted, name):
    rows, labels = X_NEW[SUPPORTS[name]], Y_NEW[SUPPORTS[name]]
    model = copy.copy(fitted).adapt(rows, labels)
    assert model.classes_.tolist() == LABELS
    weights = model.task_weights(rows, labels)
    assert weights.max() == pytest.approx(1.0)
    np.testing.assert_allclose(
        model.estimator_.task_code_.numpy()[0], weights, rtol=1e-5
    )
    together = fitted.predict_episodes(rows[None], labels[None], X_NEW[None])
    np.testing.assert_array_equal(together[0], model.predict(X_NEW))
    staged = fitted.staged_predict_episodes(rows[None], labels[None], X_NEW[None])
    assert staged.shape == (3, 1, 12)
    more = copy.copy(model).adapt(X_NEW[8:], Y_NEW[8:], keep_classes=True)
    at_once = copy.copy(fitted).adapt(
        np.concatenate([rows, X_NEW[8:]]), np.concatenate([labels, Y_NEW[8:]])
    )
    np.testing.assert_array_equal(
        more.predict_proba(X_NEW), at_once.predict_proba(X_NEW)
    )


def test_labels_that_a_task_lacks_do_not_change_its_weights(fitted):
    """Weights by the labels that occur, as if no other were known."""
    hook = copy.deepcopy(fitted.estimator_.net_.module_.hooked)
    features = fitted.estimator_.transform(X_NEW)[None]
    numbers = np.tile([0, 1], 6)[None]
    two = hook.codes_of(features, numbers, 2)
    for n_way in (3, 9):
        np.testing.assert_allclose(
            hook.codes_of(features, numbers, n_way), two, rtol=1e-4
        )
    np.testing.assert_allclose(hook.codes_of(features, numbers + 1, 3), two, rtol=1e-4)


def test_unknown_labels_are_named(fitted):
    labels = np.where(Y_NEW == "no", "no", "never")
    for call in (
        lambda: copy.copy(fitted).adapt(X_NEW, labels),
        lambda: fitted.predict_episodes(X_NEW[None], labels[None], X_NEW[None]),
        lambda: fitted.task_weights(X_NEW, labels),
    ):
        with pytest.raises(InvalidInputError, match=r"Got 1 \('never'\) unknown"):
            call()


@EMBEDDINGS
def test_without_second_level_it_is_the_wrapped_learner(embedding):
    plain = clone(LEARNERS["maml"]).fit(X, Y, tasks=TASKS)
    same = make_model(LEARNERS["maml"], embedding, level2_every=None)
    same.fit(X, Y, tasks=TASKS)
    for rows in (None, *SUPPORTS.values()):
        one, two = copy.copy(plain), copy.copy(same)
        if rows is not None:
            one.adapt(X_NEW[rows], Y_NEW[rows])
            two.adapt(X_NEW[rows], Y_NEW[rows])
        np.testing.assert_array_equal(
            one.predict_proba(X_NEW), two.predict_proba(X_NEW)
        )


def test_the_published_embedding_needs_no_labels():
    model = make_model(LEARNERS["anil"], "mean", n_factors=3)
    model.fit(X, Y, tasks=TASKS)
    np.testing.assert_array_equal(
        model.task_weights(X_NEW), model.task_weights(X_NEW, Y_NEW)
    )
    assert model.adapt(X_NEW[:1], Y_NEW[:1]).predict(X_NEW).shape == (12,)


def test_a_regressor_answers_before_its_first_target():
    model = MetaCRLRegressor(MAMLRegressor(**SMALL)).fit(X, X[:, 0], tasks=TASKS)
    assert np.isfinite(model.predict(X_NEW)).all()
    weights = model.task_weights(X)
    np.testing.assert_allclose(
        model.estimator_.task_code_.numpy()[0], weights, rtol=1e-5
    )
