"""Offsets of the scores: certificates, outsiders, gradients, classes without rows."""

import cvxpy as cp
import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch.autograd import gradcheck

from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.heads import (
    GroupLassoLogistic,
    GroupLassoSVC,
    GroupLassoSVCCV,
    Head,
    LassoHead,
    PrototypeHead,
    RelaxedHead,
    RidgeHead,
    RidgeRegressionHead,
    group_lasso_path,
)

CLASSIFIERS = [
    GroupLassoSVC(0.2),
    GroupLassoSVC(0.2, fit_intercept=False, solver="newton"),
    GroupLassoLogistic(0.2),
    GroupLassoLogistic(0.2, fit_intercept=False),
    RidgeHead(),
    PrototypeHead(),
    PrototypeHead("cosine"),
    RelaxedHead(GroupLassoSVC(0.3, solver="newton"), RidgeHead()),
]
REGRESSORS = [
    LassoHead(reg_gradient=True),
    LassoHead(0.2, 0.1, reg_gradient=True),
    LassoHead(solver="fista", reg_gradient=True),
    RidgeRegressionHead(),
]


def make_data(n_classes=3, n_samples=24, n_features=6, seed=0):
    """Rows, labels, offsets and row weights."""
    rng = np.random.RandomState(seed)
    y = np.arange(n_samples) % n_classes
    X = rng.randn(n_samples, n_features)
    X[:, 0] += y
    return X, y, 2.0 * rng.randn(n_samples, n_classes), rng.uniform(0.5, 2, n_samples)


def solve_primal(head, X, y, offset, weights):
    """W' and b of the primal as a conic program, its value."""
    targets = np.eye(offset.shape[1])[y]
    middle = np.average(X, axis=0, weights=weights)
    squares = ((X - middle) ** 2).sum(1)
    unit = head.intercept_scaling * np.sqrt(np.average(squares, weights=weights))
    coef, free = cp.Variable((X.shape[1], offset.shape[1])), cp.Variable((1, 3))
    scores = (X - middle) @ coef + unit * np.ones((len(X), 1)) @ free + offset
    own = cp.sum(cp.multiply(targets, scores), axis=1)
    if isinstance(head, GroupLassoSVC):
        losses = cp.max(scores + 1 - targets, axis=1) - own
    else:
        losses = cp.log_sum_exp(scores, axis=1) - own
    ridge = cp.sum_squares(coef) + cp.sum_squares(free)
    lasso = cp.sum(cp.norm(coef, 2, axis=1))
    objective = weights @ losses + head.lambda2_ / 2 * ridge + head.lambda1_ * lasso
    program = cp.Problem(cp.Minimize(objective))
    tight = {"tol_gap_abs": 1e-9, "tol_gap_rel": 1e-9, "tol_feas": 1e-9}
    program.solve(solver="CLARABEL", **tight)
    return coef.value.T, unit * free.value[0] - middle @ coef.value, program.value


# -- against an outsider ----------------------------------------------------------


@pytest.mark.parametrize("group_reg", [0.05, 0.5, 50.0])
@pytest.mark.parametrize(
    "head",
    [
        GroupLassoSVC(),
        GroupLassoSVC(solver="newton"),
        GroupLassoSVC(solver="fista", tol=1e-8),
        GroupLassoLogistic(),
        GroupLassoLogistic(solver="fista", tol=1e-9),
    ],
    ids=str,
)
def test_the_primal_with_offsets_is_solved(head, group_reg):
    X, y, offset, weights = make_data()
    head = clone(head).set_params(group_reg=group_reg)
    head.fit(X, y, weights, offset=offset)
    coef, intercept, value = solve_primal(head, X, y, offset, weights)
    np.testing.assert_allclose(head.coef_, coef, atol=1e-4)
    np.testing.assert_allclose(head.intercept_, intercept, atol=1e-4)
    assert head.objective_ == pytest.approx(value, rel=1e-7)
    assert 0 <= head.dual_gap_ <= head.tol * head.objective_
    assert (head.sparsity_ == 1.0) == (group_reg == 50.0)


