"""Metrics of codes against factors: hand-worked matrices, outsiders, chance."""

import itertools

import numpy as np
import pytest
from scipy import stats
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.metrics import mutual_info_score
from sklearn.neighbors import KNeighborsRegressor

from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.metrics import (
    dci_scores,
    mean_corr_coef,
    mutual_info_gap,
    r_score,
    separated_attribute_predictability,
)

METRICS = [
    mean_corr_coef,
    r_score,
    dci_scores,
    mutual_info_gap,
    separated_attribute_predictability,
]
GRID = np.array(list(itertools.product([0, 1], [0, 1, 2], range(5))), dtype=float)


def correlated(rho, n_samples=1000, n_factors=5, seed=0):
    covariance = (1 - rho) * np.eye(n_factors) + rho
    rng = np.random.default_rng(seed)
    return rng.multivariate_normal(np.zeros(n_factors), covariance, size=n_samples)


def permuted_and_scaled(factors, seed=0):
    rng = np.random.default_rng(seed)
    order = rng.permutation(factors.shape[1])
    scale = rng.choice([-1, 1], len(order)) * rng.uniform(1e-3, 1e3, len(order))
    return factors[:, order] * scale + rng.normal(size=len(order))


# -- truth and noise -------------------------------------------------------------------


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.95])
@pytest.mark.parametrize("seed", range(3))
def test_permuted_and_scaled_truth_is_exactly_one(rho, seed):
    factors = correlated(rho, seed=seed)
    codes = permuted_and_scaled(factors, seed)
    assert mean_corr_coef(factors, codes) == 1.0
    assert mean_corr_coef(factors, codes, method="spearman") == 1.0
    assert r_score(factors, codes) == 1.0


@pytest.mark.parametrize("rho", [0.0, 0.95])
def test_dci_of_permuted_and_scaled_truth_is_exactly_one(rho):
    factors = correlated(rho)
    codes = permuted_and_scaled(factors)
    lasso, linear = (
        dci_scores(factors, codes, importance=name) for name in ("lasso", "linear")
    )
    assert (lasso.disentanglement, lasso.completeness) == (1.0, 1.0)
    assert lasso.informativeness > 0.999
    assert (linear.disentanglement, linear.completeness) == (1.0, 1.0)
    assert linear.informativeness == 1.0
    assert linear.error < 1e-12


def test_gaps_of_permuted_and_scaled_grid_are_exactly_one():
    codes = permuted_and_scaled(GRID)
    assert mutual_info_gap(GRID, codes) == 1.0
    assert separated_attribute_predictability(GRID, codes) == 1.0


def test_noise_scores_at_chance():
    rng = np.random.default_rng(0)
    factors, codes = rng.normal(size=(2, 4000, 4))
    assert mean_corr_coef(factors, codes) < 3 / np.sqrt(4000)
    assert mean_corr_coef(factors, codes, method="spearman") < 3 / np.sqrt(4000)
    assert r_score(factors, codes) < 2 * np.sqrt(4 / 4000)
    assert mutual_info_gap(factors, codes) < 0.01
    assert separated_attribute_predictability(factors, codes) < 0.01
    scores = dci_scores(factors, codes)
    assert (scores.disentanglement, scores.completeness) == (0.0, 0.0)
    assert scores.informativeness == pytest.approx(0, abs=0.01)
    assert scores.error == pytest.approx(1, abs=0.01)


def test_a_rotation_keeps_the_information_but_not_the_codes():
    factors = correlated(0.0, n_factors=2, n_samples=4000)
    codes = factors @ np.array([[1.0, 1.0], [1.0, -1.0]])
    assert r_score(factors, codes) == pytest.approx(1)
    # Every code is half of each factor: a correlation of 1/sqrt(2).
    assert mean_corr_coef(factors, codes) == pytest.approx(np.sqrt(0.5), abs=0.02)
    scores = dci_scores(factors, codes, importance="linear")
    assert scores.disentanglement < 0.01
    assert scores.completeness < 0.01
    assert scores.informativeness == pytest.approx(1)
    assert separated_attribute_predictability(factors, codes) < 0.05
    assert mutual_info_gap(factors, codes) < 0.05


