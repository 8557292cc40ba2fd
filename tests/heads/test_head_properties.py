"""What must hold for every head, on tasks that hypothesis draws."""

import copy
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp, xlogy

from skcausalmeta.heads import (
    GroupLassoLogistic,
    GroupLassoSVC,
    Head,
    LassoHead,
    PrototypeHead,
    RegressionHead,
    RelaxedHead,
    RidgeHead,
    RidgeRegressionHead,
    _group_lasso_base,
)
from skcausalmeta.utils import all_estimators

N_EXAMPLES = 15
LOOSE, ROUNDING = 1e-6, 1e-12
# The hinge is piecewise linear: its solver ends far below the tolerance, but with
# P near 0 rounding is a large share of it.
TIGHT = {GroupLassoSVC: 1e-10, GroupLassoLogistic: 1e-12}
check = settings(max_examples=N_EXAMPLES, deadline=None, derandomize=True)


class Task(NamedTuple):
    """A batch of tasks: what the layer of a head is called with."""

    support: torch.Tensor
    targets: torch.Tensor
    query: torch.Tensor
    weight: torch.Tensor
    n_classes: int

    def replace(self, **changes):
        return self._replace(**changes)

    def moved(self, change):
        """The task with its four tensors changed alike."""
        return self._replace(**{name: change(getattr(self, name)) for name in TENSORS})

    def to(self, dtype):
        floats = {name: getattr(self, name).to(dtype) for name in FLOATS}
        return self._replace(**floats)


FLOATS = ("support", "query", "weight")
TENSORS = (*FLOATS, "targets")


# -- what is drawn ----------------------------------------------------------------


@st.composite
def tasks(draw, *, grid=True, whole=False, max_features=7, min_classes=2):
    """Few rows of few features; on a grid, so that ties happen, or not."""
    n_tasks, n_classes = draw(st.integers(1, 3)), draw(st.integers(min_classes, 4))
    n_rows = draw(st.integers(n_classes, 9))
    n_features = draw(st.integers(1, max_features))
    if max_features == 7 and draw(st.integers(0, 4)) == 4:
        n_features = 260  # from 256 on, the solver leaves features out
    rng = np.random.RandomState(draw(st.integers(0, 2**32 - 1)))
    support = rng.standard_normal((n_tasks, n_rows, n_features))
    query = rng.standard_normal((n_tasks, 4, n_features))
    if grid and draw(st.booleans()):
        support, query = support.round(), query.round()
    labels = rng.randint(n_classes, size=(n_tasks, n_rows))
    if whole:
        labels[:] = np.arange(n_rows) % n_classes
    weight = np.ones((n_tasks, n_rows))
    if draw(st.booleans()):
        weight = rng.choice([0.5, 1.0, 3.0], size=weight.shape)
    return Task(
        torch.from_numpy(support),
        torch.from_numpy(labels),
        torch.from_numpy(query),
        torch.from_numpy(weight),
        n_classes,
    )


@st.composite
def group_lasso_heads(
    draw, *, head=None, solvers=("newton",), reg_scale="relative", **settings
):
    head = head or draw(st.sampled_from([GroupLassoSVC, GroupLassoLogistic]))
    solver = draw(st.sampled_from(solvers))
    settings.setdefault("group_reg", draw(st.sampled_from([0.0, 0.1, 0.4, 0.8])))
    settings.setdefault("ridge_reg", draw(st.sampled_from([0.03, 0.3, 3.0])))
    settings.setdefault("fit_intercept", draw(st.booleans()))
    tol = TIGHT[head] if solver == "newton" else LOOSE
    return head(reg_scale=reg_scale, solver=solver, tol=tol, **settings)


def ridge_heads(head=RidgeHead, **settings):
    return st.builds(
        head,
        ridge_reg=st.sampled_from([0.03, 0.3, 3.0]),
        fit_intercept=st.booleans(),
        **settings,
    )


def prototype_heads():
    return st.builds(
        PrototypeHead,
        metric=st.sampled_from(["euclidean", "cosine"]),
        temperature=st.sampled_from([0.5, 2.0]),
    )


