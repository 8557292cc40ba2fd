"""LassoHead against scikit-learn, its formulas and finite differences."""

import gc
import pickle
import warnings
import weakref

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import make_regression
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import ElasticNet, Lasso
from torch.autograd import gradcheck

from skcausalmeta.exceptions import ConvergenceWarning, InvalidInputError
from skcausalmeta.heads import HeadSolution, LassoHead, RidgeRegressionHead

SOLVERS = ["active-set", "fista"]
TOLERANCE = {"eps": 1e-6, "atol": 1e-6, "rtol": 1e-5}
TIGHT = {"tol": 1e-13, "max_iter": 10**6}


def make_data(n_samples=40, n_features=7, n_outputs=1, seed=0):
    X, y = make_regression(
        n_samples,
        n_features,
        n_informative=3,
        n_targets=n_outputs,
        noise=5.0,
        bias=30.0,
        random_state=seed,
    )
    return X + 2.0, y


def random_weights(n_samples, seed=0):
    weights = np.random.RandomState(seed).uniform(0.2, 3.0, size=n_samples)
    weights[::6] = 0.0
    return weights


# -- against an outsider ----------------------------------------------------------


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("lambda2", [0.0, 0.4])
def test_it_is_the_lasso_of_scikit_learn(solver, weighted, fit_intercept, lambda2):
    X, y = make_data()
    weight = random_weights(len(X)) if weighted else None
    keywords = {"fit_intercept": fit_intercept, "tol": 1e-12, "max_iter": 10**6}
    peer = Lasso(2.0, **keywords)
    if lambda2:
        peer = ElasticNet(2.0 + lambda2, l1_ratio=2.0 / (2.0 + lambda2), **keywords)
    peer.fit(X, y, sample_weight=weight)
    tight = TIGHT if solver == "fista" else {}
    head = LassoHead(
        2.0,
        lambda2,
        reg_scale="absolute",
        fit_intercept=fit_intercept,
        solver=solver,
        **tight,
    ).fit(X, y, sample_weight=weight)
    atol = 1e-8 if solver == "active-set" else 1e-4
    np.testing.assert_allclose(head.coef_, peer.coef_, rtol=0, atol=atol)
    np.testing.assert_allclose(head.intercept_, peer.intercept_, rtol=0, atol=3 * atol)
    np.testing.assert_allclose(head.predict(X), peer.predict(X), rtol=0, atol=9 * atol)
    np.testing.assert_array_equal(head.support_features_, np.flatnonzero(peer.coef_))
    assert head.sparsity_ == np.mean(peer.coef_ == 0)


def test_several_outputs_are_several_problems():
    X, Y = make_data(n_outputs=3)
    head = LassoHead(0.2).fit(X, Y)
    assert head.coef_.shape == (3, 7)
    assert head.predict(X).shape == Y.shape
    for output in range(3):
        peer = Lasso(head.lambda1_[output], tol=1e-12).fit(X, Y[:, output])
        np.testing.assert_allclose(head.coef_[output], peer.coef_, rtol=0, atol=1e-8)
        assert head.intercept_[output] == pytest.approx(peer.intercept_, abs=1e-7)
        alone = LassoHead(0.2).fit(X, Y[:, output])
        np.testing.assert_allclose(alone.coef_, head.coef_[output], rtol=1e-12)
    used = (head.coef_ != 0).any(axis=0)
    np.testing.assert_array_equal(head.support_features_, np.flatnonzero(used))


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("ridge_reg", [0.0, 0.3])
def test_objective_and_gap(solver, ridge_reg):
    X, Y = make_data(n_outputs=2)
    weight = random_weights(len(X))
    head = LassoHead(0.3, ridge_reg, solver=solver).fit(X, Y, sample_weight=weight)
    squares = weight @ (Y - head.predict(X)) ** 2 / weight.sum() / 2
    lasso = head.lambda1_ @ np.abs(head.coef_).sum(axis=1)
    ridge = head.lambda2_ / 2 * (head.coef_**2).sum()
    expected = squares.sum() + lasso + ridge
    assert head.objective_ == pytest.approx(expected, rel=1e-12)
    assert 0 <= head.dual_gap_ <= 1e-8 * expected
    assert head.n_iter_ >= 1


