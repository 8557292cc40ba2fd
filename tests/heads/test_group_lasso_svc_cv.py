"""GroupLassoSVCCV against GridSearchCV over GroupLassoSVC."""

import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.metrics import accuracy_score, make_scorer, roc_auc_score
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    StratifiedKFold,
    StratifiedShuffleSplit,
)

from skcausalmeta.exceptions import ConvergenceWarning, InvalidInputError
from skcausalmeta.heads import GroupLassoSVC, GroupLassoSVCCV
from skcausalmeta.heads._group_lasso_svc_cv import _pick

REGS = [0.4, 0.2, 0.1]
RIDGES = [1.0, 0.3]


def make_data(seed=0, n_samples=24, n_features=8, n_classes=3):
    """Classes around different means on the first two features, the rest noise."""
    rng = np.random.RandomState(seed)
    y = np.arange(n_samples) % n_classes
    X = rng.randn(n_samples, n_features)
    X[:, :2] += 1.5 * rng.randn(n_classes, 2)[y]
    return X, y


def grid_scores(X, y, cv, *, scoring=None, regs=REGS, ridges=RIDGES, **parameters):
    """Scores (n_ridge, n_regs, n_folds) of scikit-learn's own search."""
    grid = {"ridge_reg": ridges, "group_reg": regs}
    svc = GroupLassoSVC(solver="newton", **parameters)
    search = GridSearchCV(svc, grid, cv=cv, scoring=scoring, refit=False)
    found = search.fit(X, y).cv_results_
    n_folds = search.n_splits_
    folds = [found[f"split{fold}_test_score"] for fold in range(n_folds)]
    # group_reg comes first in the order of the grid
    by_reg = np.stack(folds, axis=-1).reshape(len(regs), len(ridges), n_folds)
    return by_reg.transpose(1, 0, 2)


@pytest.mark.parametrize(
    ("reg_scale", "fit_intercept", "class_weight"),
    [
        ("relative", False, None),
        ("relative", True, "balanced"),
        ("absolute", True, None),
    ],
)
def test_scores_are_those_of_a_grid_search(reg_scale, fit_intercept, class_weight):
    X, y = make_data()
    y = np.array(["c", "a", "b"])[np.where(np.arange(24) < 6, 0, y)]
    unit = {"relative": 1.0, "absolute": 10.0}[reg_scale]
    regs, ridges = unit * np.array(REGS), unit * np.array(RIDGES)
    keywords = {
        "reg_scale": reg_scale,
        "fit_intercept": fit_intercept,
        "class_weight": class_weight,
    }
    svc = GroupLassoSVCCV(regs, ridges, cv=3, **keywords).fit(X, y)
    expected = grid_scores(X, y, 3, regs=regs, ridges=ridges, **keywords)
    np.testing.assert_array_equal(svc.scores_, expected)
    assert len(np.unique(expected)) > 3
    best = expected.mean(-1).max()
    chosen = list(ridges).index(svc.ridge_reg_), list(regs).index(svc.group_reg_)
    assert expected[chosen].mean() == pytest.approx(best)


@pytest.mark.parametrize("scoring", ["roc_auc", make_scorer(accuracy_score)])
def test_other_scores_are_those_of_a_grid_search(scoring):
    X, y = make_data(n_classes=2)
    cv = StratifiedShuffleSplit(3, random_state=0)
    svc = GroupLassoSVCCV(REGS, RIDGES, cv=cv, scoring=scoring).fit(X, y)
    expected = grid_scores(X, y, cv, scoring=scoring)
    np.testing.assert_allclose(svc.scores_, expected, atol=1e-12)


def test_folds_that_lack_a_class_and_repeat_rows_are_those_of_a_grid_search():
    X, y = make_data(n_classes=4)
    rows = np.arange(len(X))
    some = rows[y != 3]
    cv = [(some[6:], rows[:6]), (np.r_[rows[:18], rows[:5]], rows[18:])]
    svc = GroupLassoSVCCV(REGS, RIDGES, cv=cv, fit_intercept=True).fit(X, y)
    expected = grid_scores(X, y, cv, fit_intercept=True)
    np.testing.assert_array_equal(svc.scores_, expected)


