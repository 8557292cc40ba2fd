"""Tables by default: units, offsets and wild values of columns do not matter."""

import copy
import pickle

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from torch import nn

from skcausalmeta.backbones import MLP, Conv4, MLPModule
from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.learners import (
    MAMLClassifier,
    MetaCRLClassifier,
    MTCRLClassifier,
    SparseMetaClassifier,
)
from skcausalmeta.persistence import load, save
from skcausalmeta.training import Training
from skcausalmeta.utils import isolated_torch_rng

RNG = np.random.default_rng(0)
Y = np.repeat(np.arange(24), 20)
X = RNG.normal(size=(24, 6))[Y] + 0.6 * RNG.normal(size=(480, 6))
OLD = Y < 16
NEW = (Y >= 16) & (Y < 21)
SUPPORT, QUERY = NEW & (np.arange(480) % 20 < 5), NEW & (np.arange(480) % 20 >= 5)

CHANGES = {
    "thousandfold": lambda X: X * 1e3,
    "units": lambda X: X * 1e5,
    "offset": lambda X: X + 1e3,
    "mixed": lambda X: X * [1e-9, 1, 1e9, 1, 1e20, 9] + [0, 1e4, 0, -50, 0, 1],
}


def make_learner(kind=SparseMetaClassifier, **params):
    small = {
        "backbone": MLP((16,), out_features=12),
        "n_way": 5,
        "n_shot": 3,
        "n_query": 5,
        "max_epochs": 1,
        "batches_per_epoch": 10,
        "fit_head": False,
        "verbose": 0,
        "random_state": 0,
    }
    return kind(**{**small, **params})


def score(learner, rows):
    learner.fit(rows[OLD], Y[OLD]).adapt(rows[SUPPORT], Y[SUPPORT])
    return learner.score(rows[QUERY], Y[QUERY])


def mlp_of(learner):
    modules = learner.net_.module_.backbone.modules()
    return next(one for one in modules if isinstance(one, MLPModule))


def trained(kind):
    if kind is SparseMetaClassifier:
        return make_learner()
    return make_learner(kind, inner_lr=0.3, adapt_steps=20, batches_per_epoch=40)


@pytest.fixture(scope="module", params=[SparseMetaClassifier, MAMLClassifier])
def plain(request):
    found = score(trained(request.param), X)
    assert found > 0.6
    return request.param, found


@pytest.mark.parametrize("name", CHANGES)
def test_an_affine_change_of_the_columns_changes_no_score(plain, name):
    kind, expected = plain
    assert abs(score(trained(kind), CHANGES[name](X)) - expected) < 0.02


def test_one_wild_value_does_not_cost_its_column(plain):
    kind, expected = plain
    rows = X.copy()
    rows[7, 2] = 1e30
    assert score(trained(kind), rows) > expected - 0.05


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_multi_task_modules_do_not_see_units(change):
    targets = np.stack([X[:, 0] + X[:, 1] > 0, X[:, 2] * X[:, 0] > 0], axis=1)

    def accuracy(rows):
        learner = MTCRLClassifier(n_modules=3, max_epochs=15, random_state=0)
        learner.fit(rows[:300], targets[:300])
        return (learner.predict(rows[300:]) == targets[300:]).mean()

    assert abs(accuracy(change(X)) - accuracy(X)) < 0.02


def test_codes_of_environments_do_not_see_units():
    tasks, envs = np.repeat(np.arange(12), 40), np.tile(np.repeat([0, 1], 20), 12)
    labels = np.tile([0, 1], 240)
    rows = X.copy()
    rows[:, 0] += 2 * labels

    def features(rows):
        learner = MetaCRLClassifier(verbose=0, random_state=0)
        learner.set_params(estimator__max_epochs=1, estimator__batches_per_epoch=4)
        learner.set_params(estimator__common=None)
        return learner.fit(rows, labels, tasks=tasks, envs=envs).transform(rows)

    np.testing.assert_allclose(features(rows * 1e5), features(rows), atol=0.01)


