"""Factors, weights of tasks and the second level, against hand-worked numbers."""

import math

import pytest
import torch
from torch import nn

from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.heads import RidgeHead
from skcausalmeta.learners import SGDUpdate
from skcausalmeta.learners._maml._module import AdaptedModule, BatchedModule
from skcausalmeta.learners._maml._net import GradientNet
from skcausalmeta.learners._metacrl._factors import (
    FactorHook,
    orthogonality,
    scale_penalty,
    usage_entropy,
)
from skcausalmeta.learners._metacrl._label_statistics import label_statistics
from skcausalmeta.training import (
    EpisodeHook,
    EpisodeOutcome,
    EpisodeTensors,
    EpisodicModule,
    EpisodicNet,
    HookedFeatures,
    MetaBatch,
)
from skcausalmeta.training._stream import leading_rows
from skcausalmeta.utils import isolated_torch_rng

D, K = 4, 3


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def make_tasks(n_way, n_tasks=2, n_support=6, n_query=8):
    def targets(n, seed):
        return torch.arange(n) % n_way if n_way else draw(n, seed=seed)

    return [
        EpisodeTensors(
            draw(n_support, D, seed=10 * t),
            draw(n_query, D, seed=10 * t + 1),
            targets(n_support, 10 * t + 2),
            targets(n_query, 10 * t + 3),
            n_way,
        )
        for t in range(n_tasks)
    ]


def make_hook(**params):
    """A hook in double precision whose weights differ, with fixed statistics."""
    hook = FactorHook(K, causal_every=1, group_hidden=3, **params)
    with isolated_torch_rng(0):
        hook.build(D)
        nn.init.normal_(hook.group[-1].weight)
        nn.init.normal_(hook.xi)
    hook.double()
    hook._follow_statistics = lambda factors: None
    return hook


def head_net(hook):
    with isolated_torch_rng(1):
        backbone = nn.Linear(D, D)
    module = EpisodicModule(backbone, HookedFeatures(hook)).double()
    return EpisodicNet(
        module, head=RidgeHead(), head_tol=1e-12, logit_scale=1.0
    ).initialize()


def gradient_net(hook, n_way, **params):
    with isolated_torch_rng(1):
        module = AdaptedModule(
            nn.Sequential(nn.Linear(D, D), nn.Tanh()),
            K,
            n_way or 1,
            SGDUpdate(),
            2,
            0.3,
            adapt_layers=params.pop("adapt_layers", "all"),
            hooked=HookedFeatures(hook),
        ).double()
    criterion = nn.CrossEntropyLoss if n_way else nn.MSELoss
    net = GradientNet(module, n_steps=2, criterion=criterion, **params)
    return net.initialize()


def step(net, tasks):
    net.history.new_epoch()
    net.history.new_batch()
    net.module_.zero_grad()
    net.train_step_single(MetaBatch(tasks))


def differences(objective, parameter, size=1e-6):
    """Central differences of a scalar in every entry of a parameter."""
    found = torch.zeros_like(parameter)
    flat, out = parameter.data.view(-1), found.view(-1)
    for k in range(len(flat)):
        start, values = flat[k].item(), []
        for sign in (1, -1):
            flat[k] = start + sign * size
            values.append(float(objective().detach()))
        flat[k] = start
        out[k] = (values[0] - values[1]) / (2 * size)
    return found


# -- terms -----------------------------------------------------------------------------


def test_orthogonality_of_two_columns():
    xi = torch.tensor([[1.0, 3.0], [0.0, 3.0]])
    # One pair with cosine 1 / sqrt(2), over K = 2 columns.
    assert orthogonality(xi).item() == pytest.approx(0.5 / 2)
    assert orthogonality(torch.eye(5)).item() == 0


def test_entropy_of_the_use_of_factors():
    apart = torch.eye(4)
    alike = torch.tensor([[1.0, 0, 0, 0]] * 4)
    assert usage_entropy(apart).item() == pytest.approx(1.0)
    assert usage_entropy(alike).item() == pytest.approx(0.0)
    half = torch.tensor([[1.0, 1.0, 0, 0], [0.5, 0.5, 0, 0]])
    assert usage_entropy(half).item() == pytest.approx(math.log(2) / math.log(4))
    assert usage_entropy(torch.ones(3, 1)).item() == 0


