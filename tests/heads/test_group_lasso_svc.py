"""GroupLassoSVC against liblinear, and what must not change its answer."""

import copy
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.svm import LinearSVC

from skcausalmeta.exceptions import ConvergenceWarning, InvalidInputError, SolverError
from skcausalmeta.heads import GroupLassoSVC, HeadSolution
from skcausalmeta.heads._group_lasso_problem import lambda1_max
from skcausalmeta.losses import CrammerSinger
from skcausalmeta.penalties import GroupLasso
from skcausalmeta.solvers import Problem

EXACT = {"rtol": 1e-7, "atol": 1e-8}
NAMES = ["cvxpy", "newton", "fista"]


# Through the origin, and rows weigh the same, as in the peers.
ORIGIN = {"fit_intercept": False, "class_weight": None}


def make_data(seed=0, n_samples=18, n_features=7, n_classes=3, shift=1.0):
    """Classes around different means on the first two features, the rest noise."""
    rng = np.random.RandomState(seed)
    y = np.arange(n_samples) % n_classes
    X = rng.randn(n_samples, n_features)
    X[:, :2] += shift * rng.randn(n_classes, 2)[y]
    return X, y


def objective(svc, X, y, groups=None, sample_weight=None):
    """P(W) at the fitted weights, written out in numpy in the units of X."""
    weights = np.ones(len(X)) if sample_weight is None else sample_weight
    coef, scale = svc.coef_.T, svc.intercept_scaling
    middle = np.average(X, axis=0, weights=weights) * svc.fit_intercept
    if svc.reg_scale == "relative":
        squares = ((X - middle) ** 2).sum(1)
        scale = scale * np.sqrt(np.average(squares, weights=weights))
    groups = np.arange(X.shape[1]) if groups is None else groups
    scores = X @ coef + svc.intercept_
    codes = np.searchsorted(svc.classes_, y)
    own = scores[np.arange(len(X)), codes]
    margins = scores + 1.0
    margins[np.arange(len(X)), codes] -= 1.0
    ridge = np.sum(coef**2) + np.sum(((svc.intercept_ + middle @ coef) / scale) ** 2)
    lasso = sum(np.linalg.norm(coef[groups == g]) for g in np.unique(groups))
    hinge = weights @ (margins.max(axis=1) - own)
    return svc.lambda2_ / 2 * ridge + svc.lambda1_ * lasso + hinge


# -- against an outsider ----------------------------------------------------------


@pytest.mark.parametrize("solver", NAMES)
@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_without_lasso_it_is_the_svm_of_liblinear(solver, n_classes):
    X, y = make_data(n_samples=20, n_classes=n_classes)
    C = 0.7
    peer = LinearSVC(
        multi_class="crammer_singer",
        fit_intercept=False,
        C=C,
        tol=1e-10,
        max_iter=10**6,
        random_state=0,
    ).fit(X, y)
    svc = GroupLassoSVC(
        0.0,
        1 / C,
        reg_scale="absolute",
        solver=solver,
        tol=1e-10,
        max_iter=10**5,
        **ORIGIN,
    ).fit(X, y)
    scores = peer.decision_function(X)
    np.testing.assert_allclose(svc.decision_function(X), scores, atol=1e-4)
    # liblinear leaves some rows on the boundary between two classes
    ordered = np.sort(np.c_[-scores, scores] / 2 if n_classes == 2 else scores)
    clear = ordered[:, -1] - ordered[:, -2] > 1e-3
    assert clear.sum() >= 15
    np.testing.assert_array_equal(svc.predict(X)[clear], peer.predict(X)[clear])
    assert svc.sparsity_ == 0.0


