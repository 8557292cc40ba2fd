"""Scores by any name of scikit-learn, and episodes that do not define one."""

import copy
import pickle
import warnings

import numpy as np
import pytest
from sklearn import config_context
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import (
    brier_score_loss,
    f1_score,
    log_loss,
    make_scorer,
    mean_absolute_error,
    recall_score,
    roc_auc_score,
)
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.naive_bayes import GaussianNB

from skcausalmeta import SparseMetaClassifier
from skcausalmeta.episodes import TaskSampler, make_sampler
from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.model_selection import evaluate_few_shot, few_shot_scorer

RNG = np.random.default_rng(0)
N_TASKS, N_ROWS = 8, 30
TASKS = np.repeat(np.arange(N_TASKS), N_ROWS)
X = RNG.normal(size=(len(TASKS), 4))
LABELS = np.array(["a", "b", "c"])[np.digitize(X[:, 0] + X[:, 1], [-0.5, 1.2])]
HALF = np.where(X[:, 0] > 0.0, "yes", "no")
NOISE = RNG.permutation(HALF)
RARE = np.where(X[:, 0] > 1.1, "yes", "no")
SIZES = {"n_shot": 3, "n_query": 4, "n_episodes": 30, "random_state": 0}


class KnowsAll(GaussianNB):
    """Adapts by looking away: every task is answered by what `fit` learned."""

    def adapt(self, X, y):
        return self


def drawn(y, **kind):
    """The episodes of `SIZES`."""
    sampler = TaskSampler(
        TASKS, y, n_shot=3, n_query=4, natural=0.0, random_state=0, **kind
    )
    return sampler.draw(SIZES["n_episodes"])


def test_a_name_gives_the_metric_of_the_query_rows():
    result = evaluate_few_shot(
        LogisticRegression(), X, HALF, tasks=TASKS, scoring="roc_auc", **SIZES
    )
    by_hand = []
    for episode in drawn(HALF):
        solved = LogisticRegression().fit(X[episode.support], HALF[episode.support])
        scores = solved.decision_function(X[episode.query])
        by_hand.append(roc_auc_score(HALF[episode.query], scores))
    np.testing.assert_allclose(result.scores, by_hand)
    assert result.scoring == "roc_auc"


@pytest.mark.parametrize("name", ["neg_log_loss", "neg_brier_score", "roc_auc_ovr"])
def test_probabilities_of_classes_that_the_query_lacks(name):
    learner = KnowsAll().fit(X, LABELS)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "scoring=")
        result = evaluate_few_shot(
            learner, X, LABELS, tasks=TASKS, scoring=name, shared_labels=True, **SIZES
        )
    lacking = 0
    all_classes = ["a", "b", "c"]
    episodes = drawn(LABELS, shared_labels=True)
    for episode, score in zip(episodes, result.scores, strict=True):
        truth, proba = LABELS[episode.query], learner.predict_proba(X[episode.query])
        complete = len(np.unique(truth)) == 3
        lacking += not complete
        if name == "neg_log_loss":
            assert score == pytest.approx(
                -log_loss(truth, proba, labels=["a", "b", "c"])
            )
        elif name == "neg_brier_score":
            loss = brier_score_loss(truth, proba, labels=all_classes)
            assert score == pytest.approx(-loss)
        else:
            assert np.isnan(score) != complete
    assert lacking > 3


def test_the_brier_score_of_a_query_of_one_class():
    learner = KnowsAll().fit(X, RARE)
    kind = {"tasks": TASKS, "scoring": "neg_brier_score", "shared_labels": True}
    result = evaluate_few_shot(learner, X, RARE, **kind, **SIZES)
    by_hand = [
        -np.mean((learner.predict_proba(X[rows])[:, 1] - (RARE[rows] == "yes")) ** 2)
        for rows in (one.query for one in drawn(RARE, shared_labels=True))
    ]
    np.testing.assert_allclose(result.scores, by_hand, atol=1e-12)


def test_undefined_episodes_are_left_out_and_counted():
    learner = KnowsAll().fit(X, RARE)
    with pytest.warns(UserWarning, match=r"Got \d+ of 30 episodes that lack one"):
        result = evaluate_few_shot(
            learner,
            X,
            RARE,
            tasks=TASKS,
            scoring="roc_auc",
            shared_labels=True,
            **SIZES,
        )
    expected = [
        len(np.unique(RARE[episode.query])) < 2
        for episode in drawn(RARE, shared_labels=True)
    ]
    assert 0 < sum(expected) < 30
    np.testing.assert_array_equal(np.isnan(result.scores), expected)
    assert result.n_undefined == sum(expected)
    assert result.mean == pytest.approx(np.nanmean(result.scores))
    assert f"{result.n_undefined} undefined" in str(result)
    assert "%" not in str(result).partition("(")[0]
    assert result.to_dict()["scores"].count(None) == sum(expected)


def test_a_score_that_no_episode_defines_is_refused():
    learner = KnowsAll().fit(X, RARE)
    one = RARE == "no"
    with pytest.raises(InvalidInputError, match="'roc_auc' must be defined for some"):
        evaluate_few_shot(
            learner,
            X[one],
            RARE[one],
            tasks=TASKS[one],
            scoring="roc_auc",
            shared_labels=True,
            **SIZES,
        )


