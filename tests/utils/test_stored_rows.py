"""Arrays on disk: what counts as one, and what is given back."""

import mmap
import types

import numpy as np
import pytest

from skcausalmeta.utils import (
    StoredRows,
    _stored_rows,
    all_finite,
    is_memory_map,
    read_rows,
    release_pages,
    stays_on_disk,
)


@pytest.fixture
def rows(tmp_path):
    X = np.memmap(tmp_path / "rows", dtype=np.float32, mode="w+", shape=(10, 2, 3))
    X[:] = np.arange(60).reshape(X.shape)
    return X


def test_only_maps_of_rows_of_numbers_count(rows, tmp_path):
    assert is_memory_map(rows)
    assert is_memory_map(rows[3:])
    assert not is_memory_map(np.asarray(rows))
    assert not is_memory_map(rows[:0])
    assert not is_memory_map(rows.reshape(-1))
    text = np.memmap(tmp_path / "text", dtype="S4", mode="w+", shape=(4, 4))
    assert not is_memory_map(text)
    assert not is_memory_map(rows.tolist())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 4, 9])
def test_one_bad_value_is_found_in_every_block(rows, monkeypatch, value, row):
    monkeypatch.setattr(_stored_rows, "_BYTES_PER_BLOCK", 3 * rows[0].nbytes)
    assert all_finite(rows)
    rows[row, 1, 2] = value
    assert not all_finite(rows)


def test_integers_need_not_be_read(tmp_path):
    X = np.memmap(tmp_path / "bytes", dtype=np.uint8, mode="w+", shape=(4, 3))
    assert all_finite(X)


def test_changes_outlive_their_pages(rows, tmp_path):
    rows[2] = 7
    release_pages(rows[1:])
    assert (rows[2] == 7).all()
    rows.flush()
    copied = np.memmap(tmp_path / "rows", np.float32, mode="c", shape=rows.shape)
    copied[3] = -1
    release_pages(copied)
    assert (copied[3] == -1).all()
    assert (rows[3] != -1).all()


def test_other_arrays_are_left_alone(rows, monkeypatch):
    release_pages(np.zeros((2, 3)))
    release_pages(None)
    release_pages(rows + 1)  # a memmap by type, but in memory
    monkeypatch.setattr(_stored_rows, "mmap", types.SimpleNamespace())
    release_pages(rows)  # a system without the call
    assert hasattr(mmap.mmap, "madvise") or not hasattr(mmap, "MADV_DONTNEED")


def test_rows_are_read_in_small_groups(tmp_path, monkeypatch):
    X = np.memmap(tmp_path / "rows", dtype=np.int64, mode="w+", shape=(500, 3))
    X[:] = np.arange(1500).reshape(500, 3)
    released = []
    monkeypatch.setattr(_stored_rows, "_ROWS_PER_READ", 50)
    monkeypatch.setattr(_stored_rows, "release_pages", released.append)
    index = np.random.default_rng(0).permutation(500)[:220]
    rows = read_rows(X, index)
    np.testing.assert_array_equal(rows, np.asarray(X)[index])
    assert len(released) == 5
    assert not isinstance(rows, np.memmap)
    array = np.asarray(X)
    np.testing.assert_array_equal(read_rows(array, index), rows)
    np.testing.assert_array_equal(read_rows(StoredRows(array), index), rows)
    assert len(released) == 5


def test_what_is_in_memory_does_not_stay_on_disk(tmp_path):
    X = np.memmap(tmp_path / "rows", dtype=np.int64, mode="w+", shape=(5, 3))
    assert stays_on_disk(X)
    assert stays_on_disk(StoredRows(np.asarray(X)))
    assert not stays_on_disk(np.asarray(X))


def test_one_row_and_no_rows_of_a_store():
    rows = StoredRows(np.arange(6.0).reshape(3, 2))
    np.testing.assert_array_equal(rows[1], [2.0, 3.0])
    assert rows[np.zeros(3, dtype=bool)].shape == (0, 2)
