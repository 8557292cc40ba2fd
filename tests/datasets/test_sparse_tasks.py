"""make_sparse_tasks against the distributions that it states."""

import pickle

import numpy as np
import pytest
from scipy import stats

from skcausalmeta.datasets import make_sparse_tasks, render_shapes3d
from skcausalmeta.exceptions import InvalidInputError


def test_targets_follow_from_latents_and_weights():
    bunch = make_sparse_tasks(30, 7, 5, 9, noise=0.0, random_state=0)
    assert bunch.data.shape == (210, 9)
    assert bunch.latents.shape == (210, 5)
    np.testing.assert_array_equal(bunch.tasks, np.repeat(np.arange(30), 7))
    expected = np.sum(bunch.latents * bunch.weights[bunch.tasks], axis=1)
    np.testing.assert_allclose(bunch.target, expected, atol=1e-12)
    np.testing.assert_array_equal(bunch.weights != 0, bunch.supports)
    np.testing.assert_array_equal(bunch.data, bunch.mixing(bunch.latents))


def test_noise_has_the_stated_norm_in_every_task():
    bunch = make_sparse_tasks(20, 30, noise=0.25, random_state=0)
    clean = np.sum(bunch.latents * bunch.weights[bunch.tasks], axis=1).reshape(20, 30)
    noise = bunch.target.reshape(20, 30) - clean
    ratio = np.linalg.norm(noise, axis=1) / np.linalg.norm(clean, axis=1)
    np.testing.assert_allclose(ratio, 0.25)


# -- supports and weights --------------------------------------------------------------


@pytest.mark.parametrize("density", [0.1, 0.5, 1.0])
def test_bernoulli_supports_are_binomial_without_the_empty_one(density):
    bunch = make_sparse_tasks(4000, 1, density=density, random_state=0)
    counts = np.bincount(bunch.supports.sum(axis=1), minlength=7)
    assert counts[0] == 0
    shares = stats.binom(6, density).pmf(np.arange(1, 7))
    expected = 4000 * shares / shares.sum()
    likely = expected > 5
    others = expected[~likely].sum()
    assert abs(counts[1:][~likely].sum() - others) < 10
    if likely.sum() > 1:
        scaled = expected[likely] * counts[1:][likely].sum() / expected[likely].sum()
        assert stats.chisquare(counts[1:][likely], scaled).pvalue > 1e-3
    # No factor is preferred.
    uses = bunch.supports.sum(axis=0)
    assert uses.std() <= 3 * np.sqrt(4000 * 0.25)


def test_fixed_supports_are_all_subsets_of_their_size():
    bunch = make_sparse_tasks(2000, 1, 4, support="fixed", n_active=2, random_state=0)
    subsets, counts = np.unique(bunch.supports, axis=0, return_counts=True)
    assert subsets.sum(axis=1).tolist() == [2] * 6
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize(("n_factors", "block_size"), [(6, 2), (6, 3), (7, 3), (5, 5)])
def test_blocks_come_together(n_factors, block_size):
    bunch = make_sparse_tasks(
        300, 1, n_factors, support="blocks", block_size=block_size, random_state=0
    )
    starts = np.arange(0, n_factors, block_size)
    whole = np.repeat(bunch.supports[:, starts], block_size, axis=1)[:, :n_factors]
    np.testing.assert_array_equal(bunch.supports, whole)
    assert bunch.supports.any(axis=1).all()
    if len(starts) > 1:
        patterns = np.unique(bunch.supports, axis=0)
        assert len(patterns) == 2 ** len(starts) - 1


@pytest.mark.parametrize(
    ("name", "law"),
    [("gaussian", stats.norm()), ("laplace", stats.laplace(scale=np.sqrt(0.5)))],
)
def test_weights_have_the_stated_law_and_variance_one(name, law):
    bunch = make_sparse_tasks(1000, 1, weights=name, random_state=0)
    weights = bunch.weights[bunch.supports]
    assert stats.kstest(weights, law.cdf).pvalue > 1e-3
    assert law.var() == pytest.approx(1)


