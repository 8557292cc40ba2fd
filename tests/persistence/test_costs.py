"""Small files that would cost much: refused, or loaded at the cost of their size."""

import json
import time
import tracemalloc
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.preprocessing import LabelEncoder
from skorch.history import History

from benchmarks._harness import Watch
from skcausalmeta.exceptions import PersistenceError
from skcausalmeta.heads import RidgeHead
from skcausalmeta.persistence import (
    _state,
    _strict_json,
    describe,
    load,
    read_value,
    save,
    write_value,
)
from skcausalmeta.persistence._decode import _defaults
from skcausalmeta.persistence._random_states import generator_of

SECONDS, BYTES = 2.0, 100 * 2**20


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    """What the first load of a process imports is no cost of a file."""
    path = tmp_path_factory.mktemp("warm") / "head"
    save(RidgeHead(), path)
    load(path)


@pytest.fixture
def cheaply(warm):
    """Run something within the time and memory that a small file may take."""

    def run(function, *arguments):
        tracemalloc.start()
        start = time.process_time()
        try:
            return function(*arguments)
        finally:
            seconds = time.process_time() - start
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            # Tracing makes everything some times slower.
            assert seconds < 4 * SECONDS
            assert peak < BYTES

    return run


def shared_tuples(depth):
    """Each tuple holds the next one twice, and the first one is a key."""
    inner = [
        {"kind": "tuple", "items": [{"ref": k + 3}, {"ref": k + 3}]}
        for k in range(depth)
    ]
    key = {"kind": "dict", "items": [[{"ref": 2}, 1]]}
    return [key, *inner, {"kind": "tuple", "items": [1, 2]}]


def shared_set(depth):
    nodes = shared_tuples(depth)
    nodes[0] = {"kind": "set", "items": [{"ref": 2}]}
    return nodes


def colliding_keys(n):
    """Complex numbers of one hash."""
    keys = [{"kind": "complex", "items": [-1000003 * k, k]} for k in range(n)]
    pairs = [[{"ref": k + 2}, 0] for k in range(n)]
    return [{"kind": "dict", "items": pairs}, *keys]


def shared_arguments(n):
    """Calls that each copy one long tuple of arguments."""
    calls = [
        {"kind": "partial", "items": [{"ref": 2}, {"ref": 3}, {"ref": 4}]}
        for _ in range(n)
    ]
    refs = [{"ref": k + 5} for k in range(n)]
    return [
        {"kind": "list", "items": refs},
        {"kind": "name", "name": "builtins.print"},
        {"kind": "tuple", "items": [0] * 900},
        {"kind": "dict", "items": []},
        *calls,
    ]


def nested_calls(n):
    """Calls of calls, of which each holds the arguments of all before."""
    calls = [
        {"kind": "partial", "items": [{"ref": k + 5}, {"ref": 2}, {"ref": 3}]}
        for k in range(n)
    ]
    return [
        {"kind": "list", "items": [{"ref": 4}]},
        {"kind": "tuple", "items": [0] * 900},
        {"kind": "dict", "items": []},
        *calls,
        {"kind": "name", "name": "builtins.print"},
    ]


def shared_groups(n):
    """Optimisers that each go through one long list of settings."""
    one = {"class": "torch.optim.SGD", "defaults": {"ref": 2}, "groups": {"ref": 3}}
    optimizers = [{"kind": "optimizer", "moments": [], **one} for _ in range(n)]
    return [
        {"kind": "list", "items": [{"ref": k + 6} for k in range(n)]},
        {"kind": "dict", "items": []},
        {"kind": "list", "items": [{"ref": 4}]},
        {"kind": "dict", "items": [["params", {"ref": 5}]]},
        {"kind": "list", "items": []},
        *optimizers,
    ]


def many_layers(n):
    empty = {"parameters": {}, "buffers": {}, "modules": {}, "state": {}}
    layer = {"kind": "module", "class": "torch.nn.ReLU", "training": False, **empty}
    refs = [{"ref": k + 2} for k in range(n)]
    return [{"kind": "list", "items": refs}, *[{**layer, "not persistent": []}] * n]


