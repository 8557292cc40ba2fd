"""New tasks with environments: modules that differ between them are left out."""

import copy
from functools import cache

import numpy as np
import pytest

from skcausalmeta.datasets import make_multi_sem
from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.learners import MLPExpert, MTCRLClassifier, MTCRLRegressor
from skcausalmeta.learners._mtcrl._invariant_modules import differences

RNG = np.random.default_rng(0)


def tied_rows(n, rho, seed):
    """Two factors, seen with noise, and the first of them as the target."""
    rng = np.random.default_rng(seed)
    first = rng.standard_normal(n)
    second = rho * first + np.sqrt(1 - rho**2) * rng.standard_normal(n)
    seen = np.column_stack([first, second]) + rng.standard_normal((n, 2))
    return seen, first


def environments(n, seed):
    parts = [tied_rows(n, rho, seed + k) for k, rho in enumerate((0.9, 0.2))]
    rows, targets = (np.concatenate(part) for part in zip(*parts, strict=True))
    return rows, targets, np.repeat(["old", "new"], n)


ROWS, TARGETS, ENVS = environments(400, seed=0)
SHIFTED = tied_rows(2000, -0.9, seed=9)
SMALL = {
    "module_inputs": "each",
    "expert": MLPExpert((8,), out_features=2),
    "max_epochs": 15,
    "lr": 0.02,
    "random_state": 0,
}


# Trained when a test first asks, not where tests are only collected.
@cache
def regressor():
    return MTCRLRegressor(**SMALL).fit(ROWS, ROWS)


@cache
def classifier():
    return MTCRLClassifier(**SMALL).fit(ROWS, (ROWS > 0).astype(int))


TASKS = {
    "values": (regressor, TARGETS, SHIFTED[1]),
    "classes": (classifier, TARGETS > 0, SHIFTED[1] > 0),
    "three classes": (
        classifier,
        np.digitize(TARGETS, [-0.5, 0.5]),
        np.digitize(SHIFTED[1], [-0.5, 0.5]),
    ),
}


@pytest.mark.parametrize("name", TASKS)
def test_a_module_that_is_tied_is_left_out_where_ties_differ(name):
    learner, targets, truth = TASKS[name]
    plain = copy.copy(learner()).adapt(ROWS, targets)
    found = copy.copy(learner()).adapt(ROWS, targets, envs=ENVS)
    share = [one.task_.routing[1] / one.task_.routing[0] for one in (plain, found)]
    assert share[0] > 0.15
    assert share[1] < 0.2 * share[0]
    assert found.score(SHIFTED[0], truth) > plain.score(SHIFTED[0], truth) + 0.02
    assert 0 <= found.dual_gap_ < 1e-6


def test_environments_that_agree_leave_the_task_nearly_as_it_is():
    rows, targets = tied_rows(800, 0.6, seed=3)
    plain = copy.copy(regressor()).adapt(rows, targets)
    found = copy.copy(regressor()).adapt(rows, targets, envs=np.arange(800) % 2)
    np.testing.assert_allclose(found.predict(rows), plain.predict(rows), atol=0.3)
    assert (found.task_.routing > 0).all()


def test_one_environment_is_none():
    plain = copy.copy(regressor()).adapt(ROWS, TARGETS)
    found = copy.copy(regressor()).adapt(ROWS, TARGETS, envs=np.zeros(len(ROWS)))
    np.testing.assert_array_equal(plain.predict(ROWS), found.predict(ROWS))


@pytest.mark.parametrize(
    ("envs", "message"),
    [
        (ENVS[:-1], "one id a row"),
        (np.where(ENVS == "old", np.nan, 1.0), "must not hold NaN"),
        (np.zeros((len(ENVS), 2)), "one-dimensional"),
    ],
)
def test_bad_environments_leave_the_learner_as_it_was(envs, message):
    learner = copy.copy(regressor()).adapt(ROWS, TARGETS)
    before = learner.task_
    with pytest.raises(InvalidInputError, match=message):
        learner.adapt(ROWS, TARGETS, envs=envs)
    assert learner.task_ is before


def test_the_true_modules_of_a_new_task_are_found():
    train = make_multi_sem(1000, rho=(0.9, 0.2), random_state=0)
    shifted = make_multi_sem(2000, rho=-0.9, random_state=2)
    learner = MTCRLClassifier(
        module_inputs=train.groups,
        expert=MLPExpert(hidden=(16,), out_features=4),
        lambda_sps=0.3,
        lambda_irm=20.0,
        batch_size=1000,
        lr=1e-2,
        max_epochs=30,
        random_state=0,
    ).fit(train.data, train.target[:, :6], envs=train.envs)
    new = make_multi_sem(1000, rho=(0.9, 0.2), random_state=1)
    for task in (6, 7):
        target, truth = new.target[:, task], shifted.target[:, task]
        plain = copy.copy(learner).adapt(new.data, target)
        found = copy.copy(learner).adapt(new.data, target, envs=new.envs)
        np.testing.assert_array_equal(found.task_.routing > 0, new.graph[task])
        assert not np.array_equal(plain.task_.routing > 0, new.graph[task])
        gain = found.score(shifted.data, truth) - plain.score(shifted.data, truth)
        assert gain > 0.02


# -- comparison of environments -------------------------------------------------------


def test_the_ratio_is_that_of_an_analysis_of_variance():
    from scipy.stats import f_oneway

    features, residuals = RNG.standard_normal((30, 3)), RNG.standard_normal((30, 1))
    envs, groups = np.arange(30) % 3, np.array([0, 1, 2])
    found = differences(features, residuals, groups, envs)
    for k in range(3):
        products = features[:, k] * residuals[:, 0]
        expected = f_oneway(*(products[envs == e] for e in range(3))).statistic
        assert found[k] == pytest.approx(expected)


def test_the_ratio_of_a_module_is_that_of_all_its_gradients():
    features, residuals = RNG.standard_normal((40, 4)), RNG.standard_normal((40, 2))
    envs, groups = np.arange(40) % 2, np.array([0, 1, 1, 0])
    found = differences(features, residuals, groups, envs)
    for k in range(2):
        own = features[:, groups == k]
        products = np.einsum("ij,il->ijl", own, residuals).reshape(40, -1)
        means = np.stack([products[envs == e].mean(axis=0) for e in range(2)])
        between = 20 * ((means - products.mean(axis=0)) ** 2).sum()
        inside = ((products - means[envs]) ** 2).sum() / 38
        assert found[k] == pytest.approx(between / inside)


def test_nothing_differs_without_residuals():
    found = differences(
        np.ones((6, 2)), np.zeros((6, 1)), np.array([0, 1]), np.arange(6) % 2
    )
    assert found.tolist() == [0.0, 0.0]