@pytest.mark.parametrize("head", [GroupLassoSVC, GroupLassoLogistic])
def test_the_certificate_is_exact_where_the_common_scores_are_kept(head):
    X, y, offset, weights = make_data()
    head = head(50.0, fit_intercept=False).fit(X, y, weights, offset=offset)
    assert head.sparsity_ == 1.0
    assert head.dual_gap_ <= 1e-13 * head.objective_
    np.testing.assert_array_equal(head.decision_function(X, offset), offset)


@pytest.mark.parametrize("head", REGRESSORS, ids=str)
def test_an_offset_of_a_regression_is_taken_off_the_targets(head):
    X, y, offset, weights = make_data()
    one = clone(head).fit(X, y, weights, offset=offset[:, 0])
    two = clone(head).fit(X, y - offset[:, 0], weights)
    np.testing.assert_allclose(one.coef_, two.coef_, atol=1e-9)
    predicted = one.predict(X, offset[:, 0])
    np.testing.assert_allclose(predicted, two.predict(X) + offset[:, 0])
    both = clone(head).fit(X, np.c_[y, y**2], offset=offset[:, :2])
    assert both.predict(X, offset[:, :2]).shape == (24, 2)


def test_ridge_on_one_hot_targets_less_the_offset():
    X, y, offset, weights = make_data()
    head = RidgeHead().fit(X, y, weights, offset=offset)
    peer = RidgeRegressionHead().fit(X, np.eye(3)[y] - offset, weights)
    np.testing.assert_allclose(head.coef_, peer.coef_, atol=1e-10)
    np.testing.assert_allclose(head.intercept_, peer.intercept_, atol=1e-10)


# -- gradients --------------------------------------------------------------------


@pytest.mark.parametrize("n_present", [2, 3])
@pytest.mark.parametrize("head", CLASSIFIERS, ids=str)
def test_gradients_in_offsets_and_features(head, n_present):
    torch.manual_seed(0)
    support, own = torch.randn(2, 12, 5).double(), torch.randn(2, 12, 3).double()
    query, seen = torch.randn(2, 3, 5).double(), torch.randn(2, 3, 3).double()
    targets = torch.arange(12).expand(2, -1) % n_present

    def logits(support, query, own, seen):
        given = {"support_offset": own, "query_offset": seen, "tol": 1e-13}
        return head.episode_logits(support, targets, query, 3, **given)

    inputs = [part.requires_grad_() for part in (support, query, own, seen)]
    tolerance = {"eps": 1e-4, "atol": 1e-4, "rtol": 1e-3}
    assert gradcheck(logits, inputs, fast_mode=True, **tolerance)
    gradient = torch.autograd.grad(
        logits(*inputs).square().sum(), own, allow_unused=True
    )
    # Class means do not depend on what is known of the classes.
    assert (gradient[0] is None) == isinstance(head, PrototypeHead)


@pytest.mark.parametrize("head", REGRESSORS, ids=str)
def test_gradients_in_offsets_of_a_regression(head):
    torch.manual_seed(0)
    support, own = torch.randn(2, 12, 5).double(), torch.randn(2, 12).double()
    query, seen = torch.randn(2, 3, 5).double(), torch.randn(2, 3).double()
    targets = support[..., 0] + torch.randn(2, 12)

    def predictions(own, seen):
        given = {"support_offset": own, "query_offset": seen, "tol": 1e-13}
        return head.episode_predictions(support, targets, query, **given)

    inputs = [part.requires_grad_() for part in (own, seen)]
    assert gradcheck(predictions, inputs, fast_mode=True, eps=1e-4, atol=1e-4)


# -- what is meant by an offset ---------------------------------------------------


