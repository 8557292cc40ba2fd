"""support_f1 against scikit-learn's f1_score and all permutations."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import f1_score

from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.metrics import support_f1

AVERAGES = {"micro": "micro", "tasks": "samples"}


def random_supports(seed, n_tasks=12, n_columns=4):
    rng = np.random.default_rng(seed)
    true = rng.random((n_tasks, n_columns)) < 0.4
    return true, true ^ (rng.random(true.shape) < 0.2)


def sklearn_f1(true, found, average):
    return f1_score(true, found, average=AVERAGES[average], zero_division=1.0)


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_scikit_learn(average, seed):
    true, found = random_supports(seed)
    expected = sklearn_f1(true, found, average)
    assert support_f1(true, found, average=average) == pytest.approx(expected)


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("seed", range(5))
def test_best_permutation_is_the_best_of_all(average, seed):
    true, found = random_supports(seed)
    shuffled = found[:, np.random.default_rng(seed).permutation(4)]
    best = max(
        sklearn_f1(true, shuffled[:, list(order)], average)
        for order in itertools.permutations(range(4))
    )
    score = support_f1(true, shuffled, average=average, permute=True)
    assert score == pytest.approx(best)


@pytest.mark.parametrize("average", AVERAGES)
def test_permuted_truth_is_exactly_one(average):
    true, _ = random_supports(0, n_tasks=50, n_columns=7)
    coef = np.where(true, -0.3, 0.0)[:, [3, 0, 6, 1, 2, 5, 4]]
    assert support_f1(true, coef, average=average, permute=True) == 1.0
    assert support_f1(true, coef, average=average) < 0.9


def test_features_without_a_factor_count_as_wrong():
    # 2 hits, 2 true entries, 3 used ones: 2 * 2 / 5.
    true = [[1, 0], [0, 1]]
    assert support_f1(true, [[0, 1, 0], [0, 1, 1]], permute=True) == pytest.approx(0.8)
    assert support_f1(true, [[0, 0, 1], [1, 0, 0]], permute=True) == 1.0
    # A factor without a feature is missed: 1 hit, 2 true entries, 1 used.
    assert support_f1(true, [[1], [0]], permute=True) == pytest.approx(2 / 3)


def test_one_task_and_empty_supports():
    assert support_f1([1, 0, 1], [0.5, 0.0, 0.0]) == pytest.approx(2 / 3)
    assert support_f1([0, 0], [0, 0]) == 1.0
    assert support_f1([[0, 0], [1, 1]], [[0, 0], [0, 0]], average="tasks") == 0.5


def test_gates_are_used_above_the_threshold():
    true = [[1, 1, 0], [0, 1, 0]]
    gates = [[0.9, 0.4, 0.5], [-0.6, 0.7, 1e-3]]
    # Used above 0.5: {0} and {0, 1}. Hits 2, true entries 3, used ones 3.
    assert support_f1(true, gates, threshold=0.5) == pytest.approx(2 / 3)
    # All are used: hits 3, true entries 3, used ones 6.
    assert support_f1(true, gates) == pytest.approx(2 / 3)
    assert support_f1(true, gates, threshold=0.3) == pytest.approx(6 / 8)
    with pytest.raises(ValueError, match="'threshold' parameter of support_f1"):
        support_f1(true, gates, threshold=-1)


def test_chance_level_of_random_supports():
    rng = np.random.default_rng(0)
    true, found = rng.random((2, 20_000, 6)) < 0.3
    # Precision and recall are both 0.3.
    assert support_f1(true, found) == pytest.approx(0.3, abs=0.01)
    assert support_f1(true, found, permute=True) == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize(
    ("supports", "recovered", "message"),
    [
        ([[1, 0]], [[1, 0], [0, 1]], "same tasks. Got 1 and 2 rows"),
        ([[1, 0]], [[1, 0, 0]], "Got 2 and 3; use permute=True"),
        ([[1, 0]], [[np.nan, 0.0]], "recovered must not hold NaN. Got 1"),
        ([["a", "b"]], [[1, 0]], "supports must be a matrix .* booleans or numbers"),
        (np.ones((1, 2, 2)), [[1, 0]], r"supports must be a matrix .* \(1, 2, 2\)"),
    ],
)
def test_bad_supports_are_refused(supports, recovered, message):
    with pytest.raises(InvalidInputError, match=message):
        support_f1(supports, recovered)


def test_average_is_checked():
    with pytest.raises(ValueError, match="'average' parameter of support_f1"):
        support_f1([1], [1], average="macro")