# -- latents ---------------------------------------------------------------------------


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.99, -0.15])
def test_latents_have_the_stated_correlation(rho):
    bunch = make_sparse_tasks(200, 100, correlation=rho, random_state=0)
    expected = (1 - rho) * np.eye(6) + rho
    np.testing.assert_allclose(np.cov(bunch.latents.T), expected, atol=0.05)


def test_a_correlation_matrix_is_taken_as_it_is():
    correlation = np.array([[1, 0.8, 0], [0.8, 1, -0.5], [0, -0.5, 1]])
    latents = make_sparse_tasks(
        200, 100, 3, correlation=correlation, random_state=0
    ).latents
    np.testing.assert_allclose(np.cov(latents.T), correlation, atol=0.05)


def test_uniform_latents_are_independent_with_variance_one():
    latents = make_sparse_tasks(100, 50, correlation=None, random_state=0).latents
    bound = np.sqrt(3)
    for column in latents.T:
        law = stats.uniform(-bound, 2 * bound)
        assert stats.kstest(column, law.cdf).pvalue > 1e-3
    np.testing.assert_allclose(np.cov(latents.T), np.eye(6), atol=0.06)


# -- mixing ----------------------------------------------------------------------------


def test_identity_mixing_shows_the_latents():
    bunch = make_sparse_tasks(4, 3, mixing="identity", random_state=0)
    np.testing.assert_array_equal(bunch.data, bunch.latents)


def test_linear_mixing_keeps_lengths_and_mixes():
    bunch = make_sparse_tasks(4, 30, 5, 8, random_state=0)
    np.testing.assert_allclose(
        bunch.data @ bunch.data.T, bunch.latents @ bunch.latents.T, atol=1e-10
    )
    matrix = np.linalg.lstsq(bunch.latents, bunch.data, rcond=None)[0].T
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(5), atol=1e-10)
    assert np.abs(matrix).max() < 0.99


@pytest.mark.parametrize("n_layers", [1, 3])
def test_mlp_mixing_is_not_linear_but_can_be_inverted(n_layers):
    bunch = make_sparse_tasks(
        10, 40, 4, 7, mixing="mlp", n_layers=n_layers, random_state=0
    )
    rows = bunch.data
    matrices = bunch.mixing.matrices
    assert len(matrices) == n_layers + 1
    for matrix in matrices[:0:-1]:
        rows = rows @ matrix  # the matrices after the first are orthogonal
        rows = np.where(rows > 0, rows, rows / 0.2)
    np.testing.assert_allclose(rows @ matrices[0], bunch.latents, atol=1e-9)
    design = np.column_stack([bunch.latents, np.ones(400)])
    fitted = design @ np.linalg.lstsq(design, bunch.data, rcond=None)[0]
    assert np.linalg.norm(bunch.data - fitted) > 0.1 * np.linalg.norm(bunch.data)


def test_rendered_mixing_draws_the_scenes_of_its_latents():
    bunch = make_sparse_tasks(
        5, 8, mixing="shapes3d", size=16, correlation=0.9, noise=0.0, random_state=0
    )
    assert bunch.data.shape == (40, 16, 16, 3)
    assert bunch.data.dtype == np.uint8
    means = np.array([0.45, 0.45, 0.45, 1.0, 1.5, 0.0])
    grids = [np.arange(10) / 10] * 3 + [np.linspace(0.75, 1.25, 8), np.arange(4)]
    stds = np.array([np.std(grid) for grid in (*grids, np.linspace(-30, 30, 15))])
    scenes = render_shapes3d(bunch.latents * stds + means, size=16)
    np.testing.assert_array_equal(bunch.data, scenes)
    expected = np.sum(bunch.latents * bunch.weights[bunch.tasks], axis=1)
    np.testing.assert_allclose(bunch.target, expected, atol=1e-12)
    assert np.corrcoef(bunch.latents.T).min() > 0.4