def test_with_intercept_it_is_liblinear_with_a_constant_feature():
    X, y = make_data(shift=3.0)
    X = X - X.mean(axis=0)  # liblinear's ridge counts the intercept from the origin
    peer = LinearSVC(
        multi_class="crammer_singer",
        fit_intercept=True,
        intercept_scaling=2.5,
        tol=1e-10,
        max_iter=10**6,
        random_state=0,
    ).fit(X, y)
    svc = GroupLassoSVC(
        0.0, 1.0, reg_scale="absolute", fit_intercept=True, intercept_scaling=2.5
    ).fit(X + 2.0, y)
    np.testing.assert_allclose(svc.coef_, peer.coef_, atol=1e-4)
    intercept = svc.intercept_ + svc.coef_.sum(axis=1) * 2.0
    np.testing.assert_allclose(intercept, peer.intercept_, atol=1e-4)


@pytest.mark.parametrize("solver", NAMES)
@pytest.mark.parametrize("reg_scale", ["relative", "absolute"])
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_objective_and_gap_are_in_the_units_of_the_data(
    solver, reg_scale, fit_intercept
):
    X, y = make_data()
    X = 30 * X
    groups = np.array([0, 0, 1, 1, 2, 2, 2])
    strengths = {"relative": (0.3, 0.8), "absolute": (40.0, 500.0)}[reg_scale]
    svc = GroupLassoSVC(
        *strengths,
        reg_scale=reg_scale,
        groups=groups,
        fit_intercept=fit_intercept,
        class_weight=None,
        solver=solver,
    )
    weight = np.linspace(0.5, 2.0, len(X))
    svc.fit(X, y, sample_weight=weight)
    expected = objective(svc, X, y, groups, weight)
    assert svc.objective_ == pytest.approx(expected, rel=1e-10)
    assert 0 <= svc.dual_gap_ <= 1e-6 * svc.objective_
    assert svc.dual_coef_.shape == (18, 3)
    # any other weights are worse
    rng = np.random.RandomState(0)
    for size in (1e-3, 1e-1):
        moved = copy.copy(svc)
        moved.coef_ = svc.coef_ * (1 + size * rng.randn(*svc.coef_.shape))
        assert objective(moved, X, y, groups, weight) >= expected - svc.dual_gap_


@pytest.mark.parametrize("reg_scale", ["relative", "absolute"])
def test_weights_belong_to_the_dual_point(reg_scale):
    X, y = make_data()
    svc = GroupLassoSVC(0.3, 1.3, reg_scale=reg_scale, fit_intercept=False).fit(X, y)
    correlation = X.T @ (np.eye(3)[y] - svc.dual_coef_)
    norms = np.linalg.norm(correlation, axis=1)
    kept = np.maximum(0.0, 1.0 - svc.lambda1_ / norms)
    expected = (kept[:, None] * correlation).T / svc.lambda2_
    np.testing.assert_allclose(svc.coef_, expected, rtol=1e-10, atol=1e-14)


# -- scales -----------------------------------------------------------------------


def test_relative_strengths_are_absolute_ones_in_units_of_the_data():
    X, y = make_data()
    relative = GroupLassoSVC(0.4, 0.6, **ORIGIN).fit(X, y)
    absolute = GroupLassoSVC(
        relative.lambda1_, relative.lambda2_, reg_scale="absolute", **ORIGIN
    ).fit(X, y)
    np.testing.assert_allclose(absolute.coef_, relative.coef_, **EXACT)
    assert absolute.objective_ == pytest.approx(relative.objective_)
    assert absolute.lambda1_ == relative.lambda1_
    assert relative.lambda2_ == pytest.approx(0.6 * np.mean((X**2).sum(1)))
    residual = np.eye(3)[y] - (1 - np.eye(3)[y]) / 2
    largest = np.linalg.norm(X.T @ residual, axis=1).max()
    assert relative.lambda1_ == pytest.approx(0.4 * largest)


