"""How far tasks may deviate: amounts, gradients, tasks of unequal sizes."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd import gradcheck

from skcausalmeta.heads import GroupLassoLogistic, LassoHead, RidgeRegressionHead
from skcausalmeta.training import (
    DeviationModule,
    DeviationNet,
    EpisodeTensors,
    Strengths,
    deviating_scores,
    padded,
)

DENSE = GroupLassoLogistic(
    0.0, 1.0, reg_scale="ridge-absolute", intercept_scaling=3.0, tol=1e-12
)
SPARSE = GroupLassoLogistic(0.4, 1.0, reg_scale="absolute", tol=1e-12)
HEADS = {
    "two classes": (DENSE, 2),
    "three classes": (DENSE, 3),
    "sparse": (SPARSE, 2),
    "ridge": (RidgeRegressionHead(1.0, reg_scale="absolute"), 0),
    "lasso": (LassoHead(0.02, 0.1, reg_scale="absolute", tol=1e-12), 0),
}
NAMES = ("level", "growth", "relevance", "gain", "trust")


def make_strengths(n_classes, seed=0):
    """Strengths of two blocks at random values, in double precision."""
    strengths = Strengths((2, 1), n_classes).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in strengths.parameters():
            value.add_(0.3 * torch.randn(value.shape, generator=generator))
        strengths.center.copy_(torch.tensor([0.1, -0.2, 0.3]))
        strengths.spread.copy_(torch.tensor([1.0, 2.0, 0.5]))
        strengths.score_center.add_(0.2)
    return strengths


def make_tasks(n_classes, n_support=6, n_query=3, n_tasks=2, seed=0):
    """Support rows, targets, common scores of both, query rows."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(n_tasks, *shape, generator=generator, dtype=torch.float64)

    n_scores = max(n_classes, 1)
    targets = draw(n_support)
    if n_classes:
        targets = torch.arange(n_support).expand(n_tasks, -1) % n_classes
    return (
        draw(n_support, 3),
        targets,
        draw(n_support, n_scores),
        draw(n_query, 3),
        draw(n_query, n_scores),
    )


# -- what labels are worth -------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_classes", "labels", "expected"),
    [
        (2, [0, 0, 1, 1], 2.0),
        (2, [0] * 100 + [1], 1 / np.mean([1 / 101, 1 / 2]) - 1),
        (2, [1] * 5, 1 / np.mean([1, 1 / 6]) - 1),  # beside a class without rows
        (2, [1], 0.5),  # a third, and half a row is the fewest
        (3, [0, 2, 0, 2], 2.0),  # of the classes that are there
        (3, [1] * 5, 1 / np.mean([1, 1 / 6]) - 1),
        (0, [0.3, -2.0, 0.5], 3.0),
        (0, [0.3], 1.0),
    ],
)
def test_the_amount_is_the_harmonic_mean_of_rows_a_class(n_classes, labels, expected):
    strengths = Strengths((3,), n_classes)
    assert float(strengths.amount(torch.tensor([labels]))) == pytest.approx(expected)
    # Rows that pad a task count for nothing, whatever their class.
    longer = torch.tensor([[*labels, 0, 0]])
    weights = torch.tensor([[1.0] * len(labels) + [0.0, 0.0]])
    found = float(strengths.amount(longer, weights))
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("n_classes", "labels", "expected"),
    [
        (2, [0, 1, 0, 1], True),
        (2, [0, 1, 0], False),
        (2, [1, 1], False),
        (3, [0, 2], True),
        (3, [0, 2, 2], False),
        (3, [0, 1, 2, 2, 1, 0], True),
        (0, [0.1, 0.2], False),
    ],
)
def test_supports_of_as_many_rows_of_every_class_are_balanced(
    n_classes, labels, expected
):
    strengths = Strengths((3,), n_classes)
    assert strengths.balanced(torch.tensor([labels])).tolist() == [expected]
    longer = torch.tensor([[*labels, 0]])
    weights = torch.tensor([[1.0] * len(labels) + [0.0]])
    assert strengths.balanced(longer, weights).tolist() == [expected]


def test_variances_gain_and_trust_follow_their_formulas():
    strengths, amount = make_strengths(2), torch.tensor([0.5, 7.0]).double()
    values = {n: v.detach().numpy() for n, v in strengths.named_parameters()}
    for number, k in enumerate(amount.tolist()):
        step = math.log(k) - 1
        variances = np.exp(values["level"] + values["growth"] * step)
        relevance = np.exp([*values["relevance"], 0.0])
        expected = np.sqrt(variances[[0, 0, 1, 2]]) * relevance
        scale = strengths.scale(amount)[number].detach()
        np.testing.assert_allclose(scale, expected)
        scores = torch.tensor([[[1.0, 3.0]]]).double()
        moved = strengths.offset(scores, amount[[number]]).detach()[0, 0]
        gain = np.exp(values["gain"][0] + values["gain"][1] * step)
        np.testing.assert_allclose(moved, 0.2 + gain * np.array([0.8, 2.8]))
        for balanced, row in ((True, 0), (False, 1)):
            logit = values["trust"][row] @ [1, step]
            trust = strengths.trust_of(amount[[number]], torch.tensor([balanced]))
            assert float(trust.detach()) == pytest.approx(1 / (1 + math.exp(-logit)))


