"""Ids of tasks of any type, in memory, in folders and in tables."""

import datetime
import decimal
import uuid

import numpy as np
import pandas
import pyarrow
import pytest

from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.learners import SparseMetaClassifier, as_ids
from skcausalmeta.tasks import adapt_table, open_tasks, predict_table, save_tasks
from tests.tasks.test_stored_tasks import SMALL, table

N_TASKS = 5


@pytest.fixture(scope="module")
def learner():
    X, y, tasks = table()
    return SparseMetaClassifier(common="linear", **SMALL).fit(X, y, tasks=tasks)


@pytest.fixture(scope="module")
def rows():
    return table(seed=1, n_tasks=N_TASKS)


def day(k):
    return datetime.date(2026, 1, 1 + int(k))


def moment(k, zone=None):
    return datetime.datetime(2026, 1, 1 + int(k), 9, 30, tzinfo=zone)


KEPT = {
    "small numbers": np.arange(N_TASKS, dtype=np.int8),
    "large numbers": np.uint64(2**63) + np.arange(N_TASKS, dtype=np.uint64),
    "numbers of Python": np.array([2**62 + k for k in range(N_TASKS)], dtype=object),
    "nullable numbers": pandas.Series(2**60 + np.arange(N_TASKS), dtype="Int64"),
    "halves": np.arange(N_TASKS) + 0.5,
    "texts": np.array(["", "a", "a ", "ä", "a\N{COMBINING DIAERESIS}"]),
    "zeros at the end": np.array(["a", "a\0", "a\0\0", "b", "c"], dtype=object),
    "long texts": np.array([f"{k}" + "x" * 10_000 for k in range(N_TASKS)]).astype("O"),
    "emoji": np.array(["\N{OWL}" * (k + 1) for k in range(N_TASKS)]),
    "bytes": np.array([b"a", b"b", b"c\0", b"\xff", b""], dtype=object),
    "categories": pandas.Series(list("abcde")).astype("category"),
    "days": np.array([day(k) for k in range(N_TASKS)], dtype=object),
    "nanoseconds": np.datetime64("2026-01-01", "ns") + np.arange(N_TASKS),
    "months": np.datetime64("2026-01") + np.arange(N_TASKS),
    "moments": np.array([moment(k) for k in range(N_TASKS)], dtype=object),
    "moments with a zone": pandas.Series(
        [moment(k, datetime.UTC) for k in range(N_TASKS)]
    ).dt.tz_convert("Asia/Tokyo"),
    "durations": np.arange(N_TASKS) * np.timedelta64(1, "D"),
}


@pytest.mark.parametrize("kind", KEPT)
def test_ids_that_a_folder_keeps(kind, learner, rows, tmp_path):
    X, y, number = rows
    ids = KEPT[kind]
    tasks = ids.iloc[number] if hasattr(ids, "iloc") else ids[number]
    solved = learner.adapt_tasks(X, y, tasks)
    expected = solved.decision_function(X, tasks)
    assert len(solved) == N_TASKS
    assert solved.n_unknown_ == 0
    save_tasks(solved, tmp_path / "store")
    stored = open_tasks(tmp_path / "store")
    np.testing.assert_allclose(stored.decision_function(X, tasks), expected, rtol=1e-9)
    bad = X.copy()
    bad[number == 2, 1] = np.nan
    with pytest.warns(UserWarning, match="left out 1"):
        stored.update(bad, y, tasks)
    again = open_tasks(tmp_path / "store")
    names = list(stored)
    assert stored.failed_ == again.failed_
    assert list(again) == names == list(solved)
    assert all(name in again for name in [*names, *again.failed_])
    assert all(again[name].classes_.tolist() == [0, 1] for name in names)
    assert again.to_frame().shape == (N_TASKS, 5)
    again.drop(names[:1]).compact()
    assert list(open_tasks(tmp_path / "store")) == names[1:]
    assert again.n_unknown_ == stored.n_unknown_ == 0


READ_ANEW = [
    "nullable numbers",
    "zeros at the end",
    "bytes",
    "categories",
    "days",
    "moments with a zone",
]


@pytest.mark.parametrize("kind", READ_ANEW)
def test_ids_of_files_are_those_of_memory(kind, learner, rows, tmp_path):
    X, y, number = rows
    order = np.argsort(number, kind="stable")
    ids = pandas.Series(KEPT[kind]).iloc[number[order]].reset_index(drop=True)
    frame = pandas.DataFrame(X[order]).rename(columns=str).assign(y=y[order], task=ids)
    frame.to_parquet(tmp_path / "table.parquet")
    stored = adapt_table(learner, tmp_path / "table.parquet", tmp_path / "store")
    solved = learner.adapt_tasks(X[order], y[order], ids)
    assert list(stored) == list(solved)
    for asked in (frame, tmp_path / "table.parquet"):
        predict_table(stored, asked, tmp_path / "found.parquet")
        found = pyarrow.parquet.read_table(tmp_path / "found.parquet")
        expected = solved.predict(X[order], ids)
        np.testing.assert_array_equal(found["prediction"].to_numpy(), expected)
    assert stored.n_unknown_ == 0


