"""GroupLassoLogistic against scikit-learn and cvxpy, and its derivative."""

import pickle
import sys
import warnings
from dataclasses import replace

import cvxpy as cp
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from torch.autograd import gradcheck

from skcausalmeta.exceptions import ConvergenceWarning, InvalidInputError
from skcausalmeta.heads import GroupLassoLogistic
from skcausalmeta.learners import SparseMetaClassifier
from skcausalmeta.solvers import solve_softmax_newton

EXACT = {"rtol": 1e-7, "atol": 1e-8}
NAMES = ["auto", "newton", "fista"]
NEWTON = sys.modules[solve_softmax_newton.__module__]


# Through the origin, and rows weigh the same, as in the peers.
ORIGIN = {"fit_intercept": False, "class_weight": None}


def make_data(seed=0, n_samples=18, n_features=7, n_classes=3, shift=1.0):
    """Classes around different means on the first two features, the rest noise."""
    rng = np.random.RandomState(seed)
    y = np.arange(n_samples) % n_classes
    X = rng.randn(n_samples, n_features)
    X[:, :2] += shift * rng.randn(n_classes, 2)[y]
    return X, y


def solve_primal(X, y, lambda1, lambda2, groups, weights):
    """W of the primal as a conic program."""
    one_hot = np.eye(y.max() + 1)[y]
    coef = cp.Variable((X.shape[1], one_hot.shape[1]))
    scores = X @ coef
    losses = cp.log_sum_exp(scores, axis=1) - cp.sum(cp.multiply(one_hot, scores), 1)
    norms = [cp.norm(coef[np.flatnonzero(groups == g)], "fro") for g in set(groups)]
    ridge = lambda2 / 2 * cp.sum_squares(coef)
    program = cp.Problem(cp.Minimize(ridge + lambda1 * sum(norms) + weights @ losses))
    tight = {"tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10, "tol_feas": 1e-10}
    with warnings.catch_warnings():
        # The comparison judges the answer, not the status word.
        warnings.filterwarnings("ignore", "Solution may be inaccurate")
        program.solve(solver="CLARABEL", **tight)
    return coef.value, program.value


@pytest.mark.parametrize("strengths", [(4.0, 0.1), (5.0, 1.0), (7.0, 0.01), (0.0, 3.0)])
@pytest.mark.parametrize("groups", [None, np.arange(15) // 3])
def test_against_a_conic_program(strengths, groups):
    X, y = make_data(n_samples=20, n_features=15)
    weights = np.linspace(0.5, 2.0, 20)
    labels = np.arange(15) if groups is None else groups
    coef, value = solve_primal(X, y, *strengths, labels, weights)
    head = GroupLassoLogistic(*strengths, reg_scale="absolute", groups=groups, **ORIGIN)
    head.fit(X, y, sample_weight=weights)
    np.testing.assert_allclose(head.coef_.T, coef, atol=1e-5)
    assert head.objective_ == pytest.approx(value, rel=1e-7)
    assert 0 <= head.dual_gap_ <= 1e-10 * head.objective_
    used = np.flatnonzero((np.abs(coef) > 1e-5).any(axis=1))
    np.testing.assert_array_equal(head.support_features_, used)
    assert (len(used) < 15) == (strengths[0] > 0)


@pytest.mark.parametrize("solver", NAMES)
@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_without_lasso_it_is_the_logistic_regression_of_sklearn(solver, n_classes):
    X, y = make_data(n_samples=20, n_classes=n_classes)
    weights = np.linspace(0.5, 2.0, 20)
    C = 0.7
    # For two classes W holds w/2 and -w/2, whose ridge is half the one of w.
    peer = LogisticRegression(
        C=2 * C if n_classes == 2 else C, fit_intercept=False, tol=1e-10, max_iter=10**5
    ).fit(X, y, sample_weight=weights)
    head = GroupLassoLogistic(
        0.0, 1 / C, reg_scale="absolute", solver=solver, tol=1e-14, **ORIGIN
    )
    with warnings.catch_warnings():
        # The last digits of the gap are rounding.
        warnings.simplefilter("ignore", ConvergenceWarning)
        head.fit(X, y, sample_weight=weights)
    coef = np.diff(head.coef_, axis=0) if n_classes == 2 else head.coef_
    np.testing.assert_allclose(coef, peer.coef_, atol=1e-6)
    np.testing.assert_allclose(head.predict_proba(X), peer.predict_proba(X), atol=1e-6)
    np.testing.assert_allclose(
        head.decision_function(X), peer.decision_function(X), atol=1e-5
    )
    np.testing.assert_array_equal(head.predict(X), peer.predict(X))
    assert head.sparsity_ == 0.0


@pytest.mark.parametrize("solver", NAMES)
@pytest.mark.parametrize("n_classes", [2, 3, 6])
@pytest.mark.parametrize("groups", [None, [0, 0, 1, 1, 1, 2, 3]])
def test_group_reg_of_one_is_the_least_that_switches_everything_off(
    solver, n_classes, groups
):
    X, y = make_data(n_classes=n_classes, shift=3.0)
    keywords = {"groups": groups, "solver": solver, "tol": 1e-9}
    off = GroupLassoLogistic(1.0, **keywords).fit(X, y)
    assert off.sparsity_ == 1.0
    assert off.dual_gap_ == pytest.approx(0.0, abs=1e-13)
    assert off.objective_ == pytest.approx(len(X) * np.log(n_classes))
    assert off.support_features_.tolist() == []
    np.testing.assert_allclose(off.predict_proba(X), 1 / n_classes)
    below = GroupLassoLogistic(0.999, **keywords).fit(X, y)
    labels = np.arange(7) if groups is None else np.array(groups)
    assert len(set(labels[below.support_features_])) == 1


def test_probabilities_are_the_softmax_of_the_scores():
    X, y = make_data(shift=4.0)
    head = GroupLassoLogistic(0.0, 1e-3).fit(X, y)
    probabilities = head.predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)
    np.testing.assert_allclose(head.dual_coef_, probabilities, atol=1e-6)
    np.testing.assert_array_equal(probabilities.argmax(axis=1), head.predict(X))
    logs = head.predict_log_proba(X)
    np.testing.assert_allclose(np.exp(logs), probabilities)
    assert np.isfinite(head.predict_log_proba(1e6 * X)).all()
    # two classes: the score is the log-odds
    X, y = make_data(n_classes=2)
    head.fit(X, y)
    odds = np.diff(head.predict_log_proba(X), axis=1)[:, 0]
    np.testing.assert_allclose(head.decision_function(X), odds)


def test_relative_strengths_are_absolute_ones_in_units_of_the_data():
    X, y = make_data()
    relative = GroupLassoLogistic(0.4, 0.6, **ORIGIN).fit(X, y)
    absolute = GroupLassoLogistic(
        relative.lambda1_, relative.lambda2_, reg_scale="absolute", **ORIGIN
    ).fit(X, y)
    np.testing.assert_allclose(absolute.coef_, relative.coef_, **EXACT)
    largest = np.linalg.norm(X.T @ (np.eye(3)[y] - 1 / 3), axis=1).max()
    assert relative.lambda1_ == pytest.approx(0.4 * largest)
    assert relative.lambda2_ == pytest.approx(0.6 * np.mean((X**2).sum(1)))
    scaled = clone(relative).fit(1000 * X, y)
    np.testing.assert_allclose(1000 * scaled.coef_, relative.coef_, **EXACT)


@pytest.mark.parametrize("fit_intercept", [False, True])
def test_weights_are_repetitions(fit_intercept):
    X, y = make_data()
    head = GroupLassoLogistic(0.2, fit_intercept=fit_intercept)
    counts = np.random.RandomState(1).randint(0, 4, size=len(X))
    rows = np.repeat(np.arange(len(X)), counts)
    weighted = clone(head).fit(X, y, sample_weight=counts)
    repeated = clone(head).fit(X[rows], y[rows])
    np.testing.assert_allclose(weighted.coef_, repeated.coef_, **EXACT)
    np.testing.assert_allclose(weighted.intercept_, repeated.intercept_, **EXACT)


def test_intercept_follows_the_class_frequencies():
    X, _ = make_data()
    y = np.repeat([0, 1, 2], [10, 5, 3])
    head = GroupLassoLogistic(
        50.0, 1e-6, class_weight=None, intercept_scaling=10.0, tol=1e-10
    ).fit(X, y)
    assert head.sparsity_ == 1.0
    np.testing.assert_allclose(
        head.predict_proba(X[:1])[0], np.array([10, 5, 3]) / 18, rtol=1e-6
    )
    balanced = clone(head).set_params(class_weight="balanced").fit(X, y)
    np.testing.assert_allclose(balanced.predict_proba(X[:1]), 1 / 3, rtol=1e-6)


def test_features_without_signal_are_off():
    X, y = make_data()
    X[:, 3] = 0.0
    head = GroupLassoLogistic(0.0).fit(X, y)
    assert head.support_features_.tolist() == [0, 1, 2, 4, 5, 6]
    nothing = GroupLassoLogistic().fit(np.zeros_like(X), y)
    assert nothing.sparsity_ == 1.0
    assert nothing.dual_gap_ == pytest.approx(0.0, abs=1e-13)


def test_string_labels_pickle_and_clone():
    X, y = make_data(shift=4.0)
    names = np.array(["zebra", "ant", "mole"])[y]
    head = GroupLassoLogistic(0.2).fit(X, names)
    assert head.classes_.tolist() == ["ant", "mole", "zebra"]
    again = pickle.loads(pickle.dumps(head))
    np.testing.assert_array_equal(again.predict_proba(X), head.predict_proba(X))
    assert clone(head).get_params() == head.get_params()
    assert "solver_options" not in head.get_params()


@pytest.mark.parametrize(
    ("parameters", "match"),
    [
        (
            {"solver": "cvxpy"},
            "'solver' parameter of GroupLassoLogistic .* Got 'cvxpy'",
        ),
        ({"ridge_reg": 0.0}, "'ridge_reg' parameter of GroupLassoLogistic must be"),
        ({"groups": [0, 1]}, r"one group label for every feature. Got shape \(2,\)"),
    ],
)
def test_bad_parameters_are_refused_by_fit_and_by_the_layer(parameters, match):
    X, y = make_data()
    head = GroupLassoLogistic(**parameters)
    with pytest.raises(ValueError, match=match):
        head.fit(X, y)
    with pytest.raises(ValueError, match=match):
        head.solve_episodes(torch.from_numpy(X)[None], torch.from_numpy(y)[None], 3)


def test_one_class_is_refused_and_leaves_the_estimator_as_it_was():
    X, y = make_data()
    head = GroupLassoLogistic().fit(X, y)
    before = dict(vars(head))
    with pytest.raises(
        ValueError, match=r"GroupLassoLogistic needs at least 2 classes"
    ):
        head.fit(X[:, :3], np.zeros(len(X)))
    assert vars(head) == before


def test_stopping_early_warns_with_gap_and_tolerance():
    X, y = make_data()
    head = GroupLassoLogistic(0.2, 1e-3, solver="fista", max_iter=1, tol=1e-8)
    message = r"GroupLassoLogistic stopped .* gap: \d\.\de.* tolerance: 1\.0e-08"
    with pytest.warns(ConvergenceWarning, match=message) as caught:
        head.fit(X, y)
    assert caught[0].filename == __file__


# -- layer ------------------------------------------------------------------------


@pytest.mark.parametrize("solver", NAMES)
def test_solve_episodes_is_fit_task_by_task(solver):
    data = [make_data(seed, shift=2.0) for seed in range(3)]
    features = torch.from_numpy(np.stack([5 * X for X, _ in data]))
    targets = torch.from_numpy(np.stack([y for _, y in data]))
    head = GroupLassoLogistic(0.3, fit_intercept=True, solver=solver, tol=1e-10)
    solution = head.solve_episodes(features, targets, 3)
    assert bool((solution.relative_gap <= 1e-10).all())
    logits = head.episode_logits(features, targets, features, 3)
    for task in range(3):
        X, y = features[task].numpy(), targets[task].numpy()
        alone = clone(head).fit(X, y)
        np.testing.assert_allclose(solution.coef[task].T, alone.coef_, atol=1e-5)
        np.testing.assert_allclose(
            solution.intercept[task], alone.intercept_, atol=1e-5
        )
        np.testing.assert_allclose(
            logits[task].numpy(), alone.decision_function(X), atol=2e-4
        )


def test_padded_rows_change_nothing():
    X, y = make_data()
    head = GroupLassoLogistic(0.2, fit_intercept=True, tol=1e-12)
    plain = head.solve_episodes(torch.from_numpy(X)[None], torch.from_numpy(y)[None], 3)
    padding = 100 * np.random.RandomState(3).randn(5, 7)
    padded = head.solve_episodes(
        torch.from_numpy(np.vstack([X, padding]))[None],
        torch.from_numpy(np.concatenate([y, np.zeros(5, dtype=int)]))[None],
        3,
        sample_weight=torch.tensor([[1.0] * 18 + [0.0] * 5]),
    )
    torch.testing.assert_close(padded.coef, plain.coef, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(padded.intercept, plain.intercept, rtol=1e-6, atol=1e-8)


def test_a_class_that_a_task_lacks_is_the_least_likely_there():
    support, targets, query = random_tasks(n_shot=4)
    targets = targets.clone()
    targets[1, targets[1] == 2] = 0
    support.requires_grad_()
    head = GroupLassoLogistic(0.1, 0.1, fit_intercept=True, tol=1e-13)
    logits = head.episode_logits(support, targets, query, 3)
    mean = logits.softmax(-1).mean(1)
    assert int(mean[1].argmin()) == 2
    (gradient,) = torch.autograd.grad(logits.square().sum(), support)
    assert bool(torch.isfinite(gradient).all())
    assert bool(gradient.any())


TOLERANCE = {"eps": 1e-5, "atol": 1e-6, "rtol": 1e-5}
CASES = {
    "relative": {"group_reg": 0.3, "ridge_reg": 0.7},
    "absolute": {"group_reg": 0.7, "ridge_reg": 2.0, "reg_scale": "absolute"},
    "weak ridge": {"group_reg": 0.3, "ridge_reg": 0.01},
    "no lasso": {"group_reg": 0.0},
    "groups": {"group_reg": 0.3, "groups": [1, 0, 1, 2, 0]},
    "intercept": {"group_reg": 0.3, "fit_intercept": True, "intercept_scaling": 2.0},
    "groups and intercept": {
        "group_reg": 0.2,
        "groups": [1, 0, 1, 2, 0],
        "fit_intercept": True,
    },
}


class Polished(GroupLassoLogistic):
    """Two more Newton steps, which no gap sees: a gap of 1e-16 leaves 1e-8 in W."""

    def _solver(self, tol=None, *, layer=False):
        def solve(problem):
            solution = solve_softmax_newton(problem, tol=1e-13)
            scores, easing = solution.dual.log(), torch.ones_like(solution.gap)
            for _ in range(2):
                scores, _ = NEWTON._newton_step(problem, scores, easing)
            dual = scores.softmax(-1)
            return replace(solution, coef=problem.coef(dual), dual=dual)

        return solve


def random_tasks(n_tasks=2, n_way=3, n_shot=3, n_features=5, seed=0):
    """Support features and targets, query features, float64."""
    rng = np.random.RandomState(seed)
    support = torch.from_numpy(rng.randn(n_tasks, n_way * n_shot, n_features))
    targets = torch.arange(n_way).repeat(n_shot).expand(n_tasks, -1)
    query = torch.from_numpy(rng.randn(n_tasks, 4, n_features))
    return support, targets, query


@pytest.mark.parametrize("n_shot", [1, 5])
@pytest.mark.parametrize("case", CASES)
def test_gradcheck_in_features_and_row_weights(case, n_shot):
    support, targets, query = random_tasks(n_shot=n_shot)
    weights = torch.linspace(0.5, 1.5, targets.shape[1]).double().expand(2, -1).clone()
    head = Polished(**CASES[case])

    def logits(support, query, weights):
        return head.episode_logits(support, targets, query, 3, sample_weight=weights)

    inputs = [tensor.requires_grad_() for tensor in (support, query, weights)]
    assert bool(logits(*inputs).any())
    # fast: along random directions, all entries of the Jacobian at once
    assert gradcheck(logits, inputs, **(TOLERANCE | {"fast_mode": True}))


def test_gradcheck_entry_by_entry():
    support, targets, query = random_tasks(n_tasks=1, n_shot=2)
    head = Polished(**CASES["groups and intercept"])

    def logits(support, query):
        return head.episode_logits(support, targets, query, 3)

    inputs = [tensor.requires_grad_() for tensor in (support, query[:, :1])]
    assert gradcheck(logits, inputs, **TOLERANCE)


@pytest.mark.parametrize("case", [name for name in CASES if name != "no lasso"])
def test_gradcheck_in_the_strengths(case):
    support, targets, query = random_tasks(seed=1)
    keywords = {"ridge_reg": 1.0} | CASES[case]

    def logits(group_reg, ridge_reg):
        strengths = {"group_reg": group_reg, "ridge_reg": ridge_reg}
        head = Polished(**(keywords | strengths))
        return head.episode_logits(support, targets, query, 3)

    inputs = [
        torch.tensor([keywords[name]] * 2, dtype=torch.float64, requires_grad=True)
        for name in ("group_reg", "ridge_reg")
    ]
    for gradient in torch.autograd.grad(logits(*inputs).square().sum(), inputs):
        assert bool((gradient != 0).all())
    assert gradcheck(logits, inputs, **TOLERANCE)


def test_single_precision_gradient():
    support, targets, query = random_tasks()
    head = GroupLassoLogistic(0.3, tol=1e-5)

    def gradient(dtype):
        leaf = support.to(dtype).requires_grad_()
        logits = head.episode_logits(leaf, targets, query.to(dtype), 3)
        return torch.autograd.grad(logits.square().sum(), leaf)[0]

    single = gradient(torch.float32)
    assert single.dtype == torch.float32
    torch.testing.assert_close(
        single.double(), gradient(torch.float64), rtol=0.0, atol=1e-2
    )


def test_double_backward_is_refused():
    support, targets, query = random_tasks()
    support.requires_grad_()
    logits = GroupLassoLogistic().episode_logits(support, targets, query, 3)
    (gradient,) = torch.autograd.grad(logits.sum(), support, create_graph=True)
    with pytest.raises(RuntimeError, match="first derivatives only"):
        gradient.sum().backward()


def test_episodes_of_wrong_shape_are_refused():
    with pytest.raises(InvalidInputError, match="Support features must have shape"):
        GroupLassoLogistic().solve_episodes(
            torch.zeros(2, 6, 4), torch.zeros(2, 5).long(), 2
        )


def test_a_learner_trains_with_it():
    rng = np.random.RandomState(0)
    y = np.repeat(np.arange(8), 20)
    X = rng.randn(160, 10).astype(np.float32)
    X[:, :4] += 4 * rng.randn(8, 4)[y]
    learner = SparseMetaClassifier(
        head=GroupLassoLogistic(0.1, tol=1e-4),
        max_epochs=1,
        batches_per_epoch=5,
        tasks_per_batch=2,
        random_state=0,
        verbose=0,
    ).fit(X, y)
    assert learner.score(X, y) > 0.5
    learner.adapt(X[:100:2], y[:100:2])
    assert learner.score(X[1:100:2], y[1:100:2]) > 0.6
    support = np.stack([X[:40:4], X[60:100:4]])
    labels = np.stack([y[:40:4], y[60:100:4]])
    found = learner.predict_episodes(support, labels, support)
    assert (found == labels).mean() > 0.6
