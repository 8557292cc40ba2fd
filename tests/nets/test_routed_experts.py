"""Batched modules against modules run one by one; routings; the training net."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.nets import (
    ConvExperts,
    MLPExperts,
    MultiTaskNet,
    RoutedExperts,
    RowStream,
)
from skcausalmeta.nets._row_losses import row_losses, task_losses, task_slopes
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
    experts.set_statistics(rows)
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
    experts.set_statistics(rows)
    assert experts(rows).isfinite().all()
    assert experts.spread[0] == 1


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
            "set n_modules=3",
        ),
        (lambda: RoutedExperts(MLPExperts(2, 2), 2, routing="mmoe"), "gate_features"),
        (lambda: MLPExperts(2, 0), "The 'n_modules' parameter of MLPExperts"),
        (lambda: MLPExperts(2, 1)(torch.zeros(3, 4)), r"in_features=2.*\(4,\)"),
    ],
)
def test_impossible_nets_are_refused(build, message):
    with pytest.raises(InvalidInputError, match=message):
        build()


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


def make_stream(n=40, seed=0, batch_size=16):
    rng = np.random.default_rng(0)
    rows = torch.tensor(rng.standard_normal((n, 3)), dtype=torch.float32)
    targets = torch.tensor(rng.integers(2, size=(2, n, 1)), dtype=torch.float32)
    targets[1, n // 4 :] = torch.nan
    return RowStream(rows, targets, torch.arange(n) % 2, batch_size, seed=seed)


def test_an_epoch_shows_every_row_once_with_its_target():
    stream = make_stream()
    batches = list(stream)
    rows = torch.cat([batch.rows for batch in batches])
    order = rows[:, 0].argsort()
    full = next(iter(make_stream(seed=None, batch_size=40)))
    truth = full.rows[:, 0].argsort()
    targets = torch.cat([batch.targets for batch in batches], dim=1)
    torch.testing.assert_close(
        targets[:, order], full.targets[:, truth], equal_nan=True
    )
    assert stream.labelled.tolist() == [1.0, 0.25]
    again = torch.cat([batch.rows for batch in stream])
    assert not torch.equal(rows, again)


def make_net(weights, routing="mtcrl", **params):
    module = RoutedExperts(MLPExperts(3, 4), 2, routing=routing)
    settings = {"kinds": [("binary", 2)] * 2, "task_weights": torch.ones(2)}
    return MultiTaskNet(
        module,
        weights=weights,
        optimizer=torch.optim.Adam,
        train_split=None,
        max_epochs=4,
        verbose=0,
        **{**settings, **params},
    )


def test_the_loss_of_rare_labels_is_the_mean_over_them():
    net = make_net({}).initialize()
    net.labelled_, net.n_steps_, net.step_, net.n_envs_ = (
        make_stream().labelled,
        1,
        1,
        2,
    )
    batch = next(iter(make_stream(seed=None, batch_size=40)))
    passed = net.module_(batch.rows)
    loss = functional.binary_cross_entropy_with_logits
    expected = loss(passed.outputs[0, :, 0], batch.targets[0, :, 0])
    expected += loss(passed.outputs[1, :10, 0], batch.targets[1, :10, 0])
    torch.testing.assert_close(net.terms(passed, batch)["tasks"], expected)


@pytest.mark.parametrize("form", ["norm", "variance", "unbiased"])
def test_every_term_is_in_the_history_and_rises(form):
    weights = {"decorrelation": 0.1, "sparsity": 0.1, "balance": 0.1, "irm": 1.0}
    net = make_net(weights, irm_form=form, warmup=(0.5, 1.0), uncertainty=True)
    net.fit((make_stream(), make_stream(seed=None)))
    first, last = net.history[0], net.history[-1]
    assert first["irm"] == 0.0
    assert last["irm"] != 0.0
    assert last["decorrelation"] > 0 < last["sparsity"]
    assert last["balance"] < 0
    assert "valid_loss" in last
    total = sum(
        weight * last[name] for name, weight in weights.items() if name != "irm"
    )
    assert last["train_loss"] != pytest.approx(last["tasks"] + total, abs=1e-9)
    assert not torch.equal(net.module_.log_variances.detach(), torch.zeros(2))


def test_baselines_have_no_penalties():
    net = make_net({"sparsity": 1.0, "irm": 1.0}, routing="shared")
    net.fit((make_stream(), None))
    assert net.history[-1]["train_loss"] == pytest.approx(net.history[-1]["tasks"])
    assert net.history[-1]["sparsity"] == 0.0
