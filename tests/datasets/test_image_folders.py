"""Folders and archives of images: own ones, mini-ImageNet and tiered-ImageNet."""

import contextlib
import functools
import importlib
import io
import os
import sys
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from skcausalmeta.datasets import (
    fetch_mini_imagenet,
    fetch_tiered_imagenet,
    load_image_folder,
)
from skcausalmeta.datasets._limits import Limits
from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.learners import SparseMetaClassifier

# The door offers the function of the same name.
_load_image_folder = importlib.import_module("skcausalmeta.datasets._load_image_folder")
FETCH = [fetch_mini_imagenet, fetch_tiered_imagenet]


def save(path, value, size=(6, 4), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)


@pytest.fixture
def animals(tmp_path):
    """Two dogs and a cat of 4 x 6 pixels, and what is no image."""
    folder = tmp_path / "animals"
    save(folder / "dog" / "2.png", (0, 51, 255))
    save(folder / "dog" / "puppies" / "1.PNG", (1, 2, 3))
    save(folder / "cat" / "1.png", (9, 9, 9))
    save(folder / ".hidden" / "1.png", (0, 0, 0))
    (folder / "cat" / "notes.txt").write_text("no image")
    save(folder / "beside.png", (0, 0, 0))
    return folder


def pack(folder, path):
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in folder.rglob("*.*"):
                archive.write(file, file.relative_to(folder.parent))
    else:
        with tarfile.open(path, "w:gz") as archive:
            archive.add(folder, folder.name)
    return path


def check_animals(bunch):
    assert bunch.target_names.tolist() == ["cat", "dog"]
    assert bunch.target.tolist() == [0, 1, 1]
    assert bunch.data.shape == (3, 4, 6, 3)
    pixels = [[9, 9, 9], [0, 51, 255], [1, 2, 3]]
    np.testing.assert_array_equal(bunch.data[:, 3, 2], pixels)


def test_a_folder_per_class(animals):
    bunch = load_image_folder(animals)
    check_animals(bunch)
    names = ["cat/1.png", "dog/2.png", "dog/puppies/1.PNG"]
    assert bunch.filenames.tolist() == names
    X, y = load_image_folder(str(animals), return_X_y=True)
    np.testing.assert_array_equal(X, bunch.data)
    np.testing.assert_array_equal(y, bunch.target)


@pytest.mark.parametrize("name", ["animals.zip", "animals.tar.gz"])
def test_an_archive_of_folders(animals, tmp_path, name):
    (animals / "beside.png").unlink()
    check_animals(load_image_folder(pack(animals, tmp_path / name)))


def test_size_mode_and_dtype(animals):
    small = load_image_folder(animals, size=(2, 3), mode="L", dtype="float32")
    assert (small.data.shape, small.data.dtype) == ((3, 2, 3), np.float32)
    np.testing.assert_allclose(small.data[0], 9 / 255, rtol=1e-6)
    assert load_image_folder(animals, size=5).data.shape == (3, 5, 5, 3)
    real = load_image_folder(animals, dtype="float64").data
    np.testing.assert_allclose(real[1, 0, 0], [0, 0.2, 1])


def test_a_cache_is_mapped_and_follows_the_files(animals, tmp_path, monkeypatch):
    cache = tmp_path / "new" / "cache"
    first = load_image_folder(animals, cache=cache)
    check_animals(first)
    assert isinstance(first.data, np.memmap)
    monkeypatch.setitem(sys.modules, "PIL", None)  # nothing is decoded again
    check_animals(load_image_folder(animals, cache=cache))
    monkeypatch.undo()
    save(animals / "owl" / "1.png", (7, 7, 7))
    assert load_image_folder(animals, cache=cache).data[3, 0, 0, 0] == 7
    assert load_image_folder(animals, cache=cache, mode="L").data.ndim == 3
    (cache / "images.npy").write_bytes(b"damaged")
    assert len(load_image_folder(animals, cache=cache).data) == 4
    assert sorted(path.name for path in cache.parent.iterdir()) == ["cache"]


def test_a_cache_never_takes_the_place_of_other_files(animals, tmp_path):
    with pytest.raises(InvalidInputError, match=r"holds other files; name another"):
        load_image_folder(animals, cache=tmp_path)
    assert (animals / "beside.png").exists()
    with pytest.raises(InvalidInputError, match="must lie outside the images"):
        load_image_folder(animals, cache=animals / "cache")


def test_without_a_place_for_the_cache_images_are_in_memory(animals, tmp_path):
    (tmp_path / "file").write_text("")
    bunch = load_image_folder(animals, cache=tmp_path / "file" / "cache")
    check_animals(bunch)
    assert not isinstance(bunch.data, np.memmap)


