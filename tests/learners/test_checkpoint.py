"""Training that is cut short and goes on ends where it would have ended."""

import multiprocessing
import os
import pickle
import random
import signal
import time

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback, LRScheduler
from torch import nn

from skcausalmeta import persistence
from skcausalmeta.exceptions import InvalidInputError, PersistenceError
from skcausalmeta.heads import GroupLassoSVC, PrototypeHead, RidgeHead
from skcausalmeta.learners import (
    MAMLClassifier,
    MAMLRegressor,
    MetaCRLClassifier,
    MTCRLClassifier,
    SparseMetaClassifier,
    SparseMetaRegressor,
)
from skcausalmeta.training import HeadWarmup, Validation

RNG = np.random.default_rng(0)
X = RNG.standard_normal((120, 4)).astype(np.float32)
CLASSES = np.arange(120) % 6
TASKS = np.arange(120) % 8
VALUES = X[:, 0] + 0.1 * RNG.standard_normal(120)
BINARY = (RNG.random((120, 3)) < 0.5).astype(int)
SMALL = {"batches_per_epoch": 3, "tasks_per_batch": 2, "max_epochs": 4, "verbose": 0}


class Crash(Exception):
    """What a training is cut short by."""


class CrashOnce(Callback):
    """Fails in the middle of an epoch, the first time that it comes to it."""

    armed = True

    def __init__(self, epoch=3):
        self.epoch = epoch

    def on_batch_begin(self, net, training=None, **kwargs):
        row = net.history[-1]
        late = training and row["epoch"] == self.epoch and len(row["batches"]) == 2
        if late and CrashOnce.armed:
            CrashOnce.armed = False
            raise Crash


class Shaky(nn.Module):
    """A backbone that draws from torch's own random numbers."""

    def __init__(self, input_shape):
        super().__init__()
        layers = nn.Linear(input_shape[0], 8), nn.BatchNorm1d(8), nn.Dropout(0.3)
        self.layers = nn.Sequential(*layers)

    def forward(self, rows):
        return self.layers(rows)


def decay():
    return LRScheduler("StepLR", step_size=1, gamma=0.7)


def learners():
    tasks = {"tasks": TASKS}
    yield (
        "shaky",
        SparseMetaClassifier(
            PrototypeHead(),
            backbone=Shaky,
            validation=Validation(0.4, n_episodes=4),
            callbacks=[decay(), CrashOnce()],
            **SMALL,
        ),
        (X, CLASSES),
        {},
    )
    yield (
        "warmup",
        SparseMetaClassifier(
            GroupLassoSVC(0.3, solver="newton"),
            callbacks=[HeadWarmup("group_reg", n_epochs=3), CrashOnce()],
            **SMALL,
        ),
        (X, CLASSES),
        {},
    )
    kfo = {"update": "kfo", "callbacks": [CrashOnce()], "fit_head": False}
    yield "kfo", MAMLClassifier(**kfo, **SMALL), (X, CLASSES), {}
    # Every task has half of the classes, which is enough for labels to be kept.
    shared = MAMLClassifier(n_shot=(1, 3), callbacks=[CrashOnce()], **SMALL)
    yield "shared-labels", shared, (X, CLASSES), tasks
    yield "maml", MAMLRegressor(**kfo, **SMALL), (X, VALUES), tasks
    sparse = SparseMetaRegressor(common=None, callbacks=[CrashOnce()], **SMALL)
    yield "sparse", sparse, (X, VALUES), tasks
    # Epochs are as given with a validation of one's own: the crash is reached.
    held_out = {"validation": Validation(0.3, n_episodes=4, patience=None)}
    around = SparseMetaRegressor(callbacks=[CrashOnce()], **held_out, **SMALL)
    yield "common", around, (X, VALUES), tasks
    around = SparseMetaClassifier(callbacks=[CrashOnce()], **held_out, **SMALL)
    yield "common-classes", around, (X, CLASSES), tasks
    wrapped = SparseMetaClassifier(RidgeHead(), callbacks=[CrashOnce()], **SMALL)
    yield "metacrl", MetaCRLClassifier(wrapped, causal_every=2), (X, CLASSES), {}
    several = MTCRLClassifier(
        max_epochs=4,
        batch_size=20,
        callbacks=[CrashOnce(), decay()],
    )
    yield "mtcrl", several, (X, BINARY), {}


CASES = {name: rest for name, *rest in learners()}


def weights(learner):
    held = getattr(learner, "estimator_", learner)
    return held.net_.module_.state_dict()


