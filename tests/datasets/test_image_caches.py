"""A cache deletes nothing of others, and holds what was decoded."""

import contextlib
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from skcausalmeta.datasets import _cache, load_image_folder
from skcausalmeta.exceptions import InvalidInputError


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        Image.new("L", (4, 4), len(name)).save(folder / name / "1.png")
    return folder


def load(images, cache):
    return load_image_folder(images, cache=cache, mode="L").data


def tree(folder):
    return {
        path.relative_to(folder): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


OTHERS = {
    "a table of others": {"table.json": "{}"},
    "an older table": {"table.json": json.dumps({"key": "k", "names": ["a"]})},
    "a list": {"table.json": "[]", "images.npy": "x"},
    "no JSON": {"table.json": "[" * 100_000},
    "images alone": {"images.npy": "x"},
    "a hidden file": {".git": "x"},
}


@pytest.mark.parametrize("files", OTHERS.values(), ids=OTHERS)
def test_folders_of_others_are_left_alone(images, tmp_path, files):
    place = tmp_path / "place"
    (place / "deep").mkdir(parents=True)
    (place / "deep" / "thesis.txt").write_text("precious")
    for name, content in files.items():
        (place / name).write_text(content)
    before = tree(place)
    with pytest.raises(InvalidInputError, match="holds other files; name another"):
        load(images, place)
    assert tree(place) == before


@pytest.mark.parametrize("name", ["notes.txt", "deep", "table.json.bak"])
def test_a_cache_with_a_file_of_others_is_left_alone(images, tmp_path, name):
    load(images, tmp_path / "cache")
    added = tmp_path / "cache" / name
    added.mkdir() if name == "deep" else added.write_text("precious")
    before = tree(tmp_path / "cache")
    Image.new("L", (4, 4), 7).save(images / "cat" / "2.png")
    with pytest.raises(InvalidInputError, match="holds other files; name another"):
        load(images, tmp_path / "cache")
    assert tree(tmp_path / "cache") == before


@pytest.mark.parametrize("place", [".", "..", "cat", "link", "link/cat", "../images/."])
def test_neither_holds_the_other(images, tmp_path, place):
    (images / "link").symlink_to(images)
    before = tree(images)
    with pytest.raises(InvalidInputError, match=r"must lie outside|other files"):
        load(images, images / place)
    assert tree(images) == before


def test_a_cache_in_the_images_of_a_link_is_refused(images, tmp_path):
    (tmp_path / "link").symlink_to(images)
    with pytest.raises(InvalidInputError, match="must lie outside the images"):
        load(images, tmp_path / "link" / "cache")
    with pytest.raises(InvalidInputError, match="must lie outside the images"):
        load(tmp_path / "link", images / "cache")
    assert not (images / "cache").exists()


def test_images_in_an_old_cache_are_refused(images, tmp_path):
    load(images, tmp_path / "cache")
    shutil.copytree(images, tmp_path / "cache" / "images")
    Image.new("L", (4, 4), 7).save(tmp_path / "cache" / "images" / "cat" / "2.png")
    before = tree(tmp_path / "cache")
    with pytest.raises(InvalidInputError, match="holds other files"):
        load(tmp_path / "cache" / "images", tmp_path / "cache")
    assert tree(tmp_path / "cache") == before


def test_a_link_to_a_cache_is_followed(images, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "cache").symlink_to(tmp_path / "real")
    load(images, tmp_path / "cache")
    assert (tmp_path / "cache").is_symlink()
    assert {p.name for p in (tmp_path / "real").iterdir()} == {
        "images.npy",
        "table.json",
    }


REPLACED = {
    "other images": lambda path, old: np.save(path, old[::-1]),
    "another type": lambda path, old: np.save(path, old.astype(np.float64)),
    "another number": lambda path, old: np.save(path, old[:1]),
    "objects": lambda path, old: np.save(path, np.array([{}, {}], dtype=object)),
    "one value": lambda path, old: np.save(path, np.array(3)),
    "nothing": lambda path, old: path.write_bytes(b""),
    "one byte": lambda path, old: path.write_bytes(path.read_bytes()[:-1] + b"\x99"),
    "a huge shape": lambda path, old: path.write_bytes(
        path.read_bytes().replace(b"(2, 4, 4)", b"(2, 9, 9)")
    ),
    "no file": lambda path, old: path.unlink(),
}


@pytest.mark.parametrize("replace", REPLACED.values(), ids=REPLACED)
def test_replaced_images_are_decoded_again(images, tmp_path, replace):
    expected = np.array(load(images, tmp_path / "cache"))
    path = tmp_path / "cache" / "images.npy"
    facts = path.stat()
    replace(path, expected)
    if path.exists():  # as somebody does who wants it to be overlooked
        os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    np.testing.assert_array_equal(load(images, tmp_path / "cache"), expected)
    assert {p.name for p in tmp_path.iterdir()} == {"images", "cache"}


def test_a_copied_cache_is_verified_by_its_content(images, tmp_path, monkeypatch):
    expected = np.array(load(images, tmp_path / "cache"))
    shutil.copytree(tmp_path / "cache", tmp_path / "copy")
    monkeypatch.setattr(Image, "open", None)  # nothing is decoded again
    np.testing.assert_array_equal(load(images, tmp_path / "copy"), expected)
    monkeypatch.setattr(_cache, "_digest", None)  # nor read as a whole, once it was
    np.testing.assert_array_equal(load(images, tmp_path / "copy"), expected)


TABLES = [
    lambda table: table.update(names=[1, 2]),
    lambda table: table.update(names=["a"]),
    lambda table: table.update(key=3),
    lambda table: table.update(file="a"),
    lambda table: table.pop("sha256"),
    lambda table: table.update(sha256="0" * 64, file=[0, 0, 0, 0]),
]


@pytest.mark.parametrize("change", TABLES)
def test_a_changed_table_gives_no_other_images(images, tmp_path, change):
    expected = np.array(load(images, tmp_path / "cache"))
    path = tmp_path / "cache" / "table.json"
    table = json.loads(path.read_text())
    change(table)
    path.write_text(json.dumps(table))
    # Decoded again, or no cache any more.
    with contextlib.suppress(InvalidInputError):
        np.testing.assert_array_equal(load(images, tmp_path / "cache"), expected)


def test_a_cache_follows_the_umask(images, tmp_path):
    before = os.umask(0o027)
    try:
        load(images, tmp_path / "cache")
    finally:
        os.umask(before)
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "cache" / "images.npy").stat().st_mode & 0o777 == 0o640
