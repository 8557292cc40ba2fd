"""RowReader against arrays laid out by hand, EpisodeStream against its source."""

import numpy as np
import pytest
import torch

from skcausalmeta.episodes import Episode, EpisodeSampler
from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.training import EpisodeStream, RowReader


def counted(*shape):
    return np.arange(np.prod(shape), dtype=np.float64).reshape(shape)


@pytest.mark.parametrize(
    ("row_shape", "input_shape", "sample_shape"),
    [
        ((7,), None, (7,)),
        ((5, 6), None, (1, 5, 6)),
        ((3, 8, 8), None, (3, 8, 8)),
        ((8, 8, 3), None, (3, 8, 8)),
        ((8, 8, 1), None, (1, 8, 8)),
        ((3, 8, 4), None, (3, 8, 4)),  # both ends could be channels: first
        ((2, 8, 8), None, (2, 8, 8)),  # neither is a usual number of channels: first
        ((30,), (5, 6), (1, 5, 6)),
        ((24,), (2, 3, 4), (4, 2, 3)),
        ((24,), (3, 2, 4), (3, 2, 4)),
        ((2, 2, 2, 2), None, (2, 2, 2, 2)),
        ((4, 6), (24,), (24,)),
    ],
)
def test_layouts(row_shape, input_shape, sample_shape):
    reader = RowReader(row_shape, input_shape)
    assert reader.sample_shape == sample_shape
    rows = reader(counted(2, *row_shape))
    assert rows.shape == (2, *sample_shape)
    assert rows.dtype == torch.float32


def test_channels_last_are_moved_not_reshaped():
    X = counted(2, 5, 4, 3)
    rows = RowReader((5, 4, 3))(X)
    np.testing.assert_array_equal(rows.numpy(), X.transpose(0, 3, 1, 2))


def test_flat_rows_are_read_row_by_row():
    X = counted(2, 6)
    rows = RowReader((6,), (2, 3))(X)
    np.testing.assert_array_equal(rows.numpy(), X.reshape(2, 1, 2, 3))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint8, bool])
def test_vectors_keep_their_values_in_every_dtype(dtype):
    X = np.array([[0, 1, 1], [1, 0, 1]], dtype=dtype)
    np.testing.assert_array_equal(RowReader((3,))(X).numpy(), X.astype(np.float32))


def test_bytes_of_images_are_scaled_other_numbers_are_not():
    X = np.full((1, 2, 2), 51, dtype=np.uint8)
    np.testing.assert_allclose(RowReader((2, 2))(X).numpy(), 0.2, rtol=1e-6)
    np.testing.assert_array_equal(RowReader((2, 2))(X.astype(np.int32)).numpy(), 51.0)
    flat = X.reshape(1, 4)
    np.testing.assert_allclose(RowReader((4,), (2, 2))(flat).numpy(), 0.2, rtol=1e-6)


def test_memory_maps_and_strided_rows_are_read_and_left_alone(tmp_path):
    X = counted(6, 4).astype(np.float32)
    np.save(tmp_path / "rows.npy", X)
    stored = np.load(tmp_path / "rows.npy", mmap_mode="r")
    rows = RowReader((4,))(stored[2:5])
    np.testing.assert_array_equal(rows.numpy(), X[2:5])
    rows += 1  # writing to the tensor must not fail, nor reach the file
    np.testing.assert_array_equal(stored, X)
    strided = X[::-2]
    np.testing.assert_array_equal(RowReader((4,))(strided).numpy(), strided)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(InvalidInputError, match=r"input_shape=\(2, 4\) \(8 entries\)"):
        RowReader((9,), (2, 4))
    reader = RowReader((3, 3))
    reader.check(np.zeros((0, 3, 3)))
    with pytest.raises(InvalidInputError, match=r"seen in fit, \(3, 3\). Got \(3, 4\)"):
        reader.check(np.zeros((2, 3, 4)))


def test_values_beyond_single_precision_are_refused():
    with pytest.raises(InvalidInputError, match="fit single precision"):
        RowReader((2,))(np.array([[1.0, 1e39]]))


def make_stream(seed=0, augment=None, n_batches=3, augment_seed=0):
    X, y = counted(40, 2), np.repeat(np.arange(4), 10)
    sampler = EpisodeSampler(y, n_way=3, n_shot=2, n_query=4, random_state=seed)
    return X, EpisodeStream(
        X,
        RowReader((2,)),
        sampler.draw,
        n_batches,
        2,
        augment=augment,
        seed=augment_seed,
    )


def supports(stream):
    return [task.support.tolist() for batch in stream for task in batch.tasks]


def test_stream_gives_the_rows_of_its_episodes():
    X = counted(10, 2)
    episode = Episode(
        support=np.array([4, 0]),
        query=np.array([5, 1, 9]),
        support_targets=np.array([0, 1]),
        query_targets=np.array([0, 1, 1]),
        classes=np.array(["oboe", "harp"]),
    )
    stream = EpisodeStream(X, RowReader((2,)), lambda n: [episode] * n, 1, 1)
    assert len(stream) == 1
    ((task,),) = [batch.tasks for batch in stream]
    np.testing.assert_array_equal(task.support.numpy(), X[[4, 0]])
    np.testing.assert_array_equal(task.query.numpy(), X[[5, 1, 9]])
    assert task.support_targets.tolist() == [0, 1]
    assert task.query_targets.tolist() == [0, 1, 1]
    assert task.n_way == 2
    assert task.shape == (2, 3, 2)


def test_stream_repeats_with_its_seed_and_draws_anew_every_epoch():
    _, first = make_stream()
    _, again = make_stream()
    _, other = make_stream(seed=1)
    epoch = supports(first)
    assert len(epoch) == 6
    assert epoch == supports(again)
    assert epoch != supports(other)
    following = supports(first)
    assert following == supports(again)
    assert all(rows not in epoch for rows in following)


def test_support_and_query_rows_are_apart():
    _, stream = make_stream()
    for batch in stream:
        for task in batch.tasks:
            support = {tuple(row) for row in task.support.tolist()}
            assert support.isdisjoint(tuple(row) for row in task.query.tolist())


def test_augmentation_draws_from_its_own_seed():
    def jitter(rows, generator):
        return rows + torch.rand(rows.shape, generator=generator)

    X, first = make_stream(augment=jitter)
    _, again = make_stream(augment=jitter)
    _, other = make_stream(augment=jitter, augment_seed=1)
    _, plain = make_stream()
    rows, repeated, changed, bare = (
        np.array(supports(stream)) for stream in (first, again, other, plain)
    )
    np.testing.assert_array_equal(rows, repeated)
    assert np.abs(rows - changed).max() > 0.1
    np.testing.assert_allclose(rows, bare, atol=1.0)  # the same episodes underneath
    np.testing.assert_array_equal(X, counted(40, 2))


def test_tasks_of_one_shape_are_grouped():
    episodes = [
        Episode(
            support=np.arange(n_way),
            query=np.arange(n_way, 2 * n_way),
            support_targets=np.arange(n_way),
            query_targets=np.arange(n_way),
            classes=np.arange(n_way),
        )
        for n_way in (2, 3, 2)
    ]
    stream = EpisodeStream(counted(6, 2), RowReader((2,)), lambda n: episodes, 1, 3)
    (batch,) = stream
    assert len(batch) == 3
    assert list(batch.groups()) == [[0, 2], [1]]
