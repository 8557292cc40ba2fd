"""Batch-norm modes against normalisation worked out by hand."""

import copy

import pytest
import torch
from torch import nn

from skcausalmeta.backbones import Conv4Module, MLPModule, ResNet12Module
from skcausalmeta.training import batch_norm_mode, has_batch_norm, still_statistics


def random_rows(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 3 + 2 * torch.randn(*shape, generator=generator, dtype=torch.float64)


def small_net():
    net = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(0.5))
    with torch.no_grad():
        net[1].weight.uniform_(0.5, 2, generator=torch.Generator().manual_seed(0))
        net[1].running_mean.fill_(0.7)
        net[1].running_var.fill_(2.5)
    return net.double()


def by_rows(layer, rows):
    mean, variance = rows.mean(dim=0), rows.var(dim=0, unbiased=False)
    normal = (rows - mean) / torch.sqrt(variance + layer.eps)
    return normal * layer.weight + layer.bias


def by_running(layer, rows):
    normal = (rows - layer.running_mean) / torch.sqrt(layer.running_var + layer.eps)
    return normal * layer.weight + layer.bias


def facts(net):
    flags = [(m.training, sorted(m.__dict__)) for m in net.modules()]
    return copy.deepcopy(net.state_dict()), flags


def assert_same_facts(net, before):
    state, flags = before
    assert facts(net)[1] == flags
    assert net.state_dict().keys() == state.keys()
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, state[name])


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (nn.Linear(2, 2), False),
        (nn.InstanceNorm2d(2), False),
        (nn.BatchNorm3d(2), True),
        (MLPModule(3), False),
        (nn.Sequential(MLPModule(3), nn.BatchNorm1d(64, affine=False)), True),
        (Conv4Module(1, 8), True),
        (ResNet12Module(1, n_filters=(2,)), True),
    ],
    ids=lambda value: type(value).__name__,
)
def test_has_batch_norm(module, expected):
    assert has_batch_norm(module) is expected


@pytest.mark.parametrize("training", [True, False])
def test_episode_uses_the_rows_and_changes_nothing(training):
    net = small_net().train(training)
    before = facts(net)
    rows = random_rows(6, 4)
    with batch_norm_mode(net, "episode"):
        output = net[1](net[0](rows))
        assert net.state_dict().keys() == before[0].keys()
    torch.testing.assert_close(output, by_rows(net[1], net[0](rows)))
    assert_same_facts(net, before)


def test_running_is_the_behaviour_of_torch():
    net = small_net().eval()
    rows = random_rows(6, 4)
    with batch_norm_mode(net, "running"):
        torch.testing.assert_close(
            net[1](net[0](rows)), by_running(net[1], net[0](rows))
        )
        net.train()
        output = net[1](net[0](rows))
    torch.testing.assert_close(output, by_rows(net[1], net[0](rows)))
    moved = 0.9 * 0.7 + 0.1 * net[0](rows).mean(dim=0)
    torch.testing.assert_close(net[1].running_mean, moved)
    assert int(net[1].num_batches_tracked) == 1


def test_episode_survives_a_change_of_training_mode_inside():
    net = small_net()
    rows = random_rows(6, 5)
    with batch_norm_mode(net, "episode"):
        net.train()
        in_training = net[1](rows)
        net.eval()
        in_evaluation = net[1](rows)
    assert torch.equal(in_training, in_evaluation)
    assert int(net[1].num_batches_tracked) == 0


def test_dropout_follows_the_training_flag():
    net = small_net()
    rows = random_rows(50, 4)
    with torch.random.fork_rng(), batch_norm_mode(net, "episode"):
        torch.manual_seed(0)
        assert not torch.equal(net(rows), net(rows))
        net.eval()
        assert torch.equal(net(rows), net(rows))


def test_everything_is_restored_after_an_exception_and_when_nested():
    net = small_net().eval()
    before = facts(net)
    with pytest.raises(KeyError), batch_norm_mode(net, "episode"):
        raise KeyError("stop")
    assert_same_facts(net, before)
    rows = random_rows(6, 5)
    with batch_norm_mode(net, "episode"):
        with batch_norm_mode(net, "episode"):
            pass
        torch.testing.assert_close(net[1](rows), by_rows(net[1], rows))
    assert_same_facts(net, before)
    torch.testing.assert_close(net[1](rows), by_running(net[1], rows))


def test_a_forward_of_the_users_own_is_put_back():
    layer = nn.BatchNorm1d(2)
    layer.forward = lambda rows: rows * 5
    with batch_norm_mode(layer, "episode"):
        assert layer(torch.tensor([[1.0, 2.0], [3.0, 2.0]]))[0, 0] < 0
    assert layer(torch.ones(1, 2)).tolist() == [[5.0, 5.0]]


def test_copies_and_swapped_weights_are_used_inside():
    net = small_net()
    rows = random_rows(6, 5)
    with batch_norm_mode(net, "episode"):
        copied = copy.deepcopy(net)
        with torch.no_grad():
            copied[1].weight.mul_(3)
        torch.testing.assert_close(copied[1](rows), by_rows(copied[1], rows))
        weight = torch.full((5,), 2.0, dtype=torch.float64, requires_grad=True)
        swapped = torch.func.functional_call(net[1], {"weight": weight}, (rows,))
    torch.testing.assert_close(swapped, by_rows(nn.BatchNorm1d(5).double(), rows) * 2)
    assert torch.autograd.grad(swapped.square().sum(), weight)[0].abs().sum() > 0


def test_images_are_normalised_per_channel():
    layer = nn.BatchNorm2d(3).double().eval()
    images = random_rows(4, 3, 5, 6)
    with batch_norm_mode(layer, "episode"):
        normal = layer(images)
    mean = images.mean(dim=(0, 2, 3), keepdim=True)
    variance = images.var(dim=(0, 2, 3), keepdim=True, unbiased=False)
    expected = (images - mean) / torch.sqrt(variance + layer.eps)
    torch.testing.assert_close(normal, expected)


def test_errors_name_the_rule():
    net = small_net()
    with (
        pytest.raises(ValueError, match=r"'running' and 'episode'\. Got 'eval'"),
        batch_norm_mode(net, "eval"),
    ):
        pass
    with (
        pytest.raises(ValueError, match=r"two values per channel.*\(1, 5\)"),
        batch_norm_mode(net, "episode"),
    ):
        net(random_rows(1, 4))
    assert "forward" not in net[1].__dict__
    layer = nn.BatchNorm2d(2)
    with (
        pytest.raises(ValueError, match="expected 4D"),
        batch_norm_mode(layer, "episode"),
    ):
        layer(torch.zeros(3, 2))


def test_a_plain_average_is_that_of_the_batches_that_count():
    rows = random_rows(12, 3)
    layer = nn.BatchNorm1d(3, momentum=None).double()
    layer(rows[:6])
    with still_statistics(layer):
        layer(rows[:2])
    layer(rows[6:])
    torch.testing.assert_close(layer.running_mean, rows.mean(dim=0))