def test_the_model_is_that_of_the_strengths_picked():
    X, y = make_data()
    keywords = {"fit_intercept": True, "groups": [0, 0, 1, 1, 2, 2, 3, 3]}
    frame = pd.DataFrame(X, columns=list("abcdefgh"))
    weight = np.linspace(0.5, 1.5, len(X))
    svc = GroupLassoSVCCV(3, RIDGES, **keywords).fit(frame, y, sample_weight=weight)
    alone = GroupLassoSVC(svc.group_reg_, svc.ridge_reg_, **keywords)
    alone.fit(frame, y, sample_weight=weight)
    for name, value in vars(alone).items():
        if name.endswith("_"):
            np.testing.assert_array_equal(getattr(svc, name), value, err_msg=name)
    np.testing.assert_array_equal(svc.predict(frame), alone.predict(frame))
    scores = svc.decision_function(frame)
    np.testing.assert_array_equal(scores, alone.decision_function(frame))
    np.testing.assert_allclose(svc.group_regs_, [1.0, 0.1, 0.01])
    np.testing.assert_array_equal(svc.ridge_regs_, RIDGES)
    assert svc.scores_.shape == (2, 3, 5)
    svc.fit(X, y)
    assert not hasattr(svc, "feature_names_in_")


def test_strengths_are_sorted_and_the_solver_is_passed_on():
    X, y = make_data()
    svc = GroupLassoSVCCV([0.1, 0.5, 0.1], solver="fista", tol=1e-4, cv=2).fit(X, y)
    assert svc.group_regs_.tolist() == [0.5, 0.1]
    alone = GroupLassoSVC(svc.group_reg_, solver="fista", tol=1e-4).fit(X, y)
    assert svc.n_iter_ == alone.n_iter_
    scaled = GroupLassoSVCCV(3, [500.0], reg_scale="absolute", cv=2).fit(5 * X, y)
    largest = GroupLassoSVC(1.0).fit(5 * X, y).lambda1_
    np.testing.assert_allclose(scaled.group_regs_, largest * np.array([1, 0.1, 0.01]))


def test_it_is_repeatable():
    X, y = make_data()
    one, two = (GroupLassoSVCCV(3, cv=3).fit(X, y) for _ in range(2))
    again = pickle.loads(pickle.dumps(one))
    for other in (two, again):
        np.testing.assert_array_equal(other.coef_, one.coef_)
        np.testing.assert_array_equal(other.scores_, one.scores_)
    assert clone(one).get_params() == one.get_params()


def test_without_cv_there_are_as_many_folds_as_rows_of_the_rarest_class():
    X, y = make_data()
    assert GroupLassoSVCCV(2).fit(X, y).scores_.shape[-1] == 5
    y = np.repeat([0, 1, 2], [10, 11, 3])
    svc = GroupLassoSVCCV(2).fit(X, y)
    by_hand = GroupLassoSVCCV(2, cv=StratifiedKFold(3)).fit(X, y)
    np.testing.assert_array_equal(svc.scores_, by_hand.scores_)


# -- selection --------------------------------------------------------------------

# Means 0.5, 0.8, 0.9, 0.9 and 0.5, 0.7, 0.7, 0.9; standard error of the best 0.1.
SCORES = np.array(
    [
        [[0.5, 0.5], [0.8, 0.8], [0.8, 1.0], [0.8, 1.0]],
        [[0.5, 0.5], [0.7, 0.7], [0.7, 0.7], [0.8, 1.0]],
    ]
)
N_USED = np.array([[0, 3, 5, 6], [0, 1, 2, 7]])[..., None] * np.ones(2)