def test_penalty_of_a_scale_by_hand():
    scores = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
    targets = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    outcome = EpisodeOutcome(scores, targets, nn.MSELoss(), None)
    # d/ds mean (s f - y)^2 = 2 mean f (f - y): 2 (1 + 2) / 2 = 3 and 2 * 6 / 2 = 6.
    assert scale_penalty(outcome, scores, targets).item() == pytest.approx((9 + 36) / 2)


def test_penalty_is_smallest_at_the_best_scale():
    scores = 3 * draw(1, 50, 2)
    targets = (draw(1, 50, 2, seed=1) + scores / 3).argmax(-1)

    def loss(scores, targets):
        return nn.functional.cross_entropy(scores.flatten(0, 1), targets.flatten())

    values = [
        scale_penalty(EpisodeOutcome(scores, targets, loss, None), s * scores, targets)
        for s in (0.01, 0.6, 3.0)
    ]
    assert values[1] < values[0] or values[1] < values[2]


def test_statistics_of_labels_by_hand():
    factors = torch.tensor([[[0.0, 1.0], [2.0, 1.0], [4.0, 2.0], [6.0, 2.0]]])
    targets = torch.tensor([[0, 0, 1, 1]])
    found = label_statistics(factors, targets, 2)[0]
    assert found[:, 0].tolist() == [3.0, 1.5]
    assert found[:, 1].tolist() == [9.0, 2.25]
    # Variance between the classes over all: 4 / 5 and 0.25 / 0.25.
    assert found[:, 2].tolist() == pytest.approx([0.8, 1.0])


def test_statistics_of_values_are_squared_correlations():
    factors, targets = draw(2, 30, 3), draw(2, 30, seed=1)
    found = label_statistics(factors, 5 * targets + 2, 0)
    for t in range(2):
        joint = torch.cat([factors[t].T, targets[t][None]])
        expected = torch.corrcoef(joint)[-1, :-1].square()
        torch.testing.assert_close(found[t, :, 2], expected)


def test_order_of_classes_and_of_rows_does_not_matter():
    factors, targets = draw(1, 12, 5), (torch.arange(12) % 3)[None]
    expected = label_statistics(factors, targets, 3)
    torch.testing.assert_close(label_statistics(factors, 2 - targets, 3), expected)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    moved = label_statistics(factors[:, order], targets[:, order], 3)
    torch.testing.assert_close(moved, expected)
    # Both forms of the ridge regression agree.
    wide = torch.cat([factors, torch.zeros(1, 12, 20)], dim=-1)
    torch.testing.assert_close(label_statistics(wide, targets, 3)[:, :5], expected)


def test_leading_rows_are_even_in_the_classes():
    targets = torch.tensor([[0, 0, 0, 1, 1, 1, 2, 2, 2]])
    rows = leading_rows(targets, 3, 6)
    assert sorted(targets[0, rows[0]].tolist()) == [0, 0, 1, 1, 2, 2]
    assert leading_rows(draw(2, 4), 0, 3).tolist() == [[0, 1, 2], [0, 1, 2]]


# -- the hook --------------------------------------------------------------------------


def test_features_are_weighted_factors():
    hook = make_hook()
    z, m = draw(2, 5, D), draw(2, K, seed=1).sigmoid()
    found = hook.transform(z, m)
    expected = torch.einsum("tnd,dk,tk->tnk", z, hook.xi, m)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(hook.transform(z[0], m[0]), expected[0])


def test_weights_are_relative_to_the_largest_logit():
    hook = make_hook(task_embedding="mean")
    with torch.no_grad():
        hook.group[-1].weight.zero_()
        hook.group_bias.copy_(torch.tensor([2.0, 0.0, 5.0]))
    found = hook.task_code(draw(1, 5, D), torch.zeros(1, 5), 0)[0]
    one = 1 / (1 + math.exp(-1))
    expected = [1 / (1 + math.exp(-(b - 4))) / one for b in (2.0, 0.0, 5.0)]
    assert found.tolist() == pytest.approx(expected)


def test_first_factors():
    square, narrow = FactorHook(), FactorHook(2)
    square.build(4)
    narrow.build(4)
    assert square.xi.tolist() == torch.eye(4).tolist()
    torch.testing.assert_close(narrow.xi.mT @ narrow.xi, torch.eye(2))
    with pytest.raises(InvalidInputError, match="n_factors=5 for 4 features"):
        FactorHook(5).build(4)


