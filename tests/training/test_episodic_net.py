"""EpisodicNet against losses and gradients worked out by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from skcausalmeta.backbones import MLPModule
from skcausalmeta.training import EpisodicModule, EpisodicNet
from skcausalmeta.training._stream import EpisodeTensors, MetaBatch


class MeanHead:
    """Logits are inner products with the class means of the support rows."""

    def __init__(self):
        self.tols = []

    def episode_logits(self, support, targets, query, n_classes, *, tol=None):
        self.tols.append(tol)
        encoded = nn.functional.one_hot(targets, n_classes).to(support.dtype)
        means = encoded.mT @ support / encoded.sum(1)[..., None]
        return query @ means.mT


def make_task(n_way, n_shot, n_query, seed=0, width=3):
    generator = torch.Generator().manual_seed(seed)
    return EpisodeTensors(
        torch.randn(n_way * n_shot, width, generator=generator),
        torch.randn(n_way * n_query, width, generator=generator),
        torch.arange(n_way).repeat_interleave(n_shot),
        torch.arange(n_way).repeat_interleave(n_query),
        n_way,
    )


def make_net(backbone=None, *, scale=1.0, seed=0, **params):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        backbone = nn.Linear(3, 4) if backbone is None else backbone()
    net = EpisodicNet(
        EpisodicModule(backbone),
        head=MeanHead(),
        logit_scale=scale,
        verbose=0,
        **params,
    )
    return net.initialize()


def gradients(net, batch):
    net.module_.zero_grad()
    net.train_step_single(batch)
    return [p.grad.clone() for p in net.module_.parameters() if p.grad is not None]


def test_loss_and_accuracy_by_hand():
    task = EpisodeTensors(
        torch.tensor([[1.0, 0.0], [0.0, 2.0]]),
        torch.tensor([[3.0, 1.0], [1.0, 1.0]]),
        torch.tensor([0, 1]),
        torch.tensor([0, 0]),
        2,
    )
    net = make_net(nn.Identity, scale=0.5, center=False)
    # Scaled logits: (1.5, 1) and (0.5, 1); the second row is taken for class 1.
    expected = (np.log1p(np.exp(-0.5)) + np.log1p(np.exp(0.5))) / 2
    loss, accuracy = net._batch_loss(MetaBatch([task]))
    np.testing.assert_allclose(loss.item(), expected, rtol=1e-7)
    assert accuracy == 0.5


def test_gradient_of_the_scale_by_hand():
    task = EpisodeTensors(
        torch.tensor([[1.0, 0.0], [0.0, 2.0]]),
        torch.tensor([[3.0, 1.0]]),
        torch.tensor([0, 1]),
        torch.tensor([0]),
        2,
    )
    net = make_net(nn.Identity, scale=0.5, center=False)
    (gradient,) = gradients(net, MetaBatch([task]))
    # loss = log(1 + exp(-a)) with a = 0.5, derived in log a
    np.testing.assert_allclose(gradient.item(), -0.5 / (1 + np.exp(0.5)), rtol=1e-6)


def test_centring_moves_the_origin_to_the_mean_support_row():
    task = make_task(3, 2, 4)
    middle = task.support.mean(0)
    moved = task._replace(support=task.support - middle, query=task.query - middle)
    centred, _ = make_net(nn.Identity)._batch_loss(MetaBatch([task]))
    by_hand, _ = make_net(nn.Identity, center=False)._batch_loss(MetaBatch([moved]))
    plain, _ = make_net(nn.Identity, center=False)._batch_loss(MetaBatch([task]))
    np.testing.assert_allclose(centred.item(), by_hand.item(), rtol=1e-6)
    assert abs(plain.item() - by_hand.item()) > 1e-3


def test_scale_is_its_first_value():
    assert make_net(nn.Identity, scale=1e-8).module_.scale == pytest.approx(1e-8)
    assert make_net(nn.Identity, scale=10.0).module_.scale == pytest.approx(10.0)


def test_tasks_of_different_shapes_count_alike():
    tasks = [make_task(2, 1, 3), make_task(3, 2, 2, seed=1), make_task(2, 1, 3, seed=2)]
    net = make_net()
    together = gradients(net, MetaBatch(tasks))
    alone = [gradients(net, MetaBatch([task])) for task in tasks]
    for grad, parts in zip(together, zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(grad, sum(parts) / 3)
    losses = [net._batch_loss(MetaBatch([task]))[0].item() for task in tasks]
    loss, _ = net._batch_loss(MetaBatch(tasks))
    np.testing.assert_allclose(loss.item(), np.mean(losses), rtol=1e-6)


@pytest.mark.parametrize("micro_batch", [1, 2, "auto"])
def test_gradient_does_not_depend_on_the_micro_batch(micro_batch):
    batch = MetaBatch([make_task(2, 2, 3, seed=k) for k in range(5)])
    expected = gradients(make_net(micro_batch=5), batch)
    found = gradients(make_net(micro_batch=micro_batch), batch)
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)


def test_micro_batches_are_as_large_as_said():
    sizes = []

    class Counted(nn.Linear):
        def forward(self, rows):
            sizes.append(len(rows))
            return super().forward(rows)

    batch = MetaBatch([make_task(2, 1, 3, seed=k) for k in range(3)])
    for micro_batch in (2, "auto", 9):
        make_net(lambda: Counted(3, 4), micro_batch=micro_batch)._batch_loss(batch)
    assert sizes == [16, 8] + [8, 8, 8] + [24]


def test_small_tasks_pass_a_perceptron_together_and_its_dropout_spares_no_row():
    batch = MetaBatch([make_task(2, 1, 3, seed=k, width=3) for k in range(3)])
    net = make_net(lambda: MLPModule(3, hidden=(64,), out_features=4, dropout=0.5))
    net._set_training(True)
    seen = []
    dropout = next(m for m in net.module_.modules() if isinstance(m, nn.Dropout))
    dropout.register_forward_hook(lambda _, rows, kept: seen.append(kept))
    net._batch_loss(batch)
    assert [len(kept) for kept in seen] == [24]
    patterns = (seen[0] == 0).unique(dim=0)
    assert len(patterns) == 24  # every row has units of its own


@pytest.mark.parametrize(
    ("params", "fused"),
    [
        ({}, True),
        ({"optimizer": torch.optim.AdamW}, True),
        ({"optimizer__foreach": True}, None),
        ({"optimizer__fused": False}, False),
        ({"optimizer": torch.optim.SGD}, None),
    ],
)
def test_adam_takes_a_step_in_one_call_unless_told_otherwise(params, fused):
    net = make_net(**{"optimizer": torch.optim.Adam, **params})
    assert net.optimizer_.defaults["fused"] is fused


def test_batch_norm_sees_one_task_at_a_time():
    tasks = [make_task(2, 2, 3, seed=k) for k in range(2)]
    net = make_net(lambda: nn.BatchNorm1d(3, affine=False), micro_batch=2)
    net._set_training(True)
    supports, queries = net._task_features(tasks)
    for task, support, query in zip(tasks, supports, queries, strict=True):
        rows = torch.cat([task.support, task.query])
        normal = (rows - rows.mean(0)) / (rows.var(0, unbiased=False) + 1e-5).sqrt()
        torch.testing.assert_close(torch.cat([support, query]), normal)


def test_episode_statistics_are_those_of_support_and_query_apart():
    task = make_task(2, 2, 3)
    net = make_net(lambda: nn.BatchNorm1d(3, affine=False), batch_norm="episode")
    net._set_training(True)
    (support,), (query,) = net._task_features([task])
    for rows, found in ((task.support, support), (task.query, query)):
        normal = (rows - rows.mean(0)) / (rows.var(0, unbiased=False) + 1e-5).sqrt()
        torch.testing.assert_close(found, normal)


def test_episode_statistics_are_the_same_in_training_and_prediction():
    rows = make_task(2, 5, 1).support
    net = make_net(lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)))
    features = {}
    for mode in ("episode", "running"):
        net.batch_norm = mode
        for training in (False, True):
            net._set_training(training)
            features[mode, training] = net.features(rows).detach()
    torch.testing.assert_close(features["episode", True], features["episode", False])
    difference = features["running", True] - features["running", False]
    assert difference.abs().max() > 0.01


def test_running_statistics_make_rows_independent_of_each_other():
    net = make_net(lambda: nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 4)))
    rows = make_task(2, 5, 1).support
    net._set_training(True)
    net.features(rows)
    net._set_training(False)
    together = net.features(rows)[:4]
    torch.testing.assert_close(net.features(rows[:4]), together)
    net.batch_norm = "episode"
    apart = net.features(rows[:4]) - net.features(rows)[:4]
    assert apart.abs().max() > 0.01


def test_frozen_backbone_is_left_alone():
    def backbone():
        layers = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
        return layers.requires_grad_(False)

    net = make_net(backbone)
    before = {k: v.clone() for k, v in net.module_.state_dict().items()}
    (gradient,) = gradients(net, MetaBatch([make_task(2, 2, 3)]))
    assert gradient.shape == ()  # the scale alone
    assert gradient != 0
    for name, value in net.module_.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_validation_step_records_accuracy_and_takes_no_gradient():
    net = make_net()
    net.history.new_epoch()
    net.history.new_batch()
    batch = MetaBatch([make_task(2, 1, 3), make_task(3, 1, 2, seed=1)])
    step = net.validation_step(batch)
    assert not step["loss"].requires_grad
    assert not net.module_.training
    assert net.history[-1, "batches", -1, "valid_accuracy"] == pytest.approx(
        net._batch_loss(batch)[1]
    )


def test_head_is_solved_to_the_stated_tolerance():
    net = make_net(head_tol=0.25)
    net._batch_loss(MetaBatch([make_task(2, 1, 3), make_task(3, 1, 2, seed=1)]))
    assert net.head.tols == [0.25, 0.25]
