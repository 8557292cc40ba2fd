"""Generators against their stated truth, loaders against files written here."""

import numpy as np
import pytest

from skcausalmeta.datasets import (
    add_rotated_classes,
    fetch_omniglot,
    fetch_tiny_imagenet,
    make_sparse_classes,
)
from skcausalmeta.exceptions import InvalidInputError


def test_rotations_of_a_2x2_image_by_hand():
    image = np.array([[1, 2], [3, 4]])
    images, y = add_rotated_classes(image[None], ["a"])
    quarter, half, three = [[2, 4], [1, 3]], [[4, 3], [2, 1]], [[3, 1], [4, 2]]
    np.testing.assert_array_equal(images, [image, quarter, half, three])
    np.testing.assert_array_equal(y, [0, 1, 2, 3])


def test_rotated_classes_are_numbered_by_orientation():
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(3, 2, 2, 3), dtype=np.uint8)
    turned, y = add_rotated_classes(images, ["b", "a", "b"], n_rotations=2)
    np.testing.assert_array_equal(y, [1, 0, 1, 3, 2, 3])
    assert turned.dtype == np.uint8
    np.testing.assert_array_equal(turned[:3], images)
    np.testing.assert_array_equal(
        turned[3, 0, 0], images[0, 0, 1]
    )  # colours move along


def test_one_rotation_changes_nothing():
    images = np.arange(8).reshape(2, 2, 2)
    turned, y = add_rotated_classes(images, [5, 7], n_rotations=1)
    np.testing.assert_array_equal(turned, images)
    np.testing.assert_array_equal(y, [0, 1])


@pytest.mark.parametrize(
    ("images", "y", "n_rotations", "message"),
    [
        (np.zeros((2, 3, 4)), [0, 1], 4, r"must be square .* Got \(2, 3, 4\)"),
        (np.zeros((2, 9)), [0, 1], 4, "must be square"),
        (np.zeros((2, 3, 3)), [0], 4, r"one label per image. Got shape \(1,\) for 2"),
        (np.zeros((2, 3, 3)), [0, 1], 5, "1, 2, 3 or 4 quarter turns. Got 5"),
        (np.zeros((2, 3, 3)), [0, 1], 0, "quarter turns. Got 0"),
    ],
)
def test_bad_images_are_refused(images, y, n_rotations, message):
    with pytest.raises(InvalidInputError, match=message):
        add_rotated_classes(images, y, n_rotations=n_rotations)


def test_sparse_classes_hold_to_their_truth():
    bunch = make_sparse_classes(
        n_classes=7,
        n_per_class=400,
        n_features=12,
        n_informative=2,
        n_factors=5,
        separation=4.0,
        noise=0.5,
        random_state=0,
    )
    np.testing.assert_array_equal(np.bincount(bunch.target), np.full(7, 400))
    np.testing.assert_array_equal(bunch.supports.sum(axis=1), np.full(7, 2))
    np.testing.assert_allclose(bunch.mixing.T @ bunch.mixing, np.eye(5), atol=1e-12)
    np.testing.assert_allclose(bunch.data, bunch.factors @ bunch.mixing.T, atol=1e-12)
    for label in range(7):
        factors = bunch.factors[bunch.target == label]
        expected = 4.0 * bunch.supports[label]
        assert np.abs(np.abs(factors.mean(axis=0)) - expected).max() < 0.15
        assert np.abs(factors.std(axis=0) - 0.5).max() < 0.1


def test_sparse_classes_without_noise_are_points():
    bunch = make_sparse_classes(3, 2, 6, n_factors=6, noise=0.0, random_state=0)
    np.testing.assert_array_equal(bunch.data[::2], bunch.data[1::2])


