"""Original archives, small ones in their layouts, downloaded from this machine."""

import gzip
import io
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from skcausalmeta.datasets import (
    _fetch_cifar_fs,
    _fetch_mnist,
    _fetch_movielens,
    _fetch_omniglot,
    _fetch_tiny_imagenet,
    fetch_cifar_fs,
    fetch_mnist,
    fetch_movielens,
    fetch_omniglot,
    fetch_tiny_imagenet,
)
from skcausalmeta.exceptions import InvalidInputError

RNG = np.random.default_rng(0)


def image_bytes(pixels, form="PNG"):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form)
    return stream.getvalue()


def zip_bytes(files):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def tar_bytes(files):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


# Omniglot: characters (alphabet, number), two drawings each; the ink is black.
BACKGROUND = [("Greek", 1), ("Greek", 2), ("Hebrew", 1)]
EVALUATION = [("Angelic", 1), ("Gurmukhi", 41), ("Gurmukhi", 42), ("ULOG", 1)]
DRAWINGS = {
    (alphabet, number, drawer): RNG.random((105, 105)) < 0.8
    for alphabet, number in BACKGROUND + EVALUATION
    for drawer in (1, 2)
}


def drawings(folder, characters):
    return {
        f"{folder}/{a}/character{n:02d}/0{n:03d}_{d:02d}.png": image_bytes(
            DRAWINGS[a, n, d]
        )
        for a, n in characters
        for d in (2, 1)
    }


@pytest.fixture
def omniglot(server, monkeypatch):
    remotes = [
        server.remote(f"{name}.zip", zip_bytes(drawings(name, characters)))
        for name, characters in [
            ("images_background", BACKGROUND),
            ("images_evaluation", EVALUATION),
        ]
    ]
    monkeypatch.setattr(_fetch_omniglot, "_REMOTES", tuple(remotes))
    return server


def test_omniglot_from_the_archives(tmp_path, omniglot):
    bunch = fetch_omniglot(data_home=tmp_path)
    assert (bunch.data.shape, bunch.data.dtype) == ((14, 28, 28), np.uint8)
    assert bunch.target.tolist() == np.repeat(np.arange(7), 2).tolist()
    assert bunch.target_names[3:5].tolist() == [
        "Angelic/character01",
        "Gurmukhi/character41",
    ]
    assert bunch.alphabet[:4].tolist() == ["Greek"] * 4
    assert bunch.drawer.tolist() == [1, 2] * 7
    # The first 3.75 pixels of each axis make the first of the new ones.
    weights = np.r_[np.ones(3), 0.75, np.zeros(101)] / 3.75
    ink = 255.0 * ~DRAWINGS["Greek", 1, 1]
    assert bunch.data[0, 0, 0] == round(weights @ ink @ weights)
    assert abs(bunch.data[0].mean() - ink.mean()) < 0.1
    assert "Lake" in bunch.DESCR


def test_omniglot_is_divided_as_published(tmp_path, omniglot):
    vinyals = fetch_omniglot(data_home=tmp_path).split[::2]
    assert vinyals.tolist() == [*["train"] * 2, "val", *["train"] * 2, *["test"] * 2]
    lake = fetch_omniglot(data_home=tmp_path, partition="background")
    assert lake.split[::2].tolist() == [*["train"] * 3, *["test"] * 4]
    X, y = fetch_omniglot(
        data_home=tmp_path, partition="background", split="test", return_X_y=True
    )
    np.testing.assert_array_equal(X, lake.data[6:])
    assert np.unique(y).tolist() == [3, 4, 5, 6]
    with pytest.raises(InvalidInputError, match=r"one of \('test', 'train'\).*'val'"):
        fetch_omniglot(data_home=tmp_path, partition="background", split="val")
    assert len(omniglot.asked) == 2