# -- scales -----------------------------------------------------------------------


def test_relative_strengths_are_those_of_the_formulas():
    X, y = make_data()
    weight = random_weights(len(X))
    head = LassoHead(0.4, 0.6).fit(X, y, sample_weight=weight)
    share = weight / weight.sum()
    centred, target = X - share @ X, y - share @ y
    largest = np.abs(centred.T @ (share * target)).max()
    assert head.lambda1_ == pytest.approx(0.4 * largest, rel=1e-12)
    squares = share @ (centred**2).sum(axis=1)
    assert head.lambda2_ == pytest.approx(0.6 * squares, rel=1e-12)


def test_at_one_every_feature_is_off_and_just_below_one_is_on():
    X, y = make_data()
    off = LassoHead(1.0).fit(X, y)
    assert off.sparsity_ == 1.0
    assert off.intercept_ == pytest.approx(y.mean())
    assert len(LassoHead(0.999).fit(X, y).support_features_) == 1


def test_relative_strengths_are_free_of_units():
    X, y = make_data()
    one = LassoHead(0.2, 0.1).fit(X, y)
    two = LassoHead(0.2, 0.1).fit(100 * X - 7, 0.01 * y + 3)
    np.testing.assert_allclose(two.coef_ * 1e4, one.coef_, rtol=1e-9)


# -- what must not matter ------------------------------------------------------------


def test_a_row_of_weight_two_is_two_rows():
    X, y = make_data()
    weight = np.random.RandomState(0).randint(0, 3, size=len(X))
    weighted = LassoHead().fit(X, y, sample_weight=weight)
    repeated = LassoHead().fit(np.repeat(X, weight, axis=0), np.repeat(y, weight))
    np.testing.assert_allclose(weighted.coef_, repeated.coef_, rtol=1e-10)


@pytest.mark.parametrize("ridge_reg", [0.0, 0.1])
def test_constant_targets_and_features(ridge_reg):
    X, y = make_data()
    constant = LassoHead(0.3, ridge_reg).fit(X, np.full(len(X), 0.1))
    assert constant.sparsity_ == 1.0
    np.testing.assert_allclose(constant.predict(X), 0.1, rtol=1e-15)
    flat = LassoHead(0.3, ridge_reg).fit(np.full((len(X), 2), 0.1), y)
    assert flat.sparsity_ == 1.0
    X[:, 0] = 0.1
    assert 0 not in LassoHead(0.01, ridge_reg).fit(X, y).support_features_


def test_equal_columns_share_the_weight():
    X, y = make_data(n_features=3)
    single = LassoHead().fit(X, y)
    double = LassoHead().fit(np.c_[X, X], y)
    assert double.dual_gap_ <= 1e-8 * double.objective_
    total = double.coef_[:3] + double.coef_[3:]
    np.testing.assert_allclose(total, single.coef_, rtol=1e-8)


def test_a_column_of_targets_keeps_its_shape():
    X, y = make_data()
    head = LassoHead().fit(X, y[:, None])
    assert head.coef_.shape == (1, 7)
    assert head.intercept_.shape == (1,)
    assert head.predict(X).shape == (len(X), 1)


# -- faults ----------------------------------------------------------------------------


def test_a_failed_fit_leaves_the_estimator_as_it_was():
    X, y = make_data()
    head = LassoHead().fit(X, y)
    before = pickle.dumps(head.__dict__)
    for bad_X, bad_y, weight in (
        (X[:, :2], y[:-1], None),
        (np.full_like(X, np.nan), y, None),
        (X[:, :2], y, np.zeros(len(X))),
        (X[:, :2], y, -np.ones(len(X))),
    ):
        with pytest.raises(ValueError):  # noqa: PT011
            head.fit(bad_X, bad_y, sample_weight=weight)
        assert pickle.dumps(head.__dict__) == before


