"""Folders of tasks that are damaged, forged, mixed up or shared with other files."""

import hashlib
import json
import os
import random
import shutil
import warnings

import numpy as np
import pytest

from skcausalmeta.datasets import make_shared_tasks
from skcausalmeta.exceptions import PersistenceError, SkcausalmetaError
from skcausalmeta.learners import SparseMetaClassifier
from skcausalmeta.tasks import adapt_table, open_tasks, save_tasks
from skcausalmeta.tasks._store import Store

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
DATA = make_shared_tasks(n_tasks=8, n_samples=10, n_features=4, random_state=0)
ROWS = DATA.data, DATA.target, DATA.tasks


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    learner = SparseMetaClassifier(
        backbone="identity",
        common="linear",
        max_epochs=1,
        batches_per_epoch=1,
        verbose=0,
        random_state=0,
    ).fit(*ROWS[:2], tasks=ROWS[2])
    path = tmp_path_factory.mktemp("stores") / "store"
    save_tasks(learner.adapt_tasks(*ROWS), path)
    return path


@pytest.fixture
def store(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "store")


def part_of(store):
    (path,) = store.glob("part-*.parquet")
    return path


def forge(store, change):
    """Change the list of parts, under its right checksum."""
    path = store / "manifest.json"
    body = json.loads(path.read_text())["store"]
    changed = change(body)
    body = body if changed is None else changed
    text = json.dumps(body, sort_keys=True).encode()
    sealed = {"store": body, "sha256": hashlib.sha256(text).hexdigest()}
    path.write_text(json.dumps(sealed))


def rewrite(store, change):
    """Change the table of a part, and put its new size on the list."""
    path = part_of(store)
    table = pq.read_table(path)
    changed = change(table)
    pq.write_table(changed, path, compression="zstd")
    forge(store, lambda body: body["parts"][0].update(bytes=path.stat().st_size))


def ask_all(store):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tasks = open_tasks(store)
        tasks.predict(DATA.data, DATA.tasks)
        tasks.predict_proba(DATA.data, DATA.tasks)
        tasks.to_frame()
        tasks.deviations()
        return tasks.summary()


PART = {"file": "part-000000-00000000.parquet", "bytes": 0, "kind": "solved"}
LISTS = {
    "no dict": lambda body: [],
    "no format": lambda body: {**body, "format": None},
    "format of text": lambda body: {**body, "format": "1"},
    "no parts": lambda body: {"format": 1},
    "parts of numbers": lambda body: {**body, "parts": [3]},
    "parts by name": lambda body: {**body, "parts": {"a": body["parts"][0]}},
    "a part twice": lambda body: {**body, "parts": body["parts"] * 2},
    "a path": lambda body: {**body, "parts": [{**PART, "file": "../part.parquet"}]},
    "no path": lambda body: {**body, "parts": [{**PART, "file": ["a"]}]},
    "odd letters": lambda body: {**body, "parts": [{**PART, "file": "\x1b[2J"}]},
    "a size of text": lambda body: {**body, "parts": [{**PART, "bytes": "9"}]},
    "a missing part": lambda body: {**body, "parts": [PART]},
    "a learner elsewhere": lambda body: {**body, "learner": "/tmp/other"},
    "done of numbers": lambda body: {**body, "run": {"table": None, "done": [3]}},
    "no table": lambda body: {**body, "run": {"table": 3, "done": []}},
    "a run of lists": lambda body: {**body, "run": [["a"]]},
    "another kind": lambda body: {
        **body,
        "parts": [{**body["parts"][0], "kind": "yes"}],
    },
    "the kind of others": lambda body: {
        **body,
        "parts": [{**body["parts"][0], "kind": "failed"}],
    },
}


@pytest.mark.parametrize("change", LISTS.values(), ids=LISTS)
def test_forged_lists_are_refused(store, change):
    forge(store, change)
    with pytest.raises(PersistenceError) as told:
        ask_all(store)
    assert str(told.value).isprintable()


@pytest.mark.parametrize(
    "text", [b"", b"[" * 100_000, b"{}", b"\xff\xfe", b'{"store": 1e999}', b"null"]
)
def test_lists_that_are_none_are_refused(store, text):
    (store / "manifest.json").write_bytes(text)
    with pytest.raises(PersistenceError, match="list of the parts"):
        open_tasks(store)


def replaced(name, values):
    def change(table):
        place = table.schema.get_field_index(name)
        column = pa.array(values(table.column(name).to_pylist()))
        return table.set_column(place, name, column).replace_schema_metadata(
            table.schema.metadata
        )

    return change


def facts_with(**facts):
    def change(table):
        metadata = dict(table.schema.metadata)
        found = json.loads(metadata[b"skcausalmeta"])
        metadata[b"skcausalmeta"] = json.dumps([{**found[0], **facts}]).encode()
        return table.replace_schema_metadata(metadata)

    return change


