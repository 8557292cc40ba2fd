"""Files that were cut short, changed, or forged with a right checksum."""

import errno
import json
import os
import shutil

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris

from skcausalmeta.exceptions import PersistenceError
from skcausalmeta.heads import RidgeHead
from skcausalmeta.learners import MAMLClassifier
from skcausalmeta.persistence import describe, load, save
from skcausalmeta.persistence._arrays import plain_dtype
from skcausalmeta.persistence._container import _DIGEST, file_digest
from skcausalmeta.persistence._strict_json import read_json


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / "head"
    save(RidgeHead().fit(*load_iris(return_X_y=True)), path)
    return path


@pytest.fixture(scope="module")
def sound_net(tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / "net"
    learner = MAMLClassifier(max_epochs=1, batches_per_epoch=2, verbose=0)
    save(learner.fit(*load_iris(return_X_y=True)), path)
    return path


def parts(content):
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    description = json.loads(header.pop("__metadata__")["skcausalmeta"])
    return description, header, content[8 + length :]


def sealed(path, content):
    """Write a content with the checksum that it needs."""
    path.write_bytes(content)
    with path.open("rb") as file:
        digest = file_digest(file)
    path.write_bytes(
        content[: _DIGEST.start] + digest.encode() + content[_DIGEST.stop :]
    )
    return path


def forged(path, description, table, data):
    """A file with any description and table, and a right checksum."""
    text = description
    if not isinstance(text, str):
        text = json.dumps({**description, "sha256": "0" * 64}, separators=(",", ":"))
    header = {"__metadata__": {"skcausalmeta": text}, **table}
    raw = json.dumps(header, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    return sealed(path, len(raw).to_bytes(8, "little") + raw + data)


def test_a_forged_file_with_nothing_changed_loads(sound, tmp_path):
    path = forged(tmp_path / "same", *parts(sound.read_bytes()))
    X = load_iris().data
    np.testing.assert_array_equal(load(path).predict(X), load(sound).predict(X))


def test_every_truncation_is_found(sound, tmp_path):
    content = sound.read_bytes()
    for size in {*range(0, 400, 7), *range(400, len(content), 97), len(content) - 1}:
        (tmp_path / "cut").write_bytes(content[:size])
        with pytest.raises(PersistenceError, match="cut short"):
            load(tmp_path / "cut")


def test_every_flipped_bit_is_found(sound, tmp_path):
    content = sound.read_bytes()
    for place in {*range(200), *range(200, len(content), 31)}:
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        (tmp_path / "flipped").write_bytes(changed)
        with pytest.raises(PersistenceError, match=r"checksum|saved by skcausalmeta"):
            load(tmp_path / "flipped")
        with pytest.raises(PersistenceError, match=r"checksum|saved by skcausalmeta"):
            describe(tmp_path / "flipped")


@pytest.mark.parametrize("content", [b"", b"\0" * 8, b"\xff" * 99, b"PK\3\4" * 50])
def test_other_files_are_told_apart(tmp_path, content):
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(PersistenceError, match="saved by skcausalmeta"):
        load(tmp_path / "other")


def test_a_safetensors_file_of_others_is_told_apart(tmp_path):
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(2)}, tmp_path / "other", metadata={"format": "pt"})
    with pytest.raises(PersistenceError, match="begins with"):
        load(tmp_path / "other")


def test_a_missing_file_is_an_oserror(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError):
        save(RidgeHead(), tmp_path / "nowhere" / "head")


def test_a_newer_format_asks_for_a_newer_version(sound, tmp_path):
    description, *rest = parts(sound.read_bytes())
    path = forged(tmp_path / "newer", {**description, "format": 2}, *rest)
    with pytest.raises(PersistenceError, match=r"format 1 or older.*install a newer"):
        load(path)


def change_node(description, kind, changes):
    for node in description["nodes"]:
        if node["kind"] == kind:
            node.update(changes)
            return
    raise AssertionError(kind)


