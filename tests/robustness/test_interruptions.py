"""Nothing that was learned changes by use, however a call ends."""

import copy
import random
import sys
import threading
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch.callbacks import Callback
from torch import nn

from skcausalmeta.backbones import PreparedBackbone
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
    "common": SparseMetaClassifier(
        RidgeHead(), batch_norm="episode", common="linear", shared_labels=True, **SMALL
    ),
}
# Where parts of a module are exchanged for a moment.
SWAPS = ("stateless.py", "_named_member_accessor.py", "functional_call.py", "_net.py")
# And where anything is taken that has to be given back.
TURNS = (*SWAPS, "contextlib.py", "_batch_norm.py", "_apart.py", "_random.py")
# Files of the package that many tasks go through.
OWN = (*SWAPS, "_solved_tasks.py", "_task_blocks.py", "_task_index.py", "_novelty.py")
# Seconds after which a call counts as one that does not end.
LIMIT = 60


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


def interrupted(call, at, files=SWAPS, errors=None):
    """Run a call, stopped at one of its moments; return how many there were.

    What stopped it is kept in a list of errors, with all that it refers to.
    """
    count, errors = 0, [] if errors is None else errors

    def trace(frame, event, argument):
        nonlocal count
        if not frame.f_code.co_filename.endswith(files):
            return None  # its lines are no moments; what it calls is asked again
        frame.f_trace_opcodes = True
        count += 1
        if count == at:
            sys.settrace(None)
            raise KeyboardInterrupt
        return trace

    follows = torch.is_grad_enabled()
    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt as error:
        errors.append(error)
    finally:
        sys.settrace(None)
        torch.set_grad_enabled(follows)  # which is torch's own to give back
    return count


