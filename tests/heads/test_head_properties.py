"""What must hold for every head, on tasks that hypothesis draws."""

import copy
from operator import itemgetter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skcausalmeta.heads import (
    LassoHead,
    PrototypeHead,
    RidgeHead,
    _group_lasso_base,
)
from tests.heads.drawn_tasks import (
    FLOATS,
    ROUNDING,
    all_heads,
    answers,
    assert_close,
    assert_near,
    assert_same_answers,
    check,
    classifiers,
    factors,
    gradients,
    group_lasso_heads,
    lasso_heads,
    margins_of_error,
    probe_of,
    prototype_heads,
    ridge_heads,
    solve,
    suited,
    tasks,
    unit_free,
)

# -- equivariance -------------------------------------------------------------------


@check
@given(task=tasks(whole=True), head=unit_free, factor=factors)
def test_the_units_of_the_features_do_not_matter(task, head, factor):
    task = suited(head, task)
    moved = task.replace(support=factor * task.support, query=factor * task.query)
    other = copy.copy(head)
    if isinstance(head, PrototypeHead) and head.metric == "euclidean":
        other.temperature = head.temperature * factor**2
    assert_same_answers((head, task), (other, moved))


@check
@given(
    task=tasks(max_features=6),
    head=group_lasso_heads(reg_scale="absolute", fit_intercept=False)
    | ridge_heads(reg_scale=st.just("absolute"))
    | lasso_heads(reg_scale=st.just("absolute")),
    factor=factors,
)
def test_absolute_strengths_move_with_the_units(task, head, factor):
    task, other = suited(head, task), copy.copy(head)
    moved = task.replace(support=factor * task.support, query=factor * task.query)
    other.ridge_reg = head.ridge_reg * factor**2
    if isinstance(head, LassoHead):
        other.lasso_reg = head.lasso_reg * factor
    elif not isinstance(head, RidgeHead):
        other.group_reg = head.group_reg * factor
    assert_same_answers((head, task), (other, moved))


@check
@given(task=tasks(grid=False), head=all_heads, data=st.data())
def test_the_order_of_rows_features_and_tasks_does_not_matter(task, head, data):
    task = suited(head, task)
    n_tasks, n_rows, n_features = task.support.shape
    order, rows, columns = (
        list(data.draw(st.permutations(range(size))))
        for size in (n_tasks, n_rows, n_features)
    )
    probe = probe_of(answers(head, task))
    moved = task.replace(
        support=task.support[order][:, rows][..., columns],
        targets=task.targets[order][:, rows],
        query=task.query[order][..., columns],
        weight=task.weight[order][:, rows],
    )
    unmoved = task.replace(
        support=task.support[order],
        targets=task.targets[order],
        query=task.query[order],
        weight=task.weight[order],
    )
    assert_same_answers((head, unmoved), (head, moved))
    coef, same = solve(head, unmoved).coef, solve(head, moved).coef
    allowed = margins_of_error(head, task)[0] + margins_of_error(head, moved)[0]
    allowed += 1e-7 * (1 + float(coef.abs().max()))
    assert_close(same, coef[:, columns], rtol=1.0, scale=allowed)
    expected = gradients(head, task, probe)
    found = gradients(head, moved, probe[order])
    assert_near(found[0], expected[0][order][:, rows][..., columns])
    assert_near(found[1], expected[1][order][..., columns])
    assert_near(found[2], expected[2][order][:, rows])


@check
@given(task=tasks(grid=False), head=classifiers, data=st.data())
def test_the_numbers_of_the_classes_do_not_matter(task, head, data):
    numbers = torch.tensor(data.draw(st.permutations(range(task.n_classes))))
    moved = task.replace(targets=numbers[task.targets])
    of_coef, of_logits = np.add(
        margins_of_error(head, task), margins_of_error(head, moved)
    )
    coef, found = solve(head, task).coef, solve(head, moved).coef
    allowed = of_coef + 1e-7 * (1 + float(coef.abs().max()))
    assert_close(found[..., numbers], coef, rtol=1.0, scale=allowed)
    before, after = answers(head, task), answers(head, moved)
    allowed = of_logits + 1e-7 * (1 + float(before.abs().max()))
    assert_close(after[..., numbers], before, rtol=1.0, scale=allowed)


# -- degenerate features, rows and classes ------------------------------------------