GROWING = "cost about as much as its size"
COSTLY = {
    "tuples of tuples as a key": (partial(shared_tuples, 60), "Keys must be numbers"),
    "tuples of tuples in a set": (partial(shared_set, 60), "Keys must be numbers"),
    "a long tuple as a key": (
        lambda: [
            {"kind": "dict", "items": [[{"ref": 2}, 0]]},
            {"kind": "tuple", "items": [0] * 100_000},
        ],
        "Keys must be numbers",
    ),
    "keys of one hash": (partial(colliding_keys, 20_000), "keys may share a hash"),
    "a key twice": (
        lambda: [{"kind": "dict", "items": [["a", 1], ["a", 2]]}],
        "there once",
    ),
    "a member twice": (
        lambda: [{"kind": "set", "items": ["a", "a"]}],
        "there once",
    ),
    "calls that share arguments": (partial(shared_arguments, 3_000), GROWING),
    "calls of calls": (partial(nested_calls, 100), "Partial calls must be sound"),
    "many layers": (partial(many_layers, 6_000), GROWING),
}


@pytest.mark.parametrize(("nodes", "match"), COSTLY.values(), ids=COSTLY)
def test_small_files_of_large_costs_are_refused(forge, tmp_path, cheaply, nodes, match):
    path = forge.write(tmp_path / "file", forge.head(*nodes()))
    with pytest.raises(PersistenceError, match=match):
        cheaply(load, path)


def test_optimisers_that_share_settings_cost_what_they_weigh(forge, tmp_path, cheaply):
    path = forge.write(tmp_path / "file", forge.head(*shared_groups(2_000)))
    assert len(cheaply(load, path).coef_) == 2_000
    nodes = shared_groups(2_000)
    nodes[4]["items"] = [{"ref": len(nodes) + 1}] * 20_000
    facts = {"axes": [0], "device": "cpu", "requires_grad": True}
    nodes.append({"kind": "parameter", "tensor": "w", **facts})
    table = {"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    path = forge.write(tmp_path / "long", forge.head(*nodes), table, bytes(4))
    with pytest.raises(PersistenceError, match="cost about as much as its size"):
        cheaply(load, path)


def test_a_tensor_belongs_to_one_node(forge, tmp_path, cheaply):
    size = 1 << 20
    table = {"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}
    array = {
        "kind": "array",
        "tensor": "w",
        "dtype": "|u1",
        "shape": [size],
        "axes": [0],
    }
    refs = [{"ref": k + 2} for k in range(4000)]
    nodes = [{"kind": "list", "items": refs}, *[array] * 4000]
    path = forge.write(tmp_path / "file", forge.head(*nodes), table, bytes(size))
    with pytest.raises(PersistenceError, match="stand for one thing"):
        cheaply(load, path)
    path = forge.write(tmp_path / "one", forge.head(array), table, bytes(size))
    assert cheaply(load, path).coef_.shape == (size,)


@pytest.mark.parametrize("place", ["table", "description", "state"])
def test_many_names_of_which_the_last_is_there_twice(forge, tmp_path, cheaply, place):
    names = [f"name{k}" for k in range(60_000)]
    twice = json.dumps(dict.fromkeys(names, 1))[:-1] + ', "name59999": 1}'
    description, table = forge.head(), {}
    if place == "state":
        description["nodes"][0]["state"] = "@"
    elif place == "description":
        description["more"] = "@"
    else:
        table = {"w": "@"}
    path = forge.write(tmp_path / "head", description, table, odd=twice)
    for read in (load, describe):
        with pytest.raises(PersistenceError, match=r"'name59999' twice"):
            cheaply(read, path)


def test_a_description_costs_what_it_weighs(forge, tmp_path, cheaply):
    """Parameters that all show the same nested lists, of a long text each."""
    lists = [{"kind": "list", "items": [{"ref": k + 2}] * 8} for k in range(4)]
    deep = [*lists, {"kind": "list", "items": ["x" * 1_000_000] * 8}]
    description = forge.head(*deep)
    state = {f"name{k}": {"ref": 1} for k in range(900)}
    description["nodes"][0]["state"] = state
    found = cheaply(describe, forge.write(tmp_path / "file", description))
    assert len(found["parameters"]) == 900
    assert max(map(len, found["parameters"].values())) <= 120


def test_numbers_are_in_memory_once(tmp_path):
    values = np.arange(4_000_000, dtype=np.float64)
    write_value(tmp_path / "values", values)
    tracemalloc.start()
    again = read_value(tmp_path / "values")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.3 * values.nbytes
    assert np.array_equal(again, values)
    again[0] = 7.0  # of its own: the file stays as it is
    assert read_value(tmp_path / "values")[0] == 0.0


def test_time_grows_with_the_size(tmp_path):
    def seconds(n):
        write_value(tmp_path / "rows", [(k, {"a": k}) for k in range(n)])
        start = time.process_time()
        read_value(tmp_path / "rows")
        return time.process_time() - start

    seconds(1000)
    # Sixteen times as much: 256 times as long if it grew with the square.
    small, large = min(seconds(1_000) for _ in range(2)), seconds(16_000)
    assert large < 16 * small * 4


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("Philox", {"buffer_pos": -5}),
        ("Philox", {"buffer_pos": 10**6}),
        ("Philox", {"buffer": None}),
        ("PCG64", {"has_uint32": 2**40}),
        ("PCG64", {"uinteger": -1}),
        ("PCG64", {"bit_generator": "MT19937"}),
        ("MT19937", {"state": None}),
        ("SFC64", {"state": 3}),
    ],
)
def test_states_of_generators_are_checked(forge, tmp_path, name, change):
    generator = np.random.Generator(getattr(np.random, name)(0))
    write_value(tmp_path / "state", generator)
    same = np.random.Generator(getattr(np.random, name)(0))
    assert read_value(tmp_path / "state").random() == same.random()

    def forged(nodes):
        pairs = forge.node(nodes, kind="dict")["items"]
        for pair in pairs:
            if pair[0] in change:
                pair[1] = change[pair[0]]

    with pytest.raises(PersistenceError, match="Random states"):
        read_value(forge.change(tmp_path / "state", forged))