def test_strengths_that_are_not_learned_change_nothing():
    strengths, amount = Strengths((3,), 2, learned=False), torch.tensor([3.0]).double()
    features, _, scores, _, _ = make_tasks(2, n_tasks=1)
    assert not list(strengths.parameters())
    own = scores[..., 1:] - scores[..., :1]
    expected = torch.cat([features, own], dim=-1)
    torch.testing.assert_close(strengths.inputs(features, scores, amount), expected)
    torch.testing.assert_close(strengths.offset(scores, amount), scores)
    assert float(strengths.trust_of(amount, torch.tensor([True]))) == 1.0


def test_center_and_spread_are_those_of_the_rows():
    strengths = Strengths((2,), 2)
    strengths.settle(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))
    assert strengths.center.tolist() == [2.0, 5.0]
    assert strengths.spread.tolist() == [1.0, 1.0]  # a constant column stays finite


# -- gradients -------------------------------------------------------------------------


def scores_by(head, n_classes):
    """Scores of query rows as a function of strengths and features."""
    support, targets, known, query, asked = make_tasks(n_classes)

    def scores(support, query, *values):
        strengths = make_strengths(n_classes)
        for name, value in zip(NAMES, values, strict=True):
            delattr(strengths, name)
            setattr(strengths, name, value)
        return deviating_scores(
            head, strengths, support, targets, known, query, asked, tol=1e-12
        )

    strengths = make_strengths(n_classes)
    values = [getattr(strengths, name).detach() for name in NAMES]
    return scores, [support, query, *values]


@pytest.mark.parametrize("name", HEADS)
def test_scores_have_the_gradient_of_finite_differences(name):
    head, n_classes = HEADS[name]
    scores, inputs = scores_by(head, n_classes)
    inputs = [value.requires_grad_() for value in inputs]
    assert gradcheck(scores, inputs, eps=1e-5, atol=1e-4, rtol=1e-3, fast_mode=True)


@pytest.mark.parametrize("number", range(len(NAMES)), ids=NAMES)
def test_every_strength_has_a_gradient_that_an_outsider_finds(number):
    scores, inputs = scores_by(DENSE, 2)
    inputs[2 + number].requires_grad_()
    assert gradcheck(scores, inputs, eps=1e-5, atol=1e-5, rtol=1e-4)
    (gradient,) = torch.autograd.grad(
        scores(*inputs).square().sum(), inputs[2 + number]
    )
    if NAMES[number] == "trust":  # of balanced supports, as these are
        assert (gradient[0] != 0).all()
        assert (gradient[1] == 0).all()
    else:
        assert (gradient != 0).all()


# -- tasks of unequal sizes ------------------------------------------------------------


@pytest.mark.parametrize("name", HEADS)
def test_padded_tasks_lose_what_each_loses_alone(name):
    head, n_classes = HEADS[name]
    tasks = []
    for n_support, n_query in ((4, 5), (9, 2), (6, 1)):
        one = make_tasks(n_classes, n_support, n_query, n_tasks=1, seed=n_support)
        support, targets, known, query, asked = (part[0] for part in one)
        answers = asked.argmax(-1) if n_classes else asked[:, 0].round()
        episode = (support, query, targets, answers, n_classes, known, asked)
        tasks.append(EpisodeTensors(*episode))
    module = DeviationModule(nn.Identity(), make_strengths(n_classes))
    net = DeviationNet(module, head=head).initialize()

    def losses(group):
        rows = [task.support for task in group], [task.query for task in group]
        return net.task_losses(net.head, padded(group, *rows), 1e-12)

    together, hits = losses(tasks)
    for number, task in enumerate(tasks):
        alone, hit = losses([task])
        torch.testing.assert_close(together[[number]], alone, rtol=1e-7, atol=1e-9)
        torch.testing.assert_close(hits[[number]], hit)
    gradient = torch.autograd.grad(together.sum(), module.strengths.level)[0]
    alone = sum(losses([task])[0].sum() for task in tasks)
    expected = torch.autograd.grad(alone, module.strengths.level)[0]
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-8)


def test_relevances_of_few_tasks_stay_near_one():
    def relevance_after(decay):
        module = DeviationModule(nn.Linear(3, 2), Strengths((2,), 2))
        net = DeviationNet(
            module,
            head=GroupLassoLogistic(),
            relevance_decay=decay,
            optimizer=torch.optim.Adam,
        ).initialize()
        net.module_.strengths.relevance.data.fill_(1.0)
        net.module_.strengths.level.data.fill_(1.0)
        for _ in range(50):
            net.optimizer_.zero_grad()
            for weight in net.module_.parameters():
                weight.grad = torch.zeros_like(weight)
            net.optimizer_.step()
        strengths = net.module_.strengths
        assert (strengths.level == 1.0).all()  # of a block: all tasks tell
        return float(strengths.relevance.detach().max())

    assert relevance_after(0.0) == 1.0
    assert relevance_after(0.1) < 0.5
