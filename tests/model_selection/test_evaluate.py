"""Evaluation on episodes, as a function and as a scorer."""

import copy
import json
import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from joblib import parallel_config
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from skcausalmeta.episodes import EpisodeSampler
from skcausalmeta.exceptions import EpisodeError, InvalidInputError
from skcausalmeta.metrics import expected_calibration_error, mean_confidence_interval
from skcausalmeta.model_selection import ClassKFold, evaluate_few_shot, few_shot_scorer


class FakeLearner(ClassifierMixin, BaseEstimator):
    """Nearest class mean after a scaling that `fit` learns across tasks."""

    def __init__(self, power=1.0):
        self.power = power

    def fit(self, X, y):
        # Spread within classes: what few labels of a new task could not tell.
        X, y = np.asarray(X), np.asarray(y)
        within = [X[y == label].std(axis=0) for label in np.unique(y)]
        self.scale_ = np.mean(within, axis=0) ** self.power
        return self.adapt(X, y)

    def adapt(self, X, y):
        check_is_fitted(self, "scale_")
        X = np.asarray(X) / self.scale_
        self.classes_ = np.unique(y)
        self.means_ = np.array([X[y == label].mean(axis=0) for label in self.classes_])
        self.sparsity_ = 0.25
        self.dual_gap_ = float(len(X))
        return self

    def predict(self, X):
        X = np.asarray(X) / self.scale_
        distances = ((X[:, None] - self.means_) ** 2).sum(axis=-1)
        return self.classes_[distances.argmin(axis=1)]


def make_data(n_classes=12, n_rows=20, seed=0):
    """Classes differ in two features; six others are loud noise."""
    rng = np.random.default_rng(seed)
    y = np.repeat([f"class {k}" for k in range(n_classes)], n_rows)
    X = rng.normal(size=(len(y), 8)) * np.r_[np.full(2, 0.3), np.full(6, 10.0)]
    X[:, :2] += np.repeat(rng.normal(size=(n_classes, 2)), n_rows, axis=0)
    order = rng.permutation(len(y))
    return X[order], y[order]


@pytest.fixture(scope="module")
def data():
    return make_data()


@pytest.fixture(scope="module")
def fitted(data):
    return FakeLearner().fit(*data)


def test_agrees_with_a_loop_by_hand(data, fitted):
    X, y = data
    result = evaluate_few_shot(
        fitted, X, y, n_shot=2, n_query=4, n_episodes=20, random_state=5
    )
    episodes = EpisodeSampler(y, n_shot=2, n_query=4, random_state=5).draw(20)
    scores = []
    for episode in episodes:
        learner = copy.copy(fitted).adapt(X[episode.support], y[episode.support])
        scores.append(np.mean(learner.predict(X[episode.query]) == y[episode.query]))
    np.testing.assert_array_equal(result.scores, scores)
    assert (result.mean, result.half_width) == mean_confidence_interval(scores)
    assert (result.n_way, result.n_shot, result.n_query) == (5, 2, 4)
    assert (result.n_episodes, result.confidence) == (20, 0.95)
    assert result.adapt_time > 0
    assert result.sparsity == 0.25
    assert result.max_dual_gap == 10.0  # the fake gap is the number of support rows


def test_estimator_stays_as_it_was(data, fitted):
    before = copy.deepcopy(vars(fitted))
    evaluate_few_shot(fitted, *data, n_query=4, n_episodes=3)
    assert vars(fitted).keys() == before.keys()
    for name, value in vars(fitted).items():
        np.testing.assert_array_equal(value, before[name])


def test_meta_training_pays(data, fitted):
    X, y = data
    sizes = {"n_query": 5, "n_episodes": 40, "random_state": 0}
    adapted = evaluate_few_shot(fitted, X, y, **sizes)
    baseline = evaluate_few_shot(NearestCentroid(), X, y, **sizes)
    assert adapted.mean > baseline.mean + 0.2


