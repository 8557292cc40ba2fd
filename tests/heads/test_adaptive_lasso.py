"""Adaptive weights of the group Lasso, and the smoothed dual, by their definitions."""

import numpy as np
import pytest
import torch

from skcausalmeta.heads import GroupLassoLogistic, GroupLassoSVC

RNG = np.random.default_rng(0)
X = RNG.standard_normal((24, 6))
Y = np.digitize(X[:, 0] + 0.5 * X[:, 1] + 0.3 * RNG.standard_normal(24), [-0.5, 0.5])
SOLVERS = ["cvxpy", "auto", "newton", "fista"]
ABSOLUTE = {"reg_scale": "absolute", "fit_intercept": False, "class_weight": None}


# -- dual_reg -------------------------------------------------------------------------


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_smoothed_dual_is_a_feature_of_its_own_for_every_row(solver):
    head = GroupLassoSVC(1.0, 0.5, dual_reg=2.0, solver=solver, **ABSOLUTE).fit(X, Y)
    assert head.coef_.shape == (3, 6)
    B, one_hot = head.dual_coef_, np.eye(3)[Y]
    # Objective by hand: the private weights are those of the dual point.
    own = np.sqrt(2.0) * (one_hot - B) / 0.5
    coef = head.coef_.T
    scores = X @ coef + np.sqrt(2.0) * own
    right = (scores * one_hot).sum(axis=1, keepdims=True)
    hinge = (1 - one_hot + scores - right).max(axis=1).sum()
    ridge = 0.25 * ((coef**2).sum() + (own**2).sum())
    primal = ridge + np.linalg.norm(coef, axis=1).sum() + hinge
    V = X.T @ (one_hot - B)
    norms = np.linalg.norm(V, axis=1, keepdims=True)
    kept = np.maximum(0, 1 - 1.0 / norms) * V
    dual = ((1 - one_hot) * B).sum() - (kept**2).sum() / (2 * 0.5)
    dual -= 2.0 / (2 * 0.5) * ((B - one_hot) ** 2).sum()
    assert head.objective_ == pytest.approx(primal, rel=1e-4)
    assert primal - dual == pytest.approx(head.dual_gap_, abs=1e-3 * primal)
    assert primal - dual < 1e-4 * primal
    np.testing.assert_allclose(coef, kept / 0.5, atol=1e-3)


def test_without_smoothing_it_is_the_head_as_it_was():
    plain = GroupLassoSVC(solver="newton").fit(X, Y)
    found = GroupLassoSVC(solver="newton", dual_reg=0.0, n_reweight=0).fit(X, Y)
    np.testing.assert_array_equal(plain.coef_, found.coef_)


@pytest.mark.parametrize("groups", [None, [0, 0, 1, 1, 2, 2]])
@pytest.mark.parametrize("params", [{"dual_reg": 0.5}, {"n_reweight": 2}])
def test_units_do_not_matter_and_the_layer_agrees(groups, params):
    head = GroupLassoSVC(0.2, groups=groups, solver="newton", tol=1e-9, **params)
    first = head.fit(X, Y).decision_function(X)
    second = head.fit(8 * X, Y).decision_function(8 * X)
    np.testing.assert_allclose(first, second, atol=1e-5)
    rows = torch.tensor(X)[None]
    labels = torch.tensor(Y)[None]
    logits = head.episode_logits(rows, labels, rows, 3)[0]
    np.testing.assert_allclose(logits, first, atol=1e-4)


# -- n_reweight -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cls", "solver"),
    [
        (GroupLassoLogistic, "newton"),
        *((GroupLassoSVC, solver) for solver in ("cvxpy", "auto", "newton")),
    ],
)
def test_a_round_weighs_the_groups_by_the_solution_before(cls, solver):
    params = {"solver": solver, "tol": 1e-8, **ABSOLUTE}
    plain = cls(1.0, 0.5, **params).fit(X, Y)
    found = cls(1.0, 0.5, n_reweight=1, **params).fit(X, Y)
    norms = np.linalg.norm(plain.coef_, axis=0)
    u = 1.1 / (norms / norms.max() + 0.1)
    V = X.T @ (np.eye(3)[Y] - found.dual_coef_)
    lengths = np.linalg.norm(V, axis=1)
    kept = np.maximum(0, 1 - u / lengths)[:, None] * V
    np.testing.assert_allclose(found.coef_.T, kept / 0.5, atol=1e-4)
    assert found.dual_gap_ < 1e-7 * found.objective_
    assert found.lambda1_ == 1.0
    assert (found.coef_ != 0).sum() < (plain.coef_ != 0).sum()


@pytest.mark.parametrize(
    "head",
    [
        GroupLassoSVC(0.15, class_weight=None, n_reweight=1, tol=1e-10),
        GroupLassoSVC(0.15, dual_reg=0.7, tol=1e-10, solver="newton"),
        GroupLassoSVC(0.15, dual_reg=0.7, tol=1e-10, solver="auto"),
        GroupLassoLogistic(0.15, class_weight=None, n_reweight=2, tol=1e-10),
    ],
)
def test_the_layer_is_differentiable(head):
    rows = torch.tensor(X)[None].requires_grad_()
    labels, query = torch.tensor(Y)[None], torch.tensor(X[:5])[None]
    direction = torch.tensor(RNG.standard_normal((1, 24, 6)))
    weights = torch.tensor(RNG.standard_normal((1, 5, 3)))
    frozen = []

    def value(rows):
        return (weights * head.episode_logits(rows, labels, query, 3)).sum()

    (slope,) = torch.autograd.grad(value(rows), rows)
    if head.n_reweight:
        frozen = [_group_weights(head, rows)]  # constants of the derivative
        head = _with_weights(head, frozen[0])
    step = 1e-5
    ends = [value(rows.detach() + sign * step * direction) for sign in (1, -1)]
    difference = (ends[0] - ends[1]).item() / (2 * step)
    assert (slope * direction).sum().item() == pytest.approx(difference, rel=1e-3)


def _group_weights(head, rows):
    labels = torch.nn.functional.one_hot(torch.tensor(Y), 3)[None].double()
    problem, _ = head._problem(rows.detach(), labels, torch.ones(1, 24).double())
    return problem.penalty.group_weights


def _with_weights(head, group_weights):
    from dataclasses import replace

    class Fixed(type(head)):
        def _adaptive(self, problem):
            penalty = replace(problem.penalty, group_weights=group_weights)
            return replace(problem, penalty=penalty)

    return Fixed(**head.get_params())
