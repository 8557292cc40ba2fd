"""make_multi_sem against the moments that its docstring states."""

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from skcausalmeta.datasets import make_multi_sem
from skcausalmeta.exceptions import InvalidInputError


def test_shapes_and_truth_agree():
    bunch = make_multi_sem(50, rho=(0.9, 0.5, -0.5), n_noise_features=2, random_state=0)
    assert bunch.data.shape == (150, 14)
    assert bunch.target.shape == (150, 8)
    assert set(np.unique(bunch.target)) == {0, 1}
    np.testing.assert_array_equal(bunch.envs, np.repeat([0, 1, 2], 50))
    np.testing.assert_array_equal(
        bunch.groups, [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3 + [4] * 2
    )
    expected = [[g < 4 and row[g] for g in bunch.groups] for row in bunch.graph]
    np.testing.assert_array_equal(bunch.causal_mask, expected)


def test_moments_of_factors_and_features():
    bunch = make_multi_sem(40000, rho=(0.9, -0.4), reliability=0.5, random_state=0)
    for env, rho in enumerate((0.9, -0.4)):
        rows = bunch.envs == env
        expected = np.kron(np.eye(2), [[1, rho], [rho, 1]])
        found = np.corrcoef(bunch.factors[rows].T)
        np.testing.assert_allclose(found, expected, atol=0.02)
    means = bunch.data.reshape(-1, 4, 3).mean(axis=2)
    for m in range(4):
        r = np.corrcoef(means[:, m], bunch.factors[:, m])[0, 1]
        assert r**2 == pytest.approx(0.5, abs=0.02)


def test_the_optimal_weights_are_those_worked_out_by_hand():
    # u_m: feature means, var(u) = 1 / r2, cov(u0, u1) = rho, cov(u_m, z0) = 1, rho.
    bunch = make_multi_sem(
        60000, rho=0.8, reliability=0.5, kind="regression", random_state=0
    )
    means = bunch.data.reshape(-1, 4, 3).mean(axis=2)
    weights = LinearRegression().fit(means, bunch.target[:, 0]).coef_
    expected = np.linalg.solve([[2, 0.8], [0.8, 2]], [1, 0.8])
    np.testing.assert_allclose(weights, [*expected, 0, 0], atol=0.02)


def test_causes_predict_in_the_same_way_everywhere_and_others_do_not():
    def fit(rho, columns):
        bunch = make_multi_sem(20000, rho=rho, kind="regression", random_state=1)
        model = LinearRegression().fit(bunch.data[:, columns], bunch.target[:, 4])
        return model.coef_

    causes = make_multi_sem(1).causal_mask[4]
    everything = np.ones(12, dtype=bool)
    np.testing.assert_allclose(fit(0.9, causes), fit(-0.9, causes), atol=0.03)
    assert np.abs(fit(0.9, everything) - fit(-0.9, everything)).max() > 0.08


def test_reliable_features_and_noiseless_labels_are_the_factors():
    bunch = make_multi_sem(
        20, reliability=1.0, label_noise=0.0, graph=np.eye(3), random_state=0
    )
    np.testing.assert_allclose(bunch.data[:, ::3], bunch.factors)
    np.testing.assert_array_equal(bunch.target, bunch.factors > 0)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"rho": 1.5}, r"correlations in \[-1, 1\]. Got 1.5"),
        ({"reliability": 0.0}, r"in \(0, 1\]. Got 0.0"),
        ({"kind": "rank"}, "Got 'rank'"),
        ({"graph": [[1, 1]]}, "Got task 0; reorder"),
        ({"graph": [[0, 0]]}, "name a factor for every task"),
    ],
)
def test_impossible_settings_are_refused(params, message):
    with pytest.raises(InvalidInputError, match=message):
        make_multi_sem(**params)
