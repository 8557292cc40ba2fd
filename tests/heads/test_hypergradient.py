"""Gradients through solved heads against finite differences."""

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from benchmarks.solvers import _hypergradient as draws
from skcausalmeta.heads import GroupLassoLogistic, GroupLassoSVC, _group_lasso_base

TOLERANCE = {"eps": 1e-5, "atol": 1e-5, "rtol": 1e-4}
FREE = {"solver": "newton", "tol": 1e-13, "max_iter": 60}


def random_tasks(n_tasks=2, n_way=3, n_shot=3, n_features=5, seed=0):
    """Support features and targets, query features, float64."""
    rng = np.random.RandomState(seed)
    support = torch.from_numpy(rng.randn(n_tasks, n_way * n_shot, n_features))
    targets = torch.arange(n_way).repeat(n_shot).expand(n_tasks, -1)
    query = torch.from_numpy(rng.randn(n_tasks, 4, n_features))
    return support, targets, query


def number(value):
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


CASES = {
    "relative": {"group_reg": 0.3, "ridge_reg": 0.7},
    "absolute": {"group_reg": 1.5, "ridge_reg": 2.0, "reg_scale": "absolute"},
    "no lasso": {"group_reg": 0.0},
    "groups": {"group_reg": 0.3, "groups": [1, 0, 1, 2, 0]},
    "intercept": {"group_reg": 0.3, "fit_intercept": True, "intercept_scaling": 2.0},
    "groups and intercept": {
        "group_reg": 0.2,
        "groups": [1, 0, 1, 2, 0],
        "fit_intercept": True,
    },
}


@pytest.mark.parametrize("solver", ["newton", "compiled"])
@pytest.mark.parametrize("case", CASES)
def test_gradcheck_in_features_and_row_weights(case, solver):
    support, targets, query = random_tasks()
    weights = torch.linspace(0.5, 1.5, targets.shape[1]).double().expand(2, -1).clone()
    svc = GroupLassoSVC(**CASES[case], **(FREE | {"solver": solver}))

    def logits(support, query, weights):
        return svc.episode_logits(support, targets, query, 3, sample_weight=weights)

    inputs = [tensor.requires_grad_() for tensor in (support, query, weights)]
    assert bool(logits(*inputs).any())
    # fast: along random directions, all entries of the Jacobian at once
    assert gradcheck(logits, inputs, **(TOLERANCE | {"fast_mode": True}))


def test_gradcheck_entry_by_entry():
    support, targets, query = random_tasks(n_tasks=1, n_shot=2)
    weights = torch.linspace(0.5, 1.5, 6).double()[None]
    svc = GroupLassoSVC(**CASES["groups and intercept"], **FREE)

    def logits(support, query, weights):
        return svc.episode_logits(support, targets, query, 3, sample_weight=weights)

    inputs = [tensor.requires_grad_() for tensor in (support, query[:, :1], weights)]
    assert gradcheck(logits, inputs, **TOLERANCE)


@pytest.mark.parametrize("solver", ["newton", "compiled"])
@pytest.mark.parametrize("case", [name for name in CASES if name != "no lasso"])
def test_gradcheck_in_the_strengths(case, solver):
    support, targets, query = random_tasks(seed=1)
    keywords = CASES[case] | {"ridge_reg": CASES[case].get("ridge_reg", 1.0)}

    def logits(group_reg, ridge_reg):
        strengths = {"group_reg": group_reg, "ridge_reg": ridge_reg}
        svc = GroupLassoSVC(**(keywords | strengths), **(FREE | {"solver": solver}))
        return svc.episode_logits(support, targets, query, 3)

    inputs = number(keywords["group_reg"]), number(keywords["ridge_reg"])
    for gradient in torch.autograd.grad(logits(*inputs).square().sum(), inputs):
        assert float(gradient) != 0.0
    assert gradcheck(logits, inputs, **TOLERANCE)