# -- MCC and R -------------------------------------------------------------------------


@pytest.mark.parametrize(("n_codes", "method"), [(3, "pearson"), (5, "spearman")])
def test_mcc_is_the_best_of_all_assignments(n_codes, method):
    rng = np.random.default_rng(1)
    factors = rng.normal(size=(60, 3))
    codes = factors @ rng.normal(size=(3, n_codes)) + rng.normal(size=(60, n_codes))
    correlate = {"pearson": stats.pearsonr, "spearman": stats.spearmanr}[method]
    table = np.abs([[correlate(z, c)[0] for c in codes.T] for z in factors.T])
    best = max(
        table[range(3), list(columns)].mean()
        for columns in itertools.permutations(range(n_codes), 3)
    )
    assert mean_corr_coef(factors, codes, method=method) == pytest.approx(best)


def test_mcc_hand_worked():
    # corr((0, 1, 2), (0, 2, 1)) = 1/2; the other pair is equal up to sign.
    factors = np.array([[0, 0], [1, 1], [2, 0]])
    codes = np.array([[0, 0], [-1, 2], [0, 1]])
    assert mean_corr_coef(factors, codes) == pytest.approx(0.75)


def test_factors_without_a_code_count_as_zero():
    factors = correlated(0.0)
    assert mean_corr_coef(factors, factors[:, :2]) == pytest.approx(0.4)
    dead = factors * [1, 1, 1, 0, 0] + 0.1
    assert mean_corr_coef(factors, dead) == pytest.approx(0.6)
    assert mean_corr_coef(factors, dead, method="spearman") == pytest.approx(0.6)


def test_spearman_sees_through_monotone_maps():
    factors = correlated(0.5)
    assert mean_corr_coef(factors, -np.exp(3 * factors), method="spearman") == 1.0
    assert mean_corr_coef(factors, -np.exp(3 * factors)) < 0.7


@pytest.mark.parametrize("n_codes", [2, 4])
def test_r_score_agrees_with_scikit_learn(n_codes):
    rng = np.random.default_rng(2)
    factors = rng.normal(size=(50, 3))
    codes = factors @ rng.normal(size=(3, n_codes)) + rng.normal(size=(50, n_codes))
    expected = [
        LinearRegression().fit(codes, z).score(codes, z)
        for z in (factors[:, 0], factors[:, 1], factors[:, 2])
    ]
    assert r_score(factors, codes, squared=True) == pytest.approx(np.mean(expected))
    assert r_score(factors, codes) == pytest.approx(np.mean(np.sqrt(expected)))


def test_r_score_of_redundant_codes():
    factors = correlated(0.3)
    codes = np.column_stack([factors, factors, np.ones(len(factors))])
    assert r_score(factors, codes) == pytest.approx(1)


# -- DCI -------------------------------------------------------------------------------


def orthogonal_codes(n_codes=3):
    """All sign patterns, many times: columns of variance 1 without correlation."""
    signs = np.array(list(itertools.product([-1.0, 1.0], repeat=n_codes)))
    return np.tile(signs, (10, 1))


def test_dci_of_a_hand_worked_importance_matrix():
    # Columns of length 1, so that they are the coefficients of standardised factors.
    importances = np.array([[0.6, 0.0, 1.0], [0.8, 0.0, 0.0], [0.0, 1.0, 0.0]])
    codes = orthogonal_codes()
    scores = dci_scores(codes @ importances, codes, importance="linear")
    np.testing.assert_allclose(scores.importances, importances, atol=1e-12)

    # Code 0: shares 3/8 and 5/8, entropy 0.661563 nats, ln 3 = 1.098612.
    np.testing.assert_allclose(
        scores.disentanglement_per_code, [0.397819, 1, 1], atol=1e-6
    )
    # Weights 1.6, 0.8 and 1.0 over 3.4.
    assert scores.disentanglement == pytest.approx(0.716620, abs=1e-6)
    # Factor 0: shares 3/7 and 4/7, entropy 0.682908 nats.
    np.testing.assert_allclose(
        scores.completeness_per_factor, [0.378390, 1, 1], atol=1e-6
    )
    assert scores.completeness == pytest.approx(0.792797, abs=1e-6)
    np.testing.assert_allclose(scores.informativeness_per_factor, 1)


