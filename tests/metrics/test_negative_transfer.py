"""negative_transfer against numbers worked out by hand and scipy's paired t-test."""

import numpy as np
import pytest
from scipy import stats

from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.metrics import negative_transfer

ALONE = [0.5, 0.6, 0.7, 0.8, 0.9]
TOGETHER = [0.7, 0.5, 0.7, 0.6, 0.95]  # gains +0.2, -0.1, 0, -0.2, +0.05


def test_five_tasks_by_hand():
    found = negative_transfer(ALONE, TOGETHER)
    np.testing.assert_allclose(found.gains, [0.2, -0.1, 0, -0.2, 0.05], atol=1e-12)
    assert found.hurt.tolist() == [False, True, False, True, False]
    assert found.mean == pytest.approx(-0.01)
    assert found.share == pytest.approx(0.4)
    assert found.loss == pytest.approx(0.3 / 5)
    # Sum of squares 0.0925, t quantile of 4 degrees of freedom 2.7764.
    expected = 2.7764 * np.sqrt((0.0925 - 5 * 0.01**2) / 4 / 5)
    assert found.half_width == pytest.approx(expected, rel=1e-4)
    assert np.isnan(found.gain_half_widths).all()


def test_interval_of_the_share_is_wilsons():
    z, p, n = stats.norm.ppf(0.975), 0.4, 5
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    found = negative_transfer(ALONE, TOGETHER)
    assert found.share_low == pytest.approx(middle - half)
    assert found.share_high == pytest.approx(middle + half)


def test_interval_of_the_mean_is_that_of_a_paired_t_test():
    rng = np.random.default_rng(0)
    alone, together = rng.random((2, 30))
    found = negative_transfer(alone, together, confidence=0.9)
    interval = stats.ttest_rel(together, alone).confidence_interval(0.9)
    assert found.mean - found.half_width == pytest.approx(interval.low)
    assert found.mean + found.half_width == pytest.approx(interval.high)


def test_a_margin_spares_small_losses():
    found = negative_transfer(ALONE, TOGETHER, margin=0.15)
    assert found.hurt.tolist() == [False, False, False, True, False]
    assert found.share == pytest.approx(0.2)
    assert found.loss == pytest.approx(0.04)
    assert found.mean == pytest.approx(-0.01)


def test_errors_hurt_where_they_grow():
    found = negative_transfer(TOGETHER, ALONE, greater_is_better=False)
    same = negative_transfer(ALONE, TOGETHER)
    np.testing.assert_allclose(found.gains, same.gains)
    np.testing.assert_array_equal(found.hurt, same.hurt)


def test_repetitions_are_paired_and_noise_can_be_left_out():
    alone = [[0.5, 0.7, 0.9], [0.6, 0.6, 0.6]]
    together = [[0.4, 0.6, 0.8], [0.3, 0.9, 0.5]]
    # Task 0 loses 0.1 every time; task 1 loses 0.3, -0.3 and 0.1.
    found = negative_transfer(alone, together)
    np.testing.assert_allclose(found.gains, [-0.1, -0.1 / 3])
    assert found.hurt.all()
    interval = stats.ttest_rel(together[1], alone[1]).confidence_interval(0.95)
    width = (interval.high - interval.low) / 2
    np.testing.assert_allclose(found.gain_half_widths, [0, width], atol=1e-12)
    sure = negative_transfer(alone, together, beyond_noise=True)
    assert sure.hurt.tolist() == [True, False]
    assert sure.loss == pytest.approx(0.05)


def test_half_of_the_tasks_seem_hurt_by_noise_alone_and_few_beyond_it():
    rng = np.random.default_rng(0)
    alone, together = rng.standard_normal((2, 4000, 8))
    assert negative_transfer(alone, together).share == pytest.approx(0.5, abs=0.03)
    sure = negative_transfer(alone, together, beyond_noise=True)
    assert sure.share == pytest.approx(0.025, abs=0.008)


def test_one_task_has_no_interval_of_the_mean():
    found = negative_transfer([0.5], [0.4])
    assert np.isnan(found.half_width)
    assert (found.share, found.mean) == (1.0, pytest.approx(-0.1))


@pytest.mark.parametrize(
    ("alone", "together", "params", "message"),
    [
        ([0.5], [0.5, 0.6], {}, r"Got shapes \(1, 1\) and \(2, 1\)"),
        ([], [], {}, r"scores_alone must have shape .*Got \(0,\)"),
        ([0.5], [np.nan], {}, "scores_together must be finite. Got 1"),
        ([0.5], [0.5], {"beyond_noise": True}, "two repetitions"),
    ],
)
def test_bad_scores_are_refused(alone, together, params, message):
    with pytest.raises(InvalidInputError, match=message):
        negative_transfer(alone, together, **params)


def test_parameters_are_checked():
    with pytest.raises(ValueError, match="'margin' parameter of negative_transfer"):
        negative_transfer([1], [1], margin=-0.1)
