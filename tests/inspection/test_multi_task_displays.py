"""What the pictures of multi-task learners show."""

import sys

import matplotlib as mpl
import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression

mpl.use("Agg")

from matplotlib import pyplot

from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.inspection import (
    EnvironmentScoreDisplay,
    RoutingDisplay,
    SupportDisplay,
)
from skcausalmeta.learners import MAMLClassifier, MTCRLClassifier

A = np.array([[0.9, 0.1, 0.3], [0.2, 0.8, 0.4]])


@pytest.fixture(autouse=True)
def close_figures():
    yield
    pyplot.close("all")


def test_the_grid_holds_the_routing_with_its_names():
    display = RoutingDisplay(A, task_names=["left", "right"]).plot()
    np.testing.assert_array_equal(display.im_.get_array(), A)
    assert [t.get_text() for t in display.ax_.get_yticklabels()] == ["left", "right"]
    assert [t.get_text() for t in display.ax_.get_xticklabels()] == ["0", "1", "2"]


def test_a_learner_shows_its_routing_on_given_axes():
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((40, 3)), rng.integers(2, size=(40, 2))
    learner = MTCRLClassifier(n_modules=3, max_epochs=1, random_state=0)
    with pytest.raises(NotFittedError):
        RoutingDisplay.from_estimator(learner)
    _, ax = pyplot.subplots()
    display = RoutingDisplay.from_estimator(learner.fit(X, Y), ax=ax)
    assert display.ax_ is ax
    np.testing.assert_allclose(display.im_.get_array(), learner.routing_)


def test_bars_are_the_scores_of_the_environments():
    X = np.array([[0.0], [1.0], [0.0], [1.0]])
    y, envs = np.array([0, 1, 1, 1]), ["a", "a", "b", "b"]
    estimator = LogisticRegression().fit(X[:2], y[:2])
    display = EnvironmentScoreDisplay.from_estimator(estimator, X, y, envs)
    heights = [bar.get_height() for bar in display.bars_[0]]
    assert heights == [1.0, 0.5]
    assert display.worst == {"LogisticRegression": 0.5}
    assert display.ax_.get_ylabel() == "accuracy"
    assert display.ax_.get_lines()[0].get_ydata()[0] == 0.5


def test_several_learners_stand_side_by_side():
    scores = {"one": {0: 0.5, 1: 0.75}, "two": {1: 0.25, 0: 1.0}}
    display = EnvironmentScoreDisplay(scores).plot()
    assert [[b.get_height() for b in bars] for bars in display.bars_] == [
        [0.5, 0.75],
        [1.0, 0.25],
    ]
    assert len(display.ax_.get_legend().get_texts()) == 2


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: RoutingDisplay([0.5]), r"\(n_tasks, n_modules\). Got \(1,\)"),
        (lambda: RoutingDisplay(A, task_names=["a"]), "must hold 2 names. Got 1"),
        (lambda: EnvironmentScoreDisplay({}), "a learner and an environment"),
        (
            lambda: EnvironmentScoreDisplay({"a": {0: 1.0}, "b": {1: 1.0}}),
            "same environments",
        ),
    ],
)
def test_bad_arrays_are_refused(build, message):
    with pytest.raises(InvalidInputError, match=message):
        build()


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install skcausalmeta\[plot\]"):
        RoutingDisplay(A).plot()


def test_pictures_of_what_a_learner_lacks_are_refused():
    learner = MAMLClassifier(
        max_epochs=1, batches_per_epoch=1, n_way=2, n_shot=1, n_query=1, verbose=0
    ).fit(np.eye(8), np.arange(8) % 2)
    with pytest.raises(InvalidInputError, match=r"have 'routing_'\. Got a MAMLClass"):
        RoutingDisplay.from_estimator(learner)
    with pytest.raises(InvalidInputError, match=r"'support_features_'\. Got a MAMLCl"):
        SupportDisplay.from_estimator(learner, np.eye(8), np.arange(8) % 2, [0] * 8)
