"""Groups of inputs that vary together in every environment."""

import numpy as np
import pytest

from skcausalmeta.datasets import make_multi_sem
from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.learners import ConvExpert, MTCRLClassifier
from skcausalmeta.learners._mtcrl._correlated import (
    correlated_groups,
    stable_correlations,
)

RNG = np.random.default_rng(0)
# a, b share a cause everywhere; a, c share noise in the first, larger environment.
N, ENVS = 4000, (np.arange(4000) >= 3600).astype(int)
CAUSES, NOISE = RNG.standard_normal((N, 2)), RNG.standard_normal((N, 4))
NOISE[:3600, 2:] = NOISE[:3600, :2]
TIED = CAUSES[:, [0, 0, 1, 1]] + np.sqrt(1.5) * NOISE[:, [0, 1, 0, 1]]
TIED[3600:] = CAUSES[3600:, [0, 0, 1, 1]] + np.sqrt(1.5) * NOISE[3600:]


@pytest.mark.parametrize("rho", [(0.9, 0.2), (0.95, -0.95), (0.5, 0.0, -0.5)])
def test_features_of_a_factor_are_found_whatever_ties_factors(rho):
    rows = make_multi_sem(2000, rho=rho, n_features_per_module=4, random_state=1)
    order = np.random.default_rng(2).permutation(16)
    found = correlated_groups(rows.data[:, order], rows.envs, 4)
    _, first = np.unique(rows.groups[order], return_index=True)
    renamed = np.argsort(np.argsort(first))[rows.groups[order]]
    np.testing.assert_array_equal(found, renamed)


def test_a_tie_of_one_environment_is_no_group():
    assert np.corrcoef(TIED.T)[0, 2] > np.corrcoef(TIED.T)[0, 1] + 0.1
    assert correlated_groups(TIED, ENVS, 2).tolist() == [0, 0, 1, 1]


def test_correlations_lose_their_spread_over_environments():
    parts = np.stack([np.corrcoef(TIED[e == ENVS].T) for e in (0, 1)])
    mean = 0.9 * parts[0] + 0.1 * parts[1]
    found = stable_correlations(TIED, ENVS)
    np.testing.assert_allclose(found[[0, 2], [1, 3]], mean[[0, 2], [1, 3]], atol=0.03)
    # sqrt(variance / (1 - sum of squared weights)), with weights 0.9 and 0.1
    spread = np.sqrt(0.09 / 0.18) * np.abs(parts[0] - parts[1])
    expected = np.maximum(mean - spread, 0.0)[[0, 1], [2, 3]]
    np.testing.assert_allclose(found[[0, 1], [2, 3]], expected, atol=0.01)
    np.testing.assert_allclose(found.diagonal(), 1.0)


def test_chance_does_not_hide_ties_of_many_small_environments():
    cause = RNG.standard_normal((2000, 1))
    rows = cause + RNG.standard_normal(
        (2000, 3)
    )  # correlations of 1 / 2, by chance +- 0.27 in an environment
    found = stable_correlations(rows, np.arange(2000) % 200)
    assert (found[np.triu_indices(3, 1)] > 0.3).all()


@pytest.mark.parametrize("envs", [np.zeros(50), np.arange(50)])
def test_one_environment_or_only_tiny_ones_are_all_rows(envs):
    rows = RNG.standard_normal((50, 3)) + RNG.standard_normal((50, 1))
    np.testing.assert_allclose(stable_correlations(rows, envs), np.corrcoef(rows.T))


def test_constants_units_and_outliers_make_no_groups():
    rows = np.hstack([TIED, np.full((N, 2), 7.0)])
    rows[:, 4][ENVS == 1] = 8.0  # constant within every environment
    assert np.abs(stable_correlations(rows, ENVS)[4:]).max() == 0.0
    found = correlated_groups(rows * [1e20, 1, 1, 1e-20, 1, 1], ENVS, 3)
    assert found.tolist() == [0, 0, 1, 1, 2, 2]
    rows = TIED.copy()
    rows[0, [0, 3]] = 1e9
    assert correlated_groups(rows, ENVS, 2).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("n_groups", [1, 4])
def test_one_group_and_one_per_input(n_groups):
    assert correlated_groups(TIED, ENVS, n_groups).tolist() == [
        min(k, n_groups - 1) for k in range(4)
    ]


def make(**params):
    small = {"n_modules": 2, "max_epochs": 1, "random_state": 0}
    return MTCRLClassifier(**{"module_inputs": "correlated", **small, **params})


@pytest.mark.parametrize("modules", ["mtcrl", "mmoe", "shared"])
def test_a_module_of_a_learner_reads_one_group(modules):
    learner = make(modules=modules).fit(TIED, TIED[:, ::2] > 0, envs=ENVS)
    assert learner.module_inputs_.tolist() == [[True] * 2 + [False] * 2] + [
        [False] * 2 + [True] * 2
    ]
    changed = TIED[:5] + np.array([0.0, 0.0, 1.0, 1.0])
    same = learner.transform(changed) == learner.transform(TIED[:5])
    assert same.all(axis=0).tolist() == [True] * 8 + [False] * 8


def test_learners_say_what_their_modules_read():
    labels = TIED[:200, :2] > 0
    assert make(modules="single").fit(TIED[:200], labels).module_inputs_ is None
    assert make(module_inputs=None).fit(TIED[:200], labels).module_inputs_ is None
    each = make(module_inputs="each").fit(TIED[:200], labels).module_inputs_
    np.testing.assert_array_equal(each, np.eye(4, dtype=bool))
    images = RNG.standard_normal((8, 4, 4))
    dense = make(module_inputs=None).fit(images, images[:, None] > 0)
    assert dense.module_inputs_ is None


def test_what_cannot_be_grouped_is_refused():
    with pytest.raises(InvalidInputError, match="Got 4 values and n_modules=5; lower"):
        make(n_modules=5).fit(TIED, TIED > 0)
    with pytest.raises(InvalidInputError, match=r"at most 4096\. Got 5000 values"):
        correlated_groups(np.zeros((3, 5000)), np.zeros(3), 2)
    images = RNG.standard_normal((8, 4, 4))
    for given in ("correlated", np.arange(16) % 2):
        learner = make(module_inputs=given, expert=ConvExpert())
        with pytest.raises(InvalidInputError, match="fully connected modules"):
            learner.fit(images, images[:, None] > 0)