@check
@given(task=tasks(grid=False), head=group_lasso_heads())
def test_equal_features_share_their_weight(task, head):
    """And their gradient, unless it is the one of a largest norm, which they share."""
    doubled = task.replace(
        support=torch.cat([task.support, task.support], dim=-1),
        query=torch.cat([task.query, task.query], dim=-1),
    )
    n_features = task.support.shape[-1]
    coef = solve(head, doubled).coef
    assert_close(coef[:, n_features:], coef[:, :n_features], rtol=1e-12)
    for grad in gradients(head, doubled):
        assert bool(torch.isfinite(grad).all())
    head.set_params(reg_scale="absolute", ridge_reg=n_features * head.ridge_reg)
    for grad in gradients(head, doubled)[:2]:
        first, second = grad[..., :n_features], grad[..., n_features:]
        assert_close(second, first, rtol=1e-9, scale=1 + float(first.abs().max()))


@check
@given(
    task=tasks(grid=False),
    head=group_lasso_heads() | ridge_heads() | prototype_heads() | lasso_heads(),
)
def test_features_of_zeros_change_nothing(task, head):
    task = suited(head, task)
    zeros = torch.zeros_like
    wider = task.replace(
        support=torch.cat([task.support, zeros(task.support[..., :2])], dim=-1),
        query=torch.cat([task.query, zeros(task.query[..., :2])], dim=-1),
    )
    assert_same_answers((head, task), (head, wider))
    n_features = task.support.shape[-1]
    for name, expected, found in zip(
        FLOATS, gradients(head, task), gradients(head, wider), strict=True
    ):
        assert bool(torch.isfinite(found).all()), name
        kept = found if name == "weight" else found[..., :n_features]
        assert_near(kept, expected)


@check
@given(task=tasks(grid=False), head=all_heads, value=st.sampled_from([0.3, 7.0]))
def test_a_constant_feature_is_harmless(task, head, value):
    """With a free intercept it changes nothing."""
    task = suited(head, task)
    ones = torch.full_like(task.support[..., :1], value)
    seen = torch.full_like(task.query[..., :1], value)
    wider = task.replace(
        support=torch.cat([task.support, ones], dim=-1),
        query=torch.cat([task.query, seen], dim=-1),
    )
    solution = solve(head, wider)
    tol = getattr(head, "tol", ROUNDING)
    assert bool((solution.relative_gap <= tol).all())
    for grad in gradients(head, wider):
        assert bool(torch.isfinite(grad).all())
    if getattr(head, "fit_intercept", False):
        assert_same_answers((head, task), (head, wider))


@check
@given(
    task=tasks(grid=False, max_features=6),
    head=group_lasso_heads(reg_scale="absolute", fit_intercept=False)
    | ridge_heads(reg_scale=st.just("absolute")),
)
def test_rows_of_zeros_change_nothing_without_intercept(task, head):
    # New rows would change what the rows of their classes weigh.
    head.set_params(fit_intercept=False, class_weight=None)
    nothing = torch.zeros_like(task.support[:, :2])
    longer = task.replace(
        support=torch.cat([task.support, nothing], dim=1),
        targets=torch.cat([task.targets, task.targets[:, :2]], dim=1),
        weight=torch.cat([task.weight, torch.ones_like(task.weight[:, :2])], dim=1),
    )
    assert_same_answers((head, task), (head, longer))
    n_rows = task.support.shape[1]
    expected, found = gradients(head, task)[0], gradients(head, longer)[0]
    assert bool(torch.isfinite(found).all())
    assert_near(found[:, :n_rows], expected)


@check
@given(task=tasks(), head=all_heads)
def test_tasks_without_any_signal_have_finite_answers(task, head):
    support = task.support.clone()
    support[0] = 0.0
    task = suited(head, task.replace(support=support))
    assert bool((solve(head, task).gap >= 0).all())
    assert bool(torch.isfinite(answers(head, task)).all())
    for grad in gradients(head, task):
        assert bool(torch.isfinite(grad).all())


@check
@given(task=tasks(grid=False, min_classes=3), head=classifiers)
def test_a_class_without_rows_does_not_disturb_the_others(task, head):
    targets = task.targets.clone()
    targets[0] = targets[0] % (task.n_classes - 1)  # the last class is missing
    task = task.replace(targets=targets)
    logits = answers(head, task)
    assert bool(torch.isfinite(logits).all())
    for grad in gradients(head, task):
        assert bool(torch.isfinite(grad).all())
    # every task has the answer that it has alone
    for number in range(len(task.support)):
        part = slice(number, number + 1)
        alone = task.moved(itemgetter(part))
        expected = answers(head, alone)
        allowed = 2 * margins_of_error(head, alone)[1]
        allowed += 1e-7 * (1 + float(expected.abs().max()))
        assert_close(logits[part], expected, rtol=1.0, scale=allowed)
    if isinstance(head, RidgeHead | PrototypeHead):
        first = task.moved(itemgetter(slice(1))).replace(n_classes=task.n_classes - 1)
        reduced = answers(head, first)
        assert_close(logits[:1, :, :-1], reduced, rtol=1e-9)
    if isinstance(head, PrototypeHead):
        assert bool((logits[:1].argmax(-1) < task.n_classes - 1).all())