def test_sparse_classes_repeat_with_the_seed_only():
    first, again, other = (
        make_sparse_classes(random_state=seed).data for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1


@pytest.mark.parametrize(
    "params",
    [{"n_informative": 11}, {"n_informative": 0}, {"n_features": 9}],
)
def test_impossible_sparse_classes_are_refused(params):
    with pytest.raises(InvalidInputError, match="1 <= n_informative <= n_factors <="):
        make_sparse_classes(**params)


@pytest.fixture
def folder(tmp_path):
    split = np.array(["train", "train", "val", "test", "test"])
    rng = np.random.default_rng(0)
    np.savez_compressed(
        tmp_path / "omniglot.npz",
        images=rng.integers(256, size=(5, 28, 28), dtype=np.uint8),
        character=np.array([0, 1, 2, 3, 3], dtype=np.int16),
        alphabet=np.array([0, 0, 1, 2, 2], dtype=np.int16),
        alphabet_names=np.array(["Greek", "Early_Aramaic", "Sanskrit"]),
        character_in_alphabet=np.array([1, 2, 1, 1, 1], dtype=np.int16),
        drawer=np.array([1, 1, 1, 1, 2], dtype=np.int16),
        split=split,
    )
    np.savez_compressed(
        tmp_path / "tiny_imagenet_fs.npz",
        images=rng.integers(256, size=(5, 32, 32, 3), dtype=np.uint8),
        label=np.array([0, 1, 2, 3, 3], dtype=np.int16),
        wnid=np.array(["n1", "n2", "n3", "n4"]),
        name=np.array(["cat", "dog", "oboe", "harp"]),
        split=split,
        source_index=np.arange(5, dtype=np.int16),
    )
    return tmp_path


def test_omniglot_has_images_characters_and_alphabets(folder):
    bunch = fetch_omniglot(data_home=folder)
    assert bunch.data.shape == (5, 28, 28)
    assert bunch.data.dtype == np.uint8
    assert bunch.target.tolist() == [0, 1, 2, 3, 3]
    assert (
        bunch.alphabet.tolist() == ["Greek"] * 2 + ["Early_Aramaic"] + ["Sanskrit"] * 2
    )
    assert bunch.split.tolist() == ["train", "train", "val", "test", "test"]


def test_omniglot_split_keeps_its_rows_together(folder):
    everything = fetch_omniglot(data_home=folder)
    test = fetch_omniglot(data_home=str(folder), split="test")
    np.testing.assert_array_equal(test.data, everything.data[3:])
    assert test.target.tolist() == [3, 3]
    assert test.alphabet.tolist() == ["Sanskrit", "Sanskrit"]
    assert set(test.split) == {"test"}


def test_tiny_imagenet_split_keeps_all_names(folder):
    bunch = fetch_tiny_imagenet(data_home=folder, split="val")
    assert bunch.data.shape == (1, 32, 32, 3)
    assert bunch.target.tolist() == [2]
    assert bunch.target_names.tolist() == ["cat", "dog", "oboe", "harp"]


def test_names_stay_whole_when_there_are_as_many_images(tmp_path):
    np.savez_compressed(
        tmp_path / "tiny_imagenet_fs.npz",
        images=np.zeros((2, 32, 32, 3), dtype=np.uint8),
        label=np.array([0, 1], dtype=np.int16),
        wnid=np.array(["n1", "n2"]),
        name=np.array(["cat", "dog"]),
        split=np.array(["train", "val"]),
        source_index=np.arange(2, dtype=np.int16),
    )
    bunch = fetch_tiny_imagenet(data_home=tmp_path, split="val")
    assert bunch.target_names.tolist() == ["cat", "dog"]


@pytest.mark.parametrize("fetch", [fetch_omniglot, fetch_tiny_imagenet])
def test_the_folder_may_come_from_the_environment(folder, monkeypatch, fetch):
    monkeypatch.setenv("SKCAUSALMETA_DATA", str(folder))
    assert len(fetch().data) == 5
    with pytest.raises(FileNotFoundError, match="'elsewhere'"):
        fetch(data_home="elsewhere", download_if_missing=False)


@pytest.mark.parametrize("fetch", [fetch_omniglot, fetch_tiny_imagenet])
def test_missing_folders_files_and_splits_are_named(tmp_path, fetch):
    with pytest.raises(FileNotFoundError, match=r"in '.*skcausalmeta_data'\. Use"):
        fetch(download_if_missing=False)
    message = r"Cannot find .*\.npz or .*\.zip in .*DATA\.$"
    with pytest.raises(FileNotFoundError, match=message):
        fetch(data_home=tmp_path, download_if_missing=False)
    with pytest.raises(InvalidInputError, match=r"split must be one of .* Got 'valid'"):
        fetch(data_home=tmp_path, split="valid")


@pytest.mark.parametrize("fetch", [fetch_omniglot, fetch_tiny_imagenet])
def test_rows_and_targets_alone(folder, fetch):
    X, y = fetch(data_home=folder, split="test", return_X_y=True)
    np.testing.assert_array_equal(X, fetch(data_home=folder).data[3:])
    assert y.tolist() == [3, 3]


def test_names_of_characters_are_found_by_number(folder):
    bunch = fetch_omniglot(data_home=folder)
    names = bunch.target_names[bunch.target].tolist()
    assert names[1:4] == [
        "Greek/character02",
        "Early_Aramaic/character01",
        "Sanskrit/character01",
    ]
    assert bunch.drawer.tolist() == [1, 1, 1, 1, 2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no archive", "must be an npz file of plain arrays"),
        (b"", "must be an npz file"),
        ({"images": np.zeros(3)}, r"Got \['images'\], without \['character', 'alph"),
        ({"images": np.array([None])}, "Object arrays cannot be loaded"),
    ],
)
def test_files_of_another_kind_are_refused(tmp_path, content, message):
    path = tmp_path / "omniglot.npz"
    if isinstance(content, dict):
        np.savez(path, **content)
    else:
        path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=message):
        fetch_omniglot(data_home=tmp_path)
