"""Checkpoints that somebody has changed: refused, whatever they say."""

import numpy as np
import pytest
import torch
from skorch.callbacks import LRScheduler

from skcausalmeta.exceptions import PersistenceError
from skcausalmeta.heads import RidgeHead
from skcausalmeta.learners import SparseMetaClassifier
from skcausalmeta.persistence import read_value, write_value
from skcausalmeta.training import Validation
from skcausalmeta.training._checkpoint_state import packed, unpacked

RNG = np.random.RandomState(0)
X, Y = RNG.randn(60, 4), np.repeat(np.arange(6), 10)


def learner(path):
    return SparseMetaClassifier(
        RidgeHead(),
        max_epochs=2,
        batches_per_epoch=2,
        tasks_per_batch=2,
        n_shot=2,
        n_query=2,
        verbose=0,
        random_state=0,
        augment=None,
        callbacks=[("decay", LRScheduler("StepLR", step_size=1))],
        validation=Validation(0.4, n_episodes=2),
        net_params={"checkpoint_path": path},
    )


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "sound"
    return learner(path).fit(X, Y), path


def weights(fitted):
    return fitted.net_.module_.state_dict()


def test_a_checkpoint_of_a_training_that_is_done_goes_on(sound, tmp_path):
    fitted, path = sound
    (tmp_path / "same").write_bytes(path.read_bytes())
    again = learner(tmp_path / "same").fit(X, Y)
    assert all(torch.equal(v, weights(again)[k]) for k, v in weights(fitted).items())


def changed_first(mapping, value):
    return {**mapping, next(iter(mapping)): value}


def changed_moment(state, value):
    moments = state["optimizer"]["state"]
    moments[0] = {"exp_avg": value}


def changed_group(state, **settings):
    state["optimizer"]["param_groups"][0] |= settings


def callback(state, name, **entries):
    state["callbacks"].setdefault(name, {}).update(entries)


def more_rows(state, n):
    rows = unpacked(state["history"])
    state["history"] = packed(rows + rows[-1:] * n)


def text(content):
    return np.frombuffer(content, dtype=np.uint8)