def in_threads(calls):
    """Run every call in a thread of its own, and return what they return."""
    found = {}
    threads = [
        threading.Thread(
            target=lambda k=k, call=call: found.update({k: call()}), daemon=True
        )
        for k, call in enumerate(calls)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert not any(thread.is_alive() for thread in threads), "a call does not end"
    return [found[k] for k in range(len(calls))]


def calls_of(learner):
    """Return what threads may ask of a learner that they share."""
    tasks = X[None, :12], Y[None, :12], X[None, 12:]
    return [
        lambda: learner.predict_episodes(*tasks),
        lambda: copy.copy(learner).adapt(X[:12], Y[:12]).predict_proba(X),
        lambda: learner.predict_proba(X),
        lambda: learner.transform(X),
    ]


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
        for _ in range(3):
            interrupted(call, moments.randint(1, max(n_moments, 1)))
            assert_same(before, state(fitted))
    np.testing.assert_array_equal(fitted.transform(X), expected)


def test_interrupted_calls_of_many_tasks_leave_what_was_learned(fitted):
    before = state(fitted)
    solved = fitted.adapt_tasks(X, Y, TASKS)
    blocks, asked = solved._index.all_blocks, solved.predict(X, TASKS)
    moments = random.Random(0)
    calls = [
        lambda: fitted.adapt_tasks(X, Y, TASKS),
        lambda: solved.update(X[:12], 1 - Y[:12], TASKS[:12] + 9),
        lambda: solved.predict_proba(X, TASKS),
    ]
    if hasattr(fitted, "novelty_score"):
        adapted = copy.copy(fitted).adapt(X[:12], Y[:12])
        calls.append(lambda: adapted.novelty_score(X))
    for k, call in enumerate(calls):
        n_moments = interrupted(call, 0, OWN)
        if k == 1:
            assert solved.ids_.tolist() == [0, 1, 2, 3, 9]
            solved.drop([9])
            blocks = solved._index.all_blocks
        for _ in range(3):
            at = moments.randint(1, n_moments)
            run = partial(interrupted, call, at, OWN)
            run() if moments.random() < 0.5 else in_threads([run])
            assert_same(before, state(fitted))
            if k == 1 and solved._index.all_blocks is not blocks:  # it was done
                assert solved.ids_.tolist() == [0, 1, 2, 3, 9]
                solved.drop([9])
                blocks = solved._index.all_blocks
            assert solved._index.all_blocks is blocks
            assert solved.failed_ == {}
    np.testing.assert_array_equal(solved.predict(X, TASKS), asked)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_modes_of_torch_change_no_answer(fitted, mode):
    calls = calls_of(fitted)
    expected = [call() for call in calls]
    with mode():
        for call, one in zip(calls, expected, strict=True):
            np.testing.assert_array_equal(call(), one)
        again = clone(fitted).fit(X, Y, tasks=TASKS)
    np.testing.assert_array_equal(again.transform(X), fitted.transform(X))
    np.testing.assert_array_equal(calls_of(again)[1](), expected[1])


def test_threads_answer_as_one_and_end(fitted):
    before, calls = state(fitted), calls_of(fitted)
    alone = [call() for call in calls]
    for one, other in zip(alone * 2, in_threads(calls * 2), strict=True):
        np.testing.assert_array_equal(one, other)
    assert_same(before, state(fitted))


def test_threads_go_on_where_another_was_interrupted(fitted):
    before, calls, errors = state(fitted), calls_of(fitted), []
    moments = random.Random(0)
    for call in calls:
        alone, n_moments = call(), interrupted(call, 0, TURNS)
        # The last moments are those in which something is given back.
        for late in (False, True):
            low = max(1, n_moments - 60) if late else 1
            at = moments.randint(low, max(n_moments, 1))
            in_threads([partial(interrupted, call, at, TURNS, errors)])
            (found,) = in_threads([call])
            np.testing.assert_array_equal(found, alone)
            assert_same(before, state(fitted))
    assert errors


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


@pytest.mark.parametrize("name", ["sparse", "maml", "mtcrl"])
def test_an_interruption_on_the_way_to_the_epochs_is_told(name, monkeypatch):
    def stop(module):
        raise KeyboardInterrupt

    monkeypatch.setattr("skcausalmeta.training._interruption._places", stop)
    learner = type(LEARNERS[name])(**LEARNERS[name].get_params(deep=False))
    if name == "sparse":
        learner.set_params(common=None)
    with pytest.warns(InterruptedFitWarning, match="before its first epoch"):
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


@pytest.mark.parametrize("name", ["sparse", "maml"])
def test_what_an_interrupted_fit_exchanged_is_put_back(name):
    class Leave(Callback):
        def on_batch_end(self, net, training=None, **kwargs):
            layers = list(net.module_.modules())
            norm = next(one for one in layers if isinstance(one, nn.BatchNorm1d))
            norm.forward, norm.momentum = lambda rows: rows * 0, 0.0
            linear = next(one for one in layers if isinstance(one, nn.Linear))
            linear._parameters["weight"] = torch.zeros_like(linear.weight)
            raise KeyboardInterrupt

    learner = type(LEARNERS[name])(**LEARNERS[name].get_params(deep=False))
    backbone = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, momentum=None))
    learner.set_params(backbone=backbone, batch_norm="episode", callbacks=[Leave()])
    if name == "sparse":
        learner.set_params(common=None)  # whose training has epochs of its own
    with pytest.warns(InterruptedFitWarning, match="Kept are the weights of that"):
        learner.fit(X, Y, tasks=TASKS)
    (norm,) = (
        layer
        for layer in net_of(learner).module_.modules()
        if isinstance(layer, nn.BatchNorm1d)
    )
    assert "forward" not in vars(norm)
    assert norm.momentum is None
    parameters = list(net_of(learner).module_.parameters())
    assert all(one.is_leaf and isinstance(one, nn.Parameter) for one in parameters)
    assert any(one.shape == (3, 4) and one.any() for one in parameters)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.parametrize(
    "prepare",
    [
        lambda module: torch.compile(module, backend="eager"),
        lambda module: PreparedBackbone(module, compile_with={"backend": "eager"}),
        torch.jit.script,
    ],
    ids=["torch.compile", "compile=True", "torch.jit.script"],
)
def test_what_is_compiled_is_exchanged_in_copies_alone(prepare):
    inner = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).eval()
    module = nn.Sequential(prepare(inner), nn.Linear(2, 1)).eval()
    twin, rows = apart(module, compiled=False), torch.eye(2)
    assert apart(module)[0] is module[0]
    torch.testing.assert_close(twin(rows), module(rows))
    names = [name for name, _ in module.named_parameters()]
    assert names == [name for name, _ in twin.named_parameters()]
    layers = {id(layer) for layer in module.modules()}
    assert not layers & {id(layer) for layer in twin.modules()}
    expected, seen = module(rows), {}

    class Look(nn.Module):
        def forward(self, values):
            seen["expected"] = module(rows)  # by another who shares the module
            return values

    twin.append(Look())
    changed = {names[0]: torch.zeros(2, 2)}
    found = torch.func.functional_call(twin, changed, (rows,))
    assert not torch.equal(found, expected)
    torch.testing.assert_close(seen["expected"], expected)


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