@pytest.mark.parametrize("solver", NAMES)
@pytest.mark.parametrize("n_classes", [2, 3, 6])
@pytest.mark.parametrize("groups", [None, [0, 0, 1, 1, 1, 2, 3]])
def test_group_reg_of_one_switches_everything_off(solver, n_classes, groups):
    X, y = make_data(n_classes=n_classes, shift=3.0)
    svc = GroupLassoSVC(1.0, groups=groups, solver=solver).fit(X, y)
    assert svc.sparsity_ == 1.0
    assert svc.dual_gap_ == pytest.approx(0.0, abs=1e-13)
    assert svc.objective_ == pytest.approx(len(X))
    assert svc.support_features_.tolist() == []
    assert np.ptp(svc.decision_function(X)) < 1e-13


@pytest.mark.parametrize("solver", NAMES)
def test_for_two_classes_the_bound_is_sharp(solver):
    X, y = make_data(n_classes=2)
    svc = GroupLassoSVC(0.999, solver=solver, tol=1e-9).fit(X, y)
    assert len(svc.support_features_) == 1
    assert svc.sparsity_ == pytest.approx(6 / 7)


def test_the_bound_respects_groups_and_their_weights():
    X, y = make_data()
    ones = torch.ones(1).double()
    groups = torch.tensor([0, 0, 1, 1, 1, 2, 2])
    weights = torch.tensor([1.0, 0.0, 1.0]).double()
    problem = Problem(
        torch.from_numpy(X)[None],
        torch.eye(3).double()[torch.from_numpy(y)][None],
        torch.ones(1, len(X)).double(),
        CrammerSinger(),
        GroupLasso(ones, ones, groups, weights),
    )
    residual = 1.5 * np.eye(3)[y] - 0.5
    correlation = X.T @ residual
    expected = max(np.linalg.norm(correlation[r]) for r in ([0, 1], [5, 6]))
    np.testing.assert_allclose(lambda1_max(problem), [expected])


# -- equivariance -----------------------------------------------------------------


def fit_coef(X, y, **keywords):
    return GroupLassoSVC(0.3, 0.5).set_params(**keywords).fit(X, y).coef_


@pytest.mark.parametrize("fit_intercept", [False, True])
def test_units_of_the_features_do_not_matter(fit_intercept):
    X, y = make_data()
    one = GroupLassoSVC(0.3, 0.5, fit_intercept=fit_intercept).fit(X, y)
    two = GroupLassoSVC(0.3, 0.5, fit_intercept=fit_intercept).fit(1000 * X, y)
    np.testing.assert_allclose(two.coef_ * 1000, one.coef_, **EXACT)
    np.testing.assert_allclose(two.intercept_, one.intercept_, **EXACT)
    np.testing.assert_array_equal(two.support_features_, one.support_features_)


@pytest.mark.parametrize("solver", ["cvxpy", "newton"])
def test_order_of_rows_columns_and_classes_does_not_matter(solver):
    X, y = make_data()
    coef = fit_coef(X, y, solver=solver)
    rng = np.random.RandomState(0)
    rows, columns, labels = rng.permutation(18), rng.permutation(7), np.array([2, 0, 1])
    found = fit_coef(X[rows], y[rows], solver=solver)
    np.testing.assert_allclose(found, coef, **EXACT)
    found = fit_coef(X[:, columns], y, solver=solver)
    np.testing.assert_allclose(found, coef[:, columns], **EXACT)
    found = fit_coef(X, labels[y], solver=solver)
    np.testing.assert_allclose(found[labels], coef, **EXACT)


@pytest.mark.parametrize("solver", ["cvxpy", "newton"])
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_weights_are_repetitions(solver, fit_intercept):
    X, y = make_data()
    keywords = {"solver": solver, "fit_intercept": fit_intercept}
    counts = np.random.RandomState(1).randint(0, 4, size=len(X))
    rows = np.repeat(np.arange(len(X)), counts)
    weighted = GroupLassoSVC(0.2, **keywords).fit(X, y, sample_weight=counts)
    repeated = GroupLassoSVC(0.2, **keywords).fit(X[rows], y[rows])
    np.testing.assert_allclose(weighted.coef_, repeated.coef_, **EXACT)
    np.testing.assert_allclose(weighted.intercept_, repeated.intercept_, **EXACT)
    assert weighted.objective_ == pytest.approx(repeated.objective_, rel=1e-9)