CHANGES = {
    "no format": lambda s: s.pop("format"),
    "another format": lambda s: s.update(format="training 1"),
    "more": lambda s: s.update(more=1),
    "no epochs": lambda s: s.pop("n_epochs"),
    "more epochs": lambda s: s.update(n_epochs=99),
    "fewer epochs": lambda s: s.update(n_epochs=0),
    "epochs below zero": lambda s: s.update(n_epochs=-97),
    "epochs as text": lambda s: s.update(n_epochs="2"),
    "epochs and rows": lambda s: (more_rows(s, 97), s.update(n_epochs=99)),
    "history of bytes": lambda s: s.update(history=b"x"),
    "history of numbers": lambda s: s.update(history=np.ones(3)),
    "history of no text": lambda s: s.update(history=text(b"\xff\xfe")),
    "history of no JSON": lambda s: s.update(history=text(b"[{]")),
    "history too deep": lambda s: s.update(history=text((b"[" + b" " * 12) * 50_000)),
    "history of parts": lambda s: s.update(history=text(b"[" + b"{}," * 99999)),
    "history of numbers in it": lambda s: s.update(history=text(b"[1, 2]")),
    "history without epochs": lambda s: s.update(history=text(b"[{}, {}]")),
    "odd batches": lambda s: s.update(
        history=text(b'[{"epoch": 1, "batches": 3}, {"epoch": 2}]')
    ),
    "facts as a list": lambda s: s.update(facts=["a"]),
    "facts of numbers": lambda s: s.update(facts=changed_first(s["facts"], 3)),
    "no seeds": lambda s: s.update(seeds={}),
    "seeds of text": lambda s: s.update(seeds=changed_first(s["seeds"], "a")),
    "seeds below zero": lambda s: s.update(seeds=changed_first(s["seeds"], -1)),
    "huge seeds": lambda s: s.update(seeds=changed_first(s["seeds"], 2**70)),
    "no weights": lambda s: s.update(module={}),
    "odd weights": lambda s: s.update(module=changed_first(s["module"], 3)),
    "weights of a shape": lambda s: s.update(
        module=changed_first(s["module"], torch.zeros(1, 1, 1))
    ),
    "more weights": lambda s: s["module"].update(more=torch.zeros(1)),
    "no optimiser": lambda s: s.update(optimizer=None),
    "empty optimiser": lambda s: s.update(optimizer={}),
    "no groups": lambda s: s["optimizer"].update(param_groups=[]),
    "odd groups": lambda s: s["optimizer"].update(param_groups=[3]),
    "rate of text": lambda s: changed_group(s, lr="fast"),
    "flag of text": lambda s: changed_group(s, maximize="yes"),
    "betas of three": lambda s: changed_group(s, betas=(0.1, 0.2, 0.3)),
    "other parameters": lambda s: changed_group(s, params=[7]),
    "more settings": lambda s: changed_group(s, more="text"),
    "odd moments": lambda s: s["optimizer"].update(state=[1]),
    "moments of nobody": lambda s: s["optimizer"].update(state={999: {}}),
    "moments of text": lambda s: s["optimizer"].update(state={0: "a"}),
    "large moments": lambda s: changed_moment(s, torch.zeros(10**5)),
    "callbacks as a list": lambda s: s.update(callbacks=[]),
    "callback of text": lambda s: s["callbacks"].update(best_weights="a"),
    "a method": lambda s: callback(s, "best_weights", on_epoch_end={"value": 1}),
    "a parameter": lambda s: callback(s, "best_weights", patience={"value": 99}),
    "a name of Python": lambda s: callback(s, "best_weights", __class__={"value": 1}),
    "an odd name": lambda s: callback(s, "best_weights", **{"a b": {"value": 1}}),
    "an empty entry": lambda s: callback(s, "best_weights", misses_={}),
    "a count of text": lambda s: callback(s, "best_weights", misses_={"value": "a"}),
    "a state of nothing": lambda s: callback(
        s, "best_weights", misses_={"state_dict": {}}
    ),
    "a schedule's method": lambda s: callback(
        s, "decay", lr_scheduler_={"state_dict": {"step": 1}}
    ),
    "a schedule as a value": lambda s: callback(s, "decay", lr_scheduler_={"value": 1}),
    "no generators": lambda s: s.update(generators={}),
    "odd generators": lambda s: s.update(generators=changed_first(s["generators"], 3)),
    "generator of a kind": lambda s: s.update(
        generators=dict.fromkeys(
            s["generators"], np.random.Generator(np.random.SFC64(0))
        )
    ),
    "no state of torch": lambda s: s.update(torch=None),
    "short state of torch": lambda s: s.update(torch=torch.zeros(3, dtype=torch.uint8)),
    "empty state of torch": lambda s: s.update(torch=torch.zeros_like(s["torch"])),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_forged_checkpoint_is_refused(sound, tmp_path, change):
    state = read_value(sound[1])
    change(state)
    write_value(tmp_path / "forged", state)
    before = torch.get_rng_state()
    own = learner(tmp_path / "forged")
    with pytest.raises(PersistenceError, match=r"delete it|Delete it"):
        own.fit(X, Y)
    assert not hasattr(own, "net_")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("value", [3, [1], "text", {"a": 1}, None])
def test_other_values_are_no_checkpoints(tmp_path, value):
    write_value(tmp_path / "value", value if value is not None else [None])
    with pytest.raises(PersistenceError, match="Delete it"):
        learner(tmp_path / "value").fit(X, Y)


def test_callbacks_that_left_are_no_fault(sound, tmp_path):
    state = read_value(sound[1])
    state["callbacks"]["gone"] = {"misses_": {"value": 1}}
    write_value(tmp_path / "file", state)
    again = learner(tmp_path / "file").fit(X, Y)
    assert all(torch.equal(v, weights(again)[k]) for k, v in weights(sound[0]).items())