TABLES = {
    "no facts": lambda table: table.replace_schema_metadata({}),
    "no ids": lambda table: table.drop_columns(["id"]),
    "an id of none": replaced("id", lambda ids: [None, *ids[1:]]),
    "columns beyond": replaced("columns", lambda found: [[999]] * len(found)),
    "columns below": replaced("columns", lambda found: [[-1]] * len(found)),
    "no columns": replaced("columns", lambda found: [[]] * len(found)),
    "more values": replaced("values", lambda found: [[1.0] * 99] * len(found)),
    "texts": replaced("values", lambda found: [["a"]] * len(found)),
    "intercepts": replaced("intercept", lambda found: [[1.0]] * len(found)),
    "another part": lambda table: table.replace_schema_metadata(
        {**table.schema.metadata, b"skcausalmeta.part": b"part-000000-0.parquet"}
    ),
    "a huge width": facts_with(width=10**12),
    "no width": facts_with(width="9"),
    "no outputs": facts_with(outputs=0),
    "strange names": facts_with(given=["__class__", "kind"]),
    "flat": facts_with(flat="\x1b[2J"),
    "many rows": lambda table: pa.table({"id": np.zeros(5_000_000)}),
}


@pytest.mark.parametrize("change", TABLES.values(), ids=TABLES)
def test_forged_parts_are_refused(store, change):
    rewrite(store, change)
    with pytest.raises(PersistenceError) as told:
        ask_all(store)
    assert str(told.value).isprintable()


def test_parts_that_changed_places_are_refused(store, folder):
    again = open_tasks(store).update(*ROWS)
    one, two = sorted(store.glob("part-*.parquet"))
    held, other = one.read_bytes(), two.read_bytes()
    one.write_bytes(other)
    two.write_bytes(held)

    def swapped(body):
        for part in body["parts"]:
            part["bytes"] = (store / part["file"]).stat().st_size

    forge(store, swapped)
    with pytest.raises(PersistenceError, match="another part, under this name"):
        open_tasks(store)
    assert len(again) == 8


def test_a_part_cut_short_or_turned_is_refused_or_the_same(store):
    expected, path = ask_all(store), part_of(store)
    whole, rng, told = path.read_bytes(), random.Random(0), []
    for _ in range(25):
        raw = bytearray(whole)
        place = rng.randrange(len(raw))
        if rng.random() < 0.3:
            del raw[place:]
        else:
            raw[place] ^= 1 << rng.randrange(8)
        path.write_bytes(raw)
        sizes = {"bytes": len(raw)}
        forge(store, lambda body, sizes=sizes: body["parts"][0].update(sizes))
        try:
            assert ask_all(store) == expected
        except SkcausalmetaError as error:
            told.append(str(error))
    assert len(told) > 10
    assert all(map(str.isprintable, told))


def test_files_of_others_in_the_folder_are_left_alone(store):
    others = [
        "part-00000-6ad5fbc5-c000.snappy.parquet",
        "part-0.parquet",
        "part-000000-12345678.parquet",
        "notes.txt",
    ]
    table = pa.table({"a": [1, 2]})
    for name in others:
        pq.write_table(table, store / name)
    left = store / "part-000007-0123abcd.parquet"  # of a killed writer
    shutil.copy(part_of_own(store), left)
    torn = store / "part-000008-0123abcd.parquet"
    torn.write_bytes(left.read_bytes()[:200])
    again = open_tasks(store).update(*ROWS)
    assert not left.exists()
    assert not torn.exists()
    assert all((store / name).exists() for name in others)
    assert len(again.drop([0]).compact()) == 7
    assert all((store / name).exists() for name in others)


def part_of_own(store):
    (name,) = (part["file"] for part in Store(store).read()["parts"])
    return store / name


@pytest.mark.parametrize("raw", [b"", b"\x00" * 16, b"\xff" * 99, b"\x08" + bytes(7)])
def test_a_damaged_learner_of_a_store_is_refused(store, raw):
    learner = open_tasks(store).learner
    (store / "learner.safetensors").write_bytes(raw)
    with pytest.raises(PersistenceError):
        open_tasks(store)
    with pytest.raises(PersistenceError, match="learner of a store"):
        adapt_table(learner, ROWS, store)


def test_ids_and_reasons_are_told_in_letters(store):
    again = open_tasks(store)
    names = np.array(["\x1b[2J"] * 4), np.arange(4)
    rows = np.where(names[1][:, None] == 0, np.nan, DATA.data[:4])
    solved = again.learner.adapt_tasks(DATA.data, DATA.target, DATA.tasks.astype(str))
    with pytest.warns(UserWarning, match="left out"):
        solved.update(rows, DATA.target[:4], names[0])
    assert solved.failed_
    assert all(map(str.isprintable, solved.summary().splitlines()))


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="links of POSIX")
def test_a_part_by_a_link_is_what_it_was(store, tmp_path):
    path = part_of(store)
    shutil.move(path, tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    expected = ask_all(store)
    open_tasks(store).update(*ROWS)
    assert (tmp_path / "elsewhere").exists()
    assert expected
