"""Files and their names: swapped, shared, linked, left behind by a crash."""

import fcntl
import os
import shutil
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from skcausalmeta.exceptions import PersistenceError
from skcausalmeta.heads import RidgeHead
from skcausalmeta.persistence import (
    _container,
    describe,
    load,
    read_value,
    save,
    write_value,
)
from skcausalmeta.persistence._drafts import _draft_name

pytestmark = pytest.mark.skipif(os.name == "nt", reason="names of POSIX")


def drafts(folder):
    return [path for path in folder.iterdir() if path.name.startswith(".skcausalmeta-")]


# -- one descriptor --------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["_read_header", "_read_numbers", "_read_rest"])
def test_a_file_swapped_in_between_is_not_mixed(tmp_path, monkeypatch, moment):
    save(RidgeHead(0.5), tmp_path / "file")
    write_value(tmp_path / "other", np.arange(10))
    inside = getattr(_container, moment)

    def swapped(*arguments, **keywords):
        shutil.copy(tmp_path / "other", tmp_path / "new")
        os.replace(tmp_path / "new", tmp_path / "file")
        return inside(*arguments, **keywords)

    monkeypatch.setattr(_container, moment, swapped)
    assert load(tmp_path / "file").ridge_reg == 0.5
    monkeypatch.undo()
    assert read_value(tmp_path / "file").tolist() == list(range(10))


@pytest.mark.parametrize("size", [-5, 5])
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch, size):
    write_value(tmp_path / "file", np.arange(1000))
    whole = (tmp_path / "file").stat().st_size
    inside = _container._read_numbers

    def changed(*arguments, **keywords):
        os.truncate(tmp_path / "file", whole + size)
        return inside(*arguments, **keywords)

    monkeypatch.setattr(_container, "_read_numbers", changed)
    with pytest.raises(PersistenceError, match="must match its checksum"):
        read_value(tmp_path / "file")


def test_writers_and_readers_of_one_file(tmp_path):
    """Every read is whole, and none is refused."""
    path, end, faults, reads = tmp_path / "file", time.time() + 2, [], []
    values = [np.full(200_000, k, dtype=np.float64) for k in range(2)]
    write_value(path, values[0])

    def write(value):
        while time.time() < end:
            write_value(path, value)

    def read():
        while time.time() < end:
            try:
                found = read_value(path)
            except Exception as error:
                faults.append(repr(error))
            else:
                reads.append(np.unique(found).tolist())

    threads = [threading.Thread(target=write, args=(value,)) for value in values]
    threads += [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert len(reads) >= 4
    assert all(read in ([0.0], [1.0]) for read in reads)
    assert drafts(tmp_path) == []


# -- permissions and links -------------------------------------------------------------


@pytest.mark.parametrize("mask", [0o022, 0o002, 0o077, 0o027, 0o000])
def test_a_file_has_the_permissions_of_the_umask(tmp_path, mask):
    (tmp_path / "old").write_text("")
    (tmp_path / "old").chmod(0o600)
    before = os.umask(mask)
    try:
        for name in ("new", "old"):
            save(RidgeHead(), tmp_path / name)
    finally:
        os.umask(before)
    for name in ("new", "old"):
        mode = stat.S_IMODE((tmp_path / name).stat().st_mode)
        assert mode == 0o666 & ~mask


@pytest.mark.parametrize("absolute", [True, False])
def test_a_link_stays_and_its_file_is_written(tmp_path, absolute):
    (tmp_path / "deep").mkdir()
    target = tmp_path / "deep" / "file"
    link = tmp_path / "link"
    link.symlink_to(target if absolute else Path("deep/file"))
    save(RidgeHead(0.25), link)  # also where there is no file yet
    assert link.is_symlink()
    assert load(target).ridge_reg == load(link).ridge_reg == 0.25
    save(RidgeHead(0.5), link)
    assert link.is_symlink()
    assert load(target).ridge_reg == 0.5


def test_links_in_circles_are_refused(tmp_path):
    (tmp_path / "one").symlink_to(tmp_path / "two")
    (tmp_path / "two").symlink_to(tmp_path / "one")
    for do in (load, lambda path: save(RidgeHead(), path)):
        with pytest.raises(OSError, match="symbolic links"):
            do(tmp_path / "one")
    assert (tmp_path / "one").is_symlink()


def test_pipes_and_devices_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path(os.devnull)):
        for do in (load, describe, lambda path: save(RidgeHead(), path)):
            with pytest.raises(PersistenceError, match="a pipe or a device"):
                do(path)
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    for do in (load, lambda path: save(RidgeHead(), path)):
        with pytest.raises(IsADirectoryError):
            do(tmp_path)


def test_the_longest_of_names(tmp_path):
    path = tmp_path / ("n" * 255)
    save(RidgeHead(), path)
    assert load(path).ridge_reg == RidgeHead().ridge_reg


# -- drafts ----------------------------------------------------------------------------


