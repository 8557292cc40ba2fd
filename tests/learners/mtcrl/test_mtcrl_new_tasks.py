"""New tasks of the multi-task learners: adapt, predict_episodes, decision_function."""

import copy
import warnings
from functools import cache

import cvxpy
import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.exceptions import DataConversionWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from skcausalmeta.compose import make_meta_pipeline
from skcausalmeta.exceptions import InvalidInputError, NotFittedError
from skcausalmeta.learners import (
    ConvExpert,
    MLPExpert,
    MTCRLClassifier,
    MTCRLRegressor,
)
from skcausalmeta.model_selection import evaluate_few_shot

RNG = np.random.default_rng(0)
X = RNG.standard_normal((150, 4))
Z = X + 0.1 * RNG.standard_normal((150, 4))
OLD, NEW, REST = slice(0, 60), slice(60, 100), slice(100, 150)
SMALL = {
    "module_inputs": "each",
    "expert": MLPExpert((8,), out_features=2),
    "random_state": 0,
}
LABELS = np.array(["low", "mid", "high"])[np.digitize(Z[:, 1], [-0.5, 0.5])]


def fitted(cls=MTCRLClassifier, modules="mtcrl", **params):
    learner = cls(modules, **{"max_epochs": 5, **SMALL, **params})
    Y = Z if cls is MTCRLRegressor else (Z[:, :3] > 0).astype(int)
    return learner.fit(X[OLD], Y[OLD])


# Trained when a test first asks, not where tests are only collected.
@cache
def classifier():
    return fitted(max_epochs=30, batch_size=30, lr=0.02)


@cache
def regressor():
    return fitted(MTCRLRegressor, max_epochs=30, batch_size=30, lr=0.02)


def units(learner, rows):
    """Centred features, every module with mean square 1, by another route."""
    train, found = (learner.transform(part) for part in (X[OLD], rows))
    scale = train.reshape(len(train), 4, 2).std(axis=0)
    scale = np.sqrt((scale**2).mean(axis=1)).repeat(2)
    return (found - train.mean(axis=0)) / scale


@pytest.mark.parametrize("modules", ["mtcrl", "mmoe", "shared", "single"])
def test_a_new_task_is_learned_on_the_frozen_modules(modules):
    learner = fitted(modules=modules)
    before = learner.predict(X)
    weights = [p.clone() for p in learner.net_.module_.parameters()]
    assert learner.adapt(X[NEW], LABELS[NEW]) is learner
    assert learner.classes_.tolist() == ["high", "low", "mid"]
    assert learner.score(X[REST], LABELS[REST]) > 0.6
    assert learner.predict(X[REST]).shape == (50,)
    after = learner.net_.module_.parameters()
    assert all((a == b).all() for a, b in zip(after, weights, strict=True))
    tasks = np.arange(150) % 3
    np.testing.assert_array_equal(
        learner.predict(X, tasks=tasks), before[np.arange(150), tasks]
    )
    np.testing.assert_array_equal(
        learner.score_tasks(X, before), np.ones(3), err_msg="those of fit"
    )
    learner.fit(X[OLD], (Z[OLD, :3] > 0).astype(int))
    assert learner.task_ is None
    np.testing.assert_array_equal(learner.predict(X), before)


def test_a_copy_is_a_predictor_of_its_own():
    one = copy.copy(classifier()).adapt(X[NEW], LABELS[NEW])
    two = copy.copy(one).adapt(X[NEW], Z[NEW, 0] > 0)
    assert one.net_ is two.net_ is classifier().net_
    assert one.classes_.tolist() == ["high", "low", "mid"]
    assert two.classes_.tolist() == [False, True]
    assert classifier().task_ is None
    assert isinstance(classifier().classes_, list)


