"""Sinusoids and harmonics against their formulas and ranges."""

import numpy as np
import pytest
from scipy import stats

from skcausalmeta.datasets import make_harmonic_tasks, make_sinusoid_tasks
from skcausalmeta.exceptions import InvalidInputError


def test_sinusoids_follow_their_formula():
    bunch = make_sinusoid_tasks(7, 11, random_state=0)
    assert bunch.data.shape == (77, 1)
    np.testing.assert_array_equal(bunch.tasks, np.repeat(np.arange(7), 11))
    for t in range(7):
        rows = bunch.tasks == t
        expected = bunch.amplitudes[t] * np.sin(bunch.data[rows, 0] - bunch.phases[t])
        np.testing.assert_allclose(bunch.target[rows], expected)


def test_sinusoids_fill_their_ranges():
    bunch = make_sinusoid_tasks(3000, 2, random_state=0)
    laws = {
        "amplitudes": stats.uniform(0.1, 4.9),
        "phases": stats.uniform(0, np.pi),
        "data": stats.uniform(-5, 10),
    }
    for name, law in laws.items():
        assert stats.kstest(bunch[name].ravel(), law.cdf).pvalue > 1e-3
    other = make_sinusoid_tasks(
        50, amplitude=(2, 2), phase=(0, 0), x_range=(1, 3), random_state=0
    )
    np.testing.assert_allclose(other.target, 2 * np.sin(other.data[:, 0]))
    assert other.data.min() >= 1


def test_harmonics_are_two_waves_and_noise():
    bunch = make_harmonic_tasks(400, 25, noise=0.3, random_state=0)
    clean = make_harmonic_tasks(400, 25, noise=0.0, random_state=0)
    for t in range(5):
        rows = clean.tasks == t
        x, w = clean.data[rows, 0], clean.frequencies[t]
        (a1, a2), (b1, b2) = clean.amplitudes[t], clean.phases[t]
        expected = a1 * np.sin(w * x + b1) + a2 * np.sin(2 * w * x + b2)
        np.testing.assert_allclose(clean.target[rows], expected)
    noise = (bunch.target - clean.target) / 0.3
    assert stats.kstest(noise, "norm").pvalue > 1e-3


def test_harmonics_have_the_stated_laws():
    bunch = make_harmonic_tasks(3000, 2, random_state=0)
    laws = {
        "frequencies": stats.uniform(5, 2),
        "centres": stats.uniform(-4, 8),
        "amplitudes": stats.norm(),
        "phases": stats.uniform(0, 2 * np.pi),
    }
    for name, law in laws.items():
        assert stats.kstest(bunch[name].ravel(), law.cdf).pvalue > 1e-3
    around = bunch.data[:, 0] - bunch.centres[bunch.tasks]
    assert stats.kstest(around, "norm").pvalue > 1e-3


@pytest.mark.parametrize("make", [make_sinusoid_tasks, make_harmonic_tasks])
def test_they_repeat_with_the_seed_and_streams_are_apart(make):
    first, again, other = (make(5, random_state=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.target, again.target)
    assert np.abs(first.data - other.data).max() > 0.1
    np.testing.assert_array_equal(first.data, make(5, noise=1, random_state=0).data)


@pytest.mark.parametrize(
    ("make", "params", "message"),
    [
        (make_sinusoid_tasks, {"amplitude": (2, 1)}, r"amplitude must be a range.*Got"),
        (make_sinusoid_tasks, {"x_range": (0, np.inf)}, "x_range must be a range"),
        (make_sinusoid_tasks, {"phase": (1, 2, 3)}, r"phase .* Got \(1, 2, 3\)"),
        (make_harmonic_tasks, {"frequency": (7, 5)}, "frequency must be a range"),
        (make_harmonic_tasks, {"centre": (np.nan, 5)}, "centre must be a range"),
    ],
)
def test_ranges_are_checked(make, params, message):
    with pytest.raises(InvalidInputError, match=message):
        make(**params)


def test_parameters_are_checked():
    with pytest.raises(ValueError, match="'noise' parameter of make_harmonic_tasks"):
        make_harmonic_tasks(noise=-1)
