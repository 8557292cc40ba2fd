"""Intervals against hand-worked numbers, scipy, and their promise of coverage."""

import numpy as np
import pytest
from scipy import stats

from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.metrics import mean_confidence_interval, paired_difference


def test_hand_worked_interval():
    # Mean 2, standard deviation 1, t(2, 0.975) = 4.302653: 4.302653 / sqrt(3).
    mean, half_width = mean_confidence_interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert half_width == pytest.approx(2.484138, abs=1e-6)


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.99])
def test_agrees_with_scipy(confidence):
    scores = np.random.default_rng(0).normal(0.7, 0.1, size=37)
    mean, half_width = mean_confidence_interval(scores, confidence)
    low, high = stats.ttest_1samp(scores, 0).confidence_interval(confidence)
    assert mean - half_width == pytest.approx(low)
    assert mean + half_width == pytest.approx(high)


def test_interval_covers_as_often_as_it_says():
    samples = np.random.default_rng(0).normal(0.6, 0.2, size=(3000, 6))
    results = [mean_confidence_interval(sample, 0.9) for sample in samples]
    covered = np.mean([abs(mean - 0.6) <= half for mean, half in results])
    assert covered == pytest.approx(0.9, abs=0.02)


def test_single_score_has_no_interval():
    mean, half_width = mean_confidence_interval([0.4])
    assert mean == 0.4
    assert np.isnan(half_width)


def test_equal_scores_have_zero_width():
    assert mean_confidence_interval([0.5, 0.5, 0.5]) == (0.5, 0.0)


def test_paired_difference_agrees_with_scipy():
    rng = np.random.default_rng(1)
    difficulty = rng.normal(0, 0.2, size=200)
    a = 0.62 + difficulty + rng.normal(0, 0.02, size=200)
    b = 0.60 + difficulty + rng.normal(0, 0.02, size=200)
    mean, half_width = paired_difference(a, b)
    low, high = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert mean == pytest.approx((low + high) / 2)
    assert half_width == pytest.approx((high - low) / 2)
    # The pairing finds what the intervals of the two means cannot.
    assert mean - half_width > 0
    assert half_width < 0.3 * mean_confidence_interval(a)[1]


def test_paired_difference_is_antisymmetric():
    a, b = [0.1, 0.5, 0.9], [0.2, 0.3, 0.7]
    assert paired_difference(a, b)[0] == -paired_difference(b, a)[0]
    assert paired_difference(a, b)[1] == paired_difference(b, a)[1]


@pytest.mark.parametrize("scores", [[], [[0.1, 0.2]], 0.5])
def test_scores_must_be_a_filled_vector(scores):
    with pytest.raises(ValueError, match="scores"):
        mean_confidence_interval(scores)


def test_empty_scores():
    with pytest.raises(InvalidInputError, match=r"at least one score.*shape \(0,\)"):
        mean_confidence_interval([])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_must_be_finite(bad):
    with pytest.raises(InvalidInputError, match=r"scores must be finite\. Got 1 of 3"):
        mean_confidence_interval([0.5, bad, 0.6])
    with pytest.raises(InvalidInputError, match="scores_b must be finite"):
        paired_difference([0.5, 0.6], [0.5, bad])


def test_pairs_must_match():
    with pytest.raises(InvalidInputError, match="Got 3 and 2 scores"):
        paired_difference([0.5, 0.6, 0.7], [0.5, 0.6])


@pytest.mark.parametrize("confidence", [0, 1, 95, "95%"])
def test_confidence_is_a_probability(confidence):
    with pytest.raises(ValueError, match="'confidence' parameter"):
        mean_confidence_interval([0.5, 0.6], confidence)
    with pytest.raises(ValueError, match="'confidence' parameter"):
        paired_difference([0.5, 0.6], [0.5, 0.6], confidence)