def lasso_heads(**settings):
    return st.builds(
        LassoHead,
        lasso_reg=st.sampled_from([0.1, 0.4, 0.8]),
        ridge_reg=st.sampled_from([0.0, 0.1]),
        fit_intercept=st.booleans(),
        tol=st.just(1e-12),
        **settings,
    )


SETTINGS = {
    GroupLassoLogistic: group_lasso_heads(head=GroupLassoLogistic),
    GroupLassoSVC: group_lasso_heads(head=GroupLassoSVC),
    LassoHead: lasso_heads(),
    PrototypeHead: prototype_heads(),
    RidgeHead: ridge_heads(),
    RidgeRegressionHead: ridge_heads(RidgeRegressionHead),
}
NOT_DRAWN = {RelaxedHead: "a feature may enter its choice, and everything else jumps"}


def heads(kind):
    """Every head of the package of this kind; one without settings as it comes."""
    found = (cls for _, cls in all_estimators() if issubclass(cls, kind))
    classes = [cls for cls in found if cls not in NOT_DRAWN]
    return st.one_of([SETTINGS.get(cls, st.builds(cls)) for cls in classes])


classifiers = heads(Head)
all_heads = heads((Head, RegressionHead))
# No head has to be free of units: these are, as their docstrings say.
unit_free = st.one_of(list(SETTINGS.values()))
factors = st.floats(-3.0, 3.0).map(lambda power: 10.0**power)


# -- how heads are asked ------------------------------------------------------------


def regression_targets(task):
    """Targets of a regression from class numbers and features, never constant."""
    noise = torch.sin(3.0 * task.support.sum(-1) + torch.arange(task.support.shape[1]))
    return task.targets + noise


def answers(head, task):
    """Logits or predictions for the query rows, (n_tasks, n_query, n_outputs)."""
    if isinstance(head, RegressionHead):
        return head.episode_predictions(
            task.support, task.targets, task.query, sample_weight=task.weight
        )
    return head.episode_logits(
        task.support,
        task.targets,
        task.query,
        task.n_classes,
        sample_weight=task.weight,
    )


def solve(head, task):
    if isinstance(head, RegressionHead):
        return head.solve_episodes(
            task.support, task.targets, sample_weight=task.weight
        )
    return head.solve_episodes(
        task.support, task.targets, task.n_classes, sample_weight=task.weight
    )


def suited(head, task):
    """The task with targets that the head takes, and rows it has one answer for.

    Where features are dependent, the weights of a Lasso are not unique; its
    fitted values are.
    """
    if isinstance(head, RegressionHead):
        return task.replace(targets=regression_targets(task), query=task.support)
    return task


def probe_of(answer):
    """Any fixed direction; no two entries of it are equal."""
    numbers = torch.arange(1.0, answer.numel() + 1, dtype=torch.float64)
    return torch.cos(numbers).view_as(answer).to(answer.dtype)


def gradients(head, task, probe=None):
    """Of <probe, answers> in support features, query features and row weights."""
    inputs = [getattr(task, name).clone().requires_grad_() for name in FLOATS]
    answer = answers(head, task.replace(**dict(zip(FLOATS, inputs, strict=True))))
    probe = probe_of(answer) if probe is None else probe
    found = torch.autograd.grad((answer * probe).sum(), inputs, allow_unused=True)
    return [
        torch.zeros_like(one) if grad is None else grad
        for one, grad in zip(inputs, found, strict=True)
    ]


def one_hot(labels, n_classes):
    return np.eye(n_classes)[labels]


def assert_close(actual, expected, rtol=1e-6, scale=None):
    """Within a share of the largest expected entry (or of `scale`)."""
    actual, expected = actual.detach().numpy(), expected.detach().numpy()
    assert np.isfinite(actual).all()
    scale = np.abs(expected).max(initial=0.0) if scale is None else scale
    np.testing.assert_allclose(actual, expected, rtol=0, atol=rtol * scale + 1e-300)


