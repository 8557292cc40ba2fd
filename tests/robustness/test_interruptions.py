"""Nothing that was learned changes by use, however a call ends."""

import random
import sys

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from torch import nn

from skcausalmeta.exceptions import InterruptedFitWarning
from skcausalmeta.heads import RidgeHead
from skcausalmeta.learners import (
    MAMLClassifier,
    MetaCRLClassifier,
    MTCRLClassifier,
    SparseMetaClassifier,
)
from skcausalmeta.training import apart

RNG = np.random.default_rng(0)
Y = np.tile([0, 1], 24)
TASKS = np.repeat(np.arange(4), 12)
X = RNG.standard_normal((48, 4))
X[np.arange(48), Y] += 4
SMALL = {
    "max_epochs": 1,
    "batches_per_epoch": 2,
    "tasks_per_batch": 2,
    "verbose": 0,
    "random_state": 0,
}
LEARNERS = {
    "sparse": SparseMetaClassifier(RidgeHead(), batch_norm="episode", **SMALL),
    "maml": MAMLClassifier(inner_steps=2, **SMALL),
    "metacrl": MetaCRLClassifier(MAMLClassifier(inner_steps=1, **SMALL)),
    "mtcrl": MTCRLClassifier(max_epochs=1, random_state=0),
}
# Where parts of a module are exchanged for a moment.
SWAPS = ("stateless.py", "_named_member_accessor.py", "functional_call.py", "_net.py")


def net_of(learner):
    return getattr(learner, "estimator_", learner).net_


def state(learner):
    """Return values, and what stands in every layer, of a fitted learner."""
    module = net_of(learner).module_
    values = {name: value.clone() for name, value in module.state_dict().items()}
    layers = [
        (name, layer.training, *map(id, layer._parameters.values()), *vars(layer))
        for name, layer in module.named_modules()
    ]
    return values, layers


def assert_same(before, after):
    assert before[1] == after[1]
    assert before[0].keys() == after[0].keys()
    for name, value in before[0].items():
        assert torch.equal(value, after[0][name]), name


def interrupted(call, at, files=SWAPS):
    """Run a call, stopped at one of its moments; return how many there were."""
    count = 0

    def trace(frame, event, argument):
        nonlocal count
        if not frame.f_code.co_filename.endswith(files):
            return trace
        frame.f_trace_opcodes = True
        count += 1
        if count == at:
            sys.settrace(None)
            raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(None)
    return count


@pytest.fixture(scope="module", params=LEARNERS)
def fitted(request):
    return LEARNERS[request.param].fit(X, Y, tasks=TASKS)


def test_interrupted_calls_leave_what_was_learned(fitted):
    before, expected = state(fitted), fitted.transform(X)
    tasks = X[None, :12], Y[None, :12], X[None, 12:]
    moments = random.Random(0)
    for call in (
        lambda: fitted.adapt(X[:12], Y[:12]),
        lambda: fitted.predict(X),
        lambda: fitted.predict_episodes(*tasks),
    ):
        n_moments = interrupted(call, 0)
        for _ in range(8):
            interrupted(call, moments.randint(1, max(n_moments, 1)))
            assert_same(before, state(fitted))
    np.testing.assert_array_equal(fitted.transform(X), expected)


class Stop(Callback):
    def on_batch_end(self, net, training=None, **kwargs):
        raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["sparse", "maml", "mtcrl"])
def test_an_interrupted_fit_says_what_it_keeps(name):
    learner = type(LEARNERS[name])(**LEARNERS[name].get_params(deep=False))
    learner.set_params(callbacks=[Stop()])
    with pytest.warns(InterruptedFitWarning, match="Kept are the weights of that"):
        learner.fit(X, Y, tasks=TASKS)
    assert len(learner.predict(X)) == len(X)


def test_an_interruption_before_the_epochs_leaves_the_learner(monkeypatch):
    learner = SparseMetaClassifier(RidgeHead(), **SMALL).fit(X, Y, tasks=TASKS)
    before = state(learner)

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(SparseMetaClassifier, "_plan", stop)
    with (
        pytest.warns(InterruptedFitWarning, match="as it was, fitted before"),
        pytest.raises(KeyboardInterrupt),
    ):
        learner.fit(X, Y, tasks=TASKS)
    assert_same(before, state(learner))


def test_a_module_apart_shares_tensors_and_no_layers():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(2, 2)
            self.layers = [self.first]
            self.rnn = nn.LSTM(2, 2)

    module = Named()
    twin = apart(module)
    assert twin.layers[0] is twin.first is not module.first
    assert twin.first.weight is module.first.weight
    twin.first._parameters["weight"] = None
    assert module.first.weight is not None
    assert twin.rnn._flat_weights is not module.rnn._flat_weights
