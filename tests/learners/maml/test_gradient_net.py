"""GradientNet: its outer gradients against plain loops and finite differences."""

import copy
import itertools
import math
import weakref

import pytest
import torch
from torch import nn
from torch.func import functional_call

from skcausalmeta.backbones import Conv4Module, MLPModule
from skcausalmeta.learners import (
    KFOUpdate,
    MetaCurvatureUpdate,
    MetaSGDUpdate,
    SGDUpdate,
    UpdateRule,
)
from skcausalmeta.learners._maml._module import AdaptedModule
from skcausalmeta.learners._maml._net import GradientNet
from skcausalmeta.training._stream import EpisodeTensors, MetaBatch
from skcausalmeta.utils import isolated_torch_rng

N_STEPS, LR, N_TASKS = 3, 0.1, 5
with isolated_torch_rng(0):
    BACKBONES = {
        "mlp": MLPModule(4, (5,), 6, standardize=False),
        "conv4": Conv4Module(1, 8, n_filters=3, n_blocks=2),
    }
SHAPES = {"mlp": (4,), "conv4": (1, 8, 8)}
RULES = {
    "sgd": SGDUpdate,
    "sgd-learned": lambda: SGDUpdate(learn_lr=True),
    "meta-sgd": MetaSGDUpdate,
    "meta-curvature": MetaCurvatureUpdate,
    "kfo": KFOUpdate,
    "kfo-deep": lambda: KFOUpdate(2, psd=True, bias=True),
    "kfo-adapted": lambda: KFOUpdate(adapt_transform=True),
}