def test_plain_classifier_is_fitted_on_the_support(data):
    X, y = data
    baseline = NearestCentroid()
    result = evaluate_few_shot(baseline, X, y, n_query=5, n_episodes=5, random_state=0)
    episodes = EpisodeSampler(y, n_shot=5, n_query=5, random_state=0).draw(5)
    scores = [
        NearestCentroid()
        .fit(X[episode.support], y[episode.support])
        .score(X[episode.query], y[episode.query])
        for episode in episodes
    ]
    np.testing.assert_allclose(result.scores, scores)
    assert not hasattr(baseline, "centroids_")
    assert np.isnan(result.sparsity)
    assert np.isnan(result.max_dual_gap)


def test_a_constant_guess_is_at_chance(data):
    result = evaluate_few_shot(DummyClassifier(), *data, n_query=5, n_episodes=5)
    np.testing.assert_allclose(result.scores, 0.2)
    assert result.half_width == pytest.approx(0)


def test_images_are_flattened_for_plain_classifiers_only(data):
    X, y = data
    sizes = {"n_query": 5, "n_episodes": 5, "random_state": 0}
    flat = evaluate_few_shot(NearestCentroid(), X, y, **sizes)
    images = evaluate_few_shot(NearestCentroid(), X.reshape(-1, 2, 2, 2), y, **sizes)
    np.testing.assert_array_equal(flat.scores, images.scores)

    class ImageLearner(FakeLearner):
        def adapt(self, X, y):
            assert X.shape[1:] == (2, 4)
            return super().adapt(X, y)

    images = X.reshape(-1, 2, 4)
    learner = ImageLearner()
    learner.scale_ = np.ones((2, 4))
    learner.predict = lambda X: np.full(len(X), "class 0")
    assert evaluate_few_shot(learner, images, y, **sizes).n_episodes == 5


@pytest.mark.parametrize("kind", ["frame", "memmap"])
def test_containers_agree_with_arrays(data, fitted, kind, tmp_path):
    X, y = data
    if kind == "frame":
        other, labels = pd.DataFrame(X, index=range(7, 7 + len(X))), y
        labels = pd.Series(y, index=other.index)
    else:
        np.save(tmp_path / "X.npy", X)
        other, labels = np.load(tmp_path / "X.npy", mmap_mode="r"), list(y)
    sizes = {"n_query": 5, "n_episodes": 5, "random_state": 0}
    np.testing.assert_array_equal(
        evaluate_few_shot(fitted, other, labels, **sizes).scores,
        evaluate_few_shot(fitted, X, y, **sizes).scores,
    )


def test_scores_do_not_depend_on_n_jobs(data, fitted):
    X, y = data
    sizes = {"n_query": 5, "n_episodes": 7, "random_state": 0}
    alone = evaluate_few_shot(fitted, X, y, **sizes)
    with parallel_config(backend="threading"):
        shared = evaluate_few_shot(fitted, X, y, n_jobs=3, **sizes)
    np.testing.assert_array_equal(shared.scores, alone.scores)


def test_random_state_pairs_the_episodes(data, fitted):
    X, y = data
    sizes = {"n_query": 5, "n_episodes": 10}
    first = evaluate_few_shot(fitted, X, y, random_state=0, **sizes)
    again = evaluate_few_shot(fitted, X, y, random_state=0, **sizes)
    other = evaluate_few_shot(fitted, X, y, random_state=1, **sizes)
    np.testing.assert_array_equal(first.scores, again.scores)
    assert not np.array_equal(first.scores, other.scores)


def test_scoring_by_callable_and_by_name(data, fitted):
    X, y = data
    sizes = {"n_query": 5, "n_episodes": 5, "random_state": 0}
    accuracy = evaluate_few_shot(fitted, X, y, **sizes)
    named = evaluate_few_shot(fitted, X, y, scoring="balanced_accuracy", **sizes)
    np.testing.assert_allclose(named.scores, accuracy.scores)
    error = evaluate_few_shot(
        fitted, X, y, scoring=lambda est, X, y: np.mean(est.predict(X) != y), **sizes
    )
    np.testing.assert_allclose(error.scores, 1 - accuracy.scores)