@pytest.mark.parametrize("head", CLASSIFIERS, ids=str)
def test_one_number_is_the_second_of_two_classes_less_the_first(head):
    X, y, offset, _ = make_data(n_classes=2)
    log_odds = offset[:, 1]
    columns = np.stack([-log_odds / 2, log_odds / 2], axis=1)
    one = clone(head).fit(X, y, offset=log_odds)
    two = clone(head).fit(X, y, offset=columns)
    scores = one.decision_function(X, log_odds)
    np.testing.assert_allclose(scores, two.decision_function(X, columns))
    np.testing.assert_allclose(scores, one.decision_function(X) + log_odds)
    np.testing.assert_array_equal(one.predict(X, log_odds), (scores > 0).astype(int))
    if hasattr(one, "predict_proba"):
        shares = one.predict_proba(X, log_odds)[:, 1]
        np.testing.assert_array_equal(shares > 0.5, scores > 0)


@pytest.mark.parametrize("head", CLASSIFIERS, ids=str)
@pytest.mark.parametrize("n_present", [1, 2])
def test_a_class_without_rows_is_answered_by_the_offset(head, n_present):
    X, _, offset, _ = make_data()
    y = np.array(["a", "b"])[np.arange(len(X)) % n_present]
    fitted = clone(head).fit(X, y, offset=offset, classes=["c", "b", "a"])
    assert fitted.classes_.tolist() == ["a", "b", "c"]
    scores = fitted.decision_function(X, offset)
    assert scores.shape == (24, 3)
    assert np.isfinite(scores).all()
    knows = np.array([0.0, 0.0, 1e3])
    assert set(fitted.predict(X, np.tile(knows, (24, 1)))) == {"c"}
    assert set(fitted.predict(X, np.tile(-knows, (24, 1)))) <= {"a", "b"}


def test_rows_of_one_class_move_the_common_scores_towards_it():
    X, _, offset, _ = make_data(n_classes=2)
    log_odds = offset[:, 1]
    for head in (GroupLassoLogistic(), GroupLassoSVC(), RidgeHead()):
        head.fit(X, np.zeros(24), offset=log_odds, classes=[0, 1])
        assert head.decision_function(X, log_odds).mean() < log_odds.mean()


def test_shares_of_the_classes_are_left_to_an_offset():
    X, _, offset, _ = make_data(n_classes=2)
    y = (np.arange(24) >= 18).astype(int)
    for head in (GroupLassoSVC, GroupLassoLogistic, RidgeHead):
        auto = head().fit(X, y, offset=0 * offset)
        plain = head(class_weight=None).fit(X, y, offset=0 * offset)
        np.testing.assert_allclose(auto.coef_, plain.coef_, atol=1e-8)
        equal = head(class_weight="balanced").fit(X, y, offset=0 * offset)
        assert np.abs(equal.coef_ - auto.coef_).max() > 1e-3


# -- paths and folds --------------------------------------------------------------


@pytest.mark.parametrize("loss", ["hinge", "logistic"])
def test_a_path_with_offsets_is_that_of_single_fits(loss):
    X, y, offset, weights = make_data()
    regs = [0.9, 0.3, 0.05]
    path = group_lasso_path(
        X, y, group_regs=regs, loss=loss, sample_weight=weights, offset=offset
    )
    cls = {"hinge": GroupLassoSVC, "logistic": GroupLassoLogistic}[loss]
    for reg, coef, intercept in zip(regs, path.coefs, path.intercepts, strict=True):
        alone = cls(reg, solver="newton").fit(X, y, weights, offset=offset)
        np.testing.assert_allclose(coef, alone.coef_, atol=1e-6)
        np.testing.assert_allclose(intercept, alone.intercept_, atol=1e-6)


