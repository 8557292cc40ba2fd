"""Tasks with common coefficients: what is common, what differs, and where."""

import numpy as np
import pytest
from scipy.stats import kstest, logistic, norm
from sklearn.linear_model import LogisticRegression

from skcausalmeta.datasets import make_shared_tasks
from skcausalmeta.exceptions import InvalidInputError

ALL = ("data", "target", "common_coef", "deviation", "support", "intercept")


def test_regression_targets_are_scores_and_noise():
    bunch = make_shared_tasks(5, 400, 6, n_classes=None, noise=0.3, random_state=0)
    X = bunch.data.reshape(5, 400, 6)
    z = np.einsum("tnp,tp->tn", X, bunch.common_coef + bunch.deviation)
    z += bunch.intercept[:, None]
    np.testing.assert_allclose(bunch.scores, z.ravel())
    assert bunch.tasks.tolist() == np.repeat(np.arange(5), 400).tolist()
    assert kstest((bunch.target - bunch.scores) / 0.3, norm.cdf).pvalue > 0.01
    assert kstest(bunch.data.ravel(), norm.cdf).pvalue > 0.01


@pytest.mark.parametrize("n_classes", [None, 2, 4])
def test_few_columns_differ_by_the_stated_size(n_classes):
    bunch = make_shared_tasks(
        9, 3, 7, 2, n_classes=n_classes, deviation_size=1.5, random_state=1
    )
    assert bunch.support.sum(axis=1).tolist() == [2] * 9
    assert len({tuple(row) for row in bunch.support}) > 1
    deviation = bunch.deviation.reshape(9, 7, -1)
    sizes = np.linalg.norm(deviation, axis=-1)
    np.testing.assert_allclose(sizes, 1.5 * bunch.support)
    if n_classes == 4:
        np.testing.assert_allclose(deviation.sum(axis=-1), 0, atol=1e-12)
    shapes = () if n_classes != 4 else (4,)
    assert bunch.deviation.shape == (9, 7, *shapes)
    assert bunch.common_coef.shape == (7, *shapes)
    assert bunch.scores.shape == (27, *shapes)


def test_common_coefficients_have_the_length_and_the_columns_asked_for():
    bunch = make_shared_tasks(
        2, 2, 12, n_classes=3, n_common=5, class_sep=3.0, random_state=0
    )
    np.testing.assert_allclose(np.linalg.norm(bunch.common_coef, axis=0), 3.0)
    assert (bunch.common_coef != 0).any(axis=1).sum() == 5
    none = make_shared_tasks(2, 2, 12, n_common=0, random_state=0)
    assert not none.common_coef.any()


def test_noise_of_one_is_logistic_regression():
    bunch = make_shared_tasks(1, 50_000, 3, 1, noise=1.0, random_state=0)
    model = LogisticRegression(C=np.inf).fit(bunch.data, bunch.target)
    truth = bunch.common_coef + bunch.deviation[0]
    np.testing.assert_allclose(model.coef_[0], truth, atol=0.1)
    np.testing.assert_allclose(model.intercept_, bunch.intercept, atol=0.1)
    # Probability of class 1, by twentieths.
    found = np.array_split(np.argsort(bunch.scores), 20)
    wanted = [logistic.cdf(bunch.scores[part]).mean() for part in found]
    shares = [bunch.target[part].mean() for part in found]
    np.testing.assert_allclose(shares, wanted, atol=0.03)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_without_noise_the_scores_decide(n_classes):
    bunch = make_shared_tasks(4, 50, 5, n_classes=n_classes, noise=0, random_state=0)
    scores = bunch.scores
    wanted = scores > 0 if n_classes == 2 else scores.argmax(axis=1)
    np.testing.assert_array_equal(bunch.target, wanted)


def test_streams_are_independent_and_repeatable():
    one, same = (make_shared_tasks(6, 10, 5, random_state=3) for _ in range(2))
    for name in ALL:
        np.testing.assert_array_equal(one[name], same[name])
    noisier = make_shared_tasks(6, 10, 5, noise=5.0, random_state=3)
    np.testing.assert_array_equal(one.scores, noisier.scores)
    assert (one.target != noisier.target).any()
    spread = make_shared_tasks(6, 10, 5, intercept_spread=0, random_state=3)
    assert not spread.intercept.any()
    np.testing.assert_array_equal(one.deviation, spread.deviation)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_deviating": 21}, "n_deviating must be at most n_features=20. Got 21"),
        ({"n_common": 25}, "n_common must be at most n_features=20. Got 25"),
        ({"n_classes": 1}, "n_classes"),
        ({"noise": -1.0}, "noise"),
    ],
)
def test_impossible_tasks_are_refused(params, message):
    with pytest.raises((InvalidInputError, ValueError), match=message):
        make_shared_tasks(**params)