def test_scores_and_probabilities_of_a_new_task_agree():
    three = copy.copy(classifier()).adapt(X[NEW], LABELS[NEW])
    scores, proba = three.decision_function(X), three.predict_proba(X)
    assert scores.shape == (150, 3)
    np.testing.assert_allclose(proba, softmax(scores, axis=1))
    np.testing.assert_array_equal(three.classes_[scores.argmax(1)], three.predict(X))
    two = copy.copy(classifier()).adapt(X[NEW], Z[NEW, 0] > 0)
    scores, proba = two.decision_function(X), two.predict_proba(X)
    assert scores.shape == (150,)
    np.testing.assert_allclose(proba[:, 1], expit(scores))
    np.testing.assert_array_equal(scores > 0, two.predict(X))


def test_a_new_task_is_a_value_that_answers_by_itself():
    learner = copy.copy(classifier()).adapt(X[NEW], LABELS[NEW])
    first = learner.task_
    scores = first.scores(learner, X)
    np.testing.assert_array_equal(scores, learner.decision_function(X))
    assert first.classes is learner.classes_
    assert (first.dual_gap, first.sparsity) == (learner.dual_gap_, learner.sparsity_)
    learner.adapt(X[NEW], Z[NEW, 0] > 0)
    assert learner.task_ is not first
    np.testing.assert_array_equal(first.scores(classifier(), X), scores)
    two = learner.task_.scores(learner, X)
    np.testing.assert_array_equal(two[:, 1] - two[:, 0], learner.decision_function(X))
    np.testing.assert_array_equal(learner.classes_[two.argmax(1)], learner.predict(X))
    values = copy.copy(regressor()).adapt(X[NEW], Z[NEW, 2])
    np.testing.assert_array_equal(values.task_.scores(values, X), values.predict(X))


def test_a_learner_without_a_new_task_says_so():
    with pytest.raises(NotFittedError, match="Call 'adapt' with the support rows"):
        _ = classifier().dual_gap_
    assert not hasattr(regressor(), "sparsity_")


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_without_sparsity_it_is_the_logistic_regression_of_sklearn(kind):
    y = LABELS if kind == "multiclass" else (Z[:, 0] > 0).astype(int)
    learner = copy.copy(classifier()).set_params(adapt_reg=0.0).adapt(X[NEW], y[NEW])
    features = units(learner, X)
    square = (features[NEW] ** 2).sum(axis=1).mean()
    constant = np.full((150, 1), 3 * np.sqrt(square))
    # A softmax of two classes has two weights for the one of the logistic.
    C = (1 if kind == "multiclass" else 2) / (0.1 * square)
    rows = np.hstack([features, constant])
    theirs = LogisticRegression(C=C, fit_intercept=False, tol=1e-10, max_iter=10_000)
    theirs.fit(rows[NEW], y[NEW])
    np.testing.assert_allclose(
        learner.predict_proba(X), theirs.predict_proba(rows), atol=1e-4
    )


def test_without_sparsity_it_is_the_ridge_regression_of_sklearn():
    y = 100 + 5 * Z[:, 0]
    learner = copy.copy(regressor()).set_params(adapt_reg=0.0).adapt(X[NEW], y[NEW])
    features = units(learner, X)
    square = (features[NEW] ** 2).sum(axis=1).mean()
    rows = np.hstack([features, np.full((150, 1), 3 * np.sqrt(square))])
    center = y[NEW].mean()
    theirs = Ridge(alpha=0.1 * square, fit_intercept=False)
    theirs.fit(rows[NEW], y[NEW] - center)
    np.testing.assert_allclose(
        learner.predict(X), theirs.predict(rows) + center, rtol=1e-5
    )
    assert learner.score(X[REST], y[REST]) > 0.9