REFUSED = {
    "tuples": [(k, "a") for k in range(N_TASKS)],
    "identifiers": [uuid.UUID(int=k) for k in range(N_TASKS)],
    "decimals": [decimal.Decimal(k) for k in range(N_TASKS)],
    "numbers beyond 64 bits": [2**70 + k for k in range(N_TASKS)],
    "halves of a letter": ["\ud800", "\ud801", "a", "b", "c"],
    "periods": list(pandas.period_range("2026", periods=N_TASKS, freq="D")),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_ids_that_only_memory_keeps(kind, learner, rows, tmp_path):
    X, y, number = rows
    tasks = np.empty(len(number), dtype=object)
    for row, k in enumerate(number):
        tasks[row] = REFUSED[kind][k]
    solved = learner.adapt_tasks(X, y, tasks)
    assert set(solved) == set(REFUSED[kind])
    assert solved[REFUSED[kind][3]].classes_.tolist() == [0, 1]
    if kind != "halves of a letter":  # of which pandas makes no index
        assert solved.to_frame().index.tolist() == sorted(REFUSED[kind])
    with pytest.raises(InvalidInputError, match="make such texts"):
        save_tasks(solved, tmp_path / "store")


MISSING = {
    "None": [None, "a", "b", "c", "d"],
    "NaN": [np.nan, 1.0, 2.0, 3.0, 4.0],
    "NaT": np.array(["NaT", *["2026-01-01"] * 4], dtype="M8[ns]"),
    "NA": pandas.Series([pandas.NA, 1, 2, 3, 4], dtype="Int64"),
    "number and text": [1, "1", "2", "3", "4"],
}


@pytest.mark.parametrize("kind", MISSING)
def test_missing_and_mixed_ids_are_refused(kind, learner, rows, tmp_path):
    X, y, number = rows
    order = np.argsort(number, kind="stable")
    ids = pandas.Series(MISSING[kind]).iloc[number[order]].reset_index(drop=True)
    frame = pandas.DataFrame(X[order]).rename(columns=str).assign(y=y[order], task=ids)
    wrong = pytest.raises(InvalidInputError, match=r"tasks must (not hold|hold values)")
    with wrong:
        learner.adapt_tasks(X[order], y[order], ids)
    with wrong:
        learner.adapt_tasks(X[order], y[order], ids.tolist())
    with wrong:
        adapt_table(learner, frame, tmp_path / "store")
    if kind != "number and text":  # Arrow has no column of both
        frame.to_parquet(tmp_path / "table.parquet")
        with wrong:
            adapt_table(learner, tmp_path / "table.parquet", tmp_path / "other")


def test_lists_in_a_column_of_ids_are_refused(learner, rows, tmp_path):
    X, y, number = rows
    frame = pandas.DataFrame(X).rename(columns=str)
    frame = frame.assign(y=y, task=[[int(k)] for k in number])
    frame.to_parquet(tmp_path / "table.parquet")
    with pytest.raises(InvalidInputError, match="make such texts"):
        adapt_table(learner, tmp_path / "table.parquet", tmp_path / "store")


def test_ids_of_another_type_are_unknown_and_equal_numbers_are_not(learner, rows):
    X, y, number = rows
    solved = learner.adapt_tasks(X, y, number + 2**60)
    for asked, known in [
        (np.uint64(2**60 + 3), True),
        (2.0**60, True),
        (2.0**60 + 256, False),  # as a float, the next number
        (2**60 + 0.0 + 300, False),
        (str(2**60), False),
        (np.datetime64(2**60, "ns"), False),
        (np.nan, False),
        (-1, False),
        (2**64 - 1, False),
        (2**80, False),
        (None, False),
        ((2**60,), False),
    ]:
        assert (asked in solved) == known, asked
    # As floats, 2**60 + 1 and 2**60 + 3 would both be 2**60.
    large = learner.adapt_tasks(X, y, number.astype(np.uint64) + np.uint64(2**60 + 5))
    solved.update(X, y, large.ids_[number])
    assert solved.ids_.tolist() == [2**60 + k for k in range(2 * N_TASKS)]
    with pytest.raises(InvalidInputError, match="numbers of one type"):
        solved.update(X, y, number + 0.5)
    with pytest.raises(InvalidInputError, match="dates and numbers"):
        solved.update(X, y, np.datetime64("2026-01-01") + number)


def test_numbers_of_types_that_hold_each_other_are_the_same_ids(learner, rows):
    X, y, number = rows
    for first, second in [
        (np.float64, np.int64),
        (np.int8, np.uint64),
        (bool, np.int64),
        (np.uint8, np.float32),
    ]:
        few = number % 2
        solved = learner.adapt_tasks(X, y, few.astype(first))
        solved.predict(X, few.astype(second))
        assert solved.n_unknown_ == 0
        assert len(solved.update(X, y, few.astype(second))) == 2


def test_ids_are_not_changed():
    given = ["a\0", "b"]
    assert as_ids(given).tolist() == given
    assert as_ids([b"a\0"]).tolist() == [b"a\0"]
    assert as_ids([]).tolist() == []
    mixed = [1, "1"]
    assert as_ids(mixed).tolist() == mixed
    assert as_ids([True, False]).dtype == bool
    half_aware = [moment(0), moment(0, datetime.UTC)]
    assert as_ids(half_aware).tolist() == half_aware
    zone = datetime.timezone(datetime.timedelta(hours=9))
    assert as_ids([moment(1, zone)]).tolist() == [datetime.datetime(2026, 1, 2, 0, 30)]
