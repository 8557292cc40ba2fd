"""Sequences, images and integers: what reaches a backbone of the user's own."""

import numpy as np
import pytest
import torch
from torch import nn

from skcausalmeta.backbones import Backbone
from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.heads import RidgeHead
from skcausalmeta.learners import (
    MAMLClassifier,
    SparseMetaClassifier,
    SparseMetaRegressor,
)

SHORT = {
    "max_epochs": 1,
    "batches_per_epoch": 2,
    "tasks_per_batch": 2,
    "verbose": 0,
    "random_state": 0,
}
Y = np.repeat(np.arange(4), 8)
STEPS = np.random.default_rng(0).normal(size=(32, 20, 4)) + Y[:, None, None]


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 8, batch_first=True)

    def forward(self, rows):
        return self.lstm(rows)[1][0][-1]


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)

    def forward(self, rows):
        return self.encoder(rows).mean(dim=1)


class OverTime(nn.Module):
    """Runs on rows of any shape, and means the second axis."""

    def __init__(self):
        super().__init__()
        self.layer = nn.LazyLinear(6)

    def forward(self, rows):
        return self.layer(rows.mean(dim=1))


class Convolved(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv1d(4, 5, 3)

    def forward(self, rows):
        return self.layer(rows.transpose(1, 2)).mean(dim=2)


class Functional(nn.Module):
    """Convolves images without a layer for them."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, 1, 3, 3))

    def forward(self, rows):
        return nn.functional.conv2d(rows, self.weight).mean(dim=(2, 3))


def seen_by(learner, X, y=Y):
    """Fit; return the rows that the backbone is given for all of X."""
    learner.fit(X, y)
    backbone, seen = learner.net_.module_.backbone, []
    with torch.no_grad():
        hook = backbone.register_forward_pre_hook(
            lambda module, args: seen.append(args[0])
        )
        learner.transform(X)
        hook.remove()
    return torch.cat(seen)[: len(X)]


@pytest.mark.parametrize("cls", [SparseMetaClassifier, MAMLClassifier])
@pytest.mark.parametrize("module", [Recurrent, Attention, OverTime, Convolved])
@pytest.mark.parametrize("made", [True, False], ids=["module", "factory"])
def test_sequences_reach_a_module_as_they_are(cls, module, made):
    backbone = module() if made and module is not OverTime else module
    rows = seen_by(cls(backbone=backbone, **SHORT), STEPS)
    np.testing.assert_array_equal(rows.numpy(), STEPS.astype(np.float32))


def test_flat_rows_become_sequences_by_their_input_shape():
    learner = SparseMetaClassifier(backbone=Recurrent(), input_shape=(20, 4), **SHORT)
    rows = seen_by(learner, STEPS.reshape(32, -1))
    np.testing.assert_array_equal(rows.numpy(), STEPS.astype(np.float32))
    assert learner.adapt(STEPS[:16].reshape(16, -1), Y[:16]).predict(
        STEPS.reshape(32, -1)
    ).shape == (32,)


def test_poses_are_no_images_whose_channels_come_last():
    poses = np.random.default_rng(1).normal(size=(32, 20, 5, 3))
    rows = seen_by(SparseMetaClassifier(backbone=OverTime, **SHORT), poses)
    np.testing.assert_array_equal(rows.numpy(), poses.astype(np.float32))


def test_sequences_of_a_regressor_and_of_many_tasks():
    learner = SparseMetaRegressor(backbone=Recurrent(), **SHORT)
    rows = seen_by(learner, STEPS, Y.astype(float))
    assert rows.shape == (32, 20, 4)
    tasks = STEPS.reshape(2, 16, 20, 4)
    targets = Y.reshape(2, 16).astype(float)
    found = learner.predict_episodes(tasks, targets, tasks, max_memory=2**28)
    assert found.shape == (2, 16)


class SequenceBackbone(Backbone):
    def build(self, input_shape):
        steps, width = input_shape  # fails for (channels, height, width)
        return nn.Sequential(nn.Flatten(), nn.Linear(steps * width, 5))


def test_a_backbone_of_ones_own_says_by_its_build_what_it_takes():
    rows = seen_by(SparseMetaClassifier(backbone=SequenceBackbone(), **SHORT), STEPS)
    assert rows.shape == (32, 20, 4)


@pytest.mark.parametrize(
    "backbone",
    [
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU()),
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU()),
        lambda input_shape: nn.Conv2d(input_shape[0], 4, 3),
        nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(20, 4)),
        Functional(),
        "auto",
        "mlp",
        "identity",
    ],
)
def test_images_still_get_their_axis_of_channels(backbone):
    rows = seen_by(SparseMetaClassifier(backbone=backbone, **SHORT), STEPS)
    assert rows.shape == (32, 1, 20, 4)


def test_bytes_of_rows_with_two_axes_are_scaled_with_and_without_channels():
    pixels = np.full((32, 6, 6), 51, dtype=np.uint8)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(36, 4))
    rows = seen_by(SparseMetaClassifier(backbone=flat, **SHORT), pixels)
    np.testing.assert_allclose(rows.numpy(), 0.2, rtol=1e-6)


# -- integers --------------------------------------------------------------------------

LARGE = 16777217  # the first whole number that single precision does not hold


class Words(nn.Module):
    """A table of embeddings: of integers only."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(50, 4)

    def forward(self, rows):
        return self.table(rows).mean(dim=1)


class Hashed(nn.Module):
    """Converts its rows itself, and would round them if they came as numbers."""

    def __init__(self, width=7):
        super().__init__()
        self.table = nn.Embedding(width, 4)
        self.width = width

    def forward(self, rows):
        return self.table(rows.long() % self.width).flatten(1)


class OneHot(nn.Module):
    """No table, but an operation that takes integers only."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(50, 4)

    def forward(self, rows):
        return self.layer(nn.functional.one_hot(rows, 50).float().mean(dim=1))


class Columns(nn.Module):
    """Says that it takes integers, and looks some columns up by functions only."""

    integer_rows = True

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(11, 4))

    def forward(self, rows):
        found = nn.functional.embedding(rows[:, :2].long() % 11, self.weight)
        return torch.cat([found.flatten(1), rows[:, 2:].float()], dim=1)


TOKENS = np.random.default_rng(2).integers(50, size=(32, 6))


@pytest.mark.parametrize("cls", [SparseMetaClassifier, MAMLClassifier])
@pytest.mark.parametrize("module", [Words, Hashed, OneHot, Columns])
def test_integers_stay_integers(cls, module):
    X = TOKENS.copy()
    if module in (Hashed, Columns):
        X[3, 1] = LARGE
    learner = cls(backbone=module(), **SHORT)
    rows = seen_by(learner, X)
    assert rows.dtype == torch.int64
    np.testing.assert_array_equal(rows.numpy(), X)
    tasks, labels = X.reshape(2, 16, 6), Y.reshape(2, 16)
    found = learner.predict_episodes(tasks, labels, tasks, max_memory=2**28)
    assert found.shape == (2, 16)


def test_two_neighbours_beyond_single_precision_are_told_apart():
    X = np.repeat([[LARGE - 1], [LARGE]], 16, axis=0)
    y = np.repeat([0, 1], 16)
    learner = SparseMetaClassifier(RidgeHead(), backbone=Hashed(), **SHORT).fit(X, y)
    assert learner.score(X, y) == 1.0


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.uint64, np.float64])
@pytest.mark.parametrize("module", [Words, OneHot])
def test_what_only_takes_integers_gets_them_from_any_type(module, dtype):
    learner = SparseMetaClassifier(backbone=module(), **SHORT)
    rows = seen_by(learner, TOKENS.astype(dtype))
    assert rows.dtype == torch.int64
    np.testing.assert_array_equal(rows.numpy(), TOKENS)


def test_numbers_that_are_no_integers_are_refused_by_name():
    learner = SparseMetaClassifier(backbone=Words(), **SHORT).fit(TOKENS, Y)
    before = learner.predict(TOKENS)
    with pytest.raises(
        InvalidInputError, match=r"takes rows of integers\. Got \d+\.5 of"
    ):
        learner.predict(TOKENS + 0.5)
    with pytest.raises(InvalidInputError, match="may have been rounded"):
        learner.predict(np.full((1, 6), LARGE, dtype=np.float32))
    with pytest.raises(InvalidInputError, match="Got 18446744073709551615 of type"):
        learner.predict(np.full((1, 6), 2**64 - 1, dtype=np.uint64))
    np.testing.assert_array_equal(learner.predict(TOKENS.astype(float)), before)


@pytest.mark.parametrize(
    ("backbone", "X"),
    [
        (nn.Linear(6, 4), TOKENS),
        ("mlp", TOKENS),
        (Hashed(), TOKENS.astype(float)),  # converts them itself, as before
        (nn.Sequential(nn.Flatten(), nn.Linear(6, 4)), TOKENS.astype(np.uint8)),
    ],
)
def test_other_rows_are_numbers_as_before(backbone, X):
    rows = seen_by(SparseMetaClassifier(backbone=backbone, **SHORT), X)
    assert rows.dtype == torch.float32


def test_a_module_may_decline_integers():
    module = Hashed()
    module.integer_rows = False
    rows = seen_by(SparseMetaClassifier(backbone=module, **SHORT), TOKENS)
    assert rows.dtype == torch.float32