def test_last_step_of_a_pipeline_is_asked_for_sparsity(data):
    class Sparse(NearestCentroid):
        sparsity_ = 0.5
        dual_gap_ = np.array([1e-3, 1e-2])

    pipeline = make_pipeline(StandardScaler(), Sparse())
    result = evaluate_few_shot(pipeline, *data, n_query=5, n_episodes=3)
    assert result.sparsity == 0.5
    assert result.max_dual_gap == 1e-2


def test_result_as_text_and_as_json(data, fitted):
    result = evaluate_few_shot(fitted, *data, n_shot=1, n_query=5, n_episodes=4)
    assert str(result) == (
        f"{100 * result.mean:.1f} +- {100 * result.half_width:.1f}% "
        "(4 episodes of 5-way 1-shot, 95% interval)"
    )
    assert str(replace(result, confidence=0.9)).endswith("90% interval)")
    record = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert record["scores"] == result.scores.tolist()
    assert record["mean"] == result.mean
    assert record["sparsity"] == 0.25


def test_single_episode_has_no_interval_and_valid_json(data):
    result = evaluate_few_shot(NearestCentroid(), *data, n_query=5, n_episodes=1)
    record = result.to_dict()
    assert record["half_width"] is None
    assert record["max_dual_gap"] is None
    json.dumps(record, allow_nan=False)


def test_unfitted_learner_is_refused(data):
    with pytest.raises(NotFittedError):
        evaluate_few_shot(FakeLearner(), *data, n_query=5, n_episodes=2)


def test_plain_pipeline_around_a_meta_learner_is_refused(data):
    pipeline = make_pipeline(StandardScaler(), FakeLearner()).fit(*data)
    with pytest.raises(InvalidInputError, match=r"Got Pipeline.*make_meta_pipeline"):
        evaluate_few_shot(pipeline, *data)


def test_small_classes_are_refused(data, fitted):
    with pytest.raises(EpisodeError, match="class 'class 0' with 20 rows"):
        evaluate_few_shot(fitted, *data, n_shot=6, n_query=15)


def test_lengths_must_agree(data, fitted):
    X, y = data
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        evaluate_few_shot(fitted, X[:-1], y)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_way", 1),
        ("n_episodes", 0),
        ("scoring", "acuracy"),
        ("estimator", "svm"),
    ],
)
def test_parameters_out_of_range(data, name, value):
    X, y = data
    parameters = {"estimator": NearestCentroid(), "X": X, "y": y, name: value}
    with pytest.raises(ValueError, match=f"'{name}' parameter of evaluate_few_shot"):
        evaluate_few_shot(**parameters)


def test_scorer_is_the_mean_of_the_evaluation(data, fitted):
    scorer = few_shot_scorer(n_shot=3, n_query=4, n_episodes=6, random_state=2)
    result = evaluate_few_shot(
        fitted, *data, n_shot=3, n_query=4, n_episodes=6, random_state=2
    )
    assert scorer(fitted, *data) == result.mean
    assert scorer(fitted, *data) == result.mean


def test_a_scorer_starts_no_jobs_of_its_own(monkeypatch):
    """Where a search is spread, its engine would be asked once more inside."""

    def refuse(**kwargs):
        raise AssertionError("asked for jobs")

    monkeypatch.setattr("skcausalmeta.model_selection._judge.Parallel", refuse)
    scorer = few_shot_scorer(n_way=3, n_shot=2, n_query=3, n_episodes=3)
    rng = np.random.RandomState(0)
    y = np.repeat(np.arange(4), 8)
    with parallel_config(backend="threading", n_jobs=2):
        assert 0 <= scorer(GaussianNB(), rng.standard_normal((32, 2)), y) <= 1
        with pytest.raises(AssertionError, match="asked for jobs"):
            evaluate_few_shot(
                GaussianNB(),
                rng.standard_normal((32, 2)),
                y,
                n_way=3,
                n_shot=2,
                n_query=3,
            )