def test_messages_of_fit():
    X, y = make_data()
    with pytest.raises(InvalidInputError, match="must not both be 0"):
        LassoHead(0.0).fit(X, y)
    with pytest.raises(ValueError, match="'lasso_reg' parameter of LassoHead"):
        LassoHead(-1.0).fit(X, y)
    with pytest.raises(ValueError, match="'solver' parameter of LassoHead"):
        LassoHead(solver="newton").fit(X, y)
    with pytest.raises(NotFittedError):
        LassoHead().predict(X)
    assert LassoHead(0.0, 0.1).fit(X, y).sparsity_ == 0.0


@pytest.mark.parametrize("head", [LassoHead(), RidgeRegressionHead()])
def test_weights_that_are_all_zero_are_refused_in_any_scikit_learn(head):
    X, y = make_data()
    with pytest.raises(ValueError, match=r"at least one non-zero number|> 0 for one"):
        head.fit(X, y, sample_weight=np.zeros(len(X)))
    with pytest.raises(ValueError, match=r"at least one non-zero number|> 0 for one"):
        head.fit(X, np.stack([y, y], axis=1), sample_weight=np.zeros(len(X)))
    head.fit(X, y, sample_weight=np.eye(len(X))[0])  # one row is enough
    assert np.isfinite(head.predict(X)).all()


def test_stopping_early_is_said_with_numbers():
    X, y = make_data()
    head = LassoHead(0.01, solver="fista", max_iter=1)
    with pytest.warns(ConvergenceWarning, match=r"tolerance: 1\.0e-08") as record:
        head.fit(X, y)
    assert record[0].filename == __file__
    assert head.dual_gap_ > 1e-8 * head.objective_
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clone(head).set_params(max_iter=10**5).fit(X, y)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": torch.ones(2, 5)}, "must have shape"),
        ({"targets": torch.ones(2, 4)}, "must have shape"),
        ({"targets": torch.ones(2, 5, 0)}, "no empty axis"),
        ({"features": torch.full((2, 5, 3), torch.nan)}, "features must be finite"),
        ({"targets": torch.full((2, 5), torch.inf)}, "targets must be finite"),
        ({"sample_weight": torch.ones(2, 4)}, "one weight for every row"),
        ({"sample_weight": -torch.ones(2, 5)}, "sample_weight must be >= 0"),
        ({"sample_weight": torch.zeros(2, 5)}, "a row > 0 in every task"),
    ],
)
def test_episodes_that_cannot_be_solved_are_refused(change, message):
    inputs = {"features": torch.ones(2, 5, 3), "targets": torch.ones(2, 5)} | change
    with pytest.raises(InvalidInputError, match=message):
        LassoHead().solve_episodes(
            inputs["features"],
            inputs["targets"],
            sample_weight=inputs.get("sample_weight"),
        )


@pytest.mark.parametrize(
    ("strengths", "message"),
    [
        ((torch.tensor([0.1, -0.1]), 0.0), "finite and >= 0"),
        ((torch.tensor(torch.nan), 0.0), "finite and >= 0"),
        ((0.1, torch.tensor(torch.inf)), "finite and >= 0"),
        ((0.1, torch.tensor([0.0, 0.1])), "0 for all tasks or > 0 for all tasks"),
        ((torch.tensor([0.1, 0.0]), 0.0), "must not both be 0"),
    ],
)
def test_strengths_out_of_range_are_refused(strengths, message):
    with pytest.raises(InvalidInputError, match=message):
        LassoHead(*strengths).solve_episodes(torch.ones(2, 5, 3), torch.ones(2, 5))


# -- layer ---------------------------------------------------------------------