# -- row weights --------------------------------------------------------------------


@check
@given(task=tasks(grid=False), head=all_heads, size=st.sampled_from([1e-3, 1.0, 1e3]))
def test_rows_of_weight_0_are_not_there(task, head, size):
    task = suited(head, task)
    rng = np.random.RandomState(0)
    padding = torch.from_numpy(size * rng.standard_normal(task.support[:, :2].shape))
    padded = task.replace(
        support=torch.cat([padding, task.support], dim=1),
        targets=torch.cat([task.targets[:, :2], task.targets], dim=1),
        weight=torch.cat([torch.zeros_like(task.weight[:, :2]), task.weight], dim=1),
    )
    assert_same_answers((head, task), (head, padded))
    expected, found = gradients(head, task), gradients(head, padded)
    assert bool((found[0][:, :2] == 0).all())
    assert bool(torch.isfinite(found[2]).all())
    assert_near(found[0][:, 2:], expected[0])
    assert_near(found[2][:, 2:], expected[2])


@check
@given(task=tasks(grid=False), head=all_heads)
def test_weight_2_is_the_row_twice(task, head):
    task = suited(head, task)
    weight = task.weight.clone()
    weight[:, 0] *= 2
    heavy = task.replace(weight=weight)
    twice = task.replace(
        support=torch.cat([task.support, task.support[:, :1]], dim=1),
        targets=torch.cat([task.targets, task.targets[:, :1]], dim=1),
        weight=torch.cat([task.weight, task.weight[:, :1]], dim=1),
    )
    assert_same_answers((head, heavy), (head, twice))
    expected, found = gradients(head, heavy)[0], gradients(head, twice)[0]
    joined = found[:, :-1].clone()
    joined[:, 0] += found[:, -1]
    assert_near(joined, expected)


# -- batches ------------------------------------------------------------------------


@check
@given(task=tasks(grid=False), head=group_lasso_heads(), spread=st.booleans())
def test_chunks_of_one_task_give_the_same(task, head, spread):
    task = task.moved(lambda part: torch.cat([part] * 2))
    if spread:
        factor = torch.logspace(0, 3, len(task.support), dtype=torch.float64)
        task = task.replace(support=factor[:, None, None] * task.support)
    whole, whole_gradients = answers(head, task), gradients(head, task)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_group_lasso_base, "_CPU_BYTES", 1)
        patch.setattr(_group_lasso_base, "_FEWEST_TASKS", 1)
        sizes = head._chunks(task.support, task.n_classes)
        assert sizes == [1] * len(task.support)
        parts, part_gradients = answers(head, task), gradients(head, task)
    # Tasks solved together may take other steps to the same certified solution.
    assert_close(parts, whole, rtol=1e-7)
    for found, expected in zip(part_gradients, whole_gradients, strict=True):
        size = float(expected.abs().max())
        assert_close(found, expected, rtol=1e-7, scale=size + 1e-2)


# -- extreme units ----------------------------------------------------------------


@settings(check, max_examples=24)
@given(
    task=tasks(grid=False, whole=True),
    head=unit_free,
    factor=st.sampled_from([2.0**-40, 1e-12, 1e12, 2.0**40]),
)
def test_extreme_units_in_double_precision(task, head, factor):
    task = suited(head, task)
    moved = task.replace(support=factor * task.support, query=factor * task.query)
    other = copy.copy(head)
    if isinstance(head, PrototypeHead) and head.metric == "euclidean":
        other.temperature = head.temperature * factor**2
    assert_same_answers((head, task), (other, moved), rtol=1e-7)
    expected, found = gradients(head, task), gradients(other, moved)
    for part in (0, 1):
        assert_near(factor * found[part], expected[part])
    assert_near(found[2], expected[2])


@settings(check, max_examples=21)
@given(
    task=tasks(grid=False, whole=True),
    head=all_heads,
    factor=st.sampled_from([1e-6, 1.0, 1e6]),
)
def test_extreme_units_in_single_precision(task, head, factor):
    task = suited(head, task)
    moved = task.replace(support=factor * task.support, query=factor * task.query)
    single = moved.to(torch.float32)
    if hasattr(head, "tol"):
        head.set_params(tol=1e-5)
    if isinstance(head, PrototypeHead) and head.metric == "euclidean":
        head.temperature = head.temperature * factor**2
    solution = solve(head, single)
    assert bool((solution.relative_gap <= 1e-5).all())
    expected, found = answers(head, moved), answers(head, single)
    assert found.dtype == torch.float32
    scale = 1 + float(expected.abs().max())
    assert_close(found.double(), expected, rtol=2e-2, scale=scale)
    for grad in gradients(head, single):
        assert bool(torch.isfinite(grad).all())