def test_scorer_can_be_pickled_and_shown(data, fitted):
    scorer = few_shot_scorer(n_query=4, n_episodes=5)
    assert repr(scorer) == (
        "few_shot_scorer(n_way=5, n_shot=5, n_query=4, n_episodes=5, random_state=0)"
    )
    restored = pickle.loads(pickle.dumps(scorer))
    assert restored == scorer
    assert restored(fitted, *data) == scorer(fitted, *data)


def test_scorer_takes_the_queries_that_are_left(data, fitted):
    X, y = data
    rest = few_shot_scorer(n_shot=12, n_query=None, n_episodes=3)
    eight = few_shot_scorer(n_shot=12, n_query=8, n_episodes=3)
    assert rest(fitted, X, y) == eight(fitted, X, y)
    most = few_shot_scorer(n_shot=2, n_query=None, n_episodes=3)
    fifteen = few_shot_scorer(n_shot=2, n_query=15, n_episodes=3)
    assert most(fitted, X, y) == fifteen(fitted, X, y)
    with pytest.raises(EpisodeError, match="with 20 rows for n_shot=20, n_query=1"):
        few_shot_scorer(n_shot=20, n_query=None)(fitted, X, y)


@pytest.mark.parametrize("name", ["n_way", "n_shot", "n_query", "n_episodes"])
def test_scorer_checks_its_parameters(name):
    with pytest.raises(ValueError, match=f"'{name}' parameter of few_shot_scorer"):
        few_shot_scorer(**{name: 0})


@pytest.mark.parametrize("routing", [False, True])
def test_grid_search_over_held_out_classes(data, routing):
    with config_context(enable_metadata_routing=routing):
        search = GridSearchCV(
            FakeLearner(),
            {"power": [0.0, 1.0]},
            scoring=few_shot_scorer(n_way=4, n_query=5, n_episodes=20),
            cv=ClassKFold(3, shuffle=True, random_state=0),
            error_score="raise",
        ).fit(*data)
    assert search.best_params_ == {"power": 1.0}
    # The refitted learner answers for the training classes, not for an episode.
    assert len(search.best_estimator_.classes_) == 12


def test_cross_val_score_over_held_out_classes(data):
    scorer = few_shot_scorer(n_way=3, n_query=5, n_episodes=10)
    scores = cross_val_score(
        FakeLearner(), *data, scoring=scorer, cv=ClassKFold(4), error_score="raise"
    )
    assert scores.shape == (4,)
    assert (scores > 0.5).all()


def test_calibration_error_is_that_of_all_query_rows():
    X, y = make_data()
    sizes = {"n_way": 3, "n_shot": 4, "n_query": 5, "random_state": 0}
    learner = GaussianNB()
    result = evaluate_few_shot(learner, X, y, n_episodes=6, calibration=True, **sizes)
    truth, proba = [], []
    for episode in EpisodeSampler(y, **sizes).draw(6):
        support, query = episode.support, episode.query
        # Columns are the classes of the episode in order: name them by position.
        fitted = clone(learner).fit(X[support], y[support])
        proba.append(fitted.predict_proba(X[query]))
        truth.append(np.searchsorted(fitted.classes_, y[query]))
    expected = expected_calibration_error(np.concatenate(truth), np.concatenate(proba))
    assert result.calibration_error == pytest.approx(expected)
    assert 0 < result.to_dict()["calibration_error"] == pytest.approx(expected)
    plain = evaluate_few_shot(learner, X, y, n_episodes=6, **sizes)
    assert plain.to_dict()["calibration_error"] is None
    np.testing.assert_array_equal(plain.scores, result.scores)


def test_calibration_needs_probabilities():
    X, y = make_data()
    with pytest.raises(InvalidInputError, match=r"predict_proba\. Got FakeLearner"):
        evaluate_few_shot(FakeLearner().fit(X, y), X, y, calibration=True)