NET_CHANGES = {
    "unknown class": ("object", {"class": "os.system"}),
    "import path": ("object", {"class": "sklearn.base.BaseEstimator"}),
    "not a class": ("object", {"class": "builtins.print"}),
    "builtin type": ("object", {"class": "builtins.int"}),
    "no class": ("object", {"class": 3}),
    "no state": ("object", {"state": []}),
    "no layer": ("module", {"class": "heads.RidgeHead"}),
    "odd parameter": ("module", {"parameters": {"weight": 3}}),
    "odd child": ("module", {"modules": {"a": "b"}}),
    "no optimizer": ("optimizer", {"class": "torch.nn.Linear"}),
    "odd moments": ("optimizer", {"moments": [[1]]}),
    "odd groups": ("optimizer", {"groups": 3}),
    "unknown function": ("name", {"name": "builtins.exec"}),
    "unknown kind": ("dict", {"kind": "pickle"}),
    "no items": ("list", {"items": None}),
    "odd value": ("list", {"items": [[1]]}),
    "odd reference": ("list", {"items": [{"ref": -1}]}),
    "far reference": ("list", {"items": [{"ref": 10**30}]}),
    "odd float": ("list", {"items": [{"float": "1"}]}),
    "pair of three": ("dict", {"items": [[1, 2, 3]]}),
    "no tensor": ("tensor", {"tensor": "nothing"}),
    "odd tensor": ("tensor", {"tensor": ["a"]}),
    "odd axes": ("tensor", {"axes": [0, 0]}),
    "odd device": ("tensor", {"device": "moon"}),
    "object array": ("array", {"dtype": "|O"}),
    "odd dtype": ("array", {"dtype": 5}),
    "wrong dtype": ("array", {"dtype": "<f4"}),
    "fields": ("array", {"dtype": "i4,f8"}),
    "huge shape": ("array", {"shape": [10**15]}),
    "negative shape": ("array", {"shape": [-2]}),
    "huge text": ("array", {"dtype": "<U1000000000", "tensor": "classes_"}),
    "odd scalar": ("scalar", {"hex": "00"}),
    "odd hex": ("scalar", {"hex": "zz"}),
    "history of a tuple": ("history", {"class": "learners.Task"}),
}


@pytest.mark.parametrize(("kind", "changes"), NET_CHANGES.values(), ids=NET_CHANGES)
def test_forged_nodes_are_refused(sound_net, tmp_path, kind, changes):
    description, *rest = parts(sound_net.read_bytes())
    change_node(description, kind, changes)
    with pytest.raises(PersistenceError):
        load(forged(tmp_path / "forged", description, *rest))


def with_nodes(nodes, **changes):
    versions = {"skcausalmeta": "0"}
    head = {"format": 1, "versions": versions, "custom": [], "root": {"ref": 0}}
    return {"sha256": "", **head, "nodes": nodes, **changes}


def head_with(*nodes, **changes):
    state = {"ridge_reg": 1.0, "coef_": {"ref": 1}}
    head = {"kind": "object", "class": "heads.RidgeHead", "state": state}
    return with_nodes([head, *nodes], **changes)


def chain(n):
    return [{"kind": "list", "items": [{"ref": k + 2}]} for k in range(n)]


def mersenne(position):
    return [
        {"kind": "RandomState", "state": {"ref": 2}},
        {
            "kind": "dict",
            "items": [["bit_generator", "MT19937"], ["state", {"ref": 3}]],
        },
        {"kind": "dict", "items": [["pos", position], ["key", None]]},
    ]


DESCRIPTIONS = {
    "circle": head_with({"kind": "tuple", "items": [{"ref": 1}]}),
    "deep chain": head_with(*chain(5000)),
    "random state out of bounds": head_with(*mersenne(10**6)),
    "random state unknown": head_with(
        {"kind": "RandomState", "state": {"ref": 2}},
        {"kind": "dict", "items": [["bit_generator", "seed"]]},
    ),
    "cache of pickles": with_nodes(
        [
            {
                "kind": "object",
                "class": "sklearn.pipeline.Pipeline",
                "state": {"steps": None, "memory": "/tmp/cache"},
            }
        ]
    ),
    "root is a list": with_nodes([{"kind": "list", "items": []}]),
    "root is no reference": with_nodes([], root={"float": "nan"}),
    "nodes missing": {"format": 1, "versions": {}, "custom": [], "root": {}},
    "many zero-sized": head_with(
        {"kind": "objects", "items": [], "shape": [0, 10**12]},
        {"kind": "objects", "items": [], "shape": [10**12]},
        root={"ref": 2},
    ),
    "booleans that are neither": head_with(
        {"kind": "array", "tensor": "b", "dtype": "|b1", "shape": [2], "axes": [0]}
    ),
}
BOOLEANS = {"b": {"dtype": "BOOL", "shape": [2], "data_offsets": [0, 2]}}


