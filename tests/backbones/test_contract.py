"""Backbones keep their contract; broken ones are told which rule they break."""

import copy
import inspect

import numpy as np
import pytest
import torch
from torch import nn

from skcausalmeta.backbones import (
    MLP,
    Backbone,
    Conv4,
    Identity,
    MLPModule,
    ResNet12,
    build_backbone,
    check_backbone,
    is_frozen,
    named_backbone,
)
from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.learners import (
    MAMLClassifier,
    MAMLRegressor,
    SparseMetaClassifier,
    SparseMetaRegressor,
)
from skcausalmeta.utils import package_definitions

BACKBONES = [
    one
    for _, one in package_definitions()
    if inspect.isclass(one) and issubclass(one, Backbone) and one is not Backbone
]


@pytest.mark.parametrize("cls", BACKBONES)
def test_every_backbone_of_the_package_keeps_the_contract(cls):
    small = {"n_filters": (4, 6)} if cls is ResNet12 else {}
    check_backbone(cls(**small), (3, 16, 16))


def test_all_are_found():
    assert {MLP, Conv4, ResNet12, Identity} <= set(BACKBONES)


# -- broken ones, a rule each ----------------------------------------------------------


class Linear(Backbone):
    """A backbone of one layer, whose parts the broken ones replace."""

    def __init__(self, width=3):
        self.width = width

    def build(self, input_shape):
        return nn.Linear(input_shape[0], self.width)


class ChangesWhatItIsGiven(Linear):
    def __init__(self, width=3):
        self.width = width + 1


class ForgetsWhenCloned(Linear):
    def __sklearn_clone__(self):
        return type(self)()


class BuildsAFunction(Linear):
    def build(self, input_shape):
        return torch.flatten


class BuildsOnce(Linear):
    module = nn.Linear(4, 3)

    def build(self, input_shape):
        return self.module


class Remembers(Linear):
    def build(self, input_shape):
        self.width = input_shape[0]
        return nn.Linear(input_shape[0], self.width)


class DrawsByItself(Linear):
    generator = torch.Generator().manual_seed(0)

    def build(self, input_shape):
        module = super().build(input_shape)
        nn.init.normal_(module.weight, generator=self.generator)
        return module


class Wrapped(Linear):
    """Builds a module of `forward` around a layer."""

    def build(self, input_shape):
        layer = super().build(input_shape)
        forward = self.forward

        class Module(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = layer

            def forward(self, rows):
                return forward(self.layer, rows)

        return Module()


class WritesToRows(Wrapped):
    def forward(self, layer, rows):
        return layer(rows.mul_(2.0))


class AveragesTheRows(Wrapped):
    def forward(self, layer, rows):
        return layer(rows).mean(dim=0, keepdim=True)


class CentresTheRows(Wrapped):
    def forward(self, layer, rows):
        return layer(rows - rows.mean(dim=0))


class Uncopied(nn.Linear):
    def __deepcopy__(self, memo):
        return nn.Linear(self.in_features, self.out_features)


class LosesItsWeights(Linear):
    def build(self, input_shape):
        return Uncopied(input_shape[0], self.width)


@pytest.mark.parametrize(
    ("backbone", "rule"),
    [
        (ChangesWhatItIsGiven(), "clone keeps the parameters"),
        (ForgetsWhenCloned(width=5), "clone keeps the parameters"),
        (BuildsAFunction(), r"build gives a torch\.nn\.Module"),
        (BuildsOnce(), "build gives a new module each time"),
        (Remembers(), r"build leaves the parameters\. Got Remembers\(width=4\)"),
        (DrawsByItself(), "weights follow torch's random state"),
        (WritesToRows(), "rows are not written to"),
        (AveragesTheRows(), r"there is a row of features a sample\. Got .*1, 3"),
        (CentresTheRows(), "in evaluation every row is on its own"),
        (LosesItsWeights(), "a copy of the module gives the same features"),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, Backbone) else "",
)
def test_a_broken_backbone_is_told_the_rule(backbone, rule):
    with pytest.raises(AssertionError, match=f"Of a backbone, {rule}"):
        check_backbone(backbone, (4,))


class OneFeature(Wrapped):
    def forward(self, layer, rows):
        return layer(rows)[:, 0]


class Images(Wrapped):
    def forward(self, layer, rows):
        return layer(rows)[:, :, None, None].expand(-1, -1, 2, 2)


@pytest.mark.parametrize("backbone", [Linear(), OneFeature(), Images()])
def test_whole_ones_pass_whatever_follows_the_first_axis(backbone):
    check_backbone(backbone, (4,))
    features = build_backbone(backbone, (4,))(torch.ones(2, 4))
    assert features.ndim == len(features) == 2


def test_the_random_state_is_left_alone():
    before = torch.get_rng_state()
    check_backbone(Linear(), (4,))
    assert torch.equal(torch.get_rng_state(), before)


# -- names -----------------------------------------------------------------------------


def test_names_stand_for_backbones():
    kinds = {"mlp": MLP, "conv4": Conv4, "resnet12": ResNet12, "identity": Identity}
    for name, kind in kinds.items():
        assert type(named_backbone(name)) is kind


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "auto",
            r"need one that is named\. Got backbone='auto', .* set backbone='mlp'",
        ),
        ("conv5", r"must be one of \['auto', 'mlp', .* Did you mean 'conv4'"),
        (nn.Linear(2, 2), r"Got Linear, which has none of its own; pass one such as"),
        (MLPModule, r"Got type, which has none of its own"),
    ],
)
def test_what_stands_for_no_backbone_is_refused(name, message):
    with pytest.raises(InvalidInputError, match=message):
        named_backbone(name)


# -- frozen modules --------------------------------------------------------------------


def layers(frozen):
    module = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3))
    return module.requires_grad_(not frozen)


def test_frozen_is_a_module_none_of_whose_parameters_is_trained():
    assert is_frozen(layers(frozen=True))
    assert not is_frozen(layers(frozen=False))
    part = layers(frozen=True)
    part[2].weight.requires_grad_(True)
    assert not is_frozen(part)
    assert not is_frozen(nn.Identity())
    assert not is_frozen(nn.BatchNorm1d(3, affine=False))
    assert is_frozen(build_backbone(layers(frozen=True), (4,)))


RNG = np.random.default_rng(0)
X = RNG.standard_normal((48, 4))
Y = np.repeat([0, 1, 2], 16)
TASKS = np.tile([0, 1], 24)


@pytest.mark.parametrize("net_params", [None, {"precision": "bfloat16"}])
@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize(
    "kind", [SparseMetaClassifier, SparseMetaRegressor, MAMLClassifier, MAMLRegressor]
)
def test_a_frozen_module_stays_as_it_is_in_fit(kind, frozen, net_params):
    module = layers(frozen)
    before = copy.deepcopy(module.state_dict())
    learner = kind(
        backbone=module,
        net_params=net_params,
        optimizer="sgd",
        lr=0.1,
        max_epochs=2,
        batches_per_epoch=2,
        tasks_per_batch=2,
        verbose=0,
        random_state=0,
    ).fit(X, Y * 1.0 if kind.__name__.endswith("Regressor") else Y, tasks=TASKS)
    assert learner.net_.frozen_ == frozen
    prefix = "backbone." * (1 if net_params is None else 2)
    after = learner.net_.module_.backbone.state_dict()
    moved = [k for k in before if not torch.equal(after[prefix + k], before[k])]
    assert moved == [] if frozen else {"0.weight", "2.weight"} <= set(moved)
    assert all(torch.equal(module.state_dict()[k], v) for k, v in before.items())