def same(one, two):
    return all(torch.equal(one[k], two[k]) for k in one.keys() | two.keys())


def with_path(learner, path):
    inner = "estimator__" if hasattr(learner, "estimator") else ""
    return learner.set_params(**{f"{inner}net_params__checkpoint_path": path})


def fresh(name, path=None, random_state=0):
    learner, data, keywords = pickle.loads(pickle.dumps(CASES[name]))
    learner.set_params(random_state=random_state)
    return with_path(learner, path), data, keywords


@pytest.mark.parametrize("name", CASES)
def test_a_training_cut_short_goes_on_to_the_same_weights(name, tmp_path):
    path = tmp_path / "training.ckpt"
    CrashOnce.armed = False
    learner, data, keywords = fresh(name)
    whole = weights(learner.fit(*data, **keywords))
    CrashOnce.armed = True
    learner, *_ = fresh(name, path)
    with pytest.raises(Crash):
        learner.fit(*data, **keywords)
    learner, *_ = fresh(name, path)
    learner.fit(*data, **keywords)
    assert same(weights(learner), whole)
    held = getattr(learner, "estimator_", learner)
    assert [row["epoch"] for row in held.history_] == [1, 2, 3, 4]
    # A training that is done is not repeated.
    CrashOnce.armed = True
    learner, *_ = fresh(name, path)
    assert same(weights(learner.fit(*data, **keywords)), whole)
    assert CrashOnce.armed


def test_without_a_seed_the_episodes_go_on_too(tmp_path):
    """Held-out classes and all other draws are those of the first attempt."""
    path, other = tmp_path / "one.ckpt", tmp_path / "two.ckpt"
    CrashOnce.armed = True
    learner, data, _ = fresh("shaky", path, random_state=None)
    with pytest.raises(Crash):
        learner.fit(*data)
    other.write_bytes(path.read_bytes())
    found = [fresh("shaky", p, random_state=None)[0].fit(*data) for p in (path, other)]
    assert same(weights(found[0]), weights(found[1]))


def test_early_stopping_goes_on_counting(tmp_path):
    path = tmp_path / "training.ckpt"
    patient = {"max_epochs": 30, "validation__patience": 3, "lr": 0.3}
    CrashOnce.armed = False
    learner, data, _ = fresh("shaky")
    whole = learner.set_params(**patient).fit(*data)
    assert whole.n_iter_ < 30
    CrashOnce.armed = True
    with pytest.raises(Crash):
        fresh("shaky", path)[0].set_params(**patient).fit(*data)
    again = fresh("shaky", path)[0].set_params(**patient).fit(*data)
    assert again.n_iter_ == whole.n_iter_
    assert same(weights(again), weights(whole))


def test_a_bar_starts_where_training_goes_on(tmp_path, capsys):
    path = tmp_path / "training.ckpt"
    CrashOnce.armed = True
    learner, data, _ = fresh("kfo", path)
    with pytest.raises(Crash):
        learner.fit(*data)
    fresh("kfo", path)[0].set_params(verbose=1).fit(*data)
    assert "12/12" in capsys.readouterr().err


# -- other files -----------------------------------------------------------------------


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    path = tmp_path / "training.ckpt"
    CrashOnce.armed = False
    learner, data, _ = fresh("kfo", path)
    learner.fit(*data)
    before = weights(learner)
    with pytest.raises(InvalidInputError, match="another inner_lr, lr; give a"):
        learner.set_params(lr=0.5, inner_lr=0.5).fit(*data)
    learner, *_ = fresh("kfo", path)
    with pytest.raises(InvalidInputError, match="another data; give"):
        learner.fit(data[0] + 1, data[1])
    with pytest.raises(InvalidInputError, match="another data; give"):
        learner.fit(data[0], data[1][::-1])
    assert same(weights(fresh("kfo", path)[0].fit(*data)), before)


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "estimator"])
def test_a_damaged_checkpoint_is_never_read(damage, tmp_path):
    path = tmp_path / "training.ckpt"
    CrashOnce.armed = False
    learner, data, _ = fresh("kfo", path)
    learner.fit(*data)
    if damage == "estimator":
        persistence.save(RidgeHead(), path)
    else:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        size = {"cut": len(content) - 7, "flipped": len(content), "empty": 0}[damage]
        path.write_bytes(content[:size])
    with pytest.raises(PersistenceError, match=r"from the start|another path"):
        fresh("kfo", path)[0].fit(*data)


