"""The scale that logits begin with, against the spread worked out by hand."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from skcausalmeta.backbones import Conv4Module
from skcausalmeta.heads import GroupLassoSVC, PrototypeHead, RidgeHead
from skcausalmeta.learners import SparseMetaClassifier
from skcausalmeta.training import EpisodeTensors, MetaBatch, first_scale

Y = np.repeat(np.arange(6), 12)
X = np.random.default_rng(0).standard_normal((72, 5)).astype(np.float32) + Y[:, None]


def task(seed, shape=(5,), n_way=3, n_shot=2, n_query=3):
    generator = torch.Generator().manual_seed(seed)

    def draw(n):
        labels = torch.arange(n_way).repeat_interleave(n)
        rows = torch.randn(n_way * n, *shape, generator=generator)
        return rows + labels.view(-1, *[1] * len(shape)), labels

    support, given = draw(n_shot)
    query, asked = draw(n_query)
    return EpisodeTensors(support, query, given, asked, n_way)


def spread_of_prototypes(tasks):
    """Root mean square of centred logits, from their formula."""
    squares = []
    for one in tasks:
        support, query = one.support.double().numpy(), one.query.double().numpy()
        labels = one.support_targets.numpy()
        means = np.stack([support[labels == k].mean(0) for k in range(one.n_way)])
        logits = -((query[:, None] - means) ** 2).sum(-1)
        squares.append((logits - logits.mean(1, keepdims=True)) ** 2)
    return np.sqrt(np.mean(squares))


def test_logits_of_the_first_tasks_vary_by_one():
    tasks = [task(0), task(1)]
    scale = first_scale(nn.Identity(), PrototypeHead(), MetaBatch(tasks))
    assert scale * spread_of_prototypes(tasks) == pytest.approx(1.0)


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("head", [PrototypeHead(), RidgeHead(), GroupLassoSVC(0.3)])
def test_it_follows_the_units_of_the_head(head, center):
    batch = MetaBatch([task(0)])
    options = {"center": center, "tol": 1e-10}
    scale = first_scale(nn.Identity(), head, batch, **options)
    softer = copy.deepcopy(head)
    logits = softer.episode_logits
    softer.episode_logits = lambda *args, **kwargs: logits(*args, **kwargs) / 7
    assert first_scale(nn.Identity(), softer, batch, **options) == pytest.approx(
        7 * scale
    )


def test_a_backbone_keeps_its_statistics():
    backbone = Conv4Module(1, 8, n_filters=4)
    before = copy.deepcopy(backbone.state_dict())
    batch = MetaBatch([task(0, shape=(1, 8, 8))])
    trained = first_scale(backbone, PrototypeHead(), batch)
    frozen = first_scale(backbone, PrototypeHead(), batch, training=False)
    assert trained != frozen
    after = backbone.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize("value", [0.0, torch.nan])
def test_logits_without_spread_keep_the_scale_one(value):
    class Flat(nn.Module):
        def forward(self, rows):
            return torch.full_like(rows, value)

    assert first_scale(Flat(), PrototypeHead(), MetaBatch([task(0)])) == 1.0


def test_the_scale_is_bounded():
    class Far(nn.Module):
        def forward(self, rows):
            return 1e6 * rows

    assert first_scale(Far(), PrototypeHead(), MetaBatch([task(0)])) == 1e-3


def learner(**params):
    small = {"max_epochs": 1, "batches_per_epoch": 1, "lr": 1e-12, "random_state": 0}
    return SparseMetaClassifier(PrototypeHead(), verbose=0, **small, **params)


def test_a_learner_begins_with_it():
    auto = learner().fit(X, Y).net_.module_.scale
    given = learner(net_params={"logit_scale": 3.0}).fit(X, Y)
    assert given.net_.module_.scale == pytest.approx(3)
    assert auto == learner().fit(X, Y).net_.module_.scale
    softer = learner().set_params(head__temperature=10.0).fit(X, Y)
    assert softer.net_.module_.scale == pytest.approx(10 * auto)


def test_a_warm_start_keeps_the_learned_one():
    first = learner(net_params={"logit_scale": 5.0}).fit(X, Y)
    first.set_params(net_params={"warm_start": True}).fit(X, Y)
    assert first.net_.module_.scale == pytest.approx(5.0)