def test_class_weight_multiplies_the_row_weights():
    X, y = make_data()
    factors = {0: 1.0, 1: 3.0, 2: 0.5}
    rows = np.linspace(0.5, 1.5, len(X))
    by_class = GroupLassoSVC(class_weight=factors).fit(X, y, sample_weight=rows)
    product = rows * np.array([factors[label] for label in y])
    by_row = GroupLassoSVC(class_weight=None).fit(X, y, sample_weight=product)
    np.testing.assert_allclose(by_class.coef_, by_row.coef_, **EXACT)


def test_balanced_classes_count_weighted_rows():
    X, y = make_data()
    y = np.repeat([0, 1, 2], [10, 5, 3])
    counts = np.random.RandomState(2).randint(1, 3, size=len(X))
    rows = np.repeat(np.arange(len(X)), counts)
    weighted = GroupLassoSVC(class_weight="balanced").fit(X, y, sample_weight=counts)
    repeated = GroupLassoSVC(class_weight="balanced").fit(X[rows], y[rows])
    np.testing.assert_allclose(weighted.coef_, repeated.coef_, **EXACT)
    totals = np.bincount(y[rows])
    explicit = dict(enumerate(len(rows) / (3 * totals)))
    named = GroupLassoSVC(class_weight=explicit).fit(X[rows], y[rows])
    np.testing.assert_allclose(named.coef_, repeated.coef_, **EXACT)


# -- intercept, groups, labels ----------------------------------------------------


def test_intercept_separates_what_no_direction_can():
    X = np.array([[1.0], [2.0], [3.0], [4.0]])
    y = np.array([0, 0, 1, 1])
    without = GroupLassoSVC(0.01, 1e-3, fit_intercept=False).fit(X, y)
    assert without.score(X, y) == 0.5
    assert without.intercept_.tolist() == [0.0, 0.0]
    free = GroupLassoSVC(
        0.01, 1e-3, fit_intercept=True, intercept_scaling=10.0, solver="newton"
    ).fit(X, y)
    assert free.score(X, y) == 1.0
    scores = X @ free.coef_.T + free.intercept_
    np.testing.assert_allclose(free.decision_function(X), scores[:, 1] - scores[:, 0])


def test_intercept_is_not_a_feature():
    X, y = make_data(n_classes=2)
    y = np.repeat([0, 1], [14, 4])
    svc = GroupLassoSVC(5.0, class_weight=None).fit(X, y)
    assert svc.coef_.shape == (2, 7)
    assert svc.sparsity_ == 1.0
    assert svc.intercept_[0] > svc.intercept_[1]
    assert set(svc.predict(X)) == {0}


@pytest.mark.parametrize("solver", NAMES)
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_groups_are_on_or_off_as_a_whole(solver, fit_intercept):
    X, y = make_data(n_features=12)
    groups = np.array(["a", "b", "c", "d"] * 3)
    svc = GroupLassoSVC(
        0.35, groups=groups, solver=solver, fit_intercept=fit_intercept
    ).fit(X, y)
    used = (svc.coef_ != 0).any(axis=0)
    shares = {label: used[groups == label].mean() for label in "abcd"}
    assert set(shares.values()) == {0.0, 1.0}
    assert svc.sparsity_ == 1 - used.mean()


def test_groups_of_one_are_no_groups():
    X, y = make_data()
    plain, grouped = fit_coef(X, y), fit_coef(X, y, groups=np.arange(7)[::-1])
    np.testing.assert_allclose(grouped, plain, **EXACT)


def test_noise_features_are_left_out():
    X, y = make_data(n_samples=60, n_features=30, shift=4.0)
    svc = GroupLassoSVC(0.5).fit(X, y)
    assert svc.support_features_.tolist() == [0, 1]
    assert svc.sparsity_ == pytest.approx(28 / 30)


