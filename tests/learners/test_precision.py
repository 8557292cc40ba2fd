"""Backbones in bfloat16 and compiled, and losses scaled for float16.

There is no GPU where these tests run. What is checked on the CPU: bfloat16 by the
autocast of the CPU, compilation by backends that need no C++ compiler, and the scaling
of losses with torch's scaler of the CPU. Kernels of CUDA are not: float16 itself,
compiled CUDA code and its speed are checked by nobody here.
"""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch.callbacks import GradientNormClipping
from torch import nn
from torch.amp import GradScaler

from skcausalmeta.backbones import MLP, Conv4, PreparedBackbone, prepare_backbone
from skcausalmeta.datasets import make_sparse_classes, make_sparse_tasks
from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.heads import RidgeHead
from skcausalmeta.learners import (
    MAMLClassifier,
    MAMLRegressor,
    MetaCRLClassifier,
    SparseMetaClassifier,
    SparseMetaRegressor,
)
from skcausalmeta.persistence import load, save
from skcausalmeta.training import EpisodeHook, _base_net
from skcausalmeta.training._base_net import loss_scaler

BUNCH = make_sparse_classes(9, 14, 8, n_factors=6, n_informative=3, random_state=0)
OLD = BUNCH.target < 6
X_OLD, Y_OLD = BUNCH.data[OLD], BUNCH.target[OLD]
X_NEW, Y_NEW = BUNCH.data[~OLD], BUNCH.target[~OLD]
SMALL = {
    "max_epochs": 1,
    "batches_per_epoch": 3,
    "tasks_per_batch": 2,
    "backbone": MLP(hidden=(12,)),
    "fit_head": False,
    "verbose": 0,
    "random_state": 0,
}
FLOAT16 = {"precision": "float16"}
BFLOAT16 = {"precision": "bfloat16"}
EAGER = {"compile": {"backend": "eager"}}
TINY = {"backbone": nn.Linear(8, 5)}


def sparse(**params):
    return SparseMetaClassifier(**{"head": RidgeHead(), **SMALL, **params})


def maml(**params):
    return MAMLClassifier(**{**SMALL, "inner_steps": 2, **params})


def anil(**params):
    return maml(adapt_layers="head", **params)


def wrapped(**params):
    return MetaCRLClassifier(sparse(**params))


MAKERS = {"sparse": sparse, "maml": maml, "anil": anil, "metacrl": wrapped}


def net_of(learner):
    return getattr(learner, "estimator_", learner).net_


def weights(learner):
    return [p.detach().numpy() for p in net_of(learner).module_.parameters()]


class Watched(nn.Linear):
    """Tells the number type of its products."""

    def __init__(self, input_shape):
        super().__init__(input_shape[0], 6)
        self.seen = set()

    def forward(self, rows):
        found = super().forward(rows)
        self.seen.add(found.dtype)
        return found


# -- bfloat16 --------------------------------------------------------------------------


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_only_the_backbone_runs_in_bfloat16(make):
    params = {"backbone": Watched}
    single = make(**params).fit(X_OLD, Y_OLD).adapt(X_NEW, Y_NEW)
    half = make(net_params=BFLOAT16, **params).fit(X_OLD, Y_OLD).adapt(X_NEW, Y_NEW)
    backbones = [net_of(learner).module_.backbone for learner in (single, half)]
    assert not isinstance(backbones[0], PreparedBackbone)
    assert isinstance(backbones[1], PreparedBackbone)
    *_, watched = backbones[1].modules()
    assert torch.bfloat16 in watched.seen
    assert {p.dtype for p in net_of(half).module_.parameters()} == {torch.float32}
    features = half.transform(X_NEW)
    assert features.dtype == np.float64
    # 8 bits of mantissa, in the weights learned and in the features
    wanted = single.transform(X_NEW)
    assert 0 < np.abs(features - wanted).max() < 0.1 * np.abs(wanted).max()
    assert half.score(X_NEW, Y_NEW) > single.score(X_NEW, Y_NEW) - 0.1


def test_features_are_those_of_torch_under_autocast():
    learner = sparse(net_params=BFLOAT16).fit(X_OLD, Y_OLD)
    plain = learner.net_.module_.backbone.backbone
    rows = torch.from_numpy(X_NEW).float()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        wanted = plain(rows).float().numpy()
    np.testing.assert_allclose(learner.transform(X_NEW), wanted, rtol=0.02, atol=0.02)
    assert np.abs(wanted - plain(rows).detach().numpy()).max() > 0