def test_drafts_that_were_left_are_swept(tmp_path):
    path = tmp_path / "file"
    left = [tmp_path / _draft_name(path, f"{k:016x}") for k in range(3)]
    others = [
        tmp_path / _draft_name(tmp_path / "other", "0" * 16),
        tmp_path / (_draft_name(path, "0" * 16) + ".mine"),
        tmp_path / _draft_name(path, "mine"),
        tmp_path / ".file.12-34.tmp",
        tmp_path / "file.tmp",
    ]
    for draft in (*left, *others):
        draft.write_bytes(b"part")
    linked = tmp_path / _draft_name(path, "f" * 16)
    linked.symlink_to(others[-1])
    save(RidgeHead(), path)
    assert not any(draft.exists() for draft in left)
    assert all(other.read_bytes() == b"part" for other in others)
    assert linked.is_symlink()


def test_a_draft_that_is_being_written_is_left_alone(tmp_path):
    path = tmp_path / "file"
    draft = tmp_path / _draft_name(path, "a" * 16)
    with draft.open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        save(RidgeHead(), path)
        assert draft.exists()
    save(RidgeHead(), path)
    assert not draft.exists()


KILLED = """
import os, sys
import numpy as np
from skcausalmeta.persistence import _container, write_value
done = _container._put
def stop(file, content, found):
    done(file, content, found)
    file.flush()
    os.kill(os.getpid(), 9)
_container._put = stop
write_value(__import__("pathlib").Path(sys.argv[1]), np.arange(1000))
"""


@pytest.mark.slow
def test_killed_processes_leave_nothing_behind(tmp_path):
    path = tmp_path / "file"
    save(RidgeHead(0.5), path)
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", KILLED, str(path)], cwd=tmp_path)
        assert done.returncode == -9
        assert len(drafts(tmp_path)) == 1  # of the last one: the next one sweeps it
        assert load(path).ridge_reg == 0.5
    save(RidgeHead(0.25), path)
    assert drafts(tmp_path) == []
    assert os.listdir(tmp_path) == ["file"]


def test_an_interrupted_save_leaves_the_old_file(tmp_path, monkeypatch):
    save(RidgeHead(0.5), tmp_path / "file")

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(_container, "_put", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(RidgeHead(0.25), tmp_path / "file")
    monkeypatch.undo()
    assert load(tmp_path / "file").ridge_reg == 0.5
    assert os.listdir(tmp_path) == ["file"]


# -- what is printed -------------------------------------------------------------------

ODD = "\x1b[2J\x9b31m\x07\r\n\u202eend\x00"


def texts(value):
    if isinstance(value, dict):
        return [t for pair in value.items() for part in pair for t in texts(part)]
    if isinstance(value, list):
        return [t for part in value for t in texts(part)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("place", ["value", "name", "class", "versions", "custom"])
def test_descriptions_hold_nothing_that_a_terminal_obeys(forge, tmp_path, place):
    save(RidgeHead(), tmp_path / "head")
    description, *rest = forge.parts(tmp_path / "head")
    node = description["nodes"][0]
    if place in ("value", "name"):
        node["state"] |= {"tol": ODD} if place == "value" else {ODD: 1}
    elif place == "class":
        node["class"] = f"custom:{ODD}"
    elif place == "versions":
        description["versions"] = {ODD: ODD}
    else:
        description["custom"] = [ODD]
    found = describe(forge.write(tmp_path / "head", description, *rest))
    assert all(text.isprintable() for text in texts(found))
    assert any("\\x1b[2J" in text for text in texts(found))


@pytest.mark.parametrize(
    "changes",
    [
        {"versions": {"torch": ["a"]}},
        {"versions": {f"a{k}": "1" for k in range(1000)}},
        {"versions": {"torch": "9" * 10_000}},
        {"custom": [3]},
        {"custom": [{"ref": 0}]},
        {"constructors": []},
        {"format": "1" * 1000},
    ],
)
def test_odd_facts_of_a_file_are_refused(forge, tmp_path, changes):
    save(RidgeHead(), tmp_path / "head")
    description, *rest = forge.parts(tmp_path / "head")
    path = forge.write(tmp_path / "head", {**description, **changes}, *rest)
    for read in (load, describe):
        with pytest.raises(PersistenceError, match="must describe an estimator in"):
            read(path)


def test_errors_hold_nothing_that_a_terminal_obeys(forge, tmp_path):
    def head(**node):
        return forge.write(tmp_path / "head", forge.head(node))

    odd = [
        head(kind=ODD),
        head(kind="object", state={}, **{"class": ODD}),
        head(kind="object", state={}, **{"class": f"custom:{ODD}"}),
        head(kind="device", name=ODD),
        head(kind="array", tensor=ODD),
        head(kind="bytes", hex=ODD),
    ]
    for path in odd:
        with pytest.raises(PersistenceError) as caught:
            load(path)
        assert str(caught.value).isprintable()