def random_tasks(n_tasks=2, n_support=9, n_features=4, n_outputs=None, seed=0):
    """Support features and targets, query features, row weights; float64."""
    rng = np.random.RandomState(seed)
    support = torch.from_numpy(rng.randn(n_tasks, n_support, n_features))
    truth = torch.from_numpy(rng.randn(n_tasks, n_features, n_outputs or 1))
    truth[:, ::2] = 0.0
    targets = support @ truth + 1.0
    targets += 0.3 * torch.from_numpy(rng.randn(*targets.shape))
    targets = targets if n_outputs else targets[..., 0]
    query = torch.from_numpy(rng.randn(n_tasks, 3, n_features))
    weights = torch.from_numpy(rng.uniform(0.5, 2.0, size=support.shape[:2]))
    return support, targets, query, weights


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("n_outputs", [None, 2])
def test_layer_and_estimator_agree(solver, n_outputs):
    support, targets, query, weights = random_tasks(n_outputs=n_outputs)
    head = LassoHead(0.2, solver=solver, tol=1e-12)
    solution = head.solve_episodes(support, targets, sample_weight=weights)
    predictions = head.episode_predictions(
        support, targets, query, sample_weight=weights
    )
    assert isinstance(solution, HeadSolution)
    assert float(solution.relative_gap.max()) <= 1e-12
    assert solution.dual.shape == (2, 9, n_outputs or 1)
    for task in range(2):
        fitted = LassoHead(0.2).fit(support[task], targets[task], weights[task])
        coef = np.atleast_2d(fitted.coef_)
        np.testing.assert_allclose(solution.coef[task].T, coef, atol=1e-5)
        np.testing.assert_allclose(
            solution.intercept[task], np.atleast_1d(fitted.intercept_), atol=1e-5
        )
        np.testing.assert_allclose(
            predictions[task], fitted.predict(query[task]), atol=1e-5
        )


def test_rows_of_weight_zero_do_not_matter():
    support, targets, query, weights = random_tasks()
    padded = torch.cat([support, 50 * support[:, :3]], dim=1).requires_grad_()
    labels = torch.cat([targets, -targets[:, :3]], dim=1)
    rows = torch.cat([weights, torch.zeros_like(weights[:, :3])], dim=1)
    head = LassoHead(0.2)
    expected = head.episode_predictions(support, targets, query, sample_weight=weights)
    found = head.episode_predictions(padded, labels, query, sample_weight=rows)
    torch.testing.assert_close(found, expected)
    (gradient,) = torch.autograd.grad(found.sum(), padded)
    assert not bool(gradient[:, 9:].any())
    assert bool(gradient[:, :9].any())


def test_single_precision_goes_in_and_out():
    support, targets, query, _ = random_tasks()
    single = support.float().requires_grad_()
    head = LassoHead(0.2)
    found = head.episode_predictions(single, targets.float(), query.float())
    assert found.dtype == torch.float32
    expected = head.episode_predictions(support, targets, query)
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-5)
    (gradient,) = torch.autograd.grad(found.sum(), single)
    assert gradient.dtype == torch.float32
    solution = head.solve_episodes(single, targets.float())
    assert solution.coef.dtype == torch.float32
    assert float(solution.relative_gap.max()) <= 1e-8


CASES = {
    "absolute": {"lasso_reg": 0.1, "reg_scale": "absolute"},
    "absolute elastic net": {
        "lasso_reg": 0.1,
        "ridge_reg": 0.3,
        "reg_scale": "absolute",
    },
    "relative": {"lasso_reg": 0.2, "reg_gradient": True},
    "relative elastic net": {
        "lasso_reg": 0.2,
        "ridge_reg": 0.3,
        "reg_gradient": True,
    },
    "no intercept": {"lasso_reg": 0.2, "reg_gradient": True, "fit_intercept": False},
    "ridge only": {"lasso_reg": 0.0, "ridge_reg": 0.3, "reg_gradient": True},
}