def test_running_statistics_follow_the_training_rows_only():
    hook = FactorHook()
    hook.build(2)
    rows = torch.tensor([[[1.0, 5.0], [3.0, 5.0]]])
    hook.eval().task_code(rows, torch.tensor([[0, 1]]), 2)
    assert hook.middle.tolist() == [0, 0]
    hook.train().task_code(rows, torch.tensor([[0, 1]]), 2)
    assert hook.middle.tolist() == [2.0, 5.0]
    assert hook.spread.tolist() == pytest.approx([1.0, 1e-6])


def test_a_step_follows_the_statistics_of_its_support_once():
    hook = FactorHook(causal_every=1)
    hook.build(2)
    support, query = draw(2, 6, 2, seed=1).float(), draw(2, 6, 2, seed=2).float()
    targets = torch.arange(6).expand(2, 6) % 2
    codes = hook.train().task_code(support, targets, 2)
    middle, spread = hook.middle.clone(), hook.spread.clone()

    def swap(n_tasks):
        code = hook.task_code(query, targets, 2)
        return hook.transform(query, code), targets

    def loss(scores, targets):
        return nn.functional.cross_entropy(scores.flatten(0, 1), targets.flatten())

    scores = hook.transform(support, codes)
    _, terms = hook.extra_loss(codes, [EpisodeOutcome(scores, targets, loss, swap)])
    assert "swapped" in terms
    assert float(hook.n_seen) == 1
    torch.testing.assert_close(hook.middle, middle)
    torch.testing.assert_close(hook.spread, spread)
    hook.task_code(query, targets, 2)
    assert float(hook.n_seen) == 2


def test_rates_of_the_public_code_have_a_name():
    hook = FactorHook(xi_lr="public", group_lr="public")
    assert hook.learning_rates() == {"xi": 0.4, "group": 0.01}


def test_the_rates_of_many_features_are_smaller():
    for n_features, xi, group in ((3, 3e-3, 0.01), (256, 0.05 / 256, 0.15 / 256)):
        hook = FactorHook(2)
        hook.build(n_features)
        assert hook.learning_rates() == {"xi": xi, "group": group}
    hook = FactorHook(2, xi_lr=0.1, group_lr=0.2)
    assert hook.learning_rates() == {"xi": 0.1, "group": 0.2}


# -- gradients -------------------------------------------------------------------------

GROUP = ("group.0.weight", "group.2.weight", "group_bias")


def test_both_levels_through_solved_heads():
    hook = make_hook(lambda_orth=0.5, lambda_group=0.3, lambda_inv=2.0)
    net, tasks = head_net(hook), make_tasks(2)
    step(net, tasks)

    def query_loss():
        return net._batch_loss(MetaBatch(tasks))[0]

    def objective():
        caught = []

        def spy(history, codes, episodes):
            caught.append(hook.extra_loss(codes, episodes)[0])

        net.module_.hooked.follow_extra_loss = spy
        loss = net._batch_loss(MetaBatch(tasks), second_level=True)[0]
        return loss + caught[0]

    named = dict(hook.named_parameters())
    for name in GROUP:
        torch.testing.assert_close(
            named[name].grad, differences(objective, named[name]), rtol=1e-5, atol=1e-7
        )
    # theta follows the query loss alone, with the weights as constants.
    rows = torch.stack([task.support for task in tasks])
    given = torch.stack([task.support_targets for task in tasks])
    with torch.no_grad():
        fixed = hook.task_code(net.module_(rows), given, 2)
    hook.task_code = lambda support, targets, n_way: fixed
    weight = net.module_.backbone.weight
    torch.testing.assert_close(
        weight.grad, differences(query_loss, weight), rtol=1e-5, atol=1e-7
    )
    # Xi follows all of it, the weights constants in Xi as well.
    hook.causal_every = None
    vars(net.module_.hooked).pop("follow_extra_loss")
    step(net, tasks)
    torch.testing.assert_close(
        hook.xi.grad, differences(objective, hook.xi), rtol=1e-5, atol=1e-7
    )