@pytest.mark.parametrize("chunks", [False, True])
def test_strengths_may_differ_between_tasks(chunks, monkeypatch):
    if chunks:  # of one task
        monkeypatch.setattr(_group_lasso_base, "_CPU_BYTES", 1)
        monkeypatch.setattr(_group_lasso_base, "_FEWEST_TASKS", 1)
    support, targets, query = random_tasks()
    group_reg = torch.tensor([0.1, 0.6]).double().requires_grad_()

    def logits(group_reg):
        return GroupLassoSVC(group_reg, **FREE).episode_logits(
            support, targets, query, 3
        )

    assert gradcheck(logits, group_reg, **TOLERANCE)
    alone = GroupLassoSVC(0.6, **FREE).episode_logits(
        support[1:], targets[1:], query[1:], 3
    )
    torch.testing.assert_close(logits(group_reg)[1:].detach(), alone)


@pytest.mark.parametrize("name", ["group_reg", "ridge_reg"])
def test_chunks_of_tasks_keep_their_strengths(name, monkeypatch):
    support, targets, query = random_tasks(n_tasks=5)
    head = GroupLassoLogistic(**{name: torch.linspace(0.1, 0.6, 5).double()})
    whole = head.episode_logits(support, targets, query, 3, tol=1e-12)
    monkeypatch.setattr(_group_lasso_base, "_CPU_BYTES", 1)
    monkeypatch.setattr(_group_lasso_base, "_FEWEST_TASKS", 2)
    parts = head.episode_logits(support, targets, query, 3, tol=1e-12)
    torch.testing.assert_close(parts, whole)


@pytest.mark.parametrize("n", [10, pytest.param(50, marks=pytest.mark.slow)])
def test_random_problems_against_central_differences(n):
    # The benchmark's problems, so that both measure the same thing.
    errors = [draws.relative_error(draw) for draw in draws.regular_draws(n, 3 * n)]
    assert len(errors) == n
    assert max(errors) <= 1e-5


def test_too_few_regular_draws_are_an_error():
    with pytest.raises(RuntimeError, match=r"Got \d of 3 draws"):
        list(draws.regular_draws(4, 3))


# -- where published schemes give NaN ---------------------------------------------


def gradients(svc, support, targets, query, n_classes=3, weights=None):
    """Logits and the gradient of a functional of each task in its support."""
    support = support.clone().requires_grad_()
    logits = svc.episode_logits(
        support, targets, query, n_classes, sample_weight=weights
    )
    total = (logits * torch.linspace(-1, 2, logits[0].numel()).view_as(logits[0])).sum()
    (gradient,) = torch.autograd.grad(total, support)
    return logits.detach(), gradient


def head_variants():
    for group_reg in (0.0, 0.3, 1.0, 2.0):
        for groups in (None, [0, 0, 1, 1, 2]):
            for fit_intercept in (False, True):
                keywords = {"groups": groups, "fit_intercept": fit_intercept}
                yield GroupLassoSVC(group_reg, **keywords, **FREE)


def assert_finite(support, targets, query, n_classes=3, weights=None):
    for svc in head_variants():
        parts = gradients(svc, support, targets, query, n_classes, weights)
        assert all(bool(torch.isfinite(part).all()) for part in parts), svc


def test_a_feature_that_is_zero_on_all_support_rows():
    support, targets, query = random_tasks()
    support[..., 1] = 0.0
    assert_finite(support, targets, query)
    # a whole group
    support[..., 0] = 0.0
    assert_finite(support, targets, query)


@pytest.mark.parametrize("groups", [None, [0, 0, 1, 1, 2]])
def test_a_zero_feature_of_one_task_leaves_the_others_alone(groups):
    support, targets, query = random_tasks(n_tasks=3)
    svc = GroupLassoSVC(0.3, groups=groups, **FREE)
    _, before = gradients(svc, support, targets, query)
    support[1, :, :2] = 0.0
    _, after = gradients(svc, support, targets, query)
    assert bool(torch.isfinite(after).all())
    torch.testing.assert_close(after[[0, 2]], before[[0, 2]], rtol=1e-6, atol=1e-8)
    assert bool(after[1].any())