@pytest.mark.parametrize("n_outputs", [None, 2])
@pytest.mark.parametrize("case", CASES)
def test_gradcheck_in_the_data(case, n_outputs):
    support, targets, query, weights = random_tasks(n_outputs=n_outputs)
    head = LassoHead(**CASES[case])

    def predictions(support, targets, query, weights):
        return head.episode_predictions(support, targets, query, sample_weight=weights)

    solution = head.solve_episodes(support, targets, sample_weight=weights)
    if case != "ridge only":
        assert bool((solution.coef == 0).any())
    inputs = [
        tensor.clone().requires_grad_() for tensor in (support, targets, query, weights)
    ]
    # fast: along random directions, all entries of the Jacobian at once
    assert gradcheck(predictions, inputs, **TOLERANCE, fast_mode=True)


@pytest.mark.parametrize("scale", ["relative", "absolute"])
@pytest.mark.parametrize(
    "shapes", [((), ()), ((2,), (2,)), ((2, 3), ())], ids=["one", "task", "output"]
)
def test_gradcheck_in_the_strengths(scale, shapes):
    support, targets, query, _ = random_tasks(n_outputs=3)

    def predictions(lasso_reg, ridge_reg):
        head = LassoHead(lasso_reg, ridge_reg, reg_scale=scale)
        return head.episode_predictions(support, targets, query)

    rng = np.random.RandomState(0)
    inputs = [
        torch.from_numpy(np.asarray(rng.uniform(0.05, 0.2, size=shape)))
        for shape in shapes
    ]
    inputs = [tensor.requires_grad_() for tensor in inputs]
    for gradient in torch.autograd.grad(predictions(*inputs).sum(), inputs):
        assert bool(gradient.any())
    assert gradcheck(predictions, inputs, **TOLERANCE)


@pytest.mark.parametrize("ridge_reg", [0.0, 0.3])
def test_by_default_the_units_of_the_strengths_are_constants(ridge_reg):
    support, targets, query, _ = random_tasks()
    support = support.requires_grad_()
    fitted = [
        LassoHead(0.2, ridge_reg).fit(support[t].detach(), targets[t]) for t in (0, 1)
    ]
    lambda1 = torch.tensor([[head.lambda1_] for head in fitted], dtype=torch.float64)
    lambda2 = torch.tensor([head.lambda2_ for head in fitted], dtype=torch.float64)
    gradients = []
    for head in (
        LassoHead(0.2, ridge_reg),
        LassoHead(lambda1, lambda2, reg_scale="absolute"),
        LassoHead(0.2, ridge_reg, reg_gradient=True),
    ):
        loss = head.episode_predictions(support, targets, query).square().sum()
        gradients.append(torch.autograd.grad(loss, support)[0])
    torch.testing.assert_close(gradients[0], gradients[1])
    assert float((gradients[0] - gradients[2]).abs().max()) > 1e-3


def test_a_column_of_zeros_has_a_gradient_of_finite_differences():
    support, targets, query, _ = random_tasks()
    support[..., 1] = 0.0
    support.requires_grad_()
    head = LassoHead(0.1, reg_scale="absolute")
    assert gradcheck(
        lambda f: head.episode_predictions(f, targets, query), support, **TOLERANCE
    )
    only_zeros = torch.zeros_like(support).requires_grad_()
    for ridge_reg in (0.0, 0.1):
        head = LassoHead(0.3, ridge_reg, reg_gradient=True)
        found = head.episode_predictions(only_zeros, targets, query)
        (gradient,) = torch.autograd.grad(found.sum(), only_zeros)
        assert not bool(gradient.any())


def test_fewer_rows_than_features():
    support, targets, query, _ = random_tasks(n_support=6, n_features=15)
    head = LassoHead(0.05, reg_scale="absolute", tol=1e-13)
    support.requires_grad_()
    assert gradcheck(
        lambda f: head.episode_predictions(f, targets, query),
        support,
        **TOLERANCE,
        fast_mode=True,
    )