def assert_near(actual, expected):
    """For gradients, whose accuracy is that of the solution they belong to."""
    assert_close(actual, expected, 1e-5, scale=1 + float(expected.abs().max()))


# -- numbers written out from the docstrings ----------------------------------------


class Written(NamedTuple):
    """The group-Lasso problem of one task in numpy, with a constant column."""

    features: np.ndarray
    encoded: np.ndarray
    weights: np.ndarray
    groups: np.ndarray
    thresholds: np.ndarray
    lambda2: float
    constant: float
    middle: np.ndarray

    def norms(self, matrix):
        squares = np.bincount(self.groups, (matrix**2).sum(1))
        return np.sqrt(squares)

    def correlation(self, dual):
        return self.features.T @ (self.weights[:, None] * (self.encoded - dual))

    def primal(self, head, coef):
        scores = self.features @ coef
        own = (scores * self.encoded).sum(1)
        if isinstance(head, GroupLassoSVC):
            losses = (1 - self.encoded + scores).max(1) - own
        else:
            losses = logsumexp(scores, axis=1) - own
        ridge = self.lambda2 / 2 * (coef**2).sum()
        return ridge + self.thresholds @ self.norms(coef) + self.weights @ losses

    def dual(self, head, dual):
        excess = np.maximum(self.norms(self.correlation(dual)) - self.thresholds, 0)
        if isinstance(head, GroupLassoSVC):
            values = ((1 - self.encoded) * dual).sum(1)
        else:
            values = -xlogy(dual, dual).sum(1)
        return self.weights @ values - (excess**2).sum() / (2 * self.lambda2)


def balanced(weights, encoded):
    """Row weights that have the same sum in every class."""
    counts = weights @ encoded
    factors = weights.sum() / ((counts > 0).sum() * np.where(counts > 0, counts, 1.0))
    return weights * (encoded @ factors)


def written(head, task, number):
    """The problem of task `number`, relative strengths as the docstrings say."""
    features = task.support[number].numpy()
    encoded = one_hot(task.targets[number].numpy(), task.n_classes)
    weights = balanced(task.weight[number].numpy(), encoded)
    n_features = features.shape[1]
    middle = np.average(features, axis=0, weights=weights) * head.fit_intercept
    features = features - middle
    groups = np.arange(n_features) if head.groups is None else np.array(head.groups)
    groups = np.unique(groups, return_inverse=True)[1]
    square, lambda1 = 1.0, head.group_reg
    if head.reg_scale == "relative":
        square = np.average((features**2).sum(1), weights=weights) or 1.0
        off = (1 - encoded) / (task.n_classes - 1)
        if isinstance(head, GroupLassoLogistic):
            off = np.full_like(encoded, 1 / task.n_classes)
        all_off = features.T @ (weights[:, None] * (encoded - off))
        lambda1 *= np.sqrt(np.bincount(groups, (all_off**2).sum(1)).max())
    thresholds = np.full(groups.max() + 1, lambda1)
    constant = head.intercept_scaling * np.sqrt(square)
    if head.fit_intercept:
        features = np.c_[features, np.full(len(features), constant)]
        groups = np.r_[groups, len(thresholds)]
        thresholds = np.r_[thresholds, 0.0]
    lambda2 = head.ridge_reg * square
    numbers = groups, thresholds, lambda2, constant, middle
    return Written(features, encoded, weights, *numbers)


def all_weights(head, solution, number, problem):
    """Weights of all columns, the constant one included."""
    coef = solution.coef[number].numpy()
    if not head.fit_intercept:
        return coef
    intercept = solution.intercept[number].numpy() + problem.middle @ coef
    return np.r_[coef, intercept[None] / problem.constant]