@pytest.mark.parametrize("kind", [SparseMetaClassifier, MAMLClassifier])
def test_statistics_survive_copies_and_files(kind, tmp_path):
    learner = make_learner(kind).fit(X[OLD] * 1e3, Y[OLD])
    save(learner, tmp_path / "learner.zip")
    expected = learner.transform(X * 1e3)
    copies = [
        load(tmp_path / "learner.zip"),
        pickle.loads(pickle.dumps(learner)),
        copy.deepcopy(learner),
        make_learner(kind).fit(X[OLD] * 1e3, Y[OLD]),
    ]
    for other in copies:
        assert mlp_of(other).inputs_fitted
        np.testing.assert_array_equal(other.transform(X * 1e3), expected)


class Once(Callback):
    """Ends a training in its second epoch, the first time."""

    armed = True

    def on_batch_begin(self, net, training=None, **kwargs):
        if training and len(net.history) == 2 and Once.armed:
            Once.armed = False
            raise RuntimeError("cut short")


def test_a_training_that_goes_on_ends_with_the_same_statistics(tmp_path):
    def learner(name):
        options = Training(checkpoint_path=tmp_path / name)
        return make_learner(max_epochs=2, callbacks=[Once()], net_params=options)

    with pytest.raises(RuntimeError, match="cut short"):
        learner("cut").fit(X[OLD], Y[OLD])
    resumed, whole = (learner(name).fit(X[OLD], Y[OLD]) for name in ("cut", "whole"))
    assert torch.equal(mlp_of(resumed).input_scale, mlp_of(whole).input_scale)
    np.testing.assert_array_equal(resumed.transform(X), whole.transform(X))


def test_warm_start_keeps_the_inputs_that_the_weights_know():
    learner = make_learner(net_params=Training(warm_start=True)).fit(X[OLD], Y[OLD])
    before = mlp_of(learner).input_mean.clone()
    learner.fit(X[OLD] + 3, Y[OLD])
    assert torch.equal(mlp_of(learner).input_mean, before)


def test_rows_on_disk_give_the_statistics_of_rows_in_memory(tmp_path):
    np.save(tmp_path / "rows.npy", X[OLD])
    on_disk = np.load(tmp_path / "rows.npy", mmap_mode="r")
    one, two = (make_learner().fit(rows, Y[OLD]) for rows in (X[OLD], on_disk))
    np.testing.assert_array_equal(one.transform(X), two.transform(X))


def test_a_prepared_backbone_is_standardised_in_single_precision():
    learner = make_learner(net_params=Training(precision="bfloat16"))
    assert score(learner, X + 1e3) > 0.6
    assert mlp_of(learner).input_mean.dtype == torch.float32


