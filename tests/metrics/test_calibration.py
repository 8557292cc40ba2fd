"""Calibration error against hand-worked bins and simulated truth."""

import numpy as np
import pytest

from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.metrics import expected_calibration_error


def two_columns(confidence):
    confidence = np.asarray(confidence)
    return np.stack([confidence, 1 - confidence], axis=1)


def test_hand_worked_bins():
    # (0.5, 0.6]: sure by 0.55 and 0.6, both right; (0.9, 1]: 0.95 wrong, 1.0 right
    proba = two_columns([0.55, 0.6, 0.95, 1.0])
    expected = (abs(2 - 1.15) + abs(1 - 1.95)) / 4
    found = expected_calibration_error([0, 0, 1, 0], proba, n_bins=10)
    assert found == pytest.approx(expected)
    # one bin: |3/4 right - mean confidence 0.775|
    found = expected_calibration_error([0, 0, 1, 0], proba, n_bins=1)
    assert found == pytest.approx(0.025)


def test_rows_drawn_from_their_probabilities_are_calibrated():
    rng = np.random.RandomState(0)
    proba = rng.dirichlet(np.ones(3), size=20_000)
    drawn = (rng.random_sample((20_000, 1)) > proba.cumsum(axis=1)).sum(axis=1)
    # 15 bins of about 1,300 rows: an excess of at most 3 * 0.5 / sqrt(1300) each
    assert expected_calibration_error(drawn, proba) < 0.02
    sharp = proba**3 / (proba**3).sum(axis=1, keepdims=True)
    assert expected_calibration_error(drawn, sharp) > 0.1


def test_classes_name_the_columns():
    proba = two_columns([0.9, 0.2])
    truth = np.array(["b", "a"])
    assert expected_calibration_error(
        truth, proba, classes=["b", "a"]
    ) == pytest.approx((0.1 + 0.2) / 2)
    assert expected_calibration_error(
        truth, proba, classes=["a", "b"]
    ) == pytest.approx((0.9 + 0.8) / 2)


@pytest.mark.parametrize(
    ("y_true", "y_prob", "given", "message"),
    [
        ([0], [[0.5, 0.5]] * 2, {}, r"one class for every row .* \(1,\) and \(2, 2\)"),
        ([0, 1], [0.5, 0.5], {}, r"must have the shape \(n_samples, n_classes\)"),
        ([0], [[0.5, 0.6]], {}, r"sum to 1. Got \[0.5, 0.6\] in row 0"),
        ([0, 1], [[0.5, 0.5], [np.nan, 1]], {}, "in row 1"),
        ([0], [[1.5, -0.5]], {}, "sum to 1"),
        ([0], [[0.5, 0.5]], {"classes": [1, 2, 3]}, "3 classes for 2 columns"),
    ],
)
def test_bad_input_is_refused(y_true, y_prob, given, message):
    with pytest.raises(InvalidInputError, match=message):
        expected_calibration_error(y_true, y_prob, **given)