@pytest.mark.parametrize(
    ("name", "metric"),
    [("f1", f1_score), ("recall", recall_score)],
)
def test_the_second_class_of_a_task_is_the_positive_one(name, metric):
    result = evaluate_few_shot(
        LogisticRegression(), X, HALF, tasks=TASKS, scoring=name, **SIZES
    )
    by_hand = []
    for episode in drawn(HALF):
        solved = LogisticRegression().fit(X[episode.support], HALF[episode.support])
        found = solved.predict(X[episode.query])
        by_hand.append(metric(HALF[episode.query], found, pos_label="yes"))
    np.testing.assert_allclose(result.scores, by_hand)


@pytest.mark.parametrize(
    ("name", "others"),
    [("roc_auc", "'roc_auc_ovo', .*'roc_auc_ovr'"), ("f1", "'f1_macro', 'f1_micro'")],
)
def test_scores_of_two_classes_name_those_of_more(name, others):
    labels = np.arange(len(X)) % 5
    with pytest.raises(InvalidInputError, match=f"Got a task of 3 classes.*{others}"):
        evaluate_few_shot(
            LogisticRegression(), X, labels, n_way=3, scoring=name, **SIZES
        )


def test_a_score_that_fails_is_not_taken_for_an_undefined_one():
    with pytest.raises(InvalidInputError, match="scores must be finite"):
        evaluate_few_shot(
            LogisticRegression(),
            X,
            HALF,
            tasks=TASKS,
            scoring=lambda estimator, X, y: np.nan,
            **SIZES,
        )


def test_real_targets_by_name():
    result = evaluate_few_shot(
        LinearRegression(),
        X,
        X[:, 0],
        tasks=TASKS,
        scoring="neg_mean_absolute_error",
        n_shot=10,
        n_query=5,
        n_episodes=4,
        random_state=0,
    )
    assert result.mean == pytest.approx(0.0, abs=1e-9)
    scorer = few_shot_scorer(
        n_shot=10, n_query=5, n_episodes=4, scoring=make_scorer(mean_absolute_error)
    )
    assert scorer(LinearRegression(), X, X[:, 0], tasks=TASKS) == pytest.approx(
        0.0, abs=1e-9
    )


def test_shared_labels_need_tasks_of_classes():
    with pytest.raises(InvalidInputError, match="Got tasks=None"):
        evaluate_few_shot(GaussianNB(), X, RARE, shared_labels=True, **SIZES)
    with pytest.raises(InvalidInputError, match="Got real targets"):
        make_sampler(
            X[:, 0],
            TASKS,
            regression=True,
            n_way=2,
            n_shot=1,
            n_query=1,
            random_state=0,
            shared_labels=True,
        )


def test_a_learner_of_shared_labels_meets_tasks_as_they_are():
    y = np.where(TASKS == 0, "no", RARE)  # a task of a single class
    learner = SparseMetaClassifier(
        max_epochs=1, batches_per_epoch=2, verbose=0, random_state=0
    ).fit(X, y, tasks=TASKS)
    scorer = few_shot_scorer(
        n_shot=3, n_query=None, n_episodes=16, scoring="roc_auc", shared_labels=True
    )
    with pytest.warns(UserWarning, match="left out of the mean"):
        score = scorer(learner, X, y, tasks=TASKS)
    with pytest.warns(UserWarning, match="left out of the mean"):
        result = evaluate_few_shot(
            learner,
            X,
            y,
            tasks=TASKS,
            n_shot=3,
            n_query=15,
            n_episodes=16,
            random_state=0,
            scoring="roc_auc",
            shared_labels=True,
        )
    assert score == result.mean
    assert result.n_undefined >= 2


def test_a_scorer_says_what_it_scores():
    scorer = few_shot_scorer(n_episodes=5, scoring="f1_macro")
    assert repr(scorer).endswith("random_state=0, scoring='f1_macro')")
    assert pickle.loads(pickle.dumps(scorer)) == scorer
    with pytest.raises(ValueError, match="'scoring' parameter of few_shot_scorer"):
        few_shot_scorer(scoring="no such score")


def routed(scorer, **params):
    """Scores of a cross-validation that is given these metadata."""
    return cross_val_score(
        KnowsAll(), X, NOISE, cv=GroupKFold(2), scoring=scorer, params=params
    )


def test_the_request_of_tasks_can_be_renamed_and_withdrawn():
    scorer = few_shot_scorer(n_way=2, n_shot=3, n_query=2, n_episodes=40)
    with pytest.raises(RuntimeError, match="enable_metadata_routing=True"):
        scorer.set_score_request(tasks=True)
    with config_context(enable_metadata_routing=True):
        by_default = routed(scorer, groups=TASKS, tasks=TASKS)
        renamed = copy.copy(scorer).set_score_request(tasks="customers")
        np.testing.assert_array_equal(
            routed(renamed, groups=TASKS, customers=TASKS), by_default
        )
        without = routed(scorer, groups=TASKS)
        assert (without != by_default).any()
        withdrawn = copy.copy(scorer)
        assert withdrawn.set_score_request(tasks=False) is withdrawn
        request = withdrawn.get_metadata_routing().score.requests
        assert request == {"tasks": False}
        refusing = copy.copy(scorer).set_score_request(tasks=None)
        with pytest.raises(ValueError, match="tasks"):
            routed(refusing, groups=TASKS, tasks=TASKS)
        with pytest.raises(ValueError, match="tasks"):
            scorer.set_score_request(tasks=3)
    assert pickle.loads(pickle.dumps(renamed)) == renamed