def test_modules_are_chosen_as_cvxpy_does():
    learner = copy.copy(regressor()).set_params(adapt_reg=0.3)
    learner.adapt(X[NEW], Z[NEW, 2])
    rows = units(learner, X[NEW])
    y = (Z[NEW, 2] - Z[NEW, 2].mean()) / Z[NEW, 2].std()
    groups = np.split(np.arange(8), 4)
    square = (rows**2).sum(axis=1).mean()
    largest = max(np.linalg.norm(rows[:, g].T @ y) for g in groups)
    w, b = cvxpy.Variable(8), cvxpy.Variable()
    ridge = cvxpy.sum_squares(w) + cvxpy.square(b) / (9 * square)
    lasso = sum(cvxpy.norm(w[g]) for g in groups)
    objective = (
        cvxpy.sum_squares(rows @ w + b - y) / 2
        + 0.05 * square * ridge
        + 0.3 * largest * lasso
    )
    cvxpy.Problem(cvxpy.Minimize(objective)).solve(solver="CLARABEL")
    new = learner.task_
    np.testing.assert_allclose(new.coef[:, 0], w.value, atol=1e-4)
    np.testing.assert_allclose(new.intercept[0], b.value, atol=1e-4)
    assert 0 <= new.dual_gap <= 1e-6
    assert learner.dual_gap_ == new.dual_gap
    norms = [np.linalg.norm(new.coef[g]) for g in groups]
    np.testing.assert_allclose(new.routing, norms)
    assert new.routing.argmax() == 2
    assert learner.sparsity_ == (np.array(norms) == 0).mean() > 0


@pytest.mark.parametrize("learner", [classifier, regressor], ids=["labels", "values"])
def test_all_modules_are_off_at_1(learner):
    y = Z[NEW, 2] if learner is regressor else np.arange(40) % 2
    new = copy.copy(learner()).set_params(adapt_reg=1.0).adapt(X[NEW], y)
    assert new.sparsity_ == 1.0
    np.testing.assert_allclose(new.task_.intercept, 0.0, atol=1e-6)
    assert len(np.unique(new.predict(X))) == 1


def test_a_rotation_of_the_features_of_a_module_changes_nothing():
    one = copy.copy(classifier()).adapt(X[NEW], LABELS[NEW])
    two = copy.deepcopy(classifier())
    turn = np.array([[0.6, 0.8], [-0.8, 0.6]], dtype=np.float32)
    experts = two.net_.module_.experts
    for part in (experts.weights[-1], experts.biases[-1]):
        part.data = part.data @ part.data.new_tensor(turn)
    features = two._features(X[OLD], pooled=False).reshape(-1, 8)
    two.module_units_ = type(two.module_units_).of(features, 4)
    two.adapt(X[NEW], LABELS[NEW])
    np.testing.assert_allclose(one.predict_proba(X), two.predict_proba(X), atol=1e-4)


def episodes(y, n_tasks=5):
    rows = np.stack([RNG.permutation(150)[:40] for _ in range(n_tasks)])
    return X[rows[:, :25]], y[rows[:, :25]], X[rows[:, 25:]]


@pytest.mark.parametrize("kind", ["labels", "mixed", "values"])
def test_many_tasks_at_once_are_the_tasks_one_by_one(kind):
    learner = regressor() if kind == "values" else classifier()
    support, y, query = episodes(Z[:, 1] if kind == "values" else LABELS)
    if kind == "mixed":  # tasks with two classes among those with three
        y = y.copy()
        y[::2][y[::2] == "mid"] = "low"
    found = learner.predict_episodes(support, y, query)
    assert found.shape == (5, 15)
    for k in range(5):
        alone = copy.copy(learner).adapt(support[k], y[k]).predict(query[k])
        if kind == "values":
            np.testing.assert_allclose(found[k], alone, rtol=1e-5)
        else:
            np.testing.assert_array_equal(found[k], alone)
    assert learner.task_ is None


def test_few_shot_evaluation_and_pipelines_take_it():
    result = evaluate_few_shot(
        classifier(), X, LABELS, n_way=2, n_shot=5, n_query=5, n_episodes=20,
        random_state=0,
    )  # fmt: skip
    assert result.mean > 0.6
    pipe = make_meta_pipeline(StandardScaler(), MTCRLClassifier(max_epochs=1, **SMALL))
    pipe.fit(X[OLD], LABELS[OLD])
    assert pipe.adapt(X[NEW], Z[NEW, 0] > 0).classes_.tolist() == [False, True]
    assert pipe.score(X[REST], Z[REST, 0] > 0) > 0.6


