"""Weights of rows: in the episodes of fit, and in the head of adapt."""

import copy

import numpy as np
import pytest
from sklearn import config_context
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_validate
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from skorch.callbacks import Callback

from skcausalmeta.datasets import make_sparse_classes
from skcausalmeta.episodes import EpisodeSampler, TaskSampler
from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.heads import GroupLassoSVC, PrototypeHead, RidgeHead
from skcausalmeta.learners import (
    MAMLClassifier,
    MetaCRLClassifier,
    SparseMetaClassifier,
    SparseMetaRegressor,
)
from skcausalmeta.training import _pooled

BUNCH = make_sparse_classes(6, 20, 8, n_factors=6, n_informative=3, random_state=0)
X, Y = BUNCH.data, BUNCH.target
COUNTS = np.random.default_rng(0).integers(0, 4, len(Y)).astype(float)
TASK = Y < 3
SMALL = {
    "max_epochs": 1,
    "batches_per_epoch": 2,
    "tasks_per_batch": 2,
    "verbose": 0,
    "random_state": 0,
}


def repeated(*arrays):
    """Rows as often as `COUNTS` says."""
    number = COUNTS[TASK].astype(int)
    return [np.repeat(one[TASK], number, axis=0) for one in arrays]


@pytest.mark.parametrize(
    "head", [RidgeHead(), PrototypeHead(), GroupLassoSVC(tol=1e-10)], ids=str
)
def test_a_weight_in_adapt_is_a_row_repeated(head):
    learner = SparseMetaClassifier(head, **SMALL).fit(X, Y)
    one = copy.copy(learner).adapt(X[TASK], Y[TASK], sample_weight=COUNTS[TASK])
    two = copy.copy(learner).adapt(*repeated(X, Y))
    np.testing.assert_allclose(
        one.decision_function(X), two.decision_function(X), rtol=1e-3, atol=1e-5
    )
    plain = copy.copy(learner).adapt(X[TASK], Y[TASK])
    assert (abs(plain.decision_function(X) - one.decision_function(X)) > 1e-3).any()
    ones = copy.copy(learner).adapt(X[TASK], Y[TASK], sample_weight=np.ones(TASK.sum()))
    np.testing.assert_allclose(
        ones.decision_function(X), plain.decision_function(X), rtol=1e-3, atol=1e-5
    )


def test_a_weight_in_adapt_of_a_regressor_is_a_row_repeated():
    values = X @ np.arange(X.shape[1], dtype=float)
    learner = SparseMetaRegressor(RidgeHead(0.1), **SMALL).fit(X, values)
    one = copy.copy(learner).adapt(X[TASK], values[TASK], sample_weight=COUNTS[TASK])
    two = copy.copy(learner).adapt(*repeated(X, values))
    np.testing.assert_allclose(one.predict(X), two.predict(X), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", [SparseMetaClassifier, SparseMetaRegressor])
def test_a_weight_around_a_common_predictor_is_a_row_repeated(kind):
    values = X[:, 0] + X[:, 1] * Y if kind is SparseMetaRegressor else Y % 2
    learner = kind(**{**SMALL, "max_epochs": 2}).fit(
        X, values, tasks=np.arange(120) % 5
    )
    assert learner.around_common_
    one = copy.copy(learner).adapt(X[TASK], values[TASK], sample_weight=COUNTS[TASK])
    two = copy.copy(learner).adapt(*repeated(X, values))
    plain = copy.copy(learner).adapt(X[TASK], values[TASK])
    method = "predict" if kind is SparseMetaRegressor else "decision_function"
    found = [getattr(each, method)(X) for each in (one, two, plain)]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-3, atol=1e-3)
    assert abs(found[2] - found[0]).max() > 2e-3


@pytest.mark.parametrize("common", ["linear", "pipeline"])
def test_a_weight_of_a_pooled_estimator_is_a_row_repeated(common):
    labels, tasks = Y % 2, np.arange(len(Y)) % 5
    if common == "pipeline":
        common = make_pipeline(StandardScaler(), LogisticRegression())
    learner = SparseMetaClassifier(backbone="identity", common=common, **SMALL)
    one = copy.copy(learner).fit(X, labels, tasks=tasks, sample_weight=COUNTS)
    number = COUNTS.astype(int)
    more, wanted, ids = (np.repeat(each, number, axis=0) for each in (X, labels, tasks))
    two = copy.copy(learner).fit(more, wanted, tasks=ids)
    np.testing.assert_allclose(one.common_.scores(X), two.common_.scores(X), atol=1e-3)
    np.testing.assert_allclose(
        one.net_.module_.strengths.score_center,
        two.net_.module_.strengths.score_center,
        atol=1e-3,
    )
    plain = copy.copy(learner).fit(X, labels, tasks=tasks)
    assert abs(plain.common_.scores(X) - one.common_.scores(X)).max() > 1e-2


