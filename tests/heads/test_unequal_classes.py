"""Classes of few rows beside classes of many, moved features, sizes at the limits."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.metrics import balanced_accuracy_score

from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.heads import (
    GroupLassoLogistic,
    GroupLassoSVC,
    GroupLassoSVCCV,
    LassoHead,
    PrototypeHead,
    RelaxedHead,
    RidgeHead,
    RidgeRegressionHead,
)

HEADS = [
    GroupLassoSVC(),
    GroupLassoSVC(solver="newton"),
    GroupLassoSVC(solver="fista"),
    GroupLassoLogistic(),
    RidgeHead(),
    PrototypeHead(),
    RelaxedHead(GroupLassoSVC(0.3, solver="newton")),
]
MEANS = np.random.default_rng(0).normal(size=(2, 20)) * 3.0 + 5


def rows_of(*counts, seed=1):
    """Rows and labels of two well separated classes, far from the origin."""
    y = np.repeat(np.arange(len(counts)), counts)
    return MEANS[y] + np.random.default_rng(seed).normal(size=(len(y), 20)), y


COUNTS = [(20, 5), (50, 5), (100, 5), (5, 100), (100, 1)]
# The one that takes seconds has its weights from the same lines.
SLOW = "GroupLassoSVC(solver='fista')"


@pytest.mark.parametrize(
    ("head", "counts"),
    [(h, c) for h in HEADS for c in (COUNTS[:1] if str(h) == SLOW else COUNTS)],
    ids=str,
)
def test_no_class_is_lost(head, counts):
    X, y = rows_of(*counts)
    query, expected = rows_of(200, 200, seed=2)
    fitted = clone(head).fit(X, y)
    assert balanced_accuracy_score(expected, fitted.predict(query)) >= 0.98
    batch = (torch.from_numpy(part)[None] for part in (X, y, query))
    logits = head.episode_logits(*batch, 2)[0]
    found = logits.argmax(-1).numpy()
    assert balanced_accuracy_score(expected, found) >= 0.98


def test_folds_lose_no_class():
    X, y = rows_of(60, 5)
    query, expected = rows_of(200, 200, seed=2)
    head = GroupLassoSVCCV([0.5, 0.1], solver="newton").fit(X, y)
    assert balanced_accuracy_score(expected, head.predict(query)) >= 0.98


@pytest.mark.parametrize("head", [GroupLassoSVC(), GroupLassoLogistic(), RidgeHead()])
def test_classes_of_equal_rows_weigh_the_same_anyhow(head):
    X, y = rows_of(6, 6)
    found = [
        clone(head).set_params(class_weight=rule).fit(X, y).coef_
        for rule in ("auto", "balanced", None, {0: 1.0, 1: 1.0})
    ]
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


@pytest.mark.parametrize("shift", [10.0, 1e3, 1e6])
@pytest.mark.parametrize("head", HEADS, ids=str)
def test_a_moved_table_has_the_same_answers(head, shift):
    X, y = rows_of(20, 10)
    query, _ = rows_of(50, 50, seed=2)
    plain, moved = clone(head).fit(X, y), clone(head).fit(X + shift, y)
    scores = plain.decision_function(query)
    size = np.abs(scores).max()
    found = moved.decision_function(query + shift)
    np.testing.assert_allclose(found, scores, atol=1e-4 * size)
    # a constant column says nothing
    wide = [np.c_[part, np.full(len(part), shift)] for part in (X, query)]
    found = clone(head).fit(wide[0], y).decision_function(wide[1])
    np.testing.assert_allclose(found, scores, atol=1e-4 * size)


@pytest.mark.parametrize("cls", [GroupLassoSVC, GroupLassoLogistic])
def test_a_plain_table_is_predicted_by_the_defaults(cls):
    X, y = load_iris(return_X_y=True)
    assert cls().fit(X, y).score(X, y) >= 0.94
    assert cls(0.01).fit(X, y).score(X, y) >= 0.96


REGRESSORS = [LassoHead(), LassoHead(0.1, 0.1), RidgeRegressionHead()]


@pytest.mark.parametrize(
    "head", [*HEADS, PrototypeHead("cosine"), *REGRESSORS], ids=str
)
def test_sizes_at_the_limits_are_solved_or_refused(head):
    X, y = load_iris(return_X_y=True)
    expected = clone(head).fit(X, y).score(X, y)
    for size in (1e-137, 1e-100, 1e100, 1e137):
        with np.errstate(over="ignore"):
            found = clone(head).fit(size * X, y).score(size * X, y)
        assert found == pytest.approx(expected, abs=0.02)
    for size in (1e-200, 1e160):
        with pytest.raises(InvalidInputError, match="squares of others cannot be"):
            clone(head).fit(size * X, y)


def test_sizes_of_a_layer_are_judged_task_by_task():
    X, y = load_iris(return_X_y=True)
    support = torch.from_numpy(np.stack([X, 0 * X, 1e30 * X])).float()
    targets = torch.from_numpy(y).expand(3, -1)
    with pytest.raises(InvalidInputError, match=r"the largest size 7\.9e\+30"):
        RidgeHead().solve_episodes(support, targets, 3)
    assert bool(
        (RidgeHead().solve_episodes(support[:2], targets[:2], 3).gap >= 0).all()
    )


def test_queries_out_of_reach_of_prototypes_are_refused():
    X, y = load_iris(return_X_y=True)
    with pytest.raises(InvalidInputError, match="squared distances to be finite"):
        PrototypeHead().fit(X, y).predict_proba(1e160 * X)