def test_a_failed_cache_leaves_nothing(animals, tmp_path):
    (animals / "owl").mkdir()
    (animals / "owl" / "1.png").write_bytes(b"no image")
    with pytest.raises(InvalidInputError, match=r"readable. Got owl/1\.png"):
        load_image_folder(animals, cache=tmp_path / "place" / "cache")
    assert list((tmp_path / "place").iterdir()) == []


def test_learners_train_on_a_cache(tmp_path):
    for name, value in (("a", 0), ("b", 90), ("c", 200)):
        for k in range(8):
            save(tmp_path / "images" / name / f"{k}.png", (value + k,) * 3, (8, 8))
    X, y = load_image_folder(
        tmp_path / "images", cache=tmp_path / "cache", return_X_y=True
    )
    learner = SparseMetaClassifier(
        n_shot=2, n_query=2, max_epochs=1, batches_per_epoch=2, verbose=0
    )
    assert learner.fit(X, y).predict(X).shape == (24,)


def test_images_that_cannot_be_used_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"folder or archive '.*nowhere'"):
        load_image_folder(tmp_path / "nowhere")
    with pytest.raises(InvalidInputError, match=r"must hold images \(\.png.*Got none"):
        load_image_folder(tmp_path)
    save(tmp_path / "a" / "1.png", (0, 0, 0))
    save(tmp_path / "a" / "2.png", (0, 0, 0), (5, 5))
    message = r"\(5, 5\) in a/2\.png after \(4, 6\); pass size"
    with pytest.raises(InvalidInputError, match=message):
        load_image_folder(tmp_path)
    Image.fromarray(np.zeros((4, 6), np.uint16)).save(tmp_path / "a" / "2.png")
    with pytest.raises(InvalidInputError, match=r"at most 8 bits .* in a/2\.png"):
        load_image_folder(tmp_path)
    for size in [(3,), (3, -1)]:
        with pytest.raises(InvalidInputError, match="number of pixels or a pair"):
            load_image_folder(tmp_path, size=size)


def test_without_pillow_the_remedy_is_named(animals, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"pip install pillow.*\[data\]"):
        load_image_folder(animals)


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_names_in_an_archive_do_no_harm(tmp_path, kind):
    """Nothing is written, whatever the name, and links are not followed."""
    secret, inner = tmp_path / "secret.png", tmp_path / "inner"
    save(secret, (1, 1, 1))
    inner.mkdir()
    path = inner / f"evil.{kind}"
    content = secret.read_bytes()
    names = ["a/good.png", "a/../../evil.png", f"{tmp_path}/evil.png"]
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, content)
    else:
        with tarfile.open(path, "w") as archive:
            for name in names:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
            link = tarfile.TarInfo("a/link.png")
            link.type, link.linkname = tarfile.SYMTYPE, str(secret)
            archive.addfile(link)
    before = sorted(os.walk(tmp_path))
    found = load_image_folder(path).filenames
    assert set(found) == {"a/good.png", f"{tmp_path}/evil.png"}
    assert sorted(os.walk(tmp_path)) == before


