"""Tasks and heads that hypothesis draws, and how heads are asked about them."""

from typing import NamedTuple

import numpy as np
import torch
from hypothesis import settings
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