def test_best_takes_fewer_features_among_equals():
    assert _pick(SCORES, N_USED, "best") == (0, 2)
    assert _pick(SCORES, N_USED[:, ::-1], "best") == (0, 3)
    assert _pick(SCORES, 0 * N_USED, "best") == (0, 2)
    fewer = N_USED.copy()
    fewer[1, 3] = 1
    assert _pick(SCORES, fewer, "best") == (1, 3)


def test_one_standard_error_takes_the_sparsest_that_is_close():
    assert _pick(SCORES, N_USED, "one-standard-error") == (0, 1)
    wide = np.where(SCORES == 1.0, 1.6, SCORES)
    wide = np.where(wide == 0.8, 0.2, wide)
    # best 0.9 with the standard error 0.7: every model is close
    assert _pick(wide, N_USED, "one-standard-error") == (0, 0)


def test_one_standard_error_uses_no_more_features_than_the_best():
    X, y = make_data(seed=7, n_samples=40, n_features=20)
    best = GroupLassoSVCCV(6, cv=4).fit(X, y)
    close = GroupLassoSVCCV(6, cv=4, selection="one-standard-error").fit(X, y)
    np.testing.assert_array_equal(best.scores_, close.scores_)
    assert close.group_reg_ > best.group_reg_
    assert close.sparsity_ > best.sparsity_


# -- weights and metadata ---------------------------------------------------------


def test_weights_are_repetitions():
    X, y = make_data(n_samples=30)
    counts = np.random.RandomState(1).randint(0, 4, size=30)
    rows = np.repeat(np.arange(30), counts)
    splits = list(StratifiedKFold(3).split(X, y))
    repeated_splits = [
        tuple(np.flatnonzero(np.isin(rows, part)) for part in split) for split in splits
    ]
    weighted = GroupLassoSVCCV(REGS, cv=splits).fit(X, y, sample_weight=counts)
    repeated = GroupLassoSVCCV(REGS, cv=repeated_splits).fit(X[rows], y[rows])
    np.testing.assert_allclose(weighted.scores_, repeated.scores_, atol=1e-12)
    assert weighted.group_reg_ == repeated.group_reg_
    np.testing.assert_allclose(weighted.coef_, repeated.coef_, rtol=1e-7, atol=1e-8)


def test_a_callable_that_takes_no_weights_gets_none():
    X, y = make_data()

    def score(estimator, X, y):
        return -float(np.mean(estimator.predict(X) != y))

    weight = np.linspace(0.1, 2.0, len(X))
    svc = GroupLassoSVCCV(REGS, cv=3, scoring=score).fit(X, y, sample_weight=weight)
    assert svc.scores_.max() <= 0.0


def test_metadata_reach_splitter_and_scorer():
    X, y = make_data()
    blocks, weight = np.arange(24) // 4, np.linspace(0.1, 2.0, 24)
    plain = GroupLassoSVCCV(REGS, cv=list(GroupKFold(3).split(X, y, blocks)))
    plain.fit(X, y, sample_weight=weight)
    with sklearn.config_context(enable_metadata_routing=True):
        scorer = make_scorer(accuracy_score).set_score_request(sample_weight=True)
        svc = GroupLassoSVCCV(REGS, cv=GroupKFold(3), scoring=scorer)
        svc.fit(X, y, sample_weight=weight, groups=blocks)
        scorer.set_score_request(sample_weight=False)
        ignoring = clone(svc).set_params(scoring=scorer)
        ignoring.fit(X, y, sample_weight=weight, groups=blocks)
    np.testing.assert_array_equal(svc.scores_, plain.scores_)
    assert (ignoring.scores_ != plain.scores_).any()
    with pytest.raises(ValueError, match=r"enable_metadata_routing=True.*{'groups'}"):
        svc.fit(X, y, groups=blocks)


