"""Multi-MNIST, rendered scenes, MNIST and MovieLens files."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from skcausalmeta.datasets import (
    fetch_mnist,
    fetch_movielens,
    make_dense_scenes,
    make_multi_mnist,
)
from skcausalmeta.exceptions import InvalidInputError

DIGITS = np.arange(1, 13, dtype=np.uint8)[:, None, None] * np.ones((7, 7), np.uint8)
LABELS = np.repeat([3, 5, 8], 4)


def test_digits_stand_in_their_corners_and_overlap_by_the_larger():
    bunch = make_multi_mnist(DIGITS, LABELS, 20, rho=0.5, random_state=0)
    assert bunch.data.shape == (20, 9, 9)
    assert bunch.data.dtype == np.uint8
    for image, (left, right) in zip(bunch.data, bunch.index, strict=True):
        assert image[0, 0] == left + 1
        assert image[8, 8] == right + 1
        assert image[4, 4] == max(left, right) + 1
        assert image[0, 8] == image[8, 0] == 0
    np.testing.assert_array_equal(LABELS[bunch.index], bunch.target)


def test_labels_are_tied_with_the_stated_probability():
    bunch = make_multi_mnist(
        DIGITS, LABELS, 6000, rho=(1.0, 0.4, 0.0), permutation=[2, 0, 1], random_state=0
    )
    partner = {3: 8, 5: 3, 8: 5}
    tied = np.array([partner[left] == right for left, right in bunch.target])
    for env, rho in enumerate((1.0, 0.4, 0.0)):
        expected = rho + (1 - rho) / 3
        assert tied[bunch.envs == env].mean() == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize(
    ("arguments", "params", "message"),
    [
        ((DIGITS[0], LABELS), {}, r"Got \(7, 7\)"),
        ((DIGITS, LABELS[:-1]), {}, r"Got \(11,\) for 12 images"),
        ((DIGITS, LABELS), {"canvas": 6}, "at least the side of the digits, 7. Got 6"),
        ((DIGITS, LABELS), {"rho": -0.1}, "probabilities. Got -0.1"),
        ((DIGITS, LABELS), {"permutation": [0, 0, 1]}, r"Got \[0, 0, 1\]"),
    ],
)
def test_impossible_digits_are_refused(arguments, params, message):
    with pytest.raises(InvalidInputError, match=message):
        make_multi_mnist(*arguments, **params)


def points_of(bunch):
    """3-D points of the pixels, from the depth and the camera of the docstring."""
    size = bunch.data.shape[-1]
    steps = (np.arange(size) + 0.5) / size * 2 - 1
    depth = bunch.target[:, 1]
    return np.stack(
        [
            depth * 0.8 * steps,
            depth * (-0.8 * steps[:, None] - 0.2),
            depth,
        ]
    )


def test_surfaces_lie_where_their_class_says():
    bunch = make_dense_scenes(6, size=48, random_state=0)
    classes, normals = bunch.target[:, 0], bunch.target[:, 2:]
    assert set(np.unique(classes)) == {0, 1, 2, 3}
    np.testing.assert_allclose((normals**2).sum(axis=1), 1.0, atol=1e-5)
    points = points_of(bunch)
    floor, wall, sphere = (classes == k for k in range(3))
    np.testing.assert_allclose(points[1][floor], -1.0, atol=1e-5)
    for k in range(len(classes)):
        depths = points[2][k][wall[k]]
        np.testing.assert_allclose(depths, depths[0])
        # All points of a sphere less the radius along the normal are its centre.
        inside = sphere[k]
        if inside.sum() < 30:
            continue
        outward = normals[k][:, inside] * np.array([1, 1, -1])[:, None]
        radius = np.linalg.norm(np.ptp(points[:, k, inside], axis=1)) / np.linalg.norm(
            np.ptp(outward, axis=1)
        )
        centers = points[:, k, inside] - radius * outward
        assert np.ptp(centers, axis=1).max() < 1e-3


def test_visible_surfaces_face_the_camera_and_boxes_have_straight_sides():
    bunch = make_dense_scenes(6, size=32, random_state=1)
    points, normals = points_of(bunch), bunch.target[:, 2:].swapaxes(0, 1)
    towards = -(points * normals * np.array([1, 1, -1])[:, None, None, None]).sum(0)
    assert (towards >= -1e-5).all()
    box = bunch.target[:, 0] == 3
    assert set(np.unique(np.abs(normals[:, box]))) == {0, 1}


def test_light_tells_the_depth_as_strongly_as_stated():
    ties = []
    for rho in (1.0, 0.0, -1.0):
        bunch = make_dense_scenes(150, size=8, rho=rho, random_state=0)
        far = bunch.target[:, 1].max(axis=(1, 2)) > 6
        ties.append(spearmanr(bunch.data.mean(axis=(1, 2, 3)), ~far).statistic)
    assert ties[0] > 0.6
    assert abs(ties[1]) < 0.25
    assert ties[2] < -0.6


@pytest.mark.parametrize(
    ("params", "message"),
    [({"size": 3}, "at least 4 pixels. Got 3"), ({"rho": 2}, "Got 2")],
)
def test_impossible_scenes_are_refused(params, message):
    with pytest.raises(InvalidInputError, match=message):
        make_dense_scenes(1, **params)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    np.savez_compressed(
        tmp_path / "mnist.npz",
        x_train=rng.integers(256, size=(5, 28, 28), dtype=np.uint8),
        y_train=np.arange(5, dtype=np.uint8),
        x_test=rng.integers(256, size=(2, 28, 28), dtype=np.uint8),
        y_test=np.array([7, 8], dtype=np.uint8),
    )
    np.savez_compressed(
        tmp_path / "movielens100k.npz",
        user=np.array([0, 1, 0, 1], dtype=np.int16),
        item=np.array([0, 1, 2, 0], dtype=np.int16),
        rating=np.array([5, 3, 1, 2], dtype=np.int8),
        timestamp=np.array([40, 10, 30, 20], dtype=np.int32),
        item_genres=np.array([[1, 0, 1], [0, 1, 0], [1, 0, 0]], dtype=np.uint8),
        genre_names=np.array(["drama", "war", "crime"]),
        user_age=np.array([20, 60], dtype=np.int8),
        user_gender=np.array([0, 1], dtype=np.int8),
        gender_names=np.array(["M", "F"]),
        user_occupation=np.array([1, 0], dtype=np.int8),
        occupation_names=np.array(["artist", "lawyer"]),
    )
    return tmp_path


def test_mnist_has_its_original_split(folder):
    train, test = (fetch_mnist(data_home=folder, split=s) for s in ("train", "test"))
    assert (len(train.data), test.target.tolist()) == (5, [7, 8])
    everything = fetch_mnist(data_home=folder)
    np.testing.assert_array_equal(everything.data[5:], test.data)
    with pytest.raises(InvalidInputError, match="Got 'valid'"):
        fetch_mnist(data_home=folder, split="valid")


def test_movielens_is_ordered_by_time_with_a_task_per_genre(folder):
    bunch = fetch_movielens(data_home=folder, n_slices=2, min_ratings=2)
    # Genre "war" has one rating and is left out, with the film of no other genre.
    assert bunch.target_names.tolist() == ["drama", "crime"]
    assert bunch.timestamp.tolist() == [20, 30, 40]
    np.testing.assert_array_equal(bunch.target, [[2, 2], [1, np.nan], [5, 5]])
    assert bunch.envs.tolist() == [0, 0, 1]
    names = bunch.feature_names.tolist()
    assert names == ["age", "gender", "artist", "lawyer", "drama", "war", "crime"]
    np.testing.assert_array_equal(bunch.data[0], [60, 1, 1, 0, 1, 0, 1])
    np.testing.assert_array_equal(bunch.user, [1, 0, 0])


def test_impossible_slices_are_refused(folder):
    with pytest.raises(InvalidInputError, match=r"at least 1\. Got 0"):
        fetch_movielens(data_home=folder, n_slices=0)
    with pytest.raises(InvalidInputError, match="the largest has 3 ratings"):
        fetch_movielens(data_home=folder, min_ratings=9)


@pytest.mark.parametrize("fetch", [fetch_mnist, fetch_movielens])
def test_a_missing_file_is_named(tmp_path, monkeypatch, fetch):
    monkeypatch.setenv("SKCAUSALMETA_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"Cannot find .*\.npz or .*DATA\.$"):
        fetch(download_if_missing=False)