def make_tasks(name, n_way, n_tasks=N_TASKS, n_support=6, n_query=7, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    def targets(n):
        return torch.arange(n) % n_way if n_way else draw(n)

    return [
        EpisodeTensors(
            draw(n_support, *SHAPES[name]),
            draw(n_query, *SHAPES[name]),
            targets(n_support),
            targets(n_query),
            n_way,
        )
        for _ in range(n_tasks)
    ]


def make_module(name, n_way, rule="sgd", adapt_layers="all", linear_layers=1):
    backbone = copy.deepcopy(BACKBONES[name])
    rule = RULES[rule]() if isinstance(rule, str) else rule
    with isolated_torch_rng(1):
        return AdaptedModule(
            backbone,
            backbone.out_features,
            n_way or 1,
            rule,
            N_STEPS,
            LR,
            linear_layers=linear_layers,
            adapt_layers=adapt_layers,
        ).double()


def make_net(module, n_way, epoch=1, **params):
    params = {"n_steps": N_STEPS, "batch_norm": "episode", **params}
    criterion = nn.CrossEntropyLoss if n_way else nn.MSELoss
    net = GradientNet(
        module, criterion=criterion, verbose=0, train_split=None, **params
    ).initialize()
    for _ in range(epoch):
        net.history.new_epoch()
        net.history.new_batch()
    return net


def trained(net, tasks):
    """Loss of one step, and the gradients that it leaves."""
    net.module_.zero_grad()
    loss = net.train_step_single(MetaBatch(tasks))["loss"]
    return float(loss), {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for name, p in net.module_.named_parameters()
    }


def task_loss(module, parameters, rows, targets):
    scores = functional_call(module, parameters, (rows, "all"))
    if targets.is_floating_point():
        return nn.functional.mse_loss(scores[:, 0], targets)
    return nn.functional.cross_entropy(scores, targets)


def plain_path(module, task, n_steps=N_STEPS, *, detached=False):
    """Parameters of plain SGD on one task, before and after every step."""
    path = [module.start()]
    for _ in range(n_steps):
        point = path[-1]
        loss = task_loss(module, point, task.support, task.support_targets)
        gradients = torch.autograd.grad(
            loss, list(point.values()), create_graph=not detached, retain_graph=True
        )
        path.append(
            {n: v - LR * g for (n, v), g in zip(point.items(), gradients, strict=True)}
        )
    return path


def plain_step(module, tasks, weights=(0, 0, 0, 1), *, detached=False):
    """Loss and gradients of an outer step, by a loop over tasks and steps."""
    total = 0.0
    for task in tasks:
        path = plain_path(module, task, detached=detached)
        for weight, point in zip(weights, path, strict=True):
            if weight:
                loss = task_loss(module, point, task.query, task.query_targets)
                total = total + weight * loss / len(tasks)
    named = dict(module.named_parameters())
    found = torch.autograd.grad(total, list(named.values()), allow_unused=True)
    return float(total.detach()), {
        name: torch.zeros_like(p) if g is None else g
        for (name, p), g in zip(named.items(), found, strict=True)
    }


def assert_same(found, expected, tol=1e-10):
    assert found[0] == pytest.approx(expected[0], rel=tol)
    assert found[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        torch.testing.assert_close(
            found[1][name], gradient, rtol=tol, atol=tol, msg=lambda m, n=name: n + m
        )


@pytest.mark.parametrize("detached", [False, True], ids=["second", "first"])
@pytest.mark.parametrize("adapt_layers", ["all", "head", "body"])
@pytest.mark.parametrize("n_way", [3, 0])
def test_outer_gradient_is_that_of_a_plain_loop(n_way, adapt_layers, detached):
    module = make_module("mlp", n_way, adapt_layers=adapt_layers)
    net = make_net(module, n_way, first_order=detached)
    tasks = make_tasks("mlp", n_way)
    expected = plain_step(net.module_, tasks, detached=detached)
    assert_same(trained(net, tasks), expected)
    assert any(gradient.abs().max() > 1e-3 for gradient in expected[1].values())


OPTIONS = {
    "plain": {},
    "first-order": {"first_order": True},
    "multi-step": {"multi_step_epochs": 4},
    "head": {"adapt_layers": "head"},
    "body": {"adapt_layers": "body"},
}


# What a rule learns, and what it says of layers, meets all options; the rest is slow.
EVERY_OPTION = {"sgd-learned", "meta-curvature", "kfo-adapted"}


@pytest.mark.parametrize(
    ("rule", "option"),
    [
        pytest.param(
            rule,
            option,
            marks=() if option == "plain" or rule in EVERY_OPTION else pytest.mark.slow,
        )
        for rule in RULES
        for option in OPTIONS
    ],
)
def test_chunks_and_recomputed_steps_do_not_change_the_gradient(rule, option):
    check_chunks("mlp", 0, rule, dict(OPTIONS[option]))


@pytest.mark.parametrize("rule", RULES)
def test_nor_do_they_where_batch_norm_convolutions_are_adapted(rule):
    check_chunks("conv4", 3, rule, {})


def check_chunks(name, n_way, rule, options):
    layers = options.pop("adapt_layers", "all")
    tasks = make_tasks(name, n_way, 3)
    module = make_module(name, n_way, rule, layers)

    def step(size, recompute=False):
        net = make_net(
            copy.deepcopy(module),
            n_way,
            task_chunk_size=size,
            recompute=recompute,
            **options,
        )
        return trained(net, tasks)

    expected = step(1)
    variants = [(2, False), (3, False)]
    if rule != "kfo-adapted":
        variants += [(1, True), (3, True)]
    for size, recompute in variants:
        assert_same(step(size, recompute), expected)


def test_tasks_of_several_shapes_weigh_alike():
    tasks = [
        *make_tasks("mlp", 3, 2),
        *make_tasks("mlp", 2, 2, seed=1),
        *make_tasks("mlp", 3, 1, n_support=9, seed=2),
    ]
    net = make_net(make_module("mlp", 3), 3)
    together = trained(net, tasks)
    alone = [trained(net, [task]) for task in tasks]
    loss = sum(one for one, _ in alone) / 5
    gradients = {n: sum(g[n] for _, g in alone) / 5 for n in together[1]}
    assert_same(together, (loss, gradients))


@pytest.mark.parametrize("rule", ["sgd-learned", "meta-curvature", "kfo-deep"])
@pytest.mark.parametrize(("name", "n_way"), [("mlp", 3), ("conv4", 0)])
def test_outer_gradient_is_the_central_difference(name, n_way, rule):
    module, tasks = make_module(name, n_way, rule), make_tasks(name, n_way, 2)
    net = make_net(module, n_way)
    gradients = trained(net, tasks)[1]
    named = dict(net.module_.named_parameters())
    generator = torch.Generator().manual_seed(3)
    for part in ("backbone.", "output.0.", "output.1.", "rule."):
        moves = {
            key: torch.randn(p.shape, generator=generator, dtype=torch.float64)
            for key, p in named.items()
            if key.startswith(part)
        }
        length = math.sqrt(sum(float(move.square().sum()) for move in moves.values()))
        values = []
        for size in (1e-5, -2e-5, 1e-5):  # there, across, and back
            with torch.no_grad():
                for key, move in moves.items():
                    named[key] += size / length * move
            values.append(trained(net, tasks)[0])
        slope = (values[0] - values[1]) / 2e-5
        along = sum(float((gradients[key] * move).sum()) for key, move in moves.items())
        assert along / length == pytest.approx(slope, rel=1e-6, abs=1e-8), part


@pytest.mark.parametrize(
    ("epoch", "weights"),
    [
        (1, (0, 1 / 3, 1 / 3, 1 / 3)),
        (2, (0, 1 / 6, 1 / 6, 2 / 3)),
        (3, (0, 0, 0, 1)),
        (9, (0, 0, 0, 1)),
    ],
)
def test_every_step_counts_in_the_first_epochs(epoch, weights):
    net = make_net(make_module("mlp", 3), 3, epoch=epoch, multi_step_epochs=2)
    tasks = make_tasks("mlp", 3, 2)
    assert_same(trained(net, tasks), plain_step(net.module_, tasks, weights))


@pytest.mark.parametrize("size", [1, 2, N_TASKS])
def test_reptile_moves_to_where_the_inner_loops_end(size):
    net = make_net(
        make_module("mlp", 3), 3, outer="reptile", task_chunk_size=size, n_steps=4
    )
    tasks = make_tasks("mlp", 3)
    loss, gradients = trained(net, tasks)
    start = net.module_.start()
    moves = {name: torch.zeros_like(value) for name, value in start.items()}
    losses = []
    for task in tasks:
        rows = torch.cat([task.support, task.query])
        targets = torch.cat([task.support_targets, task.query_targets])
        whole = EpisodeTensors(rows, rows, targets, targets, 3)
        end = plain_path(net.module_, whole, 4, detached=True)[-1]
        losses.append(float(task_loss(net.module_, end, rows, targets).detach()))
        for name, value in start.items():
            moves[name] += (value - end[name]).detach() / len(tasks)
    assert_same((loss, gradients), (sum(losses) / len(losses), moves))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("n_way", [3, 0])
def test_query_scores_follow_plain_gradient_steps(n_way, size, dtype):
    net = make_net(make_module("mlp", n_way).to(dtype), n_way, task_chunk_size=size)
    tasks = [
        EpisodeTensors(t.support.to(dtype), t.query.to(dtype), *t[2:])
        for t in make_tasks("mlp", n_way, size)
    ]
    staged = net.query_scores(tasks, 6, staged=True)
    assert len(staged) == 7
    tol = 1e-12 if dtype == torch.float64 else 1e-5
    for k, task in enumerate(tasks):
        adapted, _ = net.adapted(task.support, task.support_targets, 6)
        path = plain_path(net.module_, task, 6)
        for step, point in enumerate(path):
            scores = functional_call(net.module_, point, (task.query, "all"))
            torch.testing.assert_close(staged[step][k], scores, rtol=tol, atol=tol)
        for name, value in adapted.items():
            torch.testing.assert_close(value, path[-1][name], rtol=tol, atol=tol)
        alone = net.scores(adapted, task.query)
        torch.testing.assert_close(alone, staged[-1][k], rtol=tol, atol=tol)
    (last,) = net.query_scores(tasks, 6)
    torch.testing.assert_close(last, staged[-1])
    # The first step moves as far as the others: it once was lost under no_grad.
    pairs = itertools.pairwise(staged)
    assert min(float((b - a).abs().max()) for a, b in pairs) > 1e-4


@pytest.mark.parametrize("method", ["adapted", "query_scores"])
@pytest.mark.parametrize("adapt_layers", ["all", "head"])
def test_prediction_keeps_no_graph(method, adapt_layers):
    (task,) = make_tasks("mlp", 3, 1)
    net = make_net(make_module("mlp", 3, adapt_layers=adapt_layers), 3)
    if method == "adapted":
        found = net.adapted(task.support, task.support_targets, 2)[0].values()
    else:
        found = net.query_scores([task], 2, staged=True)
    assert not any(value.requires_grad for value in found)
    assert all(p.grad is None for p in net.module_.parameters())


class Kept:
    """Stands for a tensor that a graph keeps."""

    def __init__(self, tensor):
        self.tensor = tensor


class Watched(UpdateRule):
    """Plain steps that note how many tensors graphs keep at each."""

    def build(self, named, n_steps, lr):
        self.lr = lr
        # Of the class: prediction works on layers of its own.
        type(self).alive, type(self).counts = weakref.WeakSet(), []

    def keep(self, tensor):
        kept = Kept(tensor)
        self.alive.add(kept)
        return kept

    def direction(self, gradients, fast, step):
        self.counts.append(len(self.alive))
        return {name: self.lr * g for name, g in gradients.items()}

    def __deepcopy__(self, memo):
        return self


@pytest.mark.parametrize("adapt_layers", ["all", "head"])
def test_memory_of_prediction_does_not_grow_with_the_steps(adapt_layers):
    rule = Watched()
    net = make_net(make_module("mlp", 3, rule, adapt_layers), 3)
    tasks = make_tasks("mlp", 3, 1)
    with torch.autograd.graph.saved_tensors_hooks(rule.keep, lambda kept: kept.tensor):
        net.query_scores(tasks, 6)
        assert rule.counts == [0] * 6
        rule.counts.clear()
        net.adapted(tasks[0].support, tasks[0].support_targets, 6)
        assert rule.counts == [0] * 6
        rule.counts.clear()
        trained(net, tasks)
    assert sorted(set(rule.counts)) == rule.counts  # the recorded loop does grow


@pytest.mark.parametrize("linear_layers", [1, 3])
def test_linear_layers_add_no_capacity_and_keep_the_scale(linear_layers):
    module = make_module("mlp", 3, linear_layers=linear_layers)
    one, two = torch.randn(
        2, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )

    def output(features):
        return module(features, "output")

    zero = output(torch.zeros_like(one))
    added = output(0.3 * one - 2.0 * two) - zero
    expected = 0.3 * (output(one) - zero) - 2.0 * (output(two) - zero)
    torch.testing.assert_close(added, expected)
    before_output = module.output[:-1](one)
    # Rotations are drawn, and so orthogonal, in single precision.
    rounding = 8 * torch.finfo(torch.float32).eps
    torch.testing.assert_close(
        before_output.norm(dim=1), one.norm(dim=1), rtol=rounding, atol=0.0
    )
    assert not torch.allclose(before_output, one)


@pytest.mark.parametrize(
    ("adapt_layers", "prefixes"),
    [
        ("all", ["backbone", "output"]),
        ("head", ["output"]),
        ("body", ["backbone"]),
    ],
)
def test_what_is_adapted_moves_and_the_rest_stays(adapt_layers, prefixes):
    net = make_net(make_module("conv4", 3, "kfo", adapt_layers), 3)
    (task,) = make_tasks("conv4", 3, 1)
    start = net.module_.start()
    adapted, _ = net.adapted(task.support, task.support_targets, 2)
    assert {name.split(".")[0] for name in adapted} == set(prefixes)
    assert not any(name.startswith("rule.") for name in adapted)
    assert all(not torch.equal(adapted[name], start[name]) for name in start)
    held_back = set(dict(net.module_.named_parameters())) - set(adapted)
    gradients = trained(net, [task])[1]
    assert all(gradients[name].abs().max() > 0 for name in held_back)


def test_many_tasks_run_in_chunks_of_the_asked_size():
    tasks = make_tasks("mlp", 3, 7)

    def sizes(name="mlp", **params):
        net = make_net(make_module(name, 3), 3, **params)
        return [len(tasks[part]) for part in net.parts(len(tasks))]

    assert sizes(task_chunk_size=3) == [3, 3, 1]
    assert sizes() == [7]
    assert sizes("conv4") == [1] * 7  # on a CPU
    assert sizes("conv4", task_chunk_size=4) == [4, 3]
    # Running averages belong to one task at a time.
    assert sizes("conv4", task_chunk_size=4, batch_norm="running") == [1] * 7


def test_validation_reports_the_mean_loss_and_accuracy():
    net = make_net(make_module("mlp", 3), 3)
    tasks = make_tasks("mlp", 3)
    found = float(net.validation_step(MetaBatch(tasks))["loss"])
    losses, hits = [], []
    for task in tasks:
        end = plain_path(net.module_, task)[-1]
        loss = task_loss(net.module_, end, task.query, task.query_targets)
        losses.append(float(loss.detach()))
        scores = functional_call(net.module_, end, (task.query, "all"))
        hits.append(float((scores.argmax(1) == task.query_targets).double().mean()))
    assert found == pytest.approx(math.fsum(losses) / N_TASKS)
    assert net.history[-1, "batches", -1, "valid_accuracy"] == pytest.approx(
        math.fsum(hits) / N_TASKS
    )


@pytest.mark.parametrize("first_order", [False, True])
def test_support_maps_keep_their_layout_where_they_are_differentiated_twice(
    first_order,
):
    module = make_module("conv4", 3)
    seen = []
    second = module.backbone.blocks[1][0]
    second.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    net = make_net(module, 3, first_order=first_order)
    net.train_step_single(MetaBatch(make_tasks("conv4", 3, n_tasks=1)))
    contiguous = {len(maps): maps.is_contiguous() for maps in seen}
    assert contiguous == {6: not first_order, 7: False}