def test_a_checkpoint_is_no_estimator(tmp_path):
    path = tmp_path / "training.ckpt"
    CrashOnce.armed = False
    learner, data, _ = fresh("kfo", path)
    learner.fit(*data)
    with pytest.raises(PersistenceError, match="must hold an estimator"):
        persistence.load(path)
    with pytest.raises(PersistenceError):
        persistence.describe(path)


class Hoarder(Callback):
    """Keeps what no file can hold."""

    def on_epoch_end(self, net, **kwargs):
        self.kept_ = object()


def test_callbacks_that_cannot_be_saved_are_named(tmp_path):
    learner, data, _ = fresh("kfo", tmp_path / "training.ckpt")
    with pytest.raises(PersistenceError, match=r"kept_=<object.*of 'Hoarder'"):
        learner.set_params(callbacks=[Hoarder()]).fit(*data)


def test_a_learner_with_a_checkpoint_is_saved_as_any(tmp_path):
    CrashOnce.armed = False
    learner, data, _ = fresh("kfo", str(tmp_path / "training.ckpt"))
    learner.fit(*data)
    learner.set_params(callbacks=None)
    names = [name for name, _ in learner.net_.callbacks_]
    assert "checkpoint" in names
    assert same(weights(pickle.loads(pickle.dumps(learner))), weights(learner))
    persistence.save(learner, tmp_path / "learner")
    modules = {"CrashOnce": CrashOnce}
    again = persistence.load(tmp_path / "learner", modules=modules)
    assert same(weights(again), weights(learner))


# -- kill -9 ---------------------------------------------------------------------------


def train_for_long(path, epochs):
    torch.set_num_threads(1)
    learner, data, _ = fresh("shaky", path)
    learner.set_params(max_epochs=epochs, validation__patience=epochs)
    learner.set_params(callbacks=[decay()])
    return learner.fit(*data)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kill -9 is of POSIX")
def test_training_survives_kill_9(tmp_path):
    """20 kills at random moments; the weights are those of a quiet training."""
    path, epochs = tmp_path / "training.ckpt", 40
    train_for_long(tmp_path / "first.ckpt", 1)  # loads what torch loads late
    start = time.perf_counter()
    whole = weights(train_for_long(None, epochs))
    seconds = time.perf_counter() - start
    train_for_long(tmp_path / "second.ckpt", 1)
    first = time.perf_counter() - start - seconds
    for one in tmp_path.iterdir():
        one.unlink()
    draw, context = random.Random(0), multiprocessing.get_context("fork")
    n_kills = 0
    for _ in range(20):
        child = context.Process(target=train_for_long, args=(path, epochs))
        child.start()
        child.join(draw.uniform(0.0, first + seconds / 8))
        if child.is_alive():
            os.kill(child.pid, signal.SIGKILL)
            n_kills += 1
        child.join()
    assert n_kills >= 10
    assert path.exists()
    assert same(weights(train_for_long(path, epochs)), whole)
    # Drafts that a kill left behind are beside the file, never in its place.
    assert all(".tmp" in p.name for p in tmp_path.iterdir() if p != path)


# -- warm start ------------------------------------------------------------------------


def parameters(learner):
    module = getattr(learner, "estimator_", learner).net_.module_
    return [p.detach().clone() for p in module.parameters() if p.numel()]


def distance(one, two):
    return float((one - two).abs().max())


@pytest.mark.parametrize("name", ["kfo", "sparse", "mtcrl", "metacrl"])
def test_a_warm_start_begins_with_the_weights_before(name):
    CrashOnce.armed = False
    learner, data, keywords = fresh(name)
    inner = "estimator__" if name == "metacrl" else ""
    still = {f"{inner}lr": 1e-12, f"{inner}net_params__warm_start": True}
    still |= {k: 1e-12 for k in ("xi_lr", "group_lr") if k in learner.get_params()}
    if name == "mtcrl":
        still |= {"net_params__keywords": {"routing_lr": 1e-12}}
    before = parameters(learner.fit(*data, **keywords))
    warm = parameters(learner.set_params(**still).fit(*data, **keywords))
    assert max(map(distance, before, warm)) < 1e-4
    learner.set_params(**{f"{inner}net_params__warm_start": False})
    cold = parameters(learner.fit(*data, **keywords))
    assert max(map(distance, before, cold)) > 1e-3


def test_a_warm_start_needs_the_same_sizes():
    CrashOnce.armed = False
    learner, data, _ = fresh("kfo")
    learner.fit(*data)
    before = weights(learner)
    learner.set_params(net_params__warm_start=True)
    with pytest.raises(InvalidInputError, match="set warm_start=False"):
        learner.fit(data[0][:, :3], data[1])
    assert same(weights(learner), before)