def test_decision_function_after_fit():
    single = MTCRLClassifier(max_epochs=2, **SMALL).fit(X[OLD], LABELS[OLD])
    scores = single.decision_function(X)
    assert scores.shape == (150, 3)
    np.testing.assert_allclose(softmax(scores, axis=1), single.predict_proba(X))
    binary = MTCRLClassifier(max_epochs=2, **SMALL).fit(X[OLD], Z[OLD, 0] > 0)
    scores = binary.decision_function(X)
    assert scores.shape == (150,)
    np.testing.assert_allclose(expit(scores), binary.predict_proba(X)[:, 1])
    types = ["binary", "multiclass", "regression"]
    Y = np.column_stack([Z[:, 0] > 0, np.digitize(Z[:, 1], [-0.5, 0.5]), Z[:, 2]])
    several = MTCRLClassifier(max_epochs=2, task_types=types, **SMALL)
    several.fit(X[OLD], Y[OLD])
    scores = several.decision_by_task(X)
    assert [None if s is None else s.shape for s in scores] == [(150,), (150, 3), None]
    proba = several.predict_proba(X)
    np.testing.assert_allclose(expit(scores[0]), proba[0][:, 1])
    np.testing.assert_allclose(softmax(scores[1], axis=1), proba[1])
    with pytest.raises(AttributeError, match="has no attribute 'decision_function'"):
        several.decision_function(X)
    several.adapt(X[NEW], LABELS[NEW])
    alone = several.decision_by_task(X)
    assert len(alone) == 1
    np.testing.assert_array_equal(alone[0], several.decision_function(X))
    values = MTCRLClassifier(max_epochs=2, task_types="regression", **SMALL)
    with pytest.raises(InvalidInputError, match="decision_function needs a class"):
        values.fit(X[OLD], Z[OLD, 0]).decision_function(X)


@pytest.mark.parametrize(
    ("rows", "y", "message"),
    [
        (X[NEW], np.zeros(40), "Got 1 class in task 0: 0.0; add rows"),
        (
            X[NEW],
            np.where(np.arange(40), 1.0, np.nan),
            "contains NaN. A new task needs",
        ),
        (X[NEW], np.where(np.arange(40), 1.0, np.inf), "contains infinity"),
        (X[NEW], LABELS[:39], "inconsistent numbers of samples"),
        (X[NEW], Z[NEW] > 0, "1d array"),
        (X[NEW], None, "requires y to be passed"),
        (X[NEW, :3], LABELS[NEW], "3 features.* expecting 4 features"),
        (np.full((40, 4), np.nan), LABELS[NEW], "contains NaN"),
        (X[NEW], Z[NEW, 0], "Unknown label type: continuous"),
    ],
)
def test_bad_support_is_refused_and_changes_nothing(rows, y, message):
    learner = copy.copy(classifier()).adapt(X[NEW], LABELS[NEW])
    before = vars(learner).copy()
    with pytest.raises(ValueError, match=message):
        learner.adapt(rows, y)
    assert vars(learner) == before
    assert learner.score(X[REST], LABELS[REST]) > 0.6


def test_other_misuse_is_refused():
    with pytest.raises(NotFittedError):
        MTCRLClassifier().adapt(X, LABELS)
    with pytest.raises(NotFittedError):
        MTCRLClassifier().predict_episodes(X[None], LABELS[None], X[None])
    with pytest.raises(InvalidInputError, match="agree in the number of tasks"):
        classifier().predict_episodes(X[None], LABELS[None, :9], X[None])
    same = np.stack([LABELS, np.full(150, "low")])
    with pytest.raises(InvalidInputError, match="Got 1 class in task 1"):
        classifier().predict_episodes(np.stack([X, X]), same, np.stack([X, X]))
    with pytest.raises(InvalidInputError, match=r"shape seen in fit, \(4,\)"):
        classifier().predict_episodes(X[None, :, :3], LABELS[None], X[None])
    adapted = copy.copy(classifier()).adapt(X[NEW], LABELS[NEW])
    with pytest.raises(InvalidInputError, match=r"Got shape \(150, 3\) for 150 rows"):
        adapted.score(X, Z[:, :3] > 0)
    with pytest.raises(AttributeError):
        _ = classifier().dual_gap_
    with pytest.raises(ValueError, match="'adapt_reg' parameter"):
        MTCRLClassifier(adapt_reg=-1.0).fit(X, LABELS)
    with pytest.warns(DataConversionWarning):
        adapted.adapt(X[NEW], LABELS[NEW, None])


