"""Weights of classes around a common predictor: every way of asking, an outsider."""

import copy

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score

from skcausalmeta.datasets import make_shared_tasks
from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.export._common import CommonScores
from skcausalmeta.heads import GroupLassoLogistic
from skcausalmeta.learners import SparseMetaClassifier
from skcausalmeta.learners._synergies._class_weights import class_shift

pytestmark = pytest.mark.usefixtures("short_common")
N_TASKS = 10


def head(class_weight):
    return GroupLassoLogistic(
        "learn", "learn", reg_scale="ridge-absolute", class_weight=class_weight
    )


class Data:
    """Tasks in which one class is rare; the last one is new."""

    def __init__(self):
        bunch = make_shared_tasks(N_TASKS, 40, 5, 1, random_state=0)
        self.X, self.tasks = bunch.data, bunch.tasks
        self.y = np.where(bunch.scores > 1.5, "a rare one", "often")
        self.old = self.tasks < N_TASKS - 1

    def fitted(self, class_weight="auto", **params):
        small = {"max_epochs": 1, "batches_per_epoch": 2, "tasks_per_batch": 3}
        small |= {"backbone": "identity", "verbose": 0, "random_state": 0}
        learner = SparseMetaClassifier(head=head(class_weight), **{**small, **params})
        old = self.old
        return learner.fit(self.X[old], self.y[old], tasks=self.tasks[old])

    @property
    def new(self):
        return self.X[~self.old], self.y[~self.old]


@pytest.fixture(scope="module")
def data():
    return Data()


@pytest.fixture(scope="module")
def plain(data):
    return data.fitted()


def test_a_balanced_shift_makes_of_one_regression_the_weighted_one():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40_000, 2))
    y = (X @ [1.5, -1.0] - 2.5 + rng.logistic(size=len(X)) > 0).astype(int)
    plain = LogisticRegression(C=1e6).fit(X, y)
    weighted = LogisticRegression(C=1e6, class_weight="balanced").fit(X, y)
    shares = np.bincount(y) / len(y)
    shift = class_shift("balanced", np.arange(2), shares)
    found = plain.decision_function(X) + shift[1] - shift[0]
    difference = np.abs(found - weighted.decision_function(X))
    assert difference.mean() < 0.1
    assert np.abs(shift[1] - shift[0]) > 1.5  # so that it could not pass without


def test_scores_move_by_one_constant_however_they_are_asked_for(data, plain):
    weighted = data.fitted("balanced")
    X, y = data.new
    share = np.mean(data.y[data.old] == "often")  # classes_[1]
    wanted = -np.log(share / (1 - share))

    def moved(ask):
        return ask(copy.copy(weighted)), ask(copy.copy(plain)) + wanted

    asked = {
        "no label": lambda one: one.decision_function(X),
        "adapted": lambda one: one.adapt(X[:20], y[:20]).decision_function(X),
        "known tasks": lambda one: one.decision_function(
            data.X[:60], tasks=data.tasks[:60]
        ),
        "many tasks": lambda one: one.adapt_tasks(
            data.X, data.y, data.tasks
        ).decision_function(X, tasks=data.tasks[~data.old]),
    }
    for name, ask in asked.items():
        np.testing.assert_allclose(*moved(ask), atol=1e-9, err_msg=name)
    weighted.adapt(X[:20], y[:20])
    episodes = weighted.predict_episodes(X[None, :20], y[None, :20], X[None, 20:])
    np.testing.assert_array_equal(episodes[0], weighted.predict(X[20:]))
    difference = [copy.copy(one).adapt(X[:20], y[:20]) for one in (weighted, plain)]
    assert not np.array_equal(*(one.predict(X) for one in difference))
    np.testing.assert_allclose(*(one.deviation_ for one in difference))


def test_balanced_weights_serve_the_rare_class(data, plain):
    weighted = copy.copy(plain).set_params(head=head("balanced"))
    rows = data.X[data.old]
    scores = [
        balanced_accuracy_score(data.y[data.old], one.predict(rows))
        for one in (weighted, plain)
    ]
    assert scores[0] > scores[1] + 0.02


def test_weights_by_label_are_logarithms_and_the_others_are_1(data, plain):
    X = data.new[0]
    weighted = copy.copy(plain).set_params(head=head({"a rare one": 4.0}))
    moved = weighted.decision_function(X) - plain.decision_function(X)
    np.testing.assert_allclose(moved, -np.log(4.0))


def test_a_temperature_does_not_depend_on_them(data):
    found = [data.fitted(w, calibrate=5).temperature_ for w in ("auto", "balanced")]
    assert found[0] == found[1]


def test_a_graph_has_them(data):
    learner = data.fitted("balanced", common="linear", backbone="mlp")
    X, y = data.new
    for one in (learner, learner.adapt(X[:20], y[:20])):
        scores = CommonScores(one, one.task_)(torch.from_numpy(X).float())
        found = (scores[:, 1] - scores[:, 0]).detach().numpy()
        np.testing.assert_allclose(found, one.decision_function(X), atol=1e-4)


@pytest.mark.parametrize(
    ("class_weight", "message"),
    [
        ({"seldom": 2.0}, r"must name labels of fit.* Got \['seldom'\]"),
        ({"often": 0.0}, "finite numbers above 0"),
        ({"often": np.inf}, "finite numbers above 0"),
    ],
)
def test_other_labels_and_numbers_are_refused_before_training(
    data, plain, class_weight, message
):
    with pytest.raises(InvalidInputError, match=message):
        data.fitted(class_weight)
    learner = copy.copy(plain).set_params(head=head(class_weight))
    with pytest.raises(InvalidInputError, match=message):
        learner.predict(data.X)
