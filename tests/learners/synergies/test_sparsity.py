"""The sparse strength of new tasks: the rule it is chosen by."""

import numpy as np
import pytest
import torch

from skcausalmeta.heads import GroupLassoLogistic, LassoHead, RidgeHead
from skcausalmeta.learners._synergies import _sparsity
from skcausalmeta.learners._synergies._sparsity import (
    GRID,
    choose_sparsity,
    dense_head,
    with_numbers,
)

pytestmark = pytest.mark.whole_common

N_EPISODES = 100


def chosen(monkeypatch, means, spread, seed=0):
    """The share chosen at these means of losses; `spread` is of the differences."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((N_EPISODES, len(GRID)))
    noise = (noise - noise.mean(axis=0)) / noise.std(axis=0, ddof=1)
    noise[:, 0] = 0.0  # the reference
    episodes = 5.0 * rng.standard_normal((N_EPISODES, 1))  # what all shares have
    episodes -= episodes.mean()
    losses = np.asarray(means) + spread * noise + episodes

    class Net:
        def _set_training(self, training):
            assert not training

    class Stage:
        rows = reader = None

    class Plan:
        train = None

    monkeypatch.setattr(_sparsity, "EpisodeStream", lambda *args, **kwargs: [0, 50])
    monkeypatch.setattr(
        _sparsity,
        "_losses",
        lambda head, net, first: torch.from_numpy(losses[first : first + 50]),
    )
    return choose_sparsity(GroupLassoLogistic("learn"), Net(), Stage(), Plan(), None)


def means_of(behind, best=1.0):
    return best + np.interp(GRID, *zip(*behind, strict=True))


def test_a_quarter_of_what_deviations_are_worth_is_given_for_sparsity(monkeypatch):
    # They are worth 0.02 of a loss of 1.
    means = means_of([(0, 0), (0.5, 0.0049), (0.6, 0.0051), (1, 0.02)])
    assert chosen(monkeypatch, means, 1e-6) == 0.5
    # Noise decides whether they are worth anything, not what is given.
    assert chosen(monkeypatch, means, 0.05) == 0.5
    assert chosen(monkeypatch, means, 0.3) == 1.0


def test_two_percent_of_the_loss_are_the_most_that_is_given(monkeypatch):
    means = means_of([(0, 0), (0.3, 0.019), (0.4, 0.021), (1, 0.5)])
    assert chosen(monkeypatch, means, 1e-6) == 0.3
    assert chosen(monkeypatch, means - 0.9, 1e-6) < 0.1  # of a loss of a tenth


def test_shares_of_a_few_hundredths_are_tried(monkeypatch):
    means = means_of([(0, 0), (0.03, 0.019), (0.05, 0.05), (1, 0.5)])
    assert chosen(monkeypatch, means, 1e-6) == 0.03


def test_a_dense_deviation_is_kept_where_any_sparsity_costs(monkeypatch):
    assert chosen(monkeypatch, means_of([(0, 0), (0.05, 0.3), (1, 0.4)]), 0.1) == 0.0


def test_no_deviation_is_taken_where_none_helps(monkeypatch):
    assert chosen(monkeypatch, means_of([(0, 0.4), (1, 0.0)]), 0.1) == 1.0
    assert chosen(monkeypatch, np.ones(len(GRID)), 0.1) == 1.0


@pytest.mark.parametrize("n_support", [1, 7])
def test_numbers_in_the_place_of_learned_strengths(n_support):
    logistic = GroupLassoLogistic("learn", "learn", reg_scale="relative")
    found = with_numbers(logistic, 0.4, n_support)
    assert (found.group_reg, found.ridge_reg) == (0.4, 1.0)
    assert found.reg_scale == "ridge-absolute"  # the prior is of variance 1
    assert logistic.group_reg == "learn"
    lasso = with_numbers(LassoHead("learn", "learn"), 0.4, n_support)
    assert (lasso.lasso_reg, lasso.ridge_reg) == (0.4, 1.0 / n_support)
    given = with_numbers(LassoHead("learn", 0.2), 0.4, n_support)
    assert (given.ridge_reg, given.reg_scale) == (0.2, "relative")
    assert with_numbers(RidgeHead("learn"), 0.4, n_support).reg_scale == "absolute"


def test_a_dense_lasso_is_the_ridge_regression_that_trains():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((12, 4)), rng.standard_normal(12)
    head = LassoHead("learn", "learn", tol=1e-12)
    sparse, dense = with_numbers(head, 0.0, 12).fit(X, y), dense_head(head).fit(X, y)
    np.testing.assert_allclose(sparse.coef_, dense.coef_, atol=1e-6)
    np.testing.assert_allclose(sparse.intercept_, dense.intercept_, atol=1e-6)