def test_string_labels_come_back():
    X, y = make_data(shift=4.0)
    names = np.array(["zebra", "ant", "mole"])[y]
    svc = GroupLassoSVC().fit(X, names)
    assert svc.classes_.tolist() == ["ant", "mole", "zebra"]
    assert set(svc.predict(X)) <= set(names)
    np.testing.assert_allclose(svc.coef_[[2, 0, 1]], GroupLassoSVC().fit(X, y).coef_)


def test_pickle_and_clone():
    X, y = make_data()
    svc = GroupLassoSVC(0.2, fit_intercept=True).fit(X, y)
    again = pickle.loads(pickle.dumps(svc))
    np.testing.assert_array_equal(again.decision_function(X), svc.decision_function(X))
    assert clone(svc).get_params() == svc.get_params()


def test_threads_do_not_share_a_program():
    problems = [make_data(seed) for seed in range(12)]

    def fit(data):
        return GroupLassoSVC(0.2).fit(*data).coef_

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(fit, problems))
    for coef, data in zip(found, problems, strict=True):
        np.testing.assert_allclose(coef, fit(data), **EXACT)


# -- layer ------------------------------------------------------------------------


@pytest.mark.parametrize("solver", NAMES)
@pytest.mark.parametrize("reg_scale", ["relative", "absolute"])
def test_solve_episodes_is_fit_task_by_task(solver, reg_scale):
    data = [make_data(seed, shift=2.0) for seed in range(3)]
    features = torch.from_numpy(np.stack([5 * X for X, _ in data]))
    targets = torch.from_numpy(np.stack([y for _, y in data]))
    svc = GroupLassoSVC(
        *{"relative": (0.3, 1.0), "absolute": (60.0, 2000.0)}[reg_scale],
        fit_intercept=True,
        solver=solver,
        reg_scale=reg_scale,
        tol=1e-9,
    )
    solution = svc.solve_episodes(features, targets, 3)
    assert isinstance(solution, HeadSolution)
    assert bool((solution.relative_gap <= 1e-9).all())
    assert bool((solution.gap >= 0).all())
    logits = svc.episode_logits(features, targets, features, 3)
    for task in range(3):
        X, y = features[task].numpy(), targets[task].numpy()
        alone = clone(svc).fit(X, y)
        np.testing.assert_allclose(solution.coef[task].T, alone.coef_, atol=1e-4)
        np.testing.assert_allclose(
            solution.intercept[task], alone.intercept_, atol=1e-4
        )
        np.testing.assert_allclose(
            logits[task].numpy(), alone.decision_function(X), atol=2e-3
        )
    assert solution.dual.shape == (3, 18, 3)
    assert solution.n_iter.shape == (3,)


