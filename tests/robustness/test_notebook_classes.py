"""Learners of classes that no other process can import, as in a notebook."""

import copy
import multiprocessing
import os
import pickle
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from torch import nn

from skcausalmeta.exceptions import PersistenceError
from skcausalmeta.heads import RidgeHead
from skcausalmeta.learners import (
    MAMLClassifier,
    MTCRLClassifier,
    SparseMetaClassifier,
    SparseMetaRegressor,
)
from skcausalmeta.training import PortableNet

ROOT = Path(__file__).parents[2]
Y = np.repeat(np.arange(4), 10)
X = np.random.default_rng(0).normal(size=(40, 5)) + Y[:, None]
SHORT = {"max_epochs": 1, "verbose": 0, "random_state": 0}
EPISODIC = {**SHORT, "batches_per_epoch": 2, "tasks_per_batch": 2}


def local_parts():
    """A backbone, a head and a callback whose classes have no name to import."""

    class Layer(nn.Module):
        def __init__(self, width=6):
            super().__init__()
            self.layer = nn.Linear(5, width)

        def forward(self, rows):
            return self.layer(rows).relu()

    class Head(RidgeHead):
        def _scores(self, X):
            return super()._scores(X)

    class Count(Callback):
        n_seen = 0

        def on_epoch_end(self, net, **kwargs):
            self.n_seen += 1

    return Layer, Head, Count


def local_learner(cls=SparseMetaClassifier):
    layer, head, count = local_parts()
    given = {"head": head()} if cls is SparseMetaClassifier else {}
    return cls(backbone=layer(), callbacks=[count()], **given, **EPISODIC).fit(X, Y)


def local_backbones():
    """Backbones, and ways to make one, that no other process can import."""
    layer = local_parts()[0]

    @dataclass(eq=False)
    class Settings(nn.Module):
        width: int = 6

        def __post_init__(self):
            super().__init__()
            self.layer = nn.Linear(5, self.width)

        def forward(self, rows):
            return self.layer(rows).relu()

    def built(input_shape):
        return nn.Linear(*input_shape, 6)

    hooked = layer()
    hooked.register_forward_hook(lambda module, rows, found: 2.0 * found)
    return {
        "class": layer,
        "dataclass": Settings(),
        "function": built,
        "lambda": lambda input_shape: nn.Linear(*input_shape, 6),
        "partial": partial(layer, width=3),
        "hook": hooked,
    }


@pytest.mark.parametrize("name", local_backbones())
def test_what_makes_a_backbone_travels_by_value(name):
    given = local_backbones()[name]
    learner = SparseMetaClassifier(RidgeHead(), backbone=given, **EPISODIC).fit(X, Y)
    expected = learner.decision_function(X)
    twin = cloudpickle.loads(cloudpickle.dumps(learner))
    np.testing.assert_array_equal(twin.decision_function(X), expected)
    np.testing.assert_array_equal(twin.fit(X, Y).decision_function(X), expected)


@pytest.mark.parametrize("cls", [SparseMetaClassifier, MAMLClassifier])
def test_local_classes_travel_by_value(cls):
    learner = local_learner(cls).adapt(X[:20], Y[:20])
    twin = pickle.loads(cloudpickle.dumps(learner))
    np.testing.assert_array_equal(twin.predict(X), learner.predict(X))
    again = twin.adapt(X[20:], Y[20:]).predict(X)
    np.testing.assert_array_equal(again, learner.adapt(X[20:], Y[20:]).predict(X))
    assert twin.fit(X, Y).n_iter_ == 1  # with its callbacks


@pytest.mark.parametrize(
    "learner",
    [
        SparseMetaClassifier(RidgeHead(), **EPISODIC),
        SparseMetaRegressor(**EPISODIC),
        MAMLClassifier(**EPISODIC),
        MTCRLClassifier(**SHORT),
    ],
    ids=lambda one: type(one).__name__,
)
def test_pickles_and_copies_answer_alike_and_train_on(learner):
    y = Y * 1.0 if isinstance(learner, SparseMetaRegressor) else Y
    learner.fit(X, y)
    for twin in (pickle.loads(pickle.dumps(learner)), copy.deepcopy(learner)):
        np.testing.assert_array_equal(twin.predict(X), learner.predict(X))
        net = twin.net_
        assert net is not learner.net_
        mine = {id(p) for p in net.module_.parameters()}
        moved = {
            id(p) for group in net.optimizer_.param_groups for p in group["params"]
        }
        assert moved <= mine  # the optimiser steps the module it came with
        assert vars(net).keys() == vars(learner.net_).keys()


def test_a_net_of_an_absent_device_comes_back_on_the_cpu():
    net = copy.deepcopy(local_learner().net_)
    # Written as if it lived elsewhere; the layout is that of a CPU in any case.
    state = net.__getstate__()
    state["device"] = "cuda"
    twin = object.__new__(type(net))
    if torch.cuda.is_available():
        twin.__setstate__(state)
        assert next(twin.module_.parameters()).device.type == "cuda"
    else:
        with pytest.warns(UserWarning, match="CUDA"):
            twin.__setstate__(state)
        assert str(twin.device) == "cpu"
        assert next(twin.module_.parameters()).device.type == "cpu"