@pytest.mark.parametrize("mixing", ["linear", "mlp", "shapes3d"])
def test_fresh_latents_of_another_distribution_can_be_mixed(mixing):
    bunch = make_sparse_tasks(
        2, 5, mixing=mixing, correlation=0.95, size=8, random_state=0
    )
    fresh = bunch.mixing.draw_latents(2000, random_state=1)
    assert np.abs(np.corrcoef(fresh.T) - np.eye(6)).max() < 0.1
    np.testing.assert_allclose(fresh.std(axis=0), 1, atol=0.1)
    assert bunch.mixing(fresh[:3]).shape == (3, *bunch.data.shape[1:])
    again = bunch.mixing.draw_latents(2000, random_state=1)
    np.testing.assert_array_equal(fresh, again)
    correlated = bunch.mixing.draw_latents(2000, correlation=0.95, random_state=1)
    assert np.corrcoef(correlated.T).min() > 0.7


def test_more_tasks_of_the_same_kind():
    first = make_sparse_tasks(5, 4, mixing="mlp", random_state=0)
    second = make_sparse_tasks(5, 4, mixing=first.mixing, random_state=1)
    assert second.mixing is first.mixing
    np.testing.assert_array_equal(second.data, first.mixing(second.latents))
    assert np.abs(first.latents - second.latents).max() > 0.1
    copied = pickle.loads(pickle.dumps(first.mixing))
    np.testing.assert_array_equal(copied(first.latents), first.data)


def test_your_own_mixing_gets_gaussian_latents():
    bunch = make_sparse_tasks(
        50, 20, 3, mixing=np.tanh, correlation=0.8, random_state=0
    )
    np.testing.assert_array_equal(bunch.data, np.tanh(bunch.latents))
    assert np.corrcoef(bunch.latents.T).min() == pytest.approx(0.8, abs=0.05)


# -- seeds and errors ------------------------------------------------------------------


def test_everything_repeats_with_the_seed_and_streams_are_apart():
    first, again, other = (make_sparse_tasks(random_state=seed) for seed in (0, 0, 1))
    for name in ("data", "target", "weights"):
        np.testing.assert_array_equal(first[name], again[name])
        assert np.abs(first[name] - other[name]).max() > 0.1
    laplace = make_sparse_tasks(weights="laplace", mixing="mlp", random_state=0)
    np.testing.assert_array_equal(first.latents, laplace.latents)
    np.testing.assert_array_equal(first.supports, laplace.supports)


def test_the_global_state_is_left_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    make_sparse_tasks(3, 3)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_features": 5}, "at least n_factors.*Got n_features=5 for n_factors=6"),
        ({"support": "fixed", "n_active": 7}, "n_active must be at most n_factors=6"),
        ({"support": "blocks", "block_size": 7}, "block_size must be at most"),
        ({"mixing": "shapes3d", "n_factors": 5}, "draws scenes of 6 factors. Got"),
        ({"correlation": 1.5}, "positive definite"),
        ({"mixing": lambda z: z[:-1]}, r"one row per row.*\(4999, 6\) for 5000"),
    ],
)
def test_what_does_not_fit_is_refused(params, message):
    with pytest.raises(InvalidInputError, match=message):
        make_sparse_tasks(**params)


def test_a_given_mixing_must_fit():
    mixing = make_sparse_tasks(2, 2, 4).mixing
    with pytest.raises(InvalidInputError, match=r"takes 4 factors.*pass n_factors=4"):
        make_sparse_tasks(2, 2, 5, mixing=mixing)
    with pytest.raises(
        InvalidInputError, match=r"latents must have .* \(n_samples, 4\)"
    ):
        mixing(np.zeros((3, 5)))


@pytest.mark.parametrize(
    "params", [{"density": 0}, {"support": "dense"}, {"mixing": "cubic"}, {"noise": -1}]
)
def test_parameters_are_checked(params):
    with pytest.raises(ValueError, match=f"'{next(iter(params))}' parameter"):
        make_sparse_tasks(**params)