def test_omniglot_unpacked_and_without_leave_to_download(tmp_path, omniglot):
    for name in ("images_background", "images_evaluation"):
        with pytest.raises(FileNotFoundError, match=rf"omniglot.npz or {name}\.zip"):
            fetch_omniglot(data_home=tmp_path, download_if_missing=False)
        archive = zipfile.ZipFile(io.BytesIO(omniglot.files[f"{name}.zip"]))
        archive.extractall(tmp_path)
    bunch = fetch_omniglot(data_home=tmp_path, download_if_missing=False)
    assert bunch.target_names.tolist()[-1] == "ULOG/character01"
    assert omniglot.asked == []


def test_omniglot_of_other_names_is_refused(tmp_path, omniglot):
    wrong = zip_bytes({"images_background/a.png": image_bytes(np.zeros((9, 9), bool))})
    (tmp_path / "images_background.zip").write_bytes(wrong)
    with pytest.raises(InvalidInputError, match=r"named like Greek/.*Got images_back"):
        fetch_omniglot(data_home=tmp_path)


# CIFAR: classes 0 to 3 of these names, two images each.
CIFAR_NAMES = ["apple", "baby", "bear", "beaver"]
CIFAR_LABELS = {"train.bin": [3, 0, 1], "test.bin": [2, 3, 0, 1, 2]}


def cifar_archive(names=CIFAR_NAMES, cut=0):
    files = {"cifar-100-binary/fine_label_names.txt": "\n".join([*names, ""]).encode()}
    for name, labels in CIFAR_LABELS.items():
        records = [bytes([9, k]) + bytes([k]) * 1024 + bytes(2048) for k in labels]
        files[f"cifar-100-binary/{name}"] = b"".join(records)[: -cut or None]
    return tar_bytes(files)


def test_cifar_fs_from_the_archive(tmp_path, server, monkeypatch):
    remote = server.remote("cifar-100-binary.tar.gz", cifar_archive())
    monkeypatch.setattr(_fetch_cifar_fs, "_REMOTE", remote)
    bunch = fetch_cifar_fs(data_home=tmp_path)
    assert bunch.target_names.tolist() == ["apple", "bear", "beaver", "baby"]
    assert bunch.target.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert bunch.split.tolist() == ["train"] * 4 + ["val"] * 2 + ["test"] * 2
    assert bunch.data.shape == (8, 32, 32, 3)
    # The first channel holds the label, the others nothing.
    assert bunch.data[:, 7, 5, 0].tolist() == [0, 0, 2, 2, 3, 3, 1, 1]
    assert not bunch.data[..., 1:].any()
    X, y = fetch_cifar_fs(data_home=tmp_path, split="test", return_X_y=True)
    assert (len(X), y.tolist()) == (2, [3, 3])
    assert len(server.asked) == 1


def test_the_classes_of_cifar_fs_are_as_many_as_published():
    assert len(set(_fetch_cifar_fs._VALIDATION)) == 16
    assert len(set(_fetch_cifar_fs._TEST)) == 20
    assert not set(_fetch_cifar_fs._VALIDATION) & set(_fetch_cifar_fs._TEST)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (cifar_archive(cut=1), "whole records of 3074 bytes"),
        (cifar_archive(names=[]), "whole records"),
        (cifar_archive(names=["apple"]), "labels below 1. Got 3"),
        (tar_bytes({}), r"must hold train\.bin.* Got \[\]"),
        (cifar_archive()[:200], "whole. Got"),
        (b"no archive", "a zip or tar archive"),
    ],
    ids=["cut", "empty", "few names", "no records", "truncated", "other bytes"],
)
def test_damaged_archives_are_refused(tmp_path, content, message):
    (tmp_path / "cifar-100-binary.tar.gz").write_bytes(content)
    with pytest.raises(InvalidInputError, match=message):
        fetch_cifar_fs(data_home=tmp_path)


def tiny_archive(texts=True):
    files = {}
    for wnid, grey in (("n2", 20), ("n1", 10)):
        for k in (0, 1):
            pixels = np.full((64, 64), grey + k, dtype=np.uint8)
            name = f"tiny-imagenet-200/train/{wnid}/images/{wnid}_{k}.JPEG"
            files[name] = image_bytes(pixels, "JPEG")
    pixels = np.full((64, 64, 3), 30, dtype=np.uint8)
    files["tiny-imagenet-200/val/images/val_0.JPEG"] = image_bytes(pixels, "JPEG")
    files["tiny-imagenet-200/test/images/test_0.JPEG"] = image_bytes(pixels, "JPEG")
    if texts:
        files["tiny-imagenet-200/words.txt"] = b"n1\tcat\nn2\tdog, hound\nn3\toboe\n"
        lines = b"val_0.JPEG\tn2\t0\t0\t62\t62\n"
        files["tiny-imagenet-200/val/val_annotations.txt"] = lines
    return zip_bytes(files)