@pytest.mark.parametrize(
    "odd", [np.arange(999), torch.ones(9, 9), {"a\n": 1}, "\x1b[2J", ["\n"]]
)
def test_odd_states_are_told_in_a_line(monkeypatch, odd):
    """What prints as many lines, or imports a module to do so, is not printed."""
    monkeypatch.setattr(torch.Tensor, "__repr__", lambda tensor: pytest.fail("shown"))
    sound = np.random.MT19937(0).state
    states = [odd, {"bit_generator": odd}, {**sound, "state": odd}]
    states += [{**sound, "state": {"key": odd, "pos": 0}}]
    states += [{**sound, "state": {"key": sound["state"]["key"], "odd": odd}}]
    if isinstance(odd, str | torch.Tensor):
        states += [{**sound, "state": {odd: 0}}]
    for state in states:
        with pytest.raises(PersistenceError, match="Random states must") as refused:
            generator_of(state)
        assert str(refused.value).isprintable()


def test_long_names_do_not_stay_with_the_answers_about_them():
    kept = _state._may_hold.cache_info, _state._may_contain.cache_info
    before = [one().currsize for one in kept]
    for length in (201, 10_000):
        assert _state.may_hold(RidgeHead, "a" * length, custom=True)
        assert _state.may_contain(torch.nn.ModuleDict, "a" * length, custom=False)
        assert not _state.may_hold(RidgeHead, "a" * length, custom=False)
    assert [one().currsize for one in kept] == before


def test_a_class_without_parameters_is_read_without_a_parser(tmp_path):
    save(LabelEncoder().fit(["b", "a"]), tmp_path / "encoder")
    _defaults.cache_clear()
    watch = Watch()
    watch.on = True
    found = load(tmp_path / "encoder")
    watch.on = False
    assert watch.seen == []
    assert found.transform(["a", "b"]).tolist() == [0, 1]