def margins_of_error(head, task):
    """How far weights and logits can be from the exact ones, by the certificates.

    P is strongly convex with the constant lambda2, so the distance of W from the
    solution is at most sqrt(2 gap / lambda2).
    """
    if not isinstance(head, GroupLassoSVC | GroupLassoLogistic):
        return 0.0, 0.0
    solution, distances, errors = solve(head, task), [], []
    for number, query in enumerate(task.query.numpy()):
        lambda2, constant, middle = written(head, task, number)[-3:]
        distances.append(np.sqrt(2 * float(solution.gap[number]) / lambda2))
        lengths = np.sqrt(((query - middle) ** 2).sum(1) + constant**2)
        errors.append(distances[-1] * lengths.max())
    return max(distances), max(errors)


def assert_same_answers(first, second, rtol=1e-9):
    """Each (head, task): equal up to rounding and what the certificates allow."""
    (head, task), (other, moved) = first, second
    expected, found = answers(head, task), answers(other, moved)
    rtol = 100 * rtol if isinstance(head, LassoHead) else rtol
    allowed = rtol * (1 + float(expected.abs().max()))
    allowed += margins_of_error(head, task)[1] + margins_of_error(other, moved)[1]
    assert_close(found, expected, rtol=1.0, scale=allowed)


# -- certificates -------------------------------------------------------------------