@pytest.mark.parametrize(
    "learner",
    [
        SparseMetaRegressor(RidgeHead(), net_params=BFLOAT16, **SMALL),
        MAMLRegressor(net_params=BFLOAT16, **SMALL),
        MAMLRegressor(adapt_layers="head", net_params=EAGER, **SMALL),
    ],
    ids=["sparse", "maml", "anil-compiled"],
)
def test_regressors_too(learner):
    data = make_sparse_tasks(6, 20, n_factors=4, random_state=0)
    learner.fit(data.data, data.target, tasks=data.tasks)
    rows = data.tasks == data.tasks[0]
    learner.adapt(data.data[rows], data.target[rows])
    assert np.isfinite(learner.predict(data.data[rows])).all()


def test_images_with_either_statistics():
    params = {
        "backbone": Conv4(n_blocks=1, n_filters=4),
        "input_shape": (2, 4),
        "net_params": BFLOAT16,
    }
    for batch_norm in ("running", "episode"):
        for make in (sparse, maml):
            learner = make(batch_norm=batch_norm, **params).fit(X_OLD, Y_OLD)
            learner.adapt(X_NEW, Y_NEW)
            assert np.isfinite(learner.predict_proba(X_NEW)).all()


# -- compilation -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "backend"), [(sparse, "aot_eager"), (anil, "eager"), (wrapped, "eager")]
)
def test_a_compiled_backbone_learns_the_same(make, backend):
    plain = make(**TINY).fit(X_OLD, Y_OLD).adapt(X_NEW, Y_NEW)
    learner = make(net_params={"compile": {"backend": backend}}, **TINY)
    learner.fit(X_OLD, Y_OLD).adapt(X_NEW, Y_NEW)
    for found, wanted in zip(weights(learner), weights(plain), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    found, wanted = (one.predict_proba(X_NEW) for one in (learner, plain))
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)


def counting(graphs):
    """A compiler that runs graphs as they are, and counts them."""

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    return backend