def test_row_weights_count_in_the_score_of_a_new_task():
    learner = copy.copy(classifier()).adapt(X[NEW], LABELS[NEW])
    half = np.repeat([1.0, 0.0], 25)
    weighted = learner.score(X[REST], LABELS[REST], sample_weight=half)
    assert weighted == learner.score(X[REST][:25], LABELS[REST][:25])
    with pytest.raises(ValueError, match="sample_weight"):
        learner.score(X[REST], LABELS[REST], sample_weight=half[:9])


# -- targets per pixel ----------------------------------------------------------------

IMAGES = RNG.standard_normal((10, 8, 8)).astype(np.float32)
MAPS = np.stack([IMAGES > 0, IMAGES * 3], axis=1).astype(float)


@cache
def dense():
    return MTCRLClassifier(
        n_modules=2,
        expert=ConvExpert(4, out_features=4),
        max_epochs=40,
        batch_size=3,
        lr=2e-2,
        task_types=["binary", "regression"],
        random_state=0,
    ).fit(IMAGES[:6], MAPS[:6])


def test_a_new_task_per_pixel():
    levels = np.digitize(IMAGES, [-0.7, 0.7]).astype(float)
    levels[0, :4] = np.nan
    learner = copy.copy(dense()).adapt(IMAGES[:6], levels[:6])
    assert learner.classes_.tolist() == [0, 1, 2]
    predicted = learner.predict(IMAGES)
    assert predicted.shape == (10, 8, 8)
    known = np.isfinite(levels)
    right = (predicted == levels)[known].mean()
    assert right > 0.6
    assert learner.score(IMAGES, levels) == pytest.approx(right)
    scores = learner.task_.scores(learner, IMAGES)
    np.testing.assert_array_equal(scores, learner.decision_function(IMAGES))
    proba, scores = learner.predict_proba(IMAGES), learner.decision_function(IMAGES)
    assert proba.shape == scores.shape == (10, 3, 8, 8)
    np.testing.assert_array_equal(proba.argmax(axis=1), predicted)
    both = dense().predict_episodes(
        np.stack([IMAGES[:6], IMAGES[2:8]]),
        np.stack([levels[:6], levels[2:8] > 1]),
        np.stack([IMAGES[6:], IMAGES[:4]]),
    )
    assert both.shape == (2, 4, 8, 8)
    assert (both[0] == predicted[6:]).mean() > 0.995  # but for ties
    with pytest.raises(InvalidInputError, match=r"rows and pixels, \(6, 8, 8\). Got"):
        learner.adapt(IMAGES[:6], levels[:6, 0, 0])
    with pytest.raises(InvalidInputError, match=r"targets of shape \(8, 8\)"):
        dense().predict_episodes(IMAGES[None], levels[None, :, 0, 0], IMAGES[None])


def test_a_task_of_fit_per_pixel_can_be_asked_for():
    tasks = np.arange(10) % 2
    own = dense().predict(IMAGES, tasks=tasks)
    assert own.shape == (10, 8, 8)
    np.testing.assert_array_equal(own, dense().predict(IMAGES)[np.arange(10), tasks])


def test_nothing_warns():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        copy.copy(classifier()).adapt(X[NEW], LABELS[NEW]).predict_proba(X)
        copy.copy(regressor()).adapt(X[NEW], np.ones(40)).predict(X)
