"""Batched modules against modules run one by one; routings; losses of rows."""

import pytest
import torch
from sklearn.base import clone
from torch import nn
from torch.nn import functional

from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.learners import ConvExpert, MLPExpert
from skcausalmeta.learners._mtcrl._experts import ConvExperts, MLPExperts
from skcausalmeta.learners._mtcrl._objective import (
    row_losses,
    task_losses,
    task_slopes,
)
from skcausalmeta.learners._mtcrl._routing import RoutedExperts
from skcausalmeta.utils import isolated_torch_rng


@pytest.fixture(autouse=True)
def fixed_weights():
    with isolated_torch_rng(0):
        yield


def test_batched_modules_are_the_modules_one_by_one():
    experts = MLPExperts(5, 3, hidden=(7, 6), out_features=2)
    for bias in experts.biases:
        nn.init.normal_(bias)
    rows = torch.randn(10, 5)
    experts.fit_inputs(rows.numpy())
    found = experts(rows)
    scaled = (rows - rows.mean(0)) / rows.std(0, correction=0)
    for k in range(3):
        value = scaled
        for layer, weight in enumerate(experts.weights):
            value = functional.relu(value) if layer else value
            value = functional.linear(value, weight[k].T, experts.biases[layer][k, 0])
        torch.testing.assert_close(found[k], value)


def test_a_module_does_not_see_what_it_does_not_read():
    inputs = torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 1]])
    experts = MLPExperts(4, 2, inputs=inputs)
    rows = torch.randn(6, 4, requires_grad=True)
    for k in range(2):
        (slope,) = torch.autograd.grad(experts(rows)[k].sum(), rows)
        assert (slope.abs().sum(0) > 0).tolist() == inputs[k].bool().tolist()


def test_constant_inputs_are_not_divided_by_zero():
    experts = MLPExperts(2, 1)
    rows = torch.stack([torch.full((8,), 0.1), torch.arange(8.0)], dim=1)
    experts.fit_inputs(rows.numpy())
    assert experts(rows).isfinite().all()
    assert experts.spread[0] == 1


def test_a_constant_channel_is_not_divided_by_zero():
    experts = ConvExperts(2, 1)
    rows = torch.rand(4, 2, 8, 8)
    rows[:, 1] = 0.1
    experts.set_statistics(rows)
    assert experts.spread[1] == 1
    torch.testing.assert_close(experts.spread[0], rows[:, 0].std())


def test_grouped_convolutions_keep_modules_apart():
    experts = ConvExperts(3, 4, width=5, out_features=2)
    rows = torch.randn(2, 3, 9, 11)
    before = experts(rows)
    assert before.shape == (4, 2 * 9 * 11, 2)
    with torch.no_grad():  # weights of the second module only
        for layer in (experts.down1, experts.down2, experts.middle, experts.up1):
            layer.weight[5:10] += 0.3
    changed = (experts(rows) - before).abs().amax(dim=(1, 2)) > 1e-6
    assert changed.tolist() == [False, True, False, False]


def test_pixels_stay_in_place():
    experts = ConvExperts(1, 2, width=3, out_features=2)
    maps = experts(torch.randn(3, 1, 8, 8)).view(2, 3, 64, 2)
    pooled = ConvExperts(1, 2, width=3, out_features=2, dense=False)
    pooled.load_state_dict(experts.state_dict())
    with isolated_torch_rng(0):
        rows = torch.randn(3, 1, 8, 8)
    maps = experts(rows).view(2, 3, 64, 2)
    torch.testing.assert_close(pooled(rows), maps.mean(dim=2))


@pytest.mark.parametrize("routing", ["mtcrl", "mmoe", "shared", "single"])
def test_heads_read_the_routed_sum(routing):
    n_modules = 3
    net = RoutedExperts(MLPExperts(5, n_modules), 3, 2, routing, gate_features=5)
    rows = torch.randn(7, 5)
    passed = net(rows)
    gates = net.gate(rows)  # (n, n_tasks, n_modules)
    expected = torch.einsum("ntk,knh->tnh", gates, passed.modules)
    torch.testing.assert_close(passed.routed, expected)
    outputs = torch.stack(
        [expected[t] @ net.head_weights[0][t] + net.head_biases[0][t] for t in range(3)]
    )
    torch.testing.assert_close(passed.outputs, outputs)
    if routing == "mmoe":
        torch.testing.assert_close(gates.sum(-1), torch.ones(7, 3))
    elif routing == "mtcrl":
        torch.testing.assert_close(gates[0], torch.sigmoid(net.theta))
    else:
        fixed = torch.eye(3) if routing == "single" else torch.ones(3, 3)
        torch.testing.assert_close(gates[0], fixed)