@pytest.mark.parametrize("batch_norm", ["running", "episode"])
def test_a_compiled_backbone_follows_the_mode_of_batch_norm(batch_norm):
    module = nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6))
    params = {"backbone": module, "batch_norm": batch_norm}
    plain, graphs = sparse(**params).fit(X_OLD, Y_OLD), []
    learner = sparse(net_params={"compile": {"backend": counting(graphs)}}, **params)
    learner.fit(X_OLD, Y_OLD)
    assert graphs
    found, wanted = learner.transform(X_NEW), plain.transform(X_NEW)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    for one, other in zip(weights(learner), weights(plain), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_the_compiler_is_called_for_every_learner():
    graphs = []
    options = {"backend": counting(graphs), "fullgraph": False}
    for _ in range(6):
        before = len(graphs)
        learner = sparse(net_params={"compile": options}, batches_per_epoch=1, **TINY)
        learner.fit(X_OLD, Y_OLD).transform(X_NEW)
        assert len(graphs) > before
    assert len(graphs) <= 6 * 3  # training, prediction, and not every number of rows
    prepared = learner.net_.module_.backbone
    assert prepared.compile_with == {"dynamic": True, **options}


def test_true_asks_for_dynamic_shapes_and_a_dict_may_refuse_them():
    linear = nn.Linear(2, 2)
    assert prepare_backbone(linear, "float32", True, "cpu").compile_with == {
        "dynamic": True
    }
    fixed = prepare_backbone(linear, "float32", {"dynamic": False}, "cpu")
    assert fixed.compile_with == {"dynamic": False}
    assert prepare_backbone(linear, "float32", False, "cpu") is linear


@pytest.mark.parametrize("options", [EAGER, BFLOAT16])
@pytest.mark.parametrize("make", [sparse, anil, wrapped])
def test_copied_pickled_and_saved_without_compiled_code(make, options, tmp_path):
    learner = make(net_params=options, **TINY).fit(X_OLD, Y_OLD).adapt(X_NEW, Y_NEW)
    wanted = learner.predict_proba(X_NEW)
    save(learner, tmp_path / "learner")
    others = {
        "pickle": pickle.loads(pickle.dumps(learner)),
        "deep copy": copy.deepcopy(learner),
        "file": load(tmp_path / "learner"),
    }
    for name, other in others.items():
        found = other.predict_proba(X_NEW)
        np.testing.assert_array_equal(found, wanted, err_msg=name)
        other.adapt(X_NEW[::2], Y_NEW[::2])
    assert not any("_orig_mod" in key for key in net_of(learner).module_.state_dict())
    again = clone(learner).fit(X_OLD, Y_OLD)
    for found, first in zip(weights(again), weights(learner), strict=True):
        np.testing.assert_array_equal(found, first)


# -- float16: loss scaling -------------------------------------------------------------


def scaled(monkeypatch, scale):
    """Nets that scale their losses, in float32 on the CPU."""
    scalers = []

    def new_scaler(backbone, device):
        scalers.append(GradScaler("cpu", init_scale=scale))
        return scalers[-1]

    monkeypatch.setattr(_base_net, "loss_scaler", new_scaler)
    return scalers


@pytest.mark.parametrize("make", [sparse, anil])
def test_scaled_losses_train_the_same_weights(make, monkeypatch):
    clip = [GradientNormClipping(0.01)]  # on gradients without the scale
    plain = make(callbacks=clip).fit(X_OLD, Y_OLD)
    scalers = scaled(monkeypatch, 2.0**12)
    learner = make(callbacks=clip).fit(X_OLD, Y_OLD)
    assert len(scalers) == 1
    for found, wanted in zip(weights(learner), weights(plain), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)
    assert learner.net_.scaler_ is None
    pickle.dumps(learner)


def test_steps_with_infinite_gradients_are_left_out(monkeypatch):
    start = sparse(lr=1e-30).fit(X_OLD, Y_OLD)
    scalers = scaled(monkeypatch, np.inf)
    learner = sparse(lr=0.1).fit(X_OLD, Y_OLD)
    assert len(scalers) == 1
    for found, wanted in zip(weights(learner), weights(start), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_who_scales_losses():
    assert loss_scaler(nn.Linear(3, 2), "cpu") is None
    backbone = PreparedBackbone(nn.Linear(3, 2), "bfloat16")
    assert loss_scaler(backbone, "cpu") is None
    backbone.precision = "float16"
    assert isinstance(loss_scaler(backbone, "cpu"), GradScaler)


def test_a_float16_learner_predicts_on_a_cpu():
    linear = nn.Linear(3, 2)
    rows = torch.ones(2, 3)
    found = PreparedBackbone(linear, "float16")(rows)
    assert torch.equal(found, linear(rows))


# -- refusals --------------------------------------------------------------------------


class Through(EpisodeHook):
    def build(self, n_features):
        return n_features

    def task_code(self, support, targets, n_way):
        return support[:, 0]

    def transform(self, features, code):
        return features


@pytest.mark.parametrize(
    ("learner", "match"),
    [
        (sparse(net_params=FLOAT16), r"needs a GPU. Got device='cpu'; use"),
        (anil(net_params=FLOAT16), r"needs a GPU. Got device='cpu'; use"),
        (
            sparse(net_params=FLOAT16, device="meta", hook=Through()),
            "Got a hook; use precision='bfloat16'",
        ),
        (
            maml(net_params={"compile": True}),
            r"need adapt_layers='head'.*'compile': True",
        ),
        (
            maml(net_params=FLOAT16, device="meta", batch_norm="episode"),
            r"need adapt_layers='head'.*adapt_layers='all'",
        ),
        (
            sparse(net_params={"compile": {"backned": "eager"}}),
            "keywords of torch.compile.*'backned'",
        ),
    ],
)
def test_what_does_not_go_together(learner, match, monkeypatch):
    # The device stands for one that is not here.
    seen = "skcausalmeta.learners._base.check_device"
    monkeypatch.setattr(seen, lambda device: None)
    with pytest.raises(InvalidInputError, match=match):
        learner.fit(X_OLD, Y_OLD)
    assert not hasattr(learner, "net_")


@pytest.mark.parametrize("options", [{"precision": "half"}, {"compile": "yes"}])
def test_wrong_values(options):
    name = next(iter(options))
    with pytest.raises(ValueError, match=f"'{name}' parameter of Training"):
        sparse(net_params=options).fit(X_OLD, Y_OLD)