@pytest.mark.parametrize("fit_intercept", [False, True])
def test_padded_rows_change_nothing(fit_intercept):
    X, y = make_data()
    svc = GroupLassoSVC(0.2, fit_intercept=fit_intercept, tol=1e-12, max_iter=60)
    plain = svc.solve_episodes(torch.from_numpy(X)[None], torch.from_numpy(y)[None], 3)
    padding = 100 * np.random.RandomState(3).randn(5, 7)
    padded = svc.solve_episodes(
        torch.from_numpy(np.vstack([X, padding]))[None],
        torch.from_numpy(np.concatenate([y, np.zeros(5, dtype=int)]))[None],
        3,
        sample_weight=torch.tensor([[1.0] * 18 + [0.0] * 5]),
    )
    torch.testing.assert_close(padded.coef, plain.coef, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(padded.intercept, plain.intercept, rtol=1e-6, atol=1e-8)


def test_tol_of_the_call_goes_before_the_parameter():
    X, y = make_data()
    batch = torch.from_numpy(X)[None], torch.from_numpy(y)[None], 3
    svc = GroupLassoSVC(0.2, solver="fista", tol=1e-2)
    assert float(svc.solve_episodes(*batch).relative_gap) > 1e-8
    assert float(svc.solve_episodes(*batch, tol=1e-8).relative_gap) <= 1e-8


def test_single_precision_episodes():
    X, y = make_data()
    svc = GroupLassoSVC(0.2, solver="newton", tol=1e-4)
    batch = torch.from_numpy(X).float()[None], torch.from_numpy(y)[None]
    solution = svc.solve_episodes(*batch, 3)
    assert solution.coef.dtype == torch.float32
    np.testing.assert_allclose(solution.coef[0].T, svc.fit(X, y).coef_, atol=2e-2)


def test_fit_takes_strengths_that_are_tensors():
    X, y = make_data()
    group_reg = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    svc = GroupLassoSVC(group_reg).fit(X, y)
    np.testing.assert_allclose(svc.coef_, GroupLassoSVC(0.3).fit(X, y).coef_)


# -- errors and warnings ----------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "match"),
    [
        ({"group_reg": -0.1}, "'group_reg' parameter of GroupLassoSVC must be"),
        ({"ridge_reg": 0.0}, "'ridge_reg' parameter of GroupLassoSVC must be"),
        ({"reg_scale": "abs"}, "'reg_scale' parameter of GroupLassoSVC must be"),
        ({"solver": "newtn"}, "'solver' parameter .* Got 'newtn'"),
        ({"tol": 0.0}, "'tol' parameter of GroupLassoSVC must be"),
        ({"max_iter": 0}, "'max_iter' parameter of GroupLassoSVC must be"),
        ({"intercept_scaling": 0.0}, "'intercept_scaling' parameter"),
        ({"class_weight": "even"}, "'class_weight' parameter"),
        ({"groups": [0, 1]}, r"one group label for every feature. Got shape \(2,\)"),
    ],
)
def test_bad_parameters_are_refused_by_fit_and_by_the_layer(parameters, match):
    X, y = make_data()
    svc = GroupLassoSVC(**parameters)
    with pytest.raises(ValueError, match=match):
        svc.fit(X, y)
    with pytest.raises(ValueError, match=match):
        svc.solve_episodes(torch.from_numpy(X)[None], torch.from_numpy(y)[None], 3)


def test_bad_data_are_refused():
    X, y = make_data()
    svc = GroupLassoSVC()
    with pytest.raises(ValueError, match=r"at least 2 classes in y\. Got 1 class: 'a'"):
        svc.fit(X, ["a"] * len(X))
    with pytest.raises(ValueError, match="Input X contains NaN"):
        svc.fit(np.where(X > 1, np.nan, X), y)
    with pytest.raises(ValueError, match="Input X contains NaN"):
        svc.fit(sparse.csr_matrix(np.where(X > 1, np.nan, X)), y)
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        svc.fit(X, y + 0.5)
    svc.fit(X, y)
    with pytest.raises(ValueError, match="X has 6 features, but GroupLassoSVC is"):
        svc.predict(X[:, 1:])


def test_bad_weights_are_refused():
    X, y = make_data()
    with pytest.raises(ValueError, match="Negative values in data passed to `sample_w"):
        GroupLassoSVC().fit(X, y, sample_weight=np.linspace(-1, 1, len(X)))
    # Of scikit-learn, in versions that look for it, or our own.
    with pytest.raises(ValueError, match=r"at least one non-zero number|> 0 for one"):
        GroupLassoSVC().fit(X, y, sample_weight=np.zeros(len(X)))
    with pytest.raises(ValueError, match=r"> 0 for one. Got values from 0 to 0"):
        GroupLassoSVC(class_weight=dict.fromkeys(range(3), 0)).fit(X, y)
    with pytest.raises(ValueError, match=r">= 0 for every row .* from -1 to 1"):
        GroupLassoSVC(class_weight={0: -1.0}).fit(X, y)


