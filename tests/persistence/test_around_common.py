"""Learners around a common predictor: files, pickles, copies."""

import copy
import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skcausalmeta.exceptions import PersistenceError
from skcausalmeta.learners import SparseMetaClassifier, SparseMetaRegressor
from skcausalmeta.persistence import describe, load, save

RNG = np.random.default_rng(0)
TASKS = np.repeat(np.arange(6), 12)
X = RNG.standard_normal((72, 4))
VALUES = X[:, 0] + X[:, 1] * (TASKS % 2) + 0.1 * RNG.standard_normal(72)
LABELS = np.where(VALUES > 0, "yes", "no")
X_NEW = RNG.standard_normal((12, 4))
SMALL = {"max_epochs": 1, "batches_per_epoch": 2, "tasks_per_batch": 2, "verbose": 0}


def classifier(**params):
    return SparseMetaClassifier(**SMALL, random_state=0, **params)


def scaled():
    return make_pipeline(StandardScaler(), LogisticRegression())


MADE = {
    "nets": lambda: classifier().fit(X, LABELS, tasks=TASKS),
    "linear": lambda: classifier(backbone="identity").fit(X, LABELS, tasks=TASKS),
    "estimator": lambda: classifier(backbone="identity", common=scaled()).fit(
        X, LABELS, tasks=TASKS
    ),
    "targets": lambda: SparseMetaRegressor(**SMALL, random_state=0).fit(
        X, VALUES, tasks=TASKS
    ),
}


@pytest.fixture(scope="module", params=MADE)
def fitted(request):
    learner = MADE[request.param]()
    assert learner.around_common_
    return learner


def answers(learner):
    """All that it predicts: without labels, by training task, after adapting."""
    yield learner.predict(X_NEW)
    ids = np.where(np.arange(12) % 2, 3, 99)  # one that fit saw, one that it did not
    yield learner.predict(X_NEW, tasks=ids)
    regressor = isinstance(learner, SparseMetaRegressor)
    y = VALUES if regressor else LABELS
    support = X.reshape(6, 12, 4)[:, :5], y.reshape(6, 12)[:, :5]
    yield learner.predict_episodes(*support, X.reshape(6, 12, 4)[:, 5:])
    adapted = copy.copy(learner).adapt(X[:7], y[:7])
    scores = adapted.predict if regressor else adapted.predict_proba
    yield scores(X_NEW)
    yield adapted.deviation_
    yield adapted.dual_gap_
    yield learner.common_.training_scores
    if hasattr(learner, "common_coef_"):
        yield learner.common_coef_


def assert_answers_the_same(one, two):
    for expected, found in zip(answers(one), answers(two), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_file_gives_the_same_answers(fitted, tmp_path):
    save(fitted, tmp_path / "learner")
    assert describe(tmp_path / "learner")["modules"] == []
    assert_answers_the_same(fitted, load(tmp_path / "learner"))


def test_an_adapted_learner_is_saved_with_its_task(fitted, tmp_path):
    y = VALUES if isinstance(fitted, SparseMetaRegressor) else LABELS
    adapted = copy.copy(fitted).adapt(X[:7], y[:7])
    save(adapted, tmp_path / "learner")
    again = load(tmp_path / "learner")
    np.testing.assert_array_equal(again.predict(X_NEW), adapted.predict(X_NEW))
    np.testing.assert_array_equal(again.head_.coef_, adapted.head_.coef_)
    assert_answers_the_same(adapted, again)


def test_pickles_and_deep_copies_give_the_same_answers(fitted):
    for twin in (pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted)):
        assert twin.common_ is not fitted.common_
        assert_answers_the_same(fitted, twin)


def test_clones_are_unfitted_and_fit_to_the_same(fitted):
    twin = clone(fitted)
    assert not hasattr(twin, "net_")
    assert twin.common_ is None
    y = VALUES if isinstance(fitted, SparseMetaRegressor) else LABELS
    assert_answers_the_same(fitted, twin.fit(X, y, tasks=TASKS))


def test_training_leaves_the_common_predictor_as_it_was_pooled():
    """Zero labels are answered by the pooled nets, whatever was trained after."""
    given = {"validation": [1, 4], "lr": 0.3}  # as many epochs as given
    short, long = (
        classifier(**given).set_params(max_epochs=n).fit(X, LABELS, tasks=TASKS)
        for n in (1, 3)
    )
    assert long.n_iter_ == 3
    np.testing.assert_array_equal(
        long.decision_function(X_NEW), short.decision_function(X_NEW)
    )


@pytest.mark.parametrize(
    ("make", "common", "y"),
    [
        (classifier, HistGradientBoostingClassifier(max_iter=3), LABELS),
        (
            classifier,
            make_pipeline(StandardScaler(), KNeighborsClassifier(algorithm="kd_tree")),
            LABELS,
        ),
        (SparseMetaRegressor, RandomForestRegressor(2, random_state=0), VALUES),
    ],
)
def test_an_estimator_that_a_file_cannot_hold_is_refused_by_name(
    make, common, y, tmp_path
):
    learner = make(backbone="identity", common=common).set_params(**SMALL)
    learner.fit(X, y, tasks=TASKS)
    name = type(common[-1] if hasattr(common, "steps") else common).__name__
    with pytest.raises(PersistenceError, match=rf"Got {name} at 'common_\.est"):
        save(learner, tmp_path / "learner")
    assert not (tmp_path / "learner").exists()
    assert_answers_the_same(learner, pickle.loads(pickle.dumps(learner)))


def test_a_learner_that_is_not_fitted_is_saved_with_any_estimator(tmp_path):
    learner = classifier(common=HistGradientBoostingClassifier(max_iter=3))
    save(learner, tmp_path / "learner")
    assert describe(tmp_path / "learner")["modules"] == [
        "HistGradientBoostingClassifier"
    ]
    modules = {"HistGradientBoostingClassifier": HistGradientBoostingClassifier}
    again = load(tmp_path / "learner", modules=modules)
    assert repr(again) == repr(learner)
