"""MetaPipeline: adapt without refitting, copies that stay apart."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, StandardScaler
from sklearn.utils.validation import check_is_fitted

from skcausalmeta.compose import MetaPipeline, make_meta_pipeline
from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.model_selection import ClassKFold, evaluate_few_shot, few_shot_scorer


class FakeLearner(ClassifierMixin, BaseEstimator):
    """Nearest class mean with the facts and methods of a meta-learner."""

    def __init__(self, shift=0.0):
        self.shift = shift

    def fit(self, X, y, tasks=None):
        self.backbone_ = np.zeros(3)
        self.tasks_ = tasks
        self.n_iter_ = 7
        self.history_ = ["epoch"]
        return self.adapt(X, y)

    def adapt(self, X, y, weight=1.0):
        check_is_fitted(self, "backbone_")
        X, y = np.asarray(X), np.asarray(y)
        if np.isnan(X).any():
            raise ValueError("X holds NaN")
        self.classes_ = np.unique(y)
        self.means_ = np.array([X[y == label].mean(axis=0) for label in self.classes_])
        self.weight_ = weight
        self.dual_gap_ = 1e-8 * len(X)
        self.sparsity_ = 0.5
        self.support_features_ = np.array([0, 2])
        return self

    def predict(self, X):
        distances = ((np.asarray(X)[:, None] - self.means_) ** 2).sum(axis=-1)
        return self.classes_[distances.argmin(axis=1)]

    def predict_episodes(self, X_support, y_support, X_query):
        return np.array(
            [
                copy.copy(self).adapt(*support).predict(query)
                for *support, query in zip(X_support, y_support, X_query, strict=True)
            ]
        )


def make_data(n_classes=4, n_rows=10, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat([f"class {k}" for k in range(n_classes)], n_rows))
    centres = rng.normal(scale=3, size=(n_classes, 3))
    X = centres[np.unique(y, return_inverse=True)[1]] + rng.normal(size=(len(y), 3))
    return X * [1.0, 100.0, 0.01], y


@pytest.fixture
def task():
    X, y = make_data(n_classes=2, n_rows=3, seed=1)
    return X, np.where(y == "class 0", "new", "old")


@pytest.fixture
def pipeline():
    return make_meta_pipeline(StandardScaler(), FakeLearner()).fit(*make_data())


def test_adapt_uses_the_steps_as_fitted(pipeline, task):
    X, y = task
    means = pipeline[0].mean_.copy()
    by_hand = copy.copy(pipeline[-1]).adapt(pipeline[0].transform(X), y)
    assert pipeline.adapt(X, y) is pipeline
    np.testing.assert_array_equal(pipeline[0].mean_, means)
    np.testing.assert_array_equal(pipeline[-1].means_, by_hand.means_)
    np.testing.assert_array_equal(pipeline.classes_, ["new", "old"])
    # Scaling by the support rows themselves would give other means.
    refitted = FakeLearner().fit(StandardScaler().fit_transform(X), y)
    assert not np.allclose(pipeline[-1].means_, refitted.means_)


def test_copies_are_independent_and_share_the_steps(pipeline, task):
    X, _ = make_data()
    before = pipeline.predict(X)
    learner = pipeline[-1]
    first = copy.copy(pipeline).adapt(*task)
    second = copy.copy(pipeline).adapt(task[0], np.roll(task[1], 1))
    assert first[0] is pipeline[0]
    assert first[-1].backbone_ is learner.backbone_
    np.testing.assert_array_equal(first.classes_, ["new", "old"])
    assert not np.array_equal(first[-1].means_, second[-1].means_)
    assert pipeline[-1] is learner
    np.testing.assert_array_equal(pipeline.predict(X), before)


def test_copy_has_a_list_of_steps_of_its_own(pipeline):
    duplicate = copy.copy(pipeline)
    assert isinstance(duplicate, MetaPipeline)
    assert duplicate.steps == pipeline.steps
    duplicate.steps.pop()
    assert len(pipeline.steps) == 2


def test_adapting_in_place_leaves_the_given_learner_alone(task):
    learner = FakeLearner()
    pipeline = MetaPipeline([("learner", learner)]).fit(*make_data())
    pipeline.adapt(*task)
    assert len(learner.classes_) == 4
    assert len(pipeline.named_steps["learner"].classes_) == 2


def test_failed_adapt_leaves_the_pipeline_usable(pipeline, task):
    X, _ = make_data()
    before = pipeline.predict(X)
    with pytest.raises(ValueError, match="X holds NaN"):
        pipeline.adapt(np.full_like(task[0], np.nan), task[1])
    np.testing.assert_array_equal(pipeline.predict(X), before)


def test_fit_after_adapt_starts_again(pipeline, task):
    X, y = make_data()
    before = pipeline.predict(X)
    np.testing.assert_array_equal(pipeline.adapt(*task).fit(X, y).predict(X), before)


def test_adapt_passes_parameters_on(pipeline, task):
    assert pipeline.adapt(*task, weight=2.5)[-1].weight_ == 2.5


def test_facts_of_the_last_step_are_read_through(pipeline, task):
    assert pipeline.dual_gap_ == pytest.approx(4e-7)
    pipeline.adapt(*task)
    assert pipeline.dual_gap_ == pytest.approx(6e-8)
    assert pipeline.sparsity_ == 0.5
    assert pipeline.n_iter_ == 7
    assert pipeline.history_ == ["epoch"]
    np.testing.assert_array_equal(pipeline.support_features_, [0, 2])


def test_facts_that_the_last_step_lacks_are_missing():
    X, y = make_data()
    fitted = make_meta_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
    assert hasattr(fitted, "n_iter_")
    assert not hasattr(fitted, "dual_gap_")
    with pytest.raises(AttributeError, match="no attribute 'sparsity_'"):
        _ = fitted.sparsity_


@pytest.mark.parametrize("method", ["adapt", "predict_episodes"])
def test_methods_are_offered_only_where_the_last_step_has_them(method):
    assert hasattr(make_meta_pipeline(FakeLearner()), method)
    plain = make_meta_pipeline(StandardScaler(), LogisticRegression())
    assert not hasattr(plain, method)
    with pytest.raises(AttributeError, match=f"has no attribute '{method}'"):
        getattr(plain, method)
    assert not hasattr(MetaPipeline([("none", "passthrough")]), method)
    assert not hasattr(make_meta_pipeline(FakeLearner()), "staged_predict_episodes")


def test_unfitted_pipeline_says_so(task):
    pipeline = make_meta_pipeline(StandardScaler(), FakeLearner())
    with pytest.raises(NotFittedError, match=r"adapt needs a pipeline.*call fit first"):
        pipeline.adapt(*task)
    with pytest.raises(NotFittedError, match="predict_episodes needs a pipeline"):
        pipeline.predict_episodes(task[0][None], task[1][None], task[0][None])


def make_episodes(n_tasks=3):
    tasks = [make_data(n_classes=2, n_rows=4, seed=seed) for seed in range(n_tasks)]
    X, y = (np.array(arrays) for arrays in zip(*tasks, strict=True))
    return X[:, :6], y[:, :6], X[:, 6:]


def test_predict_episodes_agrees_with_one_task_at_a_time(pipeline):
    X_support, y_support, X_query = make_episodes()
    predicted = pipeline.predict_episodes(X_support, y_support, X_query)
    assert predicted.shape == (3, 2)
    for support, labels, query, row in zip(
        X_support, y_support, X_query, predicted, strict=True
    ):
        one = copy.copy(pipeline).adapt(support, labels).predict(query)
        np.testing.assert_array_equal(row, one)
    assert len(pipeline.classes_) == 4


def test_predict_episodes_with_images_frames_and_sparse_steps():
    X, y = make_data()
    episodes = make_episodes()
    expected = (
        make_meta_pipeline(StandardScaler(), FakeLearner()).fit(X, y)
    ).predict_episodes(*episodes)

    flatten = FunctionTransformer(lambda X: X.reshape(len(X), -1))
    images = make_meta_pipeline(flatten, StandardScaler(), FakeLearner())
    images.fit(X[:, :, None, None], y)
    X_support, y_support, X_query = episodes
    np.testing.assert_array_equal(
        images.predict_episodes(
            X_support[..., None, None], y_support, X_query[..., None, None]
        ),
        expected,
    )
    frames = make_meta_pipeline(StandardScaler(), FakeLearner())
    frames.set_output(transform="pandas").fit(X, y)
    np.testing.assert_array_equal(frames.predict_episodes(*episodes), expected)

    to_sparse = FunctionTransformer(sparse.csr_array)
    scaled = Pipeline([("scale", StandardScaler())])
    mixed = MetaPipeline([("scale", scaled), ("sparse", to_sparse), ("fake", Dense())])
    mixed.fit(X, y)
    np.testing.assert_array_equal(mixed.predict_episodes(*episodes), expected)


class Dense(FakeLearner):
    """FakeLearner that takes sparse training rows."""

    def fit(self, X, y):
        return super().fit(X.toarray(), y)


def test_predict_episodes_needs_a_task_axis(pipeline, task):
    with pytest.raises(InvalidInputError, match=r"X_support must.*Got shape \(6, 3\)"):
        pipeline.predict_episodes(*task, task[0])


def test_passthrough_steps_are_skipped(task):
    X, y = make_data()
    steps = [
        ("skip", "passthrough"),
        ("scale", MinMaxScaler()),
        ("fake", FakeLearner()),
    ]
    pipeline = MetaPipeline(steps).fit(X, y).adapt(*task)
    without = make_meta_pipeline(MinMaxScaler(), FakeLearner()).fit(X, y).adapt(*task)
    np.testing.assert_array_equal(pipeline[-1].means_, without[-1].means_)


def test_clone_and_pickle(pipeline, task):
    fresh = clone(pipeline.adapt(*task))
    assert isinstance(fresh, MetaPipeline)
    with pytest.raises(NotFittedError):
        fresh.adapt(*task)
    restored = pickle.loads(pickle.dumps(pipeline))
    np.testing.assert_array_equal(restored.predict(task[0]), pipeline.predict(task[0]))


def test_set_output_gives_frames_to_the_learner(task):
    class Recorder(FakeLearner):
        def adapt(self, X, y):
            self.seen_ = type(X)
            return super().adapt(X, y)

    X, y = make_data()
    frame = pd.DataFrame(X, columns=list("abc"))
    pipeline = make_meta_pipeline(StandardScaler(), Recorder())
    pipeline.set_output(transform="pandas").fit(frame, y)
    pipeline.adapt(pd.DataFrame(task[0], columns=list("abc")), task[1])
    assert pipeline[-1].seen_ is pd.DataFrame


def test_metadata_reaches_the_learner():
    X, y = make_data()
    tasks = np.arange(len(y))
    with config_context(enable_metadata_routing=True):
        learner = FakeLearner().set_fit_request(tasks=True)
        routed = make_meta_pipeline(StandardScaler(), learner).fit(X, y, tasks=tasks)
    np.testing.assert_array_equal(routed[-1].tasks_, tasks)
    named = make_meta_pipeline(StandardScaler(), FakeLearner())
    named.fit(X, y, fakelearner__tasks=tasks)
    np.testing.assert_array_equal(named[-1].tasks_, tasks)


def test_make_meta_pipeline_names_steps_and_passes_options():
    pipeline = make_meta_pipeline(
        StandardScaler(),
        StandardScaler(),
        FakeLearner(),
        memory="cache",
        transform_input=["X_val"],
        verbose=True,
    )
    assert list(pipeline.named_steps) == [
        "standardscaler-1",
        "standardscaler-2",
        "fakelearner",
    ]
    assert pipeline.get_params(deep=False)["memory"] == "cache"
    assert pipeline.transform_input == ["X_val"]
    assert pipeline.verbose is True
    assert "MetaPipeline" in pipeline._repr_html_()


def test_evaluation_and_grid_search_adapt_the_pipeline():
    X, y = make_data(n_classes=9, n_rows=12)
    pipeline = make_meta_pipeline(StandardScaler(), FakeLearner()).fit(X, y)
    result = evaluate_few_shot(
        pipeline, X, y, n_way=3, n_query=5, n_episodes=10, random_state=0
    )
    assert result.mean > 0.6
    assert result.sparsity == 0.5
    assert result.max_dual_gap == pytest.approx(1.5e-7)
    assert len(pipeline.classes_) == 9
    search = GridSearchCV(
        pipeline,
        {"standardscaler": [StandardScaler(), FunctionTransformer()]},
        scoring=few_shot_scorer(n_way=3, n_query=5, n_episodes=10),
        cv=ClassKFold(3),
        error_score="raise",
    ).fit(X, y)
    assert isinstance(search.best_params_["standardscaler"], StandardScaler)