# -- errors and warnings ----------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "match"),
    [
        ({"group_regs": 0}, "'group_regs' parameter of GroupLassoSVCCV must be"),
        ({"group_regs": []}, r"group_regs must be a list .* Got shape \(0,\)"),
        ({"group_regs": [0.1, -1]}, "group_regs must be finite and >= 0. Got"),
        ({"ridge_regs": 1.0}, "'ridge_regs' parameter of GroupLassoSVCCV must be"),
        ({"ridge_regs": []}, r"ridge_regs must be a list .* Got shape \(0,\)"),
        ({"ridge_regs": [1, 0]}, r"ridge_regs must be > 0.* Got \[1.0, 0.0\]"),
        ({"cv": 1}, r"'cv' parameter of GroupLassoSVCCV must be .* Got 1"),
        ({"cv": "five"}, "'cv' parameter of GroupLassoSVCCV must be"),
        ({"cv": []}, r"at least 1 fold.* Got 0; pass cv=5"),
        ({"scoring": "acc"}, "'scoring' parameter of GroupLassoSVCCV must be"),
        ({"selection": "one"}, "'selection' parameter of GroupLassoSVCCV must be"),
        ({"solver": "newtn"}, "'solver' parameter of GroupLassoSVCCV must be"),
        ({"groups": [0, 1]}, r"one group label for every feature. Got shape \(2,\)"),
    ],
)
def test_bad_parameters_leave_the_estimator_as_it_was(parameters, match):
    X, y = make_data()
    svc = GroupLassoSVCCV([0.4, 0.2], cv=2).fit(X, y)
    before = {k: v for k, v in vars(svc).items() if k.endswith("_")}
    with pytest.raises(ValueError, match=match):
        svc.set_params(**parameters).fit(X[:, :5], y)
    assert {k: v for k, v in vars(svc).items() if k.endswith("_")} == before
    assert svc.predict(X).shape == y.shape


def test_folds_that_cannot_be_used_are_refused():
    X, y = make_data(n_classes=2)
    with pytest.raises(InvalidInputError, match=r"for fold 0: .* Got 1 class: 1"):
        GroupLassoSVCCV(2, cv=KFold(2)).fit(X, np.sort(y))
    one = [(np.arange(12), np.arange(12, 24))]
    assert GroupLassoSVCCV(2, cv=one).fit(X, y).scores_.shape == (1, 2, 1)
    svc = GroupLassoSVCCV(2, cv=one, selection="one-standard-error")
    with pytest.raises(InvalidInputError, match=r"at least 2 fold.* Got 1; pass cv=5"):
        svc.fit(X, y)


@pytest.mark.parametrize("score", [np.nan, np.inf, "good", None])
def test_scores_that_are_no_numbers_are_refused(score):
    X, y = make_data()
    svc = GroupLassoSVCCV(2, cv=2, scoring=lambda *_: score)
    with pytest.raises(InvalidInputError, match=r"finite number .* for fold 0; use"):
        svc.fit(X, y)
    assert not hasattr(svc, "n_features_in_")


def test_test_rows_of_one_class_have_no_area_under_the_curve():
    X, y = make_data(n_classes=2)
    rows = np.arange(24)
    cv = [(rows[y == 0], rows[:4]), (rows[4:], rows[[0, 2]])][1:]

    def area(estimator, X, y):
        return roc_auc_score(y, estimator.decision_function(X))

    svc = GroupLassoSVCCV(2, cv=cv, scoring=area)
    with (
        pytest.warns(UserWarning, match="Only one class"),
        pytest.raises(InvalidInputError, match="Got nan for fold 0"),
    ):
        svc.fit(X, y)


def test_unfinished_strengths_warn_with_numbers(monkeypatch):
    # The tensor solver, of which one step is too few.
    tensors = "skcausalmeta.solvers._auto.compiled_applies"
    monkeypatch.setattr(tensors, lambda problem: False)
    polish = "skcausalmeta.heads._group_lasso_base.has_compiled_solver"
    monkeypatch.setattr(polish, lambda: False)
    X, y = make_data(n_samples=30)
    svc = GroupLassoSVCCV([1.0, 0.01], cv=2, tol=1e-14, max_iter=1, solver="newton")
    match = r"The cross-validation stopped .* 1 of 2 strengths. Largest relative gap"
    with pytest.warns(ConvergenceWarning, match=match):
        svc.fit(X, y)