def test_gates_of_an_image_serve_all_its_pixels():
    net = RoutedExperts(ConvExperts(2, 3), 2, 1, "mmoe", gate_features=2)
    nn.init.normal_(net.gates)
    rows = torch.randn(2, 2, 4, 4)
    passed = net(rows)
    modules = passed.modules.view(3, 2, 16, -1)
    expected = torch.einsum("ntk,knph->tnph", net.gate(rows), modules)
    torch.testing.assert_close(passed.routed.view(2, 2, 16, -1), expected)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: RoutedExperts(MLPExperts(2, 2), 2, routing="x"), "one of .* Got 'x'"),
        (
            lambda: RoutedExperts(MLPExperts(2, 2), 3, routing="single"),
            "2 modules for 3 tasks; build 3",
        ),
        (lambda: RoutedExperts(MLPExperts(2, 2), 2, routing="mmoe"), "gate_features"),
        (lambda: MLPExperts(2, 0), "The 'n_modules' parameter of MLPExperts"),
        (
            lambda: MLPExperts(2, 1)(torch.zeros(3, 4)),
            r"2 values. Got .* \(4,\)",
        ),
    ],
)
def test_impossible_nets_are_refused(build, message):
    with pytest.raises(InvalidInputError, match=message):
        build()


@pytest.mark.parametrize("spec", [MLPExpert((5, 4)), ConvExpert(3)], ids=repr)
def test_a_recipe_builds_modules_of_its_sizes(spec):
    spec = clone(spec).set_params(out_features=2)
    modules = spec.build((2, 8, 8), 3)
    rows = torch.randn(6, 2, 8, 8)
    assert modules(rows).shape == (3, 6, 2)
    assert modules.standardize(rows).shape == (6, modules.gate_features)
    assert modules is not spec.build((2, 8, 8), 3)


def test_a_recipe_passes_on_what_modules_read():
    inputs = torch.tensor([[1.0, 0], [0, 1]])
    modules = MLPExpert().build((2,), 2, inputs)
    assert torch.equal(modules.inputs[..., 0], inputs)
    assert MLPExpert((7,)).build((2,), 2).weights[0].shape == (2, 2, 7)
    assert ConvExpert(5).build((1, 8, 8), 2, dense=True).down1.out_channels == 10


@pytest.mark.parametrize(
    ("spec", "shape", "dense", "message"),
    [
        (MLPExpert(3), (2,), False, "The 'hidden' parameter of MLPExpert"),
        (MLPExpert((0,)), (2,), False, r"'hidden\[0\]' parameter"),
        (MLPExpert(out_features=0), (2,), False, "'out_features' parameter of MLP"),
        (MLPExpert(head_hidden=-1), (2,), False, "'head_hidden' parameter of MLP"),
        (ConvExpert(0), (1, 8, 8), False, "The 'n_filters' parameter of ConvExpert"),
        (MLPExpert(), (1, 8, 8), True, "need convolutional modules. Got MLPExpert"),
        (ConvExpert(), (8,), False, r"needs images. Got rows of shape \(8,\)"),
    ],
)
def test_impossible_recipes_are_refused(spec, shape, dense, message):
    with pytest.raises(ValueError, match=message):
        spec.build(shape, 2, dense=dense)


def test_losses_are_those_of_torch():
    outputs, classes = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2.0])
    expected = -outputs.log_softmax(-1)[torch.arange(6), classes.long()]
    torch.testing.assert_close(row_losses(outputs, classes, "multiclass"), expected)
    binary = row_losses(outputs, (classes > 0).float(), "binary")
    proba = torch.sigmoid(outputs[:, 0])
    expected = -torch.where(classes > 0, proba, 1 - proba).log()
    torch.testing.assert_close(binary, expected)
    squared = row_losses(outputs, classes, "regression")
    torch.testing.assert_close(squared, (outputs[:, 0] - classes) ** 2)


@pytest.mark.parametrize(
    "kinds",
    [
        [("binary", 2), ("multiclass", 3), ("regression", 0)],
        [("binary", 2)] * 3,
        [("regression", 0)] * 3,
        [("multiclass", 3)] * 3,
    ],
)
def test_slopes_are_the_gradients_of_the_losses(kinds):
    wide = any(kind == "multiclass" for kind, _ in kinds)
    outputs = torch.randn(3, 6, 3 if wide else 1, requires_grad=True)
    targets = torch.tensor([0, 1, 0, 1, 1, 0.0]).expand(3, -1)
    losses = task_losses(outputs, targets, kinds)
    (expected,) = torch.autograd.grad(losses.sum(), outputs)
    torch.testing.assert_close(task_slopes(outputs, targets, kinds), expected)


@pytest.mark.parametrize("head_hidden", [0, 5])
def test_head_slopes_are_those_of_autograd(head_hidden):
    net = RoutedExperts(MLPExperts(4, 3), 2, 3, head_hidden=head_hidden)
    for bias in net.head_biases:
        nn.init.normal_(bias)
    routed = torch.randn(2, 7, 16, requires_grad=True)
    slopes = torch.randn(2, 7, 3)
    (expected,) = torch.autograd.grad(net.heads(routed), routed, slopes)
    torch.testing.assert_close(net.head_slopes(slopes, routed), expected)