@pytest.mark.parametrize("routing", [False, True])
def test_weights_reach_the_steps_of_a_common_pipeline(routing):
    common = make_pipeline(MinMaxScaler(), DecisionTreeClassifier(random_state=0))
    learner = SparseMetaClassifier(
        backbone="identity", common=common, fit_head=False, **SMALL
    )
    heavy = np.where(Y < 3, 1e6, 1.0)  # the labels of the rest are drowned
    labels = np.where(Y < 3, 0, 1)
    labels[::20] = 1 - labels[::20]
    with config_context(enable_metadata_routing=routing):
        learner.fit(X, labels, tasks=np.arange(len(Y)) % 5, sample_weight=heavy)
    tree = learner.common_.estimator[-1].tree_
    assert tree.weighted_n_node_samples[0] == pytest.approx(heavy.sum())


def test_training_rows_of_pooled_nets_are_weighed(monkeypatch):
    monkeypatch.setattr(_pooled, "_FEWEST_STEPS", 32)
    monkeypatch.setattr(_pooled, "_MOST_STEPS", 400)  # until they know the labels
    tasks = np.arange(len(Y)) % 6
    wrong = np.arange(len(Y)) % 4 == 3
    labels = np.where(wrong, 1 - Y % 2, Y % 2)
    learner = SparseMetaClassifier(**SMALL)
    light = np.where(wrong, 1e-3, 1.0)
    fitted = learner.fit(X, labels, tasks=tasks, sample_weight=light)
    trusted = fitted.score(X, Y % 2)
    heavy = np.where(wrong, 1.0, 1e-3)
    fitted = learner.fit(X, labels, tasks=tasks, sample_weight=heavy)
    assert trusted > 0.7
    assert fitted.score(X, Y % 2) < 0.3


def test_known_tasks_around_a_common_predictor_are_weighed():
    labels, tasks = Y % 2, np.arange(len(Y)) % 5
    learner = SparseMetaClassifier(**SMALL)
    fitted = learner.fit(X, labels, tasks=tasks, sample_weight=COUNTS + 0.5)
    own = tasks == 1
    # Solved with the scores of the net that did not see the task, here with the mean.
    solved = fitted.known_tasks_.solved[1]
    known = fitted.common_.training_scores[own]
    again = fitted._solve_common(
        X[own], labels[own], fitted.classes_, known, (COUNTS + 0.5)[own]
    )
    plain = fitted._solve_common(X[own], labels[own], fitted.classes_, known)
    found = [task.head.coef_ for task in (solved, again, plain)]
    np.testing.assert_array_equal(found[0], found[1])
    assert abs(found[0] - found[2]).max() > 1e-4


def test_a_head_without_weights_is_refused_before_training():
    class Head(RidgeHead):
        def fit(self, X, y):
            return super().fit(X, y)

    class Counting(Callback):
        def on_train_begin(self, net, **_):
            steps.append(1)

    steps = []
    learner = SparseMetaClassifier(Head(), callbacks=[Counting()], **SMALL)
    with pytest.raises(InvalidInputError, match="with the head Head"):
        learner.fit(X, Y, sample_weight=COUNTS)
    assert not steps
    learner.set_params(fit_head=False).fit(X, Y, sample_weight=COUNTS)


def test_rows_of_weight_zero_are_not_there_in_fit():
    kept = COUNTS > 0
    learner = SparseMetaClassifier(RidgeHead(), **SMALL)
    one = copy.copy(learner).fit(X, Y, sample_weight=kept.astype(float))
    spoilt = np.where(kept[:, None], X, 1e6)
    two = copy.copy(learner).fit(spoilt, Y, sample_weight=kept.astype(float))
    np.testing.assert_array_equal(one.decision_function(X), two.decision_function(X))
    assert not hasattr(one, "_fit_weights") or one._fit_weights is None


def test_training_tasks_of_a_regressor_are_weighed():
    tasks, values = Y % 2, X @ np.arange(X.shape[1], dtype=float) + Y
    learner = SparseMetaRegressor(RidgeHead(0.1), common=None, **SMALL)
    weights = COUNTS + 0.5
    fitted = learner.fit(X, values, tasks=tasks, sample_weight=weights)
    own = tasks == 1
    alone = copy.copy(fitted).adapt(X[own], values[own], sample_weight=weights[own])
    np.testing.assert_allclose(
        fitted.predict(X[own], tasks=tasks[own]), alone.predict(X[own]), rtol=1e-5
    )


@pytest.mark.parametrize("kind", ["class", "task", "value", "shared"])
def test_episodes_draw_rows_by_their_weights(kind):
    y, tasks = np.repeat([0, 1], 20), np.zeros(40, dtype=int)
    weights = np.where(np.arange(40) % 20 < 10, 9.0, 1.0)
    sizes = {"n_shot": 1, "n_query": 1, "sample_weight": weights, "random_state": 0}
    sampler = {
        "class": lambda: EpisodeSampler(y, n_way=2, **sizes),
        "task": lambda: TaskSampler(tasks, y, **sizes),
        "value": lambda: TaskSampler(tasks, y * 1.0, target_type="value", **sizes),
        "shared": lambda: TaskSampler(tasks, y, shared_labels=True, **sizes),
    }[kind]()
    episodes = sampler.draw(400)
    for part in ("support", "query"):
        rows = np.concatenate([getattr(episode, part) for episode in episodes])
        assert (weights[rows] == 9.0).mean() == pytest.approx(0.9, abs=0.06)