@pytest.mark.parametrize("length", [0, 1, 623, 625])
def test_keys_of_the_older_generator_are_checked(forge, tmp_path, length):
    write_value(tmp_path / "state", np.random.RandomState(0))
    description, table, _ = forge.parts(tmp_path / "state")
    array = forge.node(description["nodes"], kind="array")
    table = {array["tensor"]: dict(table[array["tensor"]])}
    array["shape"] = [length]
    table[array["tensor"]] |= {"shape": [length], "data_offsets": [0, 4 * length]}
    with pytest.raises(PersistenceError, match="Random states must be sound"):
        read_value(forge.write(tmp_path / "f", description, table, bytes(4 * length)))


@pytest.mark.parametrize("size", [0, 1, 100])
def test_states_of_torch_are_checked(forge, tmp_path, size):
    write_value(tmp_path / "state", torch.Generator())
    description, table, _ = forge.parts(tmp_path / "state")
    ((name, entry),) = table.items()
    entry |= {"shape": [size], "data_offsets": [0, size]}
    with pytest.raises(PersistenceError, match="Random states must be sound"):
        read_value(forge.write(tmp_path / "f", description, {name: entry}, bytes(size)))


def test_text_of_no_letters_is_refused(forge, tmp_path):
    save(RidgeHead().fit([[0.0], [1.0]] * 3, ["a", "b"] * 3), tmp_path / "head")
    description, table, data = forge.parts(tmp_path / "head")
    begin, end = table["classes_"]["data_offsets"]
    data = data[:begin] + b"\xff" * (end - begin) + data[end:]
    with pytest.raises(PersistenceError, match="no letter"):
        load(forge.write(tmp_path / "head", description, table, data))


def long_history(n):
    history = History()
    for _ in range(n):
        history.new_epoch()
        history.record("valid_loss", float("nan"))
        for _ in range(20):
            history.new_batch()
            history.record_batch("train_loss", 0.1 + 1e-17)
    return history


def test_a_long_history_is_text(tmp_path):
    """A row a step, of which a long training has very many."""
    history = long_history(1000)
    write_value(tmp_path / "history", history)
    start = time.process_time()
    again = read_value(tmp_path / "history")
    assert time.process_time() - start < SECONDS / 4
    assert type(again) is History
    assert repr(again) == repr(history)
    assert again[-1, "batches", -1, "train_loss"] == 0.1 + 1e-17


def test_a_history_of_other_things_comes_back_too(tmp_path):
    history = long_history(2)
    history.record("best", np.float32(0.5))
    write_value(tmp_path / "history", history)
    again = read_value(tmp_path / "history")
    assert type(again[-1, "best"]) is np.float32
    assert repr(again) == repr(history)


@pytest.mark.parametrize(
    "text",
    [b"[1]", b"{}", b"[", b"\xff", b"[" + b"{}," * 9999, (b"[" + b" " * 20) * 9999],
)
def test_forged_histories_are_refused(forge, tmp_path, cheaply, text):
    write_value(tmp_path / "history", long_history(1))
    description, table, _ = forge.parts(tmp_path / "history")
    ((name, entry),) = table.items()
    entry |= {"shape": [len(text)], "data_offsets": [0, len(text)]}
    path = forge.write(tmp_path / "history", description, {name: entry}, text)
    with pytest.raises(PersistenceError, match="istory"):
        cheaply(read_value, path)


def test_what_is_saved_can_be_loaded(tmp_path, monkeypatch):
    """A value of too many parts is refused before it is written."""
    monkeypatch.setattr(_strict_json, "_MOST_VALUES", 10_000)
    for value in ([(k,) for k in range(2_000)], [[[]] * 3] * 6_000):
        with pytest.raises(PersistenceError, match="at most 10000 values"):
            write_value(tmp_path / "value", value)
    assert list(tmp_path.iterdir()) == []
