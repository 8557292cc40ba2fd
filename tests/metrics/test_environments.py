"""Metrics of environments and spurious features against hand-worked numbers."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, r2_score

from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.metrics import (
    environment_scores,
    relative_gain,
    routing_f1,
    spurious_gradient_share,
    worst_environment_score,
)

Y = np.array([[0, 1.0], [1, np.nan], [1, 0], [0, np.nan]])
P = np.array([[0, 1], [0, 0], [1, 0], [0, 1]])


def test_scores_are_means_over_the_labelled_tasks():
    assert environment_scores(Y, P, [0, 0, 1, 1]) == {0: 0.75, 1: 1.0}
    assert worst_environment_score(Y, P, [0, 0, 1, 1]) == 0.75


def test_the_score_may_be_r2_or_any_callable():
    rng = np.random.default_rng(0)
    y, p, envs = rng.normal(size=20), rng.normal(size=20), np.repeat(["a", "b"], 10)
    expected = min(r2_score(y[:10], p[:10]), r2_score(y[10:], p[10:]))
    assert worst_environment_score(y, p, envs, scoring="r2") == expected
    assert worst_environment_score(y, p, envs, scoring=lambda a, b: len(a)) == 10


@pytest.mark.parametrize(
    ("arguments", "scoring", "message"),
    [
        ((Y, P[:, 0], [0, 0, 1, 1]), "accuracy", r"one shape.*Got \(4, 2\) and \(4,\)"),
        ((Y, P, [0, 0, 1, 1]), "f1", r"\['accuracy', 'r2'\] or a callable. Got 'f1'"),
        ((Y[:, 1], P[:, 1], [0, 1, 0, 1]), "accuracy", "Got none in environment"),
    ],
)
def test_bad_environments_are_refused(arguments, scoring, message):
    with pytest.raises(InvalidInputError, match=message):
        worst_environment_score(*arguments, scoring=scoring)


def test_gain_by_hand_with_both_directions():
    gain = relative_gain([0.9, 2.0, 0.5], [0.6, 4.0, 0.5], greater_is_better=[1, 0, 1])
    assert gain == pytest.approx((0.5 + 0.5 + 0.0) / 3)
    assert relative_gain(0.9, 1.0) == pytest.approx(-0.1)
    assert relative_gain([-0.5], [-1.0]) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("arguments", "better", "message"),
    [
        (([1.0], [1.0, 2.0]), True, "one number per task"),
        (([1.0], [0.0]), True, "finite and not 0"),
        (([np.nan], [1.0]), True, "must be finite"),
        (([1.0, 1.0], [1.0, 1.0]), [True], "Got 1 flags for 2 tasks"),
    ],
)
def test_bad_gains_are_refused(arguments, better, message):
    with pytest.raises(InvalidInputError, match=message):
        relative_gain(*arguments, greater_is_better=better)


def test_share_of_gradients_by_hand():
    gradients = np.array([[[3.0, -1.0], [-3.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]])
    assert spurious_gradient_share(gradients, [[1, 0], [1, 0]]) == 0.375
    assert spurious_gradient_share(gradients, [[1, 1], [1, 1]]) == 0.0
    assert spurious_gradient_share(gradients, [[0, 0], [0, 0]]) == 1.0


def test_bad_gradients_are_refused():
    with pytest.raises(InvalidInputError, match=r"Got \(2, 3\) and \(2, 3\)"):
        spurious_gradient_share(np.ones((2, 3)), np.ones((2, 3)))
    with pytest.raises(InvalidInputError, match="not all 0"):
        spurious_gradient_share(np.zeros((1, 2, 3)), np.ones((1, 3)))


def test_routing_f1_is_that_of_the_best_order():
    rng = np.random.default_rng(0)
    graph = rng.integers(2, size=(6, 3))
    graph[:3] = np.eye(3)
    routing = graph * 0.9 + 0.01
    routing[1, 1] = 0.9 - routing[1, 1]
    used = routing >= 0.5 * routing.max(axis=1, keepdims=True)
    assert 0.5 < f1_score(graph.ravel(), used.ravel()) < 1
    expected = f1_score(graph.ravel(), used.ravel())
    order = [2, 0, 1]
    assert routing_f1(routing[:, order], graph) == pytest.approx(expected)
    assert routing_f1(graph[:, order] + 0.0, graph) == 1.0


def test_unmatched_modules_count_as_wrong():
    graph = np.eye(2)
    assert routing_f1([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]], graph) == pytest.approx(4 / 6)


def test_bad_routings_are_refused():
    with pytest.raises(InvalidInputError, match="one row per task"):
        routing_f1(np.ones((2, 3)), np.ones((3, 3)))
    with pytest.raises(InvalidInputError, match="must have an edge"):
        routing_f1(np.ones((2, 3)), np.zeros((2, 3)))