def test_no_signal_at_all():
    support, targets, query = random_tasks()
    support[0] = 0.0
    assert_finite(support, targets, query)


def test_duplicated_features_share_weight_and_gradient():
    support, targets, query = random_tasks()
    support[..., 3], query[..., 3] = support[..., 2], query[..., 2]
    assert_finite(support, targets, query)
    svc = GroupLassoSVC(0.2, **FREE)
    solution = svc.solve_episodes(support, targets, 3)
    torch.testing.assert_close(solution.coef[:, 2], solution.coef[:, 3])
    _, gradient = gradients(svc, support, targets, query)
    torch.testing.assert_close(gradient[..., 2], gradient[..., 3])


def test_duplicated_rows_get_the_same_gradient():
    support, targets, query = random_tasks()
    support = torch.cat([support, support[:, :2]], dim=1)
    targets = torch.cat([targets, targets[:, :2]], dim=1)
    assert_finite(support, targets, query)
    # The least-norm adjoint is symmetric if the multipliers of both are.
    _, gradient = gradients(GroupLassoSVC(0.2, **FREE), support, targets, query)
    # Moving both copies is moving one row of weight 2.
    weights = torch.ones(2, 9).double()
    weights[:, :2] = 2.0
    _, merged = gradients(
        GroupLassoSVC(0.2, **FREE),
        support[:, :9],
        targets[:, :9],
        query,
        weights=weights,
    )
    total = gradient[:, :2] + gradient[:, 9:]
    torch.testing.assert_close(total, merged[:, :2], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(gradient[:, 2:9], merged[:, 2:], rtol=1e-5, atol=1e-7)


def test_a_class_that_is_missing_from_a_task():
    support, targets, query = random_tasks()
    targets = targets.clone()
    targets[0][targets[0] == 2] = 1
    assert_finite(support, targets, query)


def test_rows_of_weight_zero_get_no_gradient():
    support, targets, query = random_tasks()
    weights = torch.ones(targets.shape).double()
    weights[0, 5:] = 0.0
    assert_finite(support, targets, query, weights=weights)
    svc = GroupLassoSVC(0.2, **FREE)
    _, gradient = gradients(svc, support, targets, query, weights=weights)
    assert not bool(gradient[0, 5:].any())
    assert bool(gradient[0, :5].any())


def test_two_ways_and_one_shot():
    support, targets, query = random_tasks(n_way=2, n_shot=1)
    assert_finite(support, targets, query, n_classes=2)


def test_all_features_off():
    support, targets, query = random_tasks()
    svc = GroupLassoSVC(1.5, **FREE)
    logits, gradient = gradients(svc, support, targets, query)
    assert not bool(logits.any())
    assert not bool(gradient.any())


def test_single_precision_gradients_are_close():
    support, targets, query = random_tasks(n_features=12, n_shot=2)
    _, exact = gradients(GroupLassoSVC(0.3, **FREE), support, targets, query)
    svc = GroupLassoSVC(0.3, solver="newton", tol=1e-5)
    _, single = gradients(svc, support.float(), targets, query.float())
    assert single.dtype == torch.float32
    assert float((single - exact).norm() / exact.norm()) < 2e-2


@pytest.mark.parametrize("reg_scale", ["relative", "absolute"])
def test_double_backward_is_refused(reg_scale):
    support, targets, query = random_tasks()
    support.requires_grad_()
    svc = GroupLassoSVC(0.3, reg_scale=reg_scale, **FREE)
    loss = svc.episode_logits(support, targets, query, 3).square().sum()
    (gradient,) = torch.autograd.grad(loss, support, create_graph=True)
    with pytest.raises(RuntimeError, match="first derivatives only"):
        gradient.square().sum().backward()
