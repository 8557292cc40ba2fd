"""Rows of none of the classes: their score, threshold and label."""

import copy
import pickle

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from skcausalmeta.exceptions import InvalidInputError, NotFittedError
from skcausalmeta.heads import RidgeHead
from skcausalmeta.learners import (
    MAMLClassifier,
    MetaCRLClassifier,
    Rejection,
    SparseMetaClassifier,
)
from skcausalmeta.model_selection import evaluate_few_shot
from skcausalmeta.persistence import load, save

SMALL = {
    "max_epochs": 1,
    "batches_per_epoch": 2,
    "tasks_per_batch": 2,
    "n_way": 3,
    "n_shot": 4,
    "n_query": 8,
    "verbose": 0,
    "random_state": 0,
}
MEANS = np.random.default_rng(0).normal(size=(24, 10)) * 2.0


def rows_of(classes, n_rows, seed):
    """Rows of some classes, unit noise about their means, and their labels."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(classes, n_rows)
    return MEANS[labels] + rng.normal(size=(len(labels), 10)), labels


X, Y = rows_of(np.arange(12), 20, 1)
KNOWN, NOVEL = np.array([12, 13, 14]), np.arange(15, 24)
SUPPORT = rows_of(KNOWN, 4, 2)
QUERY = rows_of(KNOWN, 200, 3)
OTHERS = rows_of(NOVEL, 60, 4)


def identity(**params):
    return SparseMetaClassifier(RidgeHead(), backbone="identity", **SMALL, **params)


def few(share, **params):
    """What refuses rows by a threshold of few episodes: quick, and about right."""
    return Rejection(share, n_episodes=15, **params)


LEARNERS = {
    "heads": identity,
    "gradients": lambda **params: MAMLClassifier(inner_steps=1, **SMALL, **params),
}


@pytest.fixture(scope="module")
def learner():
    return identity(reject=0.1).fit(X, Y).adapt(*SUPPORT)


def test_about_the_share_of_known_rows_is_refused(learner):
    refused = learner.predict(QUERY[0]) == learner.rejected_label_
    assert refused.mean() == pytest.approx(0.1, abs=0.05)
    assert (learner.predict(OTHERS[0]) == -1).mean() > 0.9
    kept = learner.predict(QUERY[0])[~refused]
    assert (kept == QUERY[1][~refused]).mean() > 0.95


def test_the_threshold_holds_for_other_numbers_of_shots(learner):
    for n_rows in (1, 30):
        solved = copy.copy(learner).adapt(*rows_of(KNOWN, n_rows, 5))
        refused = (solved.predict(QUERY[0]) == -1).mean()
        assert refused == pytest.approx(0.1, abs=0.08)


def test_unequal_shots_have_one_unit(learner):
    rows, labels = rows_of(KNOWN, 30, 6)
    few = np.r_[0:30, 30:32, 60:90]
    solved = copy.copy(learner).adapt(rows[few], labels[few])
    refused = solved.predict(QUERY[0]) == -1
    assert refused[QUERY[1] == 13].mean() < 0.3


def test_the_distance_is_to_the_nearest_mean_by_hand(learner):
    means = np.array([SUPPORT[0][SUPPORT[1] == name].mean(axis=0) for name in KNOWN])
    features = learner.transform(QUERY[0])
    np.testing.assert_allclose(features, QUERY[0], rtol=1e-5, atol=1e-5)
    apart = np.linalg.norm(features[:, None] - means, axis=2).min(axis=1)
    found = learner.novelty_score(QUERY[0])
    np.testing.assert_allclose(found, apart / np.sqrt(1.25), rtol=1e-5)
    refused = learner.predict(QUERY[0]) == -1
    np.testing.assert_array_equal(refused, found > learner.novelty_threshold_)


@pytest.mark.parametrize("kind", LEARNERS)
def test_scores_and_training_stay_as_they_are(kind):
    plain = LEARNERS[kind]().fit(X, Y).adapt(*SUPPORT)
    refusing = LEARNERS[kind](reject=few(0.2)).fit(X, Y).adapt(*SUPPORT)
    for method in ("decision_function", "predict_proba"):
        one, two = (getattr(each, method)(QUERY[0]) for each in (plain, refusing))
        np.testing.assert_array_equal(one, two)
    answers = refusing.predict(QUERY[0])
    kept = answers != -1
    assert 0 < kept.sum() < len(kept)
    np.testing.assert_array_equal(answers[kept], plain.predict(QUERY[0])[kept])
    np.testing.assert_array_equal(plain.classes_, refusing.classes_)
    assert plain.rejected_label_ is None
    assert plain.novelty_threshold_ is None
    np.testing.assert_array_equal(
        plain.novelty_score(QUERY[0]), refusing.novelty_score(QUERY[0])
    )


@pytest.mark.parametrize("kind", LEARNERS)
def test_episodes_are_refused_as_single_tasks_are(kind):
    learner = LEARNERS[kind](reject=few(0.2)).fit(X, Y)
    support = np.stack([SUPPORT[0], rows_of(KNOWN, 4, 7)[0]])
    query = np.stack([QUERY[0][::60], OTHERS[0][: len(QUERY[0][::60])]])
    found = learner.predict_episodes(support, np.stack([SUPPORT[1]] * 2), query)
    for k in range(2):
        alone = copy.copy(learner).adapt(support[k], SUPPORT[1]).predict(query[k])
        np.testing.assert_array_equal(found[k], alone)
    assert (found == -1).any()


@pytest.mark.parametrize(
    ("name", "by_hand"),
    [
        ("margin", lambda z: np.sort(z)[:, -2] - np.sort(z)[:, -1]),
        ("probability", lambda z: 1 - softmax(z, axis=1).max(axis=1)),
        ("energy", lambda z: -np.log(np.exp(z).sum(axis=1))),
    ],
)
def test_scores_of_logits(name, by_hand):
    learner = identity(reject=few(0.1, score=name)).fit(X, Y).adapt(*SUPPORT)
    logits = np.log(learner.predict_proba(QUERY[0]))
    found = learner.novelty_score(QUERY[0])
    if name == "energy":  # of the logits themselves, which probabilities do not tell
        logits = learner._logits(learner.task_, QUERY[0])
    np.testing.assert_allclose(found, by_hand(logits), atol=1e-6)
    refused = learner.predict(QUERY[0]) == -1
    np.testing.assert_array_equal(refused, found > learner.novelty_threshold_)


def test_distances_tell_more_than_probabilities(learner):
    truth = np.r_[np.zeros(len(QUERY[0])), np.ones(len(OTHERS[0]))]
    both = np.concatenate([QUERY[0], OTHERS[0]])
    by_distance = roc_auc_score(truth, learner.novelty_score(both))
    by_probability = roc_auc_score(truth, -learner.predict_proba(both).max(axis=1))
    assert by_distance > max(0.95, by_probability + 0.05)


def test_held_out_classes_give_the_threshold():
    held_out = np.arange(8, 12)
    wide = np.isin(Y, held_out)
    rows = np.where(wide[:, None], MEANS[Y] + 3.0 * (X - MEANS[Y]), X)
    one = identity(reject=few(0.1), validation=held_out).fit(rows, Y)
    two = identity(reject=few(0.1), validation=np.arange(4)).fit(rows, Y)
    assert one.novelty_threshold_ > 2 * two.novelty_threshold_


@pytest.mark.parametrize(
    ("labels", "label"),
    [
        (Y.astype(np.uint8), -1),
        (Y.astype(float), -1),
        (np.array([f"c{name}" for name in Y]), "rejected"),
        (np.array([f"c{name}" for name in Y], dtype=object), "rejected"),
    ],
    ids=["bytes", "floats", "strings", "objects"],
)
def test_the_label_suits_the_classes(labels, label):
    learner = identity(reject=few(0.1)).fit(X, labels)
    some = np.isin(Y, [0, 1])
    learner.adapt(X[some], labels[some])
    found = learner.predict(np.concatenate([X[some], OTHERS[0]]))
    assert learner.rejected_label_ == label
    assert set(found) == {*labels[some], label}
    assert (found[-len(OTHERS[0]) :] == label).mean() > 0.5


def test_a_label_that_is_a_class_is_refused(learner):
    with pytest.raises(InvalidInputError, match=r"must be no class\. Got 3"):
        identity(reject=Rejection(label=3)).fit(X, Y)
    before = learner.predict(QUERY[0])
    with pytest.raises(InvalidInputError, match=r"must be no class\. Got -1"):
        copy.copy(learner).adapt(SUPPORT[0], SUPPORT[1] - 13)
    np.testing.assert_array_equal(learner.predict(QUERY[0]), before)
    with pytest.raises(
        InvalidInputError, match="Got 'none' beside classes of type int"
    ):
        identity(reject=Rejection(label="none")).fit(X, Y)
    with pytest.raises(InvalidInputError, match="beside classes of type bool"):
        identity(reject=few(0.1)).set_params(n_way=2).fit(X, Y % 2 == 0)


def test_the_training_task_refuses_rows_too():
    learner = identity(reject=few(0.1)).fit(X, Y)
    assert (learner.predict(X) == -1).mean() < 0.15
    assert (learner.predict(OTHERS[0] + 30.0) == -1).all()
    with pytest.raises(NotFittedError, match="distance to support rows"):
        identity().fit(X, Y).novelty_score(X)


def test_added_classes_are_known(learner):
    solved = copy.copy(learner)
    rows, labels = rows_of(NOVEL[:1], 4, 8)
    novel = rows_of(NOVEL[:1], 50, 9)[0]
    assert (solved.predict(novel) == -1).mean() > 0.9
    solved.adapt(rows, labels, keep_classes=True)
    assert (solved.predict(novel) == NOVEL[0]).mean() > 0.7


def test_weights_of_rows_reach_the_means(learner):
    weights = np.tile([3.0, 0.0, 1.0, 2.0], 3)
    number = weights.astype(int)
    one = copy.copy(learner).adapt(*SUPPORT, sample_weight=weights)
    two = copy.copy(learner).adapt(*(np.repeat(each, number, 0) for each in SUPPORT))
    np.testing.assert_allclose(
        one.novelty_score(QUERY[0]), two.novelty_score(QUERY[0]), rtol=1e-9
    )


def test_shared_labels_are_refused_by_probability():
    labels, tasks = (X[:, 0] > 0).astype(int), np.arange(len(Y)) % 6
    learner = SparseMetaClassifier(reject=few(0.3), **SMALL).fit(X, labels, tasks=tasks)
    assert learner.around_common_
    found = learner.predict(X, tasks=tasks)
    largest = learner.predict_proba(X, tasks=tasks).max(axis=1)
    np.testing.assert_array_equal(found == -1, 1 - largest > learner.novelty_threshold_)
    alone = learner.predict(X)
    np.testing.assert_array_equal(
        alone == -1, learner.novelty_score(X) > learner.novelty_threshold_
    )
    assert 0 < (alone == -1).mean() < 1
    learner.set_params(reject=Rejection(score="distance"))
    with pytest.raises(InvalidInputError, match="share their labels"):
        learner.fit(X, labels, tasks=tasks)


def test_a_wrapper_passes_refusals_on():
    wrapped = MetaCRLClassifier(identity(reject=few(0.1))).fit(X, Y).adapt(*SUPPORT)
    found = wrapped.novelty_score(QUERY[0])
    np.testing.assert_array_equal(
        wrapped.predict(QUERY[0]) == wrapped.rejected_label_,
        found > wrapped.novelty_threshold_,
    )


def test_refusals_survive_files_pickles_and_clones(learner, tmp_path):
    save(learner, tmp_path / "learner.zip")
    pickled = pickle.loads(pickle.dumps(learner))
    for other in (load(tmp_path / "learner.zip"), pickled):
        both = np.concatenate([QUERY[0], OTHERS[0]])
        np.testing.assert_array_equal(other.predict(both), learner.predict(both))
    other = clone(learner).set_params(reject__share=0.3, reject__label=99)
    other.fit(X, Y).adapt(*SUPPORT)
    assert other.novelty_threshold_ < learner.novelty_threshold_
    assert 99 in other.predict(OTHERS[0])
    named = identity().set_params(reject__share=0.2)
    assert named.reject.share == 0.2


def test_a_threshold_that_was_never_learned_says_so():
    learner = identity().fit(X, Y).adapt(*SUPPORT)
    with pytest.raises(NotFittedError, match="fit again"):
        learner.set_params(reject=0.1).predict(QUERY[0])


@pytest.mark.parametrize("bad", [0.0, 1.0, "yes", Rejection(2.0), Rejection(score="x")])
def test_invalid_rejections(bad):
    with pytest.raises(ValueError, match=r"reject|share|score"):
        identity(reject=bad).fit(X, Y)


def test_evaluations_count_refused_rows_as_wrong():
    learner = identity(reject=few(0.4)).fit(X, Y)
    plain = identity().fit(X, Y)
    sizes = {"n_way": 3, "n_shot": 4, "n_query": 8, "n_episodes": 10}
    one, two = (
        evaluate_few_shot(each, X, Y, random_state=0, **sizes)
        for each in (learner, plain)
    )
    assert one.mean < two.mean - 0.2