@pytest.mark.parametrize("name", ["animals.zip", "animals.tar.gz"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_damaged_archives_are_refused(animals, tmp_path, name, share):
    """One byte turned, or the end cut off: an error of ours, or the same images."""
    (animals / "beside.png").unlink()
    path = pack(animals, tmp_path / name)
    content = bytearray(path.read_bytes())
    position = int(share * len(content))
    path.write_bytes(content[:position])
    with pytest.raises(InvalidInputError, match=r"that is whole. Got \w+: "):
        load_image_folder(path)
    content[position] ^= 0xFF
    path.write_bytes(content)
    with contextlib.suppress(InvalidInputError):
        check_animals(load_image_folder(path))


def test_a_turned_byte_in_an_image_of_an_archive_is_found(animals, tmp_path):
    path = pack(animals, tmp_path / "animals.zip")
    content = path.read_bytes()
    path.write_bytes(content.replace(b"IDAT", b"IDAS", 1))
    with pytest.raises(InvalidInputError, match=r"whole. Got BadZipFile: Bad CRC"):
        load_image_folder(path)


def test_huge_files_in_archives_are_refused(tmp_path, monkeypatch):
    small = functools.partial(Limits, max_file_bytes=1 << 20)
    monkeypatch.setattr(_load_image_folder, "Limits", small)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/1.png", bytes(3 << 20))
    with pytest.raises(InvalidInputError, match=r"at most 1 MB. Got a/1\.png with 3"):
        load_image_folder(tmp_path / "bomb.zip")


@pytest.fixture
def splits(tmp_path):
    folder = tmp_path / "copy"
    for name, value in {
        "train/n3": 30,
        "train/n1": 10,
        "val/n2": 20,
        "test/n0": 0,
    }.items():
        for k in (0, 1):
            save(folder / name / f"{k}.png", (value + k,) * 3, (84, 84))
    return folder


def check_splits(bunch, size=84):
    assert bunch.data.shape == (8, size, size, 3)
    assert bunch.data[:, 0, 0, 0].tolist() == [10, 11, 30, 31, 20, 21, 0, 1]
    assert bunch.target.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert bunch.target_names.tolist() == ["n1", "n3", "n2", "n0"]
    assert bunch.split.tolist() == ["train"] * 4 + ["val"] * 2 + ["test"] * 2
    assert "ImageNet" in bunch.DESCR


@pytest.mark.parametrize("fetch", FETCH)
def test_folders_of_splits(splits, tmp_path, fetch):
    check_splits(fetch(path=splits, data_home=tmp_path / "home"))
    small = fetch(path=splits, data_home=tmp_path / "home", image_size=20)
    check_splits(small, 20)
    archive = pack(splits, tmp_path / "copy.zip")
    check_splits(fetch(path=archive, data_home=tmp_path / "home"))


@pytest.mark.parametrize("fetch", FETCH)
def test_a_split_stays_on_disk(splits, tmp_path, fetch):
    name = fetch.__name__.removeprefix("fetch_").replace("_", "-")
    splits.rename(tmp_path / name)
    X, y = fetch(data_home=tmp_path, split="val", return_X_y=True)
    assert isinstance(X, np.memmap)
    assert X[:, 0, 0, 0].tolist() == [20, 21]
    assert y.tolist() == [2, 2]
    assert [path.name for path in (tmp_path / "cache").iterdir()]


def ravi_copy(folder, *, lose=None, header="filename,label"):
    """Images side by side, and the three lists."""
    rows = {"train": [("n3", 30), ("n1", 10)], "val": [("n2", 20)], "test": [("n0", 0)]}
    for split, classes in rows.items():
        lines = [header]
        for label, value in classes:
            for k in (0, 1):
                name = f"{label}0000000{k}.jpg"
                save(folder / "images" / name, (value + k,) * 3, (84, 84))
                lines.append(f"{name},{label}")
        (folder / f"{split}.csv").write_text("\n".join([*lines, ""]))
    if lose:
        (folder / "images" / lose).unlink()
    return folder


def test_mini_imagenet_by_the_lists_of_ravi(tmp_path):
    ravi_copy(tmp_path / "mini_imagenet")
    check_splits(fetch_mini_imagenet(data_home=tmp_path))
    check_splits(fetch_mini_imagenet(data_home=tmp_path))


def test_lists_that_do_not_fit_are_refused(tmp_path):
    copy = ravi_copy(tmp_path / "a", lose="n300000001.jpg")
    with pytest.raises(InvalidInputError, match="Got 7 of 8 images in a; add"):
        fetch_mini_imagenet(data_home=tmp_path, path=copy)
    copy = ravi_copy(tmp_path / "b", header="file,class")
    with pytest.raises(InvalidInputError, match="columns filename and label"):
        fetch_mini_imagenet(data_home=tmp_path, path=copy)


@pytest.mark.parametrize("fetch", FETCH)
def test_sets_of_images_as_npz(tmp_path, fetch):
    np.savez(
        tmp_path / f"{fetch.__name__.removeprefix('fetch_')}.npz",
        images=np.zeros((3, 4, 4, 3), dtype=np.uint8),
        label=np.array([0, 1, 2]),
        name=np.array(["a", "b", "c"]),
        split=np.array(["train", "val", "test"]),
    )
    bunch = fetch(data_home=tmp_path, split="test")
    assert (bunch.target.tolist(), len(bunch.target_names)) == ([2], 3)


@pytest.mark.parametrize("fetch", FETCH)
def test_what_cannot_be_downloaded_says_so(tmp_path, fetch):
    message = r"\.npz or .*_imagenet or .*\.zip in .* cannot be downloaded.*as path"
    with pytest.raises(FileNotFoundError, match=message):
        fetch(data_home=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"folder or archive '.*nowhere'"):
        fetch(data_home=tmp_path, path=tmp_path / "nowhere")
    with pytest.raises(InvalidInputError, match=r"split must be one of .* Got 'valid'"):
        fetch(data_home=tmp_path, split="valid")
    (tmp_path / "copy.pkl").write_bytes(b"\x80\x04N.")
    with pytest.raises(InvalidInputError, match="a zip or tar archive that is whole"):
        fetch(data_home=tmp_path, path=tmp_path / "copy.pkl")


def test_every_byte_of_a_packed_archive_counts(animals, tmp_path):
    """The checksum of the stream is read, which lies behind the last image."""
    (animals / "beside.png").unlink()
    path = pack(animals, tmp_path / "animals.tar.gz")
    whole = path.read_bytes()
    for position in range(0, len(whole), max(1, len(whole) // 60)):
        content = bytearray(whole)
        content[position] ^= 0xFF
        path.write_bytes(content)
        with contextlib.suppress(InvalidInputError):
            check_animals(load_image_folder(path))