def test_tiny_imagenet_from_the_archive(tmp_path, server, monkeypatch):
    remote = server.remote("tiny-imagenet-200.zip", tiny_archive(), "md5")
    monkeypatch.setattr(_fetch_tiny_imagenet, "_REMOTE", remote)
    bunch = fetch_tiny_imagenet(data_home=tmp_path)
    assert bunch.data.shape == (5, 64, 64, 3)
    assert bunch.data[:, 0, 0, 1].tolist() == [10, 11, 20, 21, 30]
    assert bunch.target.tolist() == [0, 0, 1, 1, 1]
    assert bunch.wnid.tolist() == ["n1", "n2"]
    assert bunch.target_names.tolist() == ["cat", "dog, hound"]
    assert bunch.split.tolist() == ["train"] * 4 + ["val"]
    small = fetch_tiny_imagenet(data_home=tmp_path, image_size=16, split="val")
    assert small.data.shape == (1, 16, 16, 3)
    assert len(server.asked) == 1
    with pytest.raises(FileNotFoundError, match=r"tiny_imagenet_fs\.npz in .*Put the"):
        fetch_tiny_imagenet(data_home=tmp_path, partition="few-shot")


def test_tiny_imagenet_without_its_tables_is_refused(tmp_path):
    (tmp_path / "tiny-imagenet-200.zip").write_bytes(tiny_archive(texts=False))
    with pytest.raises(InvalidInputError, match=r"must hold words\.txt and val_anno"):
        fetch_tiny_imagenet(data_home=tmp_path)


MOVIE_TABLES = {
    "ml-100k/u.data": "1\t2\t3\t30\n2\t1\t5\t10\n1\t1\t4\t20\n",
    "ml-100k/u.item": "1|A|d||http|0|1\n2|B\xe9|d||http|1|1\n",
    "ml-100k/u.user": "1|24|M|artist|1\n2|53|F|lawyer|2\n",
    "ml-100k/u.genre": "war|0\ndrama|1\n\n",
    "ml-100k/u.occupation": "artist\nlawyer\n",
}


def movie_archive(**changes):
    tables = {name: text.encode("latin-1") for name, text in MOVIE_TABLES.items()}
    tables.update({f"ml-100k/{k}": v for k, v in changes.items()})
    return zip_bytes({k: v for k, v in tables.items() if v is not None})


def test_movielens_from_the_archive(tmp_path, server, monkeypatch):
    remote = server.remote("ml-100k.zip", movie_archive())
    monkeypatch.setattr(_fetch_movielens, "_REMOTE", remote)
    bunch = fetch_movielens(data_home=tmp_path, n_slices=3, min_ratings=1)
    names = bunch.feature_names.tolist()
    assert names == ["age", "gender", "artist", "lawyer", "war", "drama"]
    expected = [[53, 1, 0, 1, 0, 1], [24, 0, 1, 0, 0, 1], [24, 0, 1, 0, 1, 1]]
    np.testing.assert_array_equal(bunch.data, expected)
    nan = np.nan
    np.testing.assert_array_equal(bunch.target, [[nan, 5], [nan, 4], [3, 3]])
    assert bunch.envs.tolist() == [0, 1, 2]
    assert bunch.user.tolist() == [1, 0, 0]
    frame = fetch_movielens(data_home=tmp_path, min_ratings=1, as_frame=True)
    assert frame.frame.columns.tolist() == [*names, "rating_war", "rating_drama"]
    assert frame.target["rating_drama"].tolist() == [5, 4, 3]
    X, y = fetch_movielens(data_home=tmp_path, min_ratings=1, return_X_y=True)
    assert (X.shape, y.shape) == ((3, 6), (3, 2))
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"u.user": None}, r"Got none of \['u\.user'\]"),
        ({"u.user": b"1|24|M|spy|1\n2|53|F|lawyer|2\n"}, "'spy' is not in list"),
        ({"u.data": b"1\t2\tgood\t30\n"}, "as published. Got .*good"),
    ],
)
def test_other_tables_are_refused(tmp_path, changes, message):
    (tmp_path / "ml-100k.zip").write_bytes(movie_archive(**changes))
    with pytest.raises(InvalidInputError, match=message):
        fetch_movielens(data_home=tmp_path)