@pytest.mark.parametrize("n_way", [2, 0])
@pytest.mark.parametrize("adapt_layers", ["all", "head"])
def test_query_loss_through_the_inner_loop(n_way, adapt_layers):
    tasks, found = make_tasks(n_way), []
    for chunk in (1, 2):
        hook = make_hook(
            lambda_orth=0.0, lambda_group=0.0, lambda_inv=0.0, lambda_swap=0.0
        )
        net = gradient_net(
            hook, n_way, adapt_layers=adapt_layers, task_chunk_size=chunk
        )
        step(net, tasks)
        named = dict(hook.named_parameters())
        found.append({name: named[name].grad.clone() for name in GROUP})

    def loss():
        return sum(net._query_loss([task]) for task in tasks) / len(tasks)

    for name in GROUP:
        expected = differences(loss, named[name])
        for gradients in found:
            torch.testing.assert_close(gradients[name], expected, rtol=1e-5, atol=1e-7)


def test_extra_terms_take_adapted_parameters_as_constants():
    hook = make_hook(lambda_orth=0.0, lambda_group=0.0, lambda_inv=3.0)
    hook.lambda_swap = 0.0
    net, tasks = gradient_net(hook, 2), make_tasks(2)
    net._outcome_of = lambda part: type(net)._outcome_of(net, part)._replace(swap=None)
    step(net, tasks)
    both = hook.group_bias.grad.clone()
    hook.lambda_inv = 0.0
    step(net, tasks)
    found = both - hook.group_bias.grad
    with torch.no_grad():
        _, path = net._adaptation(tasks, 2, record=False)
        rows = torch.stack([task.query for task in tasks])
        features = BatchedModule(net.module_, 2).features(path[-1], rows)
        support = torch.stack([task.support for task in tasks])
        start = net._start_features(support)
    given = torch.stack([task.support_targets for task in tasks])
    asked = torch.stack([task.query_targets for task in tasks])

    def penalty():
        codes = hook.task_code(start, given, 2)
        scores = BatchedModule(net.module_, 2, codes).outputs(path[-1], features)
        p = scores.softmax(-1)
        true = nn.functional.one_hot(asked, 2)
        return 3.0 * ((p - true) * scores).sum(-1).mean(-1).square().mean()

    torch.testing.assert_close(
        found, differences(penalty, hook.group_bias), rtol=1e-5, atol=1e-7
    )


# -- the contract ----------------------------------------------------------------------


class Recorder(EpisodeHook):
    """Doubles the features, adds their mean as another one, and watches."""

    every = 2

    def build(self, n_features):
        self.calls = []
        self.scale = nn.Parameter(torch.tensor(2.0))
        return n_features + 1

    def task_code(self, support, targets, n_way):
        assert not support.requires_grad
        return support.mean(dim=1)

    def transform(self, features, code):
        mean = features.mean(dim=-1, keepdim=True)
        return self.scale * torch.cat([features, mean], dim=-1)

    def extra_loss(self, codes, episodes):
        shapes = [tuple(episode.scores.shape) for episode in episodes]
        self.calls.append((tuple(codes.shape), shapes))
        scores, targets = episodes[0].swap(1)
        assert scores.shape[:2] == targets.shape
        return 100 * self.scale, {"seen": float(len(shapes))}


@pytest.mark.parametrize("kind", ["head", "gradient"])
def test_a_hook_of_ones_own(kind):
    hook = Recorder()
    hook.out_features = hook.build(D)
    if kind == "head":
        net = head_net(hook)
    else:
        module = AdaptedModule(
            nn.Linear(D, D),
            D + 1,
            2,
            SGDUpdate(),
            2,
            0.1,
            hooked=HookedFeatures(hook),
        ).double()
        net = GradientNet(module, n_steps=2).initialize()
    step(net, make_tasks(2))
    gradient = float(net.module_.hooked.hook.scale.grad)
    assert abs(gradient - 100) < 10  # the extra loss, and the query loss besides
    assert net.history[-1, "batches", -1, "hook_seen"] > 0
    codes, shapes = net.module_.hooked.hook.calls[0]
    assert codes == (2, D)
    assert sum(shape[0] for shape in shapes) == 2
    # Not its turn in the second step.
    net.history.new_batch()
    net.module_.zero_grad()
    net.train_step_single(MetaBatch(make_tasks(2)))
    assert net.module_.hooked.hook.scale.grad is None
    assert len(net.module_.hooked.hook.calls) == 1