def test_folds_are_scored_with_their_offsets():
    X, y, offset, _ = make_data(n_samples=36)
    halves = [(np.arange(36) % 2 == k).nonzero()[0] for k in (0, 1)]
    cv = [tuple(halves), tuple(halves[::-1])]
    given = {"offset": offset, "classes": [0, 1, 2, 3]}
    offset = given["offset"] = np.c_[offset, np.full(36, -9.0)]
    svc = GroupLassoSVCCV([0.5, 0.05], cv=cv, solver="newton").fit(X, y, **given)
    for at, reg in enumerate([0.5, 0.05]):
        for fold, (train, test) in enumerate(cv):
            alone = GroupLassoSVC(reg, solver="newton").fit(
                X[train], y[train], offset=offset[train], classes=[0, 1, 2, 3]
            )
            right = (alone.predict(X[test], offset[test]) == y[test]).mean()
            assert svc.scores_[0, at, fold] == pytest.approx(right)
    final = GroupLassoSVC(svc.group_reg_, solver="newton").fit(X, y, **given)
    np.testing.assert_allclose(svc.coef_, final.coef_, atol=1e-8)
    assert svc.decision_function(X, offset).shape == (36, 4)


# -- errors -----------------------------------------------------------------------


class Means(Head):
    def _layer(self, features, targets, weights, tol):
        shares = targets * weights[..., None]
        means = (shares / shares.sum(1, keepdim=True)).mT @ features
        return 2 * means.mT, -means.square().sum(-1)


def test_a_head_without_a_place_for_offsets_refuses_them_by_name():
    X, y, offset, _ = make_data()
    head = Means().fit(X, y)
    with pytest.raises(InvalidInputError, match="Means takes no offset of the scores"):
        head.fit(X, y, offset=offset)
    batch = torch.from_numpy(X)[None], torch.from_numpy(y)[None]
    with pytest.raises(InvalidInputError, match="Means takes no offset of the scores"):
        head.solve_episodes(*batch, 3, offset=torch.from_numpy(offset)[None])
    # what is known of query rows needs no place in the problem
    scores = head.decision_function(X, offset)
    np.testing.assert_allclose(scores, head.decision_function(X) + offset)
    relaxed = RelaxedHead(GroupLassoSVC(0.3, solver="newton"), Means())
    with pytest.raises(InvalidInputError, match="Means takes no offset of the scores"):
        relaxed.fit(X, y, offset=offset)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"offset": np.zeros((24, 2))}, r"shape \(24, 2\), expected \(24, 3\)"),
        ({"offset": np.zeros(24)}, r"Got shape \(24,\), expected \(24, 3\)"),
        ({"offset": np.full((24, 3), np.nan)}, "Input offset contains NaN"),
        ({"classes": [0, 1]}, r"Got \[2\] in y, which are not among \[0, 1\]"),
    ],
)
def test_bad_offsets_and_classes_are_refused(given, match):
    X, y, _, _ = make_data()
    for head in (GroupLassoLogistic(), RidgeHead(), PrototypeHead()):
        with pytest.raises(ValueError, match=match):
            head.fit(X, y, **given)


def test_bad_offsets_of_the_layer_are_refused():
    support, targets = torch.randn(2, 6, 3), torch.arange(6).expand(2, -1) % 3
    three, head = (support, targets, support, 3), RidgeHead()
    with pytest.raises(
        InvalidInputError, match=r"support_offset must have .*\(2, 6, 3"
    ):
        head.episode_logits(*three, support_offset=torch.zeros(2, 6))
    with pytest.raises(InvalidInputError, match=r"query_offset must have .*\(2, 6, 3"):
        head.episode_logits(*three, query_offset=torch.zeros(2, 5, 3))
    with pytest.raises(InvalidInputError, match="query_offset must be finite"):
        head.episode_logits(*three, query_offset=torch.full((2, 6, 3), torch.inf))
    with pytest.raises(InvalidInputError, match=r"offset must have shape \(2, 6\)"):
        RidgeRegressionHead().solve_episodes(
            support, targets.float(), offset=torch.zeros(2, 6, 1)
        )
    with pytest.raises(InvalidInputError, match="offset must hold a number"):
        LassoHead().fit(support[0], targets[0], offset=np.zeros(5))


def test_a_class_without_rows_and_offset_has_no_prototype():
    X, y, _, _ = make_data()
    with pytest.raises(
        ValueError, match=r"Got no row, .* of \[7\]; drop them, or give"
    ):
        PrototypeHead().fit(X, y, classes=[0, 1, 2, 7])