@pytest.mark.parametrize("n_support", [9, 3])
def test_equal_columns_give_finite_gradients(n_support):
    support, targets, query, weights = random_tasks(n_support=n_support)
    support = torch.cat([support, support], dim=-1)
    inputs = [tensor.requires_grad_() for tensor in (support, targets, weights)]
    query = torch.cat([query, query], dim=-1)
    head = LassoHead(0.05)
    found = head.episode_predictions(*inputs[:2], query, sample_weight=weights)
    gradients = torch.autograd.grad(found.square().sum(), inputs)
    for gradient in gradients:
        assert bool(torch.isfinite(gradient).all())
    # Query columns are equal too, so predictions are those of one copy.
    single = support[..., :4].detach().requires_grad_()
    expected = head.episode_predictions(
        single, *inputs[1:2], query[..., :4], sample_weight=weights
    )
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    (one,) = torch.autograd.grad(expected.square().sum(), single)
    both = gradients[0][..., :4] + gradients[0][..., 4:]
    torch.testing.assert_close(both, one, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("reg_gradient", [False, True])
def test_all_off_has_a_gradient_of_exactly_zero(reg_gradient):
    support, targets, query, weights = random_tasks()
    support, query = support.requires_grad_(), query.requires_grad_()
    lasso_reg = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    head = LassoHead(lasso_reg, reg_gradient=reg_gradient)
    found = head.episode_predictions(support, targets, query, sample_weight=weights)
    gradients = torch.autograd.grad(found.square().sum(), (support, query, lasso_reg))
    for gradient in gradients:
        assert not bool(gradient.any())
    mean = (weights * targets).sum(-1) / weights.sum(-1)
    torch.testing.assert_close(found, mean[:, None].expand(-1, 3))


def test_unused_features_have_no_weight_to_move():
    """Adding a feature that stays off leaves all other gradients as they were."""
    support, targets, query, _ = random_tasks()
    support.requires_grad_()
    head = LassoHead(0.1, reg_scale="absolute")
    rng = np.random.RandomState(1)
    faint = 1e-3 * torch.from_numpy(rng.randn(2, 9, 1))
    wide = torch.cat([support, faint], dim=-1)
    wide_query = torch.cat([query, torch.ones_like(query[..., :1])], dim=-1)
    alone = head.episode_predictions(support, targets, query).square().sum()
    beside = head.episode_predictions(wide, targets, wide_query).square().sum()
    torch.testing.assert_close(
        torch.autograd.grad(beside, support)[0], torch.autograd.grad(alone, support)[0]
    )


def test_double_backward_is_refused():
    support, targets, query, _ = random_tasks()
    support.requires_grad_()
    loss = LassoHead().episode_predictions(support, targets, query).square().sum()
    (gradient,) = torch.autograd.grad(loss, support, create_graph=True)
    with pytest.raises(RuntimeError, match="first derivatives only"):
        gradient.sum().backward()


def test_inputs_stay_as_they_are():
    inputs = random_tasks(n_outputs=2)
    copies = [tensor.clone() for tensor in inputs]
    LassoHead(0.2, 0.1).episode_predictions(*inputs[:3], sample_weight=inputs[3])
    for tensor, copy in zip(inputs, copies, strict=True):
        assert torch.equal(tensor, copy)


def test_a_layer_that_is_dropped_is_freed():
    """A graph that held its own output would stay until a garbage collection."""
    support = torch.randn(2, 8, 3, generator=torch.Generator().manual_seed(0))
    targets = support.sum(-1)
    gc.collect()
    gc.disable()
    try:
        rows = support.clone().requires_grad_()
        out = LassoHead(0.1).episode_predictions(rows, targets, support)
        inner = weakref.ref(rows)
        del out, rows
        assert inner() is None
    finally:
        gc.enable()