@pytest.mark.parametrize(
    ("change", "got"),
    [
        ({"__written_by_skorch__": "1.1.0"}, r"one of skorch 1\.1\.0"),
        ({"__written_by_skorch__": None}, "an older layout"),
        ({"__written_by_skorch__": "unknown"}, "one of skorch unknown"),
    ],
)
def test_pickles_of_an_older_skorch_are_refused_with_the_reason(change, got):
    net = PortableNet(nn.Linear(2, 1), criterion=nn.MSELoss).initialize()
    state = {**net.__getstate__(), **change}
    twin = object.__new__(PortableNet)
    with pytest.raises(PersistenceError, match=f"skorch 1.2 or later.*Got {got}; load"):
        twin.__setstate__(state)


# -- real processes --------------------------------------------------------------------

NOTEBOOK = """
    import sys
    import numpy as np
    from torch import nn
    from skorch.callbacks import Callback
    from sklearn.ensemble import VotingClassifier
    from sklearn.inspection import permutation_importance
    from sklearn.model_selection import cross_validate
    from skcausalmeta.heads import RidgeHead
    from skcausalmeta.learners import MAMLClassifier, SparseMetaClassifier
    from skcausalmeta.model_selection import evaluate_few_shot

    class Layer(nn.Module):
        def __init__(self, width=6):
            super().__init__()
            self.layer = nn.Linear(5, width)

        def forward(self, rows):
            return self.layer(rows).relu()

    class Head(RidgeHead):
        def _scores(self, X):
            return super()._scores(X)

    class Count(Callback):
        def on_epoch_end(self, net, **kwargs):
            self.n_seen_ = getattr(self, "n_seen_", 0) + 1

    y = np.repeat(np.arange(4), 15)
    X = np.random.default_rng(0).normal(size=(60, 5)) + 3 * y[:, None]
    short = dict(max_epochs=1, batches_per_epoch=2, verbose=0, random_state=0)
    learner = SparseMetaClassifier(
        Head(), backbone=Layer(), callbacks=[Count()], **short
    )
    few = dict(n_way=2, n_shot=2, n_query=3, n_episodes=6, random_state=0)
"""
JOBLIB = """
    learner.fit(X, y)
    alone = evaluate_few_shot(learner, X, y, **few).scores
    shared = evaluate_few_shot(learner, X, y, n_jobs=2, **few).scores
    np.testing.assert_array_equal(alone, shared)
    maml = MAMLClassifier(backbone=Layer(), **short).fit(X, y).adapt(X[:30], y[:30])
    assert evaluate_few_shot(maml, X, y, n_jobs=2, **few).n_episodes == 6
    permutation_importance(learner, X, y, n_repeats=2, n_jobs=2)
    found = cross_validate(learner, X, y, cv=2, return_estimator=True, n_jobs=2)
    callbacks = dict(found["estimator"][0].net_.callbacks_)
    assert any(getattr(one, "n_seen_", 0) == 1 for one in callbacks.values())
    voting = VotingClassifier([("a", learner), ("b", learner)], n_jobs=2).fit(X, y)
    print(len(voting.predict(X)))
"""
DASK = """
    import joblib
    from dask.distributed import Client, LocalCluster

    with LocalCluster(2, threads_per_worker=1, dashboard_address=None) as cluster:
        with Client(cluster) as client:
            learner.fit(X, y)
            alone = evaluate_few_shot(learner, X, y, **few).scores
            with joblib.parallel_backend("dask"):
                shared = evaluate_few_shot(learner, X, y, n_jobs=2, **few).scores
            np.testing.assert_array_equal(alone, shared)
            answer = client.submit(learner.predict, X).result()
            assert (answer == learner.predict(X)).all()
    print(60)
"""
FORKED = """
    import multiprocessing
    import torch

    torch.set_num_threads(1)
    learner.fit(X, y)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        answers = pool.map(learner.predict, [X[:30], X[30:]])
    assert (np.concatenate(answers) == learner.predict(X)).all()
    print(60)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "work",
    [
        JOBLIB,
        DASK,
        pytest.param(
            FORKED,
            marks=pytest.mark.skipif(
                "fork" not in multiprocessing.get_all_start_methods(),
                reason="processes are not forked on this system",
            ),
        ),
    ],
    ids=["loky", "dask", "fork"],
)
def test_classes_of_a_notebook_reach_other_processes(work):
    program = textwrap.dedent(NOTEBOOK) + textwrap.dedent(work)
    if work is DASK:
        body = textwrap.indent(program, "    ")
        program = f"def main():\n{body}\nif __name__ == '__main__':\n    main()\n"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split()[-1] == "60"