@pytest.mark.parametrize("description", DESCRIPTIONS.values(), ids=DESCRIPTIONS)
def test_forged_descriptions_are_refused(tmp_path, description):
    path = forged(tmp_path / "forged", description, BOOLEANS, b"\2\1")
    with pytest.raises(PersistenceError):
        load(path)


TABLES = {
    "beyond the end": {"b": {"dtype": "F64", "shape": [2], "data_offsets": [0, 16]}},
    "huge": {"b": {"dtype": "F64", "shape": [2**60], "data_offsets": [0, 2**63]}},
    "overflow": {"b": {"dtype": "F64", "shape": [2**61, 8], "data_offsets": [0, 2]}},
    "gap": {"b": {"dtype": "U8", "shape": [1], "data_offsets": [1, 2]}},
    "too little": {"b": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}},
    "unknown type": {"b": {"dtype": "O", "shape": [2], "data_offsets": [0, 2]}},
    "no table": {"b": 3},
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_forged_tables_are_refused(tmp_path, table):
    path = forged(tmp_path / "forged", head_with({"kind": "list"}), table, b"\0\1")
    with pytest.raises(PersistenceError, match="sizes of its numbers"):
        load(path)


TEXTS = {
    "key twice": '{"sha256":"%s","a":1,"a":2}',
    "nan": '{"sha256":"%s","a":NaN}',
    "infinity": '{"sha256":"%s","a":1e999}',
    "deep": '{"sha256":"%s","a":' + "[      " * 100_000 + "]" * 100_000 + "}",
    "deep and dense": '{"sha256":"%s","a":' + "[" * 100_000 + "]" * 100_000 + "}",
    "many objects": '{"sha256":"%s","a":[' + "{}," * 100_000 + "0]}",
    "other letters": '{"sha256":"%s","a":"\N{GRINNING FACE}"}',
    "cut short": '{"sha256":"%s","a":',
    "many digits": '{"sha256":"%s","a":' + "9" * 5000 + "}",
    "no object": '{"sha256":"%s"}[]',
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_forged_texts_are_refused(tmp_path, text):
    path = forged(tmp_path / "forged", text % ("0" * 64), BOOLEANS, b"\0\1")
    with pytest.raises(
        PersistenceError, match=r"must be JSON|must hold finite|few (lists|objects)"
    ):
        load(path)


def test_a_text_of_very_many_values_is_refused_before_it_is_read():
    with pytest.raises(PersistenceError, match=r"at most 1000000 values.*Got about"):
        read_json("[" * 5_000_000)


def test_a_crash_while_saving_leaves_the_old_file(sound, tmp_path, monkeypatch):
    path = shutil.copy(sound, tmp_path / "file")
    before = path.read_bytes()

    def crash(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(OSError, match="no space left"):
        save(RidgeHead(), path)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == before


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    from skcausalmeta.persistence import _container

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(_container, "bytes_of", fail)
    head = RidgeHead().fit(*load_iris(return_X_y=True))
    with pytest.raises(OSError, match="No space left"):
        save(head, tmp_path / "head")
    assert not list(tmp_path.iterdir())


def test_too_long_a_history_is_refused(tmp_path, monkeypatch):
    from skcausalmeta.persistence import _container

    monkeypatch.setattr(_container, "_MOST_HEADER_BYTES", 100)
    with pytest.raises(PersistenceError, match="less than 100 MB"):
        save(RidgeHead(), tmp_path / "head")


def test_a_file_of_an_older_version_gets_the_defaults_of_newer_parameters(tmp_path):
    description = head_with({"kind": "list", "items": []})
    head = load(forged(tmp_path / "older", description, {}, b""))
    assert head.get_params() == RidgeHead(1.0).get_params()


@pytest.mark.parametrize(
    "text", ["54u1", "(2,3)<f8", "u1,u2", "<54", "3*(2)f4", "O", "V8", "", "<f8 ", 8]
)
def test_texts_of_types_that_numpy_would_evaluate_are_refused(text, monkeypatch):
    def evaluate(*given):
        raise AssertionError("a text of a file is evaluated")

    monkeypatch.setattr("ast.literal_eval", evaluate)
    with pytest.raises(PersistenceError, match="numbers, text or times"):
        plain_dtype(text)


@pytest.mark.parametrize(
    "name", ["<f8", ">i4", "|b1", "<U9", "|S3", "<M8[25s]", "<c16"]
)
def test_types_of_arrays_come_back(name):
    assert plain_dtype(name).str == name