def test_weights_of_samplers_are_checked():
    y = np.repeat([0, 1], 5)
    with pytest.raises(InvalidInputError, match="one weight per row, 10"):
        EpisodeSampler(y, n_way=2, n_query=1, sample_weight=np.ones(9))
    for bad in (0.0, -1.0, np.nan):
        with pytest.raises(InvalidInputError, match="finite and > 0"):
            TaskSampler(y * 0, y, n_shot=1, n_query=1, sample_weight=[bad] * 10)


def test_a_class_without_weight_is_no_class():
    weights = (Y == 0).astype(float)
    learner = SparseMetaClassifier(RidgeHead(), **SMALL)
    with pytest.raises(InvalidInputError, match="at least 2 classes"):
        learner.fit(X, Y, sample_weight=weights)
    learner.fit(X, Y)
    before = learner.decision_function(X)
    for bad, why in (
        (weights, "at least 2 classes"),
        (weights * 0, "zero"),
        (-weights, "negative"),
        (weights[:-1], "sample_weight"),
    ):
        with pytest.raises(InvalidInputError, match=f"(?i){why}"):
            learner.adapt(X, Y, sample_weight=bad)
    np.testing.assert_array_equal(learner.decision_function(X), before)


def test_what_cannot_honour_weights_says_so():
    ones, tasks = np.ones(len(Y)), np.arange(len(Y)) % 4
    maml = MAMLClassifier(inner_steps=1, **SMALL).fit(X, Y, sample_weight=ones + COUNTS)
    with pytest.raises(
        InvalidInputError, match="MAMLClassifier takes no sample_weight"
    ):
        maml.adapt(X[TASK], Y[TASK], sample_weight=ones[TASK])
    common = SparseMetaClassifier(common=KNeighborsClassifier(), **SMALL)
    with pytest.raises(InvalidInputError, match="around KNeighborsClassifier, whose"):
        common.fit(X, Y % 2, tasks=tasks, sample_weight=ones)
    learner = SparseMetaClassifier(RidgeHead(), **SMALL).fit(X, Y)
    learner.adapt(X[TASK], Y[TASK])
    with pytest.raises(InvalidInputError, match="keep_classes=True"):
        learner.adapt(X, Y, keep_classes=True, sample_weight=ones)
    wrapped = MetaCRLClassifier(SparseMetaClassifier(RidgeHead(), **SMALL))
    wrapped.fit(X, Y, sample_weight=ones)
    with pytest.raises(InvalidInputError, match="with a hook"):
        wrapped.adapt(X[TASK], Y[TASK], sample_weight=ones[TASK])


def test_searches_pass_weights_on():
    learner = SparseMetaClassifier(RidgeHead(), **SMALL)
    with config_context(enable_metadata_routing=True):
        routed = learner.set_fit_request(sample_weight=True).set_score_request(
            sample_weight=False
        )
        found = cross_validate(
            routed,
            X,
            Y,
            cv=2,
            params={"sample_weight": COUNTS},
            return_estimator=True,
            return_indices=True,
        )
    fitted, rows = found["estimator"][0], found["indices"]["train"][0]
    by_hand = SparseMetaClassifier(RidgeHead(), **SMALL)
    by_hand.fit(X[rows], Y[rows], sample_weight=COUNTS[rows])
    np.testing.assert_array_equal(
        fitted.decision_function(X), by_hand.decision_function(X)
    )


def test_shots_of_every_class_differ_in_training():
    seen = []

    class Head(RidgeHead):
        def episode_logits(self, features, targets, query, n_classes, **keywords):
            seen.extend(np.bincount(row) for row in targets.numpy())
            return super().episode_logits(
                features, targets, query, n_classes, **keywords
            )

    shots = {"n_way": 3, "n_query": 2}
    SparseMetaClassifier(Head(), n_shot=(1, 8, "class"), **shots, **SMALL).fit(X, Y)
    assert any(len(set(counts)) > 1 for counts in seen)
    assert min(map(min, seen)) >= 1
    assert max(map(max, seen)) <= 8
    seen.clear()
    SparseMetaClassifier(Head(), n_shot=(1, 8), **shots, **SMALL).fit(X, Y)
    assert all(len(set(counts)) == 1 for counts in seen)


def test_shots_of_every_class_in_tasks_of_their_own():
    tasks, labels = Y // 2, Y % 2 + 10 * (Y // 2)
    sampler = TaskSampler(
        tasks, labels, n_shot=(1, 8), n_query=2, unequal=True, random_state=0
    )
    counts = [np.bincount(one.support_targets) for one in sampler.draw(20)]
    assert any(a != b for a, b in counts)
    for wrong in ({"shared_labels": True}, {"target_type": "value"}):
        with pytest.raises(InvalidInputError, match="unequal=True"):
            TaskSampler(tasks, labels, n_shot=(1, 8), unequal=True, **wrong)
    with pytest.raises(InvalidInputError, match='"class"'):
        SparseMetaClassifier(RidgeHead(), n_shot=(1, 8, "task"), **SMALL).fit(X, Y)