def test_unknown_conic_solver_is_refused():
    X, y = make_data()
    svc = GroupLassoSVC(solver_options={"solver": "NONE"})
    with pytest.raises(ValueError, match=r"installed cvxpy solver\. Got 'NONE'"):
        svc.fit(X, y)


def test_failing_conic_solvers_raise(monkeypatch):
    X, y = make_data()
    monkeypatch.setattr(
        "skcausalmeta.solvers._cvxpy._Program.solve", lambda *_: (None, "broken")
    )
    with pytest.raises(SolverError, match="use solver='fista'"):
        GroupLassoSVC().fit(X, y)


EPISODE_ERRORS = [
    ((2, 6, 4), (2, 5), 2, None, r"Support features must have shape"),
    ((6, 4), (6,), 2, None, r"Support features must have shape .* Got \(6, 4\)"),
    ((2, 6, 4), (2, 6), 1, None, "at least 2 classes. Got n_classes=1"),
    ((2, 6, 4), (2, 6), 2, (2, 5), r"one weight for every row. Got shape \(2, 5\)"),
]


@pytest.mark.parametrize(
    ("features", "targets", "n_classes", "weights", "match"), EPISODE_ERRORS
)
def test_episodes_of_wrong_shape_are_refused(
    features, targets, n_classes, weights, match
):
    sample_weight = None if weights is None else torch.ones(weights)
    with pytest.raises(InvalidInputError, match=match):
        GroupLassoSVC().solve_episodes(
            torch.zeros(features),
            torch.zeros(targets).long(),
            n_classes,
            sample_weight=sample_weight,
        )


def test_episodes_of_wrong_values_are_refused():
    features, targets = torch.ones(2, 4, 3), torch.tensor([[0, 1, 0, 1]]).expand(2, -1)
    svc = GroupLassoSVC()

    def refused(features, targets, match, **keywords):
        with pytest.raises(InvalidInputError, match=match):
            svc.episode_logits(features, targets, features, 2, **keywords)

    refused(features, targets + 1, r"class numbers 0\.\.1. Got values from 1 to 2")
    refused(features * torch.nan, targets, "its training diverged")
    weights = torch.ones(2, 4)
    refused(features, targets, "Got a negative weight", sample_weight=-weights)
    weights[1] = 0.0
    refused(features, targets, "or a task of zeros", sample_weight=weights)


def test_stopping_early_warns_with_gap_and_tolerance():
    X, y = make_data()
    svc = GroupLassoSVC(0.2, solver="fista", max_iter=1, tol=1e-8)
    message = r"Duality gap: \d\.\de[+-]\d\d.* tolerance: 1\.0e-08\. Raise max_iter"
    with pytest.warns(ConvergenceWarning, match=message) as caught:
        svc.fit(X, y)
    assert caught[0].filename == __file__
    assert svc.n_iter_ == 1
    assert svc.dual_gap_ > 1e-8 * svc.objective_


@pytest.mark.parametrize("solver", NAMES)
def test_reaching_the_tolerance_does_not_warn(solver):
    X, y = make_data()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        GroupLassoSVC(0.2, solver=solver).fit(X, y)


@pytest.mark.parametrize(
    ("columns", "labels", "groups"),
    [(3, [0] * 20, None), (3, [0, 1] * 10, [0, 0]), (3, [0, 1] * 9, None)],
    ids=["one class", "wrong groups", "mismatched lengths"],
)
def test_failed_fit_leaves_the_estimator_as_it_was(columns, labels, groups):
    rng = np.random.RandomState(0)
    svc = GroupLassoSVC(solver="newton").fit(rng.randn(20, 5), [0, 1] * 10)
    svc.set_params(groups=groups)
    before = dict(vars(svc))
    with pytest.raises(ValueError, match=r"1 class|one group label|inconsistent"):
        svc.fit(rng.randn(20, columns), labels)
    assert vars(svc) == before