@check
@given(
    task=tasks(),
    head=group_lasso_heads(solvers=("newton", "fista")),
    grouped=st.booleans(),
    absolute=st.booleans(),
)
def test_the_gap_of_the_group_lasso_is_that_of_the_formulas(
    task, head, grouped, absolute
):
    if grouped:
        head.set_params(groups=np.arange(task.support.shape[-1]) // 2)
    if absolute:
        n_features = task.support.shape[-1]
        head.set_params(reg_scale="absolute", ridge_reg=n_features * head.ridge_reg)
    solution = solve(head, task)
    assert bool((solution.gap >= 0).all())
    assert bool((solution.relative_gap <= head.tol).all())
    for number in range(len(task.support)):
        problem = written(head, task, number)
        coef = all_weights(head, solution, number, problem)
        primal = problem.primal(head, coef)
        dual = solution.dual[number].numpy()
        assert dual.min() >= 0
        np.testing.assert_allclose(dual.sum(1), 1, rtol=1e-12)
        gap = primal - problem.dual(head, dual)
        size = primal + problem.weights.sum()
        assert gap == pytest.approx(float(solution.gap[number]), abs=1e-12 * size)
        assert float(solution.relative_gap[number] * primal) == pytest.approx(
            float(solution.gap[number]), rel=1e-9, abs=1e-14 * size
        )
        if head.solver == "newton":
            correlation = problem.correlation(dual)
            kept = problem.norms(correlation) > problem.thresholds
            scale = 1e-9 * np.abs(correlation).max() / problem.lambda2
            unused = np.abs(coef[~kept[problem.groups]]).max(initial=0.0)
            assert unused <= scale


@check
@given(task=tasks(), head=ridge_heads())
def test_the_gap_of_the_ridge_is_that_of_the_formulas(task, head):
    solution = solve(head, task)
    assert bool((solution.gap >= 0).all())
    assert bool((solution.relative_gap <= ROUNDING).all())
    for number in range(len(task.support)):
        F, s = task.support[number].numpy(), task.weight[number].numpy()
        Y = one_hot(task.targets[number].numpy(), task.n_classes)
        s = balanced(s, Y)
        F, Y = (
            part - head.fit_intercept * np.average(part, axis=0, weights=s)
            for part in (F, Y)
        )
        lambda2 = head.ridge_reg * (np.average((F**2).sum(1), weights=s) or 1.0)
        W, R = solution.coef[number].numpy(), solution.dual[number].numpy()
        errors = s @ ((F @ W - Y) ** 2).sum(1)
        primal = errors / 2 + lambda2 / 2 * (W**2).sum()
        quadratic = (R**2 / s[:, None]).sum() / 2
        dual = (R * Y).sum() - quadratic - ((F.T @ R) ** 2).sum() / (2 * lambda2)
        size = primal + np.abs(R * Y).sum() + 1e-12
        gap = float(solution.gap[number])
        assert primal - dual == pytest.approx(gap, abs=1e-12 * size)


@check
@given(task=tasks(), head=prototype_heads())
def test_the_gap_of_prototypes_is_the_excess_of_squares(task, head):
    solution = solve(head, task)
    assert bool((solution.gap >= 0).all())
    assert bool((solution.relative_gap <= ROUNDING).all())
    for number in range(len(task.support)):
        F, s = task.support[number].numpy(), task.weight[number].numpy()
        labels = task.targets[number].numpy()
        means = solution.dual[number].numpy().T @ F
        for label in np.unique(labels):
            rows, own = F[labels == label], s[labels == label]
            expected = np.average(rows, axis=0, weights=own)
            np.testing.assert_allclose(means[label], expected, atol=1e-12)


@check
@given(task=tasks(), head=lasso_heads(), fista=st.booleans())
def test_the_gap_of_the_lasso_is_that_of_the_formulas(task, head, fista):
    if fista:
        head.set_params(solver="fista", tol=LOOSE)
    task = suited(head, task)
    solution = solve(head, task)
    assert bool((solution.gap >= 0).all())
    assert bool((solution.relative_gap <= head.tol).all())
    for number in range(len(task.support)):
        F, y = task.support[number].numpy(), task.targets[number].numpy()
        s = task.weight[number].numpy()
        s = s / s.sum()
        F, y = (part - head.fit_intercept * (s @ part) for part in (F, y))
        lambda1 = head.lasso_reg * np.abs(F.T @ (s * y)).max()
        lambda2 = head.ridge_reg * (s @ (F**2).sum(1) or 1.0)
        w, b = solution.coef[number, :, 0].numpy(), solution.dual[number, :, 0].numpy()
        primal = s @ (F @ w - y) ** 2 / 2
        primal += lambda1 * np.abs(w).sum() + lambda2 / 2 * (w @ w)
        excess = np.maximum(np.abs(F.T @ (s * (y - b))) - lambda1, 0)
        lower = s @ (y**2 - b**2) / 2
        if lambda2 > 0:
            lower -= (excess @ excess) / (2 * lambda2)
        else:
            assert excess.max() <= 1e-12 * max(lambda1, 1.0)
        gap = float(solution.gap[number])
        size = primal + s @ y**2
        assert primal - lower == pytest.approx(gap, abs=1e-12 * size)


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


@check
@given(
    task=tasks(grid=False),
    head=group_lasso_heads(solvers=("newton", "fista"), fit_intercept=False),
    strength=st.sampled_from([1.0, 1.3, 1e3]),
    grouped=st.booleans(),
)
def test_all_features_off_gives_nothing_at_all(task, head, strength, grouped):
    head.set_params(group_reg=strength)
    if grouped:
        head.set_params(groups=np.arange(task.support.shape[-1]) // 2)
    assert bool((answers(head, task) == 0).all())
    assert bool((solve(head, task).relative_gap <= 1e-14).all())
    for grad in gradients(head, task):
        assert bool((grad == 0).all())


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


# -- conditioning -------------------------------------------------------------------


@check
@given(
    task=tasks(max_features=3),
    head=group_lasso_heads(group_reg=0.0),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    copies=st.integers(2, 4),
)
def test_singular_gram_matrices_are_solved(task, head, dtype, copies):
    """More rows than features, every row several times, no Lasso."""
    repeated = [torch.cat([part] * copies, dim=1) for part in task[:2]]
    task = task.replace(
        support=repeated[0],
        targets=repeated[1],
        weight=torch.cat([task.weight] * copies, dim=1),
    ).to(dtype)
    head.set_params(tol=1e-9 if dtype == torch.float64 else 1e-5)
    solution = solve(head, task)
    assert bool((solution.gap >= 0).all())
    assert bool((solution.relative_gap <= head.tol).all())
    for grad in gradients(head, task):
        assert bool(torch.isfinite(grad).all())


@check
@given(task=tasks(grid=False, whole=True), head=unit_free)
@pytest.mark.parametrize("factor", [2.0**-40, 1e-12, 1e12, 2.0**40])
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


@check
@given(task=tasks(grid=False, whole=True), head=all_heads)
@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e6])
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