def test_dci_bases_follow_the_numbers_of_codes_and_factors():
    # 4 codes that serve 2 factors alike: no code and no factor is one-sided.
    codes = orthogonal_codes(4)
    mixing = np.column_stack([np.ones(4), [1, -1, 1, -1]])
    scores = dci_scores(codes @ mixing, codes, importance="linear")
    assert scores.disentanglement == pytest.approx(0, abs=1e-12)
    assert scores.completeness == pytest.approx(0, abs=1e-12)
    # 2 codes each: the entropy over 4 codes is ln 2 / ln 4.
    pairs = np.array([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    scores = dci_scores(codes @ pairs, codes, importance="linear")
    assert scores.disentanglement == pytest.approx(1)
    assert scores.completeness == pytest.approx(0.5)


def test_dci_error_is_that_of_the_best_prediction():
    # A quarter of the variance of the factors is noise: R^2 = 0.75, error 0.5.
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(40_000, 2))
    factors = np.sqrt(0.75) * codes + 0.5 * rng.normal(size=codes.shape)
    scores = dci_scores(factors, codes, importance="linear")
    assert scores.informativeness == pytest.approx(0.75, abs=0.01)
    assert scores.error == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    "importance", ["boosting", RandomForestRegressor(20, random_state=0)]
)
def test_trees_see_codes_that_are_not_linear_in_the_factors(importance):
    factors = np.random.default_rng(0).uniform(-1, 1, size=(600, 2))
    codes = np.column_stack([np.exp(3 * factors[:, 1]), factors[:, 0] ** 3])
    scores = dci_scores(factors, codes, importance=importance)
    assert scores.disentanglement > 0.95
    assert scores.completeness > 0.95
    assert scores.informativeness > 0.95
    assert scores.importances.argmax(axis=0).tolist() == [1, 0]


def test_dci_takes_regressors_and_repeats_with_its_seed():
    factors = correlated(0.5, n_samples=200)
    codes = factors @ np.random.default_rng(0).normal(size=(5, 4))
    first, again, other = (
        dci_scores(factors, codes, importance=Ridge(), random_state=seed)
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first.importances, again.importances)
    assert first.importances.shape == (4, 5)
    assert first.informativeness == again.informativeness != other.informativeness
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    dci_scores(factors, codes, importance="linear", random_state=None)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_dead_codes_have_no_importance():
    factors = correlated(0.0, n_factors=3)
    codes = factors * [1.0, 1.0, 0.0] + 0.3
    scores = dci_scores(factors, codes)
    assert scores.disentanglement_per_code.tolist() == [1.0, 1.0, 0.0]
    assert scores.disentanglement == 1.0
    assert scores.completeness == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("factors", "codes", "params", "message"),
    [
        (GRID[:, :1], GRID, {}, "at least 2 factors"),
        (GRID, GRID[:, :1], {}, "at least 2 codes"),
        (GRID[5:24], GRID[5:24], {}, "at least 20 samples.*Got 19"),
        (GRID, GRID, {"importance": KNeighborsRegressor()}, "with coef_ or feature_"),
    ],
)
def test_dci_refuses_what_it_cannot_score(factors, codes, params, message):
    with pytest.raises(InvalidInputError, match=message):
        dci_scores(factors, codes, **params)


# -- MIG and SAP -----------------------------------------------------------------------


def test_mig_hand_worked():
    # Code 0 is the factor; code 1 tells the last two of four levels apart from the
    # rest and from each other: H = ln 4, I = ln 4 and 1.5 ln 2, gap 1/4.
    factors = np.array([[0], [1], [2], [3]])
    codes = np.array([[3.0, 0], [2, 0], [1, 1], [0, 2]])
    assert mutual_info_gap(factors, codes) == pytest.approx(0.25)
    assert mutual_info_gap(factors, codes[:, :1]) == 1.0


