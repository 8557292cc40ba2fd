"""RegressionNet against losses worked out by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from skcausalmeta.episodes import Episode
from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.training import (
    CodeModule,
    EpisodeStream,
    RegressionNet,
    RowReader,
    _base_net,
)
from skcausalmeta.training._stream import EpisodeTensors, MetaBatch


class MeanHead:
    """Predicts the mean target plus the sum of the query features."""

    def episode_predictions(self, support, targets, query, *, tol=None):
        self.tol = tol
        return targets.mean(1, keepdim=True) + query.sum(-1)


def make_task(n_support=3, n_query=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return EpisodeTensors(
        5 * torch.randn(n_support, 2, generator=generator),
        5 * torch.randn(n_query, 2, generator=generator),
        torch.randn(n_support, generator=generator, dtype=torch.float64),
        torch.randn(n_query, generator=generator, dtype=torch.float64),
        0,
    )


def make_net(backbone=None, n_codes=2, **params):
    backbone = nn.Identity() if backbone is None else backbone
    net = RegressionNet(
        CodeModule(backbone, n_codes), head=MeanHead(), verbose=0, **params
    )
    return net.initialize()


def test_loss_is_half_the_mean_squared_error_by_hand():
    task = EpisodeTensors(
        torch.tensor([[0.0, 0.0], [0.0, 0.0]]),
        torch.tensor([[1.0, 2.0], [0.0, 1.0]]),
        torch.tensor([1.0, 3.0]),
        torch.tensor([4.0, 3.0]),
        0,
    )
    net = make_net(n_codes=None, head_tol=0.25)
    # Predictions 2 + 3 and 2 + 1, errors 1 and 0.
    loss, _ = net._batch_loss(MetaBatch([task]))
    assert loss.item() == 0.25
    assert net.head.tol == 0.25


def test_tasks_of_different_sizes_count_alike():
    tasks = [make_task(), make_task(4, 5, seed=1), make_task(seed=2)]
    net = make_net(n_codes=None)
    alone = [net._batch_loss(MetaBatch([task]))[0].item() for task in tasks]
    loss = net._batch_loss(MetaBatch(tasks))[0].item()
    assert loss == pytest.approx(np.mean(alone))


@pytest.mark.parametrize("undivided", [False, True])
@pytest.mark.parametrize("micro_batch", [1, 3])
def test_codes_are_standardised_over_the_meta_batch(undivided, micro_batch):
    tasks = [make_task(seed=k) for k in range(3)]
    if undivided:
        tasks = [task._replace(query=task.support) for task in tasks]
    net = make_net(micro_batch=micro_batch)
    net._set_training(True)
    supports, queries = net._task_features(tasks)
    parts = supports if undivided else [*supports, *queries]
    codes = torch.cat(parts)
    torch.testing.assert_close(codes.mean(0), torch.zeros(2), atol=1e-6, rtol=0)
    variance = codes.var(0, unbiased=False)
    torch.testing.assert_close(variance, torch.ones(2), atol=1e-4, rtol=0)
    assert [len(part) for part in parts] == [3] * 3 + [2] * 3 * (not undivided)
    if undivided:
        assert all(q is s for q, s in zip(queries, supports, strict=True))


def test_undivided_tasks_pass_the_backbone_once():
    sizes = []

    class Counted(nn.Identity):
        def forward(self, rows):
            sizes.append(len(rows))
            return rows

    tasks = [make_task(seed=k) for k in range(2)]
    tasks = [task._replace(query=task.support) for task in tasks]
    for mode in ("running", "episode"):
        make_net(Counted(), batch_norm=mode)._task_features(tasks)
    assert sizes == [3, 3, 3, 3]


def test_statistics_settle_on_given_rows():
    rows = torch.randn(50, 2, generator=torch.Generator().manual_seed(0)) * 7 + 1000
    net = make_net()
    net.settle(rows.split(16))
    codes = net.features(rows).double()
    torch.testing.assert_close(
        codes.mean(0), torch.zeros(2).double(), atol=1e-4, rtol=0
    )
    spread = codes.std(0, unbiased=False)
    np.testing.assert_allclose(spread.detach(), 1, atol=1e-4)
    free = make_net(n_codes=None)
    free.settle(rows.split(16))
    assert torch.equal(free.features(rows), rows)


def test_nothing_to_train_is_no_error():
    net = make_net(nn.Identity())
    assert not hasattr(net, "optimizer_")
    batch = MetaBatch([make_task()])
    assert net.train_step(batch)["loss"] == net._batch_loss(batch)[0]


def test_validation_step_takes_no_gradient_and_fixed_statistics():
    net = make_net(nn.Linear(2, 2))
    before = net.module_.standardize.running_mean.clone()
    step = net.validation_step(MetaBatch([make_task()]))
    assert not step["loss"].requires_grad
    assert torch.equal(net.module_.standardize.running_mean, before)


class Pair:
    """The first of two processes that were launched together."""

    rank, number = 0, 2

    def __init__(self):
        self.started = []

    def check_start(self, module):
        self.started.append(module)

    def run(self, step, module):
        return step() + 1  # the loss of the other process


class Stream:
    """A stream that notes what it was asked to read."""

    def share(self, rank, number):
        self.part = rank, number


def test_processes_share_the_tasks_of_a_step(monkeypatch):
    pair, stream = Pair(), Stream()
    launched = staticmethod(lambda device: pair)
    monkeypatch.setattr(_base_net.Processes, "launched", launched)
    net = make_net(n_codes=None, accelerate=True)
    assert net.get_split_datasets((stream, None)) == (stream, None)
    assert stream.part == (0, 2)
    assert net.processes_ is pair
    assert pair.started == [net.module_]
    alone, batch = make_net(nn.Linear(2, 2), None), MetaBatch([make_task()])
    shared = make_net(nn.Linear(2, 2), None)
    shared.module_.load_state_dict(alone.module_.state_dict())
    shared.processes_ = pair
    losses = [float(n.train_step_single(batch)["loss"]) for n in (alone, shared)]
    assert losses[1] == pytest.approx(losses[0] + 1)


def test_tasks_that_are_standardised_together_are_not_shared(monkeypatch):
    launched = staticmethod(lambda device: Pair())
    monkeypatch.setattr(_base_net.Processes, "launched", launched)
    with pytest.raises(InvalidInputError, match=r"standardised together.*one process"):
        make_net(accelerate=True).get_split_datasets((Stream(), None))


@pytest.mark.parametrize(
    ("rank", "number", "expected"),
    [(0, 2, [0, 1]), (1, 2, [2, 3, 4]), (2, 3, [3, 4])],
)
def test_a_stream_reads_the_episodes_of_its_process(rank, number, expected):
    episodes = [
        Episode(np.array([k]), np.array([k]), np.zeros(1), np.zeros(1), None)
        for k in range(5)
    ]
    rows = np.arange(10.0).reshape(5, 2)
    stream = EpisodeStream(rows, RowReader((2,)), lambda n: episodes[:n], 1, 5)
    stream.share(rank, number)
    (batch,) = stream
    assert [int(task.support[0, 0] / 2) for task in batch.tasks] == expected
    assert len(batch) == 5
    with pytest.raises(InvalidInputError, match="Got 5 for 6 processes"):
        stream.share(0, 6)