class Net(nn.Module):
    """A module of a user with an MLP behind a layer of its own."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 4)
        self.mlp = MLPModule(4, (8,), 5)

    def forward(self, rows):
        return self.mlp(10 + self.first(rows))


def test_an_mlp_inside_a_module_learns_what_reaches_it():
    with isolated_torch_rng(0):
        net = Net()
    learner = make_learner(backbone=net).fit(X[OLD], Y[OLD])
    with torch.no_grad():
        reaching = 10 + net.first(torch.tensor(X[OLD], dtype=torch.float32))
    expected = reaching.double().mean(dim=0)
    np.testing.assert_allclose(mlp_of(learner).input_mean, expected, rtol=1e-5)
    assert not net.mlp.inputs_fitted  # the one given is not touched


def test_frozen_and_fitted_modules_are_left_alone():
    with isolated_torch_rng(0):
        fitted, frozen = MLPModule(6), MLPModule(6).requires_grad_(False)
    fitted.fit_inputs(X + 5)
    learner = make_learner(backbone=fitted).fit(X[OLD], Y[OLD])
    assert torch.equal(mlp_of(learner).input_mean, fitted.input_mean)
    learner = make_learner(backbone=frozen).fit(X[OLD], Y[OLD])
    assert mlp_of(learner).input_mean.abs().sum() == 0


def test_flattened_images_are_standardised_as_they_are_read():
    images = RNG.integers(256, size=(120, 5, 5, 3), dtype=np.uint8)
    learner = make_learner(n_way=2).fit(images, np.repeat(np.arange(6), 20))
    mean = images.transpose(0, 3, 1, 2).reshape(120, -1).mean(axis=0) / 255
    np.testing.assert_allclose(mlp_of(learner).input_mean, mean, rtol=1e-5)


@pytest.mark.parametrize("factor", [1e-200, 1e160])
def test_what_cannot_be_represented_is_refused_by_its_column(factor):
    rows = X.copy()
    rows[:, 4] *= factor
    for kind in (SparseMetaClassifier, MAMLClassifier):
        with pytest.raises(InvalidInputError, match=r"single precision.* column 4;"):
            make_learner(kind).fit(rows, Y)
    with pytest.raises(InvalidInputError, match=r"single precision.* column 4;"):
        MTCRLClassifier(max_epochs=1).fit(rows, np.stack([Y > 9, Y > 4], axis=1))


def test_one_wild_pixel_is_found_where_inputs_are_not_standardised():
    images = RNG.normal(size=(2400, 8, 8))
    images[1001, 3, 3] = 1e30
    labels = np.repeat(np.arange(24), 100)
    for backbone in (Conv4(n_filters=2, n_blocks=1), MLP(standardize=False)):
        with pytest.raises(InvalidInputError, match="Got 1e\\+30"):
            make_learner(backbone=backbone).fit(images, labels)


def of_norm(layer, width=8):
    return nn.Sequential(nn.Linear(6, width), layer, nn.Linear(width, 4))


BATCH_ALONE = {
    "batch": nn.BatchNorm1d(8),
    "plain-average": nn.BatchNorm1d(8, momentum=None),
    "instance": nn.Sequential(
        nn.Unflatten(1, (2, 4)), nn.InstanceNorm1d(2), nn.Flatten()
    ),
    "instance-tracked": nn.Sequential(
        nn.Unflatten(1, (2, 4)),
        nn.InstanceNorm1d(2, track_running_stats=True),
        nn.Flatten(),
    ),
    "group": nn.GroupNorm(2, 8),
}


@pytest.mark.parametrize("name", BATCH_ALONE)
@pytest.mark.parametrize("kind", [SparseMetaClassifier, MAMLClassifier])
def test_each_row_is_predicted_on_its_own(kind, name):
    learner = make_learner(kind, backbone=of_norm(BATCH_ALONE[name]))
    learner.fit(X[OLD], Y[OLD]).adapt(X[SUPPORT], Y[SUPPORT])
    together = learner.decision_function(X[QUERY][:12])
    alone = [learner.decision_function(X[QUERY][k : k + 1]) for k in range(12)]
    np.testing.assert_allclose(np.concatenate(alone), together, atol=1e-5)


@pytest.mark.parametrize(
    "layer",
    [
        nn.BatchNorm1d(8, track_running_stats=False),
        nn.BatchNorm1d(8, affine=False, track_running_stats=False),
        nn.SyncBatchNorm(8, track_running_stats=False),
        nn.LazyBatchNorm1d(track_running_stats=False),
    ],
    ids=lambda layer: type(layer).__name__,
)
@pytest.mark.parametrize("kind", [SparseMetaClassifier, MAMLClassifier])
def test_batch_norm_without_averages_is_refused(kind, layer):
    with pytest.raises(InvalidInputError, match=r"without \(track.*: 'backbone.1' of"):
        make_learner(kind, backbone=of_norm(layer)).fit(X, Y)


def test_batch_norm_without_averages_goes_with_episodes():
    layer = nn.BatchNorm1d(8, track_running_stats=False)
    assert score(make_learner(backbone=of_norm(layer), batch_norm="episode"), X) > 0.4