def idx_bytes(values):
    sizes = np.array(values.shape, dtype=">u4").tobytes()
    return bytes([0, 0, 8, values.ndim]) + sizes + values.tobytes()


DIGITS = RNG.integers(256, size=(5, 28, 28), dtype=np.uint8)
DIGIT_LABELS = np.array([5, 0, 4, 1, 9], dtype=np.uint8)
IDX = {
    "train-images-idx3-ubyte": idx_bytes(DIGITS[:3]),
    "train-labels-idx1-ubyte": idx_bytes(DIGIT_LABELS[:3]),
    "t10k-images-idx3-ubyte": idx_bytes(DIGITS[3:]),
    "t10k-labels-idx1-ubyte": idx_bytes(DIGIT_LABELS[3:]),
}


def test_mnist_from_the_original_files(tmp_path, server, monkeypatch):
    remotes = [server.remote(f"{k}.gz", gzip.compress(v)) for k, v in IDX.items()]
    monkeypatch.setattr(_fetch_mnist, "_REMOTES", tuple(remotes))
    plain = tmp_path / "mnist" / "t10k-images-idx3-ubyte"
    plain.parent.mkdir()
    plain.write_bytes(IDX[plain.name])
    bunch = fetch_mnist(data_home=tmp_path)
    np.testing.assert_array_equal(bunch.data, DIGITS)
    np.testing.assert_array_equal(bunch.target, DIGIT_LABELS)
    assert bunch.split.tolist() == ["train"] * 3 + ["test"] * 2
    X, y = fetch_mnist(data_home=tmp_path, split="test", return_X_y=True)
    np.testing.assert_array_equal(X, DIGITS[3:])
    assert y.tolist() == [1, 9]
    assert len(server.asked) == 3  # one lay there already


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t10k-labels-idx1-ubyte", b"\0\0\x08\x01\0\0\0\x05ab", "IDX file of bytes"),
        ("t10k-labels-idx1-ubyte", b"\0\0\x0d\x01\0\0\0\0", "IDX file of bytes"),
        ("t10k-labels-idx1-ubyte", b"", "Got 0 bytes"),
        ("t10k-labels-idx1-ubyte.gz", b"\x1f\x8b damaged", "a gzip file that is whole"),
        ("t10k-labels-idx1-ubyte", IDX["train-labels-idx1-ubyte"], r"\(3,\) for test"),
    ],
)
def test_damaged_digits_are_refused(tmp_path, name, content, message):
    folder = tmp_path / "mnist"
    folder.mkdir()
    for key, value in IDX.items():
        if not name.startswith(key):
            (folder / key).write_bytes(value)
    (folder / name).write_bytes(content)
    with pytest.raises(InvalidInputError, match=message):
        fetch_mnist(data_home=tmp_path)


@pytest.mark.parametrize(
    "module",
    [
        _fetch_cifar_fs,
        _fetch_mnist,
        _fetch_movielens,
        _fetch_omniglot,
        _fetch_tiny_imagenet,
    ],
)
def test_published_addresses_and_checksums_are_well_formed(module):
    remotes = getattr(module, "_REMOTES", None) or [module._REMOTE]
    for remote in remotes:
        algorithm, digest = remote.checksum.split(":")
        length = {"sha256": 32, "md5": 16}[algorithm]
        assert len(bytes.fromhex(digest)) == length
        assert remote.url.startswith("http")
        assert remote.url.endswith(f"/{remote.name}")