def test_mig_agrees_with_scikit_learn_on_bins():
    rng = np.random.default_rng(0)
    factors = rng.integers(4, size=(500, 2))
    codes = factors @ [[1.0, 0.4], [0.2, 1.0]] + 0.3 * rng.normal(size=(500, 2))
    bins = np.column_stack(
        [np.digitize(c, np.histogram_bin_edges(c, 20)[1:-1]) for c in codes.T]
    )
    expected = []
    for z in factors.T:
        known = sorted(mutual_info_score(z, b) for b in bins.T)
        expected.append((known[-1] - known[-2]) / mutual_info_score(z, z))
    assert mutual_info_gap(factors, codes) == pytest.approx(np.mean(expected))
    assert mutual_info_gap(factors, codes, n_bins=2) != pytest.approx(np.mean(expected))


def test_mig_of_a_factor_that_falls_into_one_bin():
    factors = np.column_stack([np.arange(30.0), np.arange(30.0)])
    factors[-1, 1] = 1e6
    codes = np.random.default_rng(0).normal(size=(30, 2))
    assert 0 <= mutual_info_gap(factors, codes, n_bins=5) <= 1


def test_sap_is_the_gap_of_squared_correlations():
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(80, 2))
    codes = factors @ rng.normal(size=(2, 3)) + rng.normal(size=(80, 3))
    table = np.corrcoef(factors.T, codes.T)[:2, 2:] ** 2
    ranked = np.sort(table, axis=1)
    assert separated_attribute_predictability(factors, codes) == pytest.approx(
        np.mean(ranked[:, -1] - ranked[:, -2])
    )
    assert separated_attribute_predictability(factors, codes[:, :1]) == pytest.approx(
        table[:, 0].mean()
    )


def test_sap_of_categories_counts_thresholds():
    # Categories in the order 1, 0, 2 along code 0: no line, but two thresholds.
    # Code 1 tells category 2 from the rest only: accuracy 1/2 + 1/2 of 3 classes.
    category = np.repeat([0.0, 1.0, 2.0], 10)
    codes = np.column_stack([np.choose(category.astype(int), [5, 1, 9]), category == 2])
    factors = category.reshape(-1, 1)
    score = separated_attribute_predictability(factors, codes, categorical=[True])
    assert score == pytest.approx(1 - 2 / 3)
    assert separated_attribute_predictability(factors, codes) != pytest.approx(score)


@pytest.mark.parametrize("categorical", [[True], [0, 1, 0], "floor"])
def test_sap_needs_one_boolean_per_factor(categorical):
    with pytest.raises(ValueError, match="categorical"):
        separated_attribute_predictability(GRID, GRID, categorical=categorical)


# -- input -----------------------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("factors", "codes", "message"),
    [
        (GRID, GRID[:-1], "same samples. Got 30 and 29 rows"),
        (GRID[:, 0], GRID, r"factors must be a matrix .* shape \(30,\)"),
        (GRID, GRID[:, :0], r"codes must be a matrix .* shape \(30, 0\)"),
        (GRID, np.where(GRID == 4, np.nan, GRID), "codes must be finite. Got 6 NaN"),
        (GRID[:1], GRID[:1], "at least 2 samples"),
        (GRID * [1, 0, 1] + 0.1, GRID, r"columns \[1\] of factors; drop these"),
    ],
)
def test_what_is_no_codes_and_factors_is_refused(metric, factors, codes, message):
    with pytest.raises(InvalidInputError, match=message):
        metric(factors, codes)


@pytest.mark.parametrize(
    ("metric", "params"),
    [
        (mean_corr_coef, {"method": "kendall"}),
        (r_score, {"squared": "yes"}),
        (dci_scores, {"importance": "forest"}),
        (dci_scores, {"test_size": 1.0}),
        (mutual_info_gap, {"n_bins": 1}),
    ],
)
def test_parameters_are_checked(metric, params):
    with pytest.raises(ValueError, match=f"'{next(iter(params))}' parameter"):
        metric(GRID, GRID, **params)
