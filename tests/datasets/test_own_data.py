"""Tables with a task column, the bundled digits, and the folder of the data."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits

from skcausalmeta.datasets import get_data_home, load_digits_few_shot, load_task_frame
from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.learners import SparseMetaClassifier

FRAME = pd.DataFrame(
    {
        "customer": np.repeat(["ann", "bob", "cy"], 8),
        "site": np.tile([2020, 2021], 12),
        "spam": np.tile([0, 1, 0, 0, 1, 1], 4),
        "length": np.arange(24.0),
        "links": np.arange(24) % 5,
        "text": "hello",
    }
)


def test_a_table_is_divided_by_its_columns():
    bunch = load_task_frame(
        FRAME, "spam", "customer", env="site", features=["links", "length"]
    )
    assert bunch.data.columns.tolist() == ["links", "length"]
    np.testing.assert_array_equal(bunch.target, FRAME["spam"])
    np.testing.assert_array_equal(bunch.tasks, FRAME["customer"])
    np.testing.assert_array_equal(bunch.envs, FRAME["site"])


def test_all_other_columns_are_features():
    bunch = load_task_frame(FRAME.drop(columns="text"), "spam", "customer")
    assert bunch.feature_names == ["site", "length", "links"]
    assert bunch.envs is None


def test_a_learner_takes_what_the_table_gives():
    bunch = load_task_frame(FRAME.drop(columns="text"), "spam", "customer", env="site")
    learner = SparseMetaClassifier(
        n_shot=1, n_query=1, max_epochs=1, batches_per_epoch=1, verbose=0
    )
    learner.fit(bunch.data, bunch.target, tasks=bunch.tasks, envs=bunch.envs)
    assert learner.feature_names_in_.tolist() == bunch.feature_names


@pytest.mark.parametrize(
    ("frame", "params", "message"),
    [
        (FRAME, {}, r"columns of numbers|column of numbers. Got \['text'\].*get_dumm"),
        (FRAME, {"features": []}, "Got no column"),
        (FRAME, {"env": "year"}, r"of which \['year'\] are not there once"),
        (FRAME, {"env": "spam"}, "must be different columns"),
        (FRAME, {"features": ["spam"]}, "must be different columns"),
        (FRAME.to_numpy(), {}, "pandas data frame. Got ndarray; read"),
        (
            FRAME.assign(customer=FRAME["customer"].replace("bob", None)),
            {"features": ["links"]},
            "value in 'customer'. Got 8 rows without",
        ),
    ],
)
def test_tables_that_do_not_fit_are_refused(frame, params, message):
    with pytest.raises(InvalidInputError, match=message):
        load_task_frame(frame, "spam", "customer", **params)


WIDE = pd.DataFrame(
    {
        "site": ["a", "b", "a", "b"],
        "weight": [1.0, 2.0, 3.0, 4.0],
        "liver": [0.0, np.nan, 1.0, -1.0],
        "skin": [1.0, 0.0, np.nan, 1.0],
    },
    index=[7, 7, 8, 9],
)


def test_a_column_a_task_becomes_rows():
    bunch = load_task_frame(WIDE, ["liver", "skin"], env="site", unlabelled=-1)
    assert bunch.tasks.tolist() == ["liver"] * 2 + ["skin"] * 3
    assert bunch.target.tolist() == [0, 1, 1, 0, 1]
    assert bunch.row.tolist() == [0, 2, 0, 1, 3]
    assert bunch.data["weight"].tolist() == [1, 3, 1, 2, 4]
    assert bunch.envs.tolist() == ["a", "a", "a", "b", "b"]
    assert bunch.feature_names == ["weight"]
    as_number = load_task_frame(WIDE, ["liver"], features=["weight"])
    assert as_number.target.tolist() == [0, 1, -1]


def test_a_wide_table_trains_a_learner():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.standard_normal((24, 3)), columns=list("abc"))
    for name in ("x", "y", "z"):
        frame[name] = rng.permutation([0, 1] * 10 + [-1] * 4)
    bunch = load_task_frame(frame, ["x", "y", "z"], unlabelled=-1)
    learner = SparseMetaClassifier(
        n_shot=1, n_query=1, max_epochs=1, batches_per_epoch=1, verbose=0
    )
    learner.fit(bunch.data, bunch.target, tasks=bunch.tasks)
    assert learner.feature_names_in_.tolist() == ["a", "b", "c"]
    assert set(learner.classes_) == {0, 1}


def test_labels_of_text_and_gaps_of_pandas_are_kept_apart():
    frame = pd.DataFrame(
        {
            "length": [1, 2, 3],
            "spam": pd.array(["yes", None, "?"], dtype="string"),
            "score": pd.array([1, None, 2], dtype="Int64"),
        }
    )
    bunch = load_task_frame(frame, ["spam"], features=["length"], unlabelled="?")
    assert bunch.target.tolist() == ["yes"]
    bunch = load_task_frame(frame, ["score"], features=["length"], unlabelled=2)
    assert bunch.target.tolist() == [1]


def test_rows_of_a_long_table_without_a_label_are_left_out():
    frame = FRAME.drop(columns=["text", "site"])
    bunch = load_task_frame(frame, "spam", "customer", unlabelled=1)
    np.testing.assert_array_equal(bunch.row, np.flatnonzero(FRAME["spam"] == 0))
    assert not bunch.target.any()
    np.testing.assert_array_equal(bunch.tasks, FRAME["customer"].iloc[bunch.row])


@pytest.mark.parametrize(
    ("target", "task", "message"),
    [
        ("liver", None, "target='liver' and task=None"),
        (["liver", "skin"], "site", "one a task, without task"),
        ([], None, "at least one column"),
        (["liver", "liver"], None, "must be different columns"),
        (["liver", "heart"], None, r"of which \['heart'\] are not there once"),
        (["empty"], None, "Got none in 'empty'; leave the task out"),
    ],
)
def test_columns_that_are_no_tasks_are_refused(target, task, message):
    frame = WIDE.assign(empty=np.nan)
    with pytest.raises(InvalidInputError, match=message):
        load_task_frame(frame, target, task, features=["weight"])


def test_digits_are_those_of_scikit_learn_by_class():
    bunch, digits = load_digits_few_shot(), load_digits()
    np.testing.assert_array_equal(bunch.target, np.sort(digits.target))
    sevens = digits.images[digits.target == 7] / 16
    np.testing.assert_array_equal(bunch.data[bunch.target == 7], sevens)
    assert bunch.data.dtype == np.float32
    assert bunch.target_names.tolist() == list("0123456789")
    assert "UCI" in bunch.DESCR
    X, y = load_digits_few_shot(split="train", return_X_y=True)
    assert np.unique(y).tolist() == [0, 1, 2, 3, 4, 5]
    np.testing.assert_array_equal(X, bunch.data[bunch.split == "train"])
    with pytest.raises(InvalidInputError, match=r"\('train', 'test'\) or None. Got 'v"):
        load_digits_few_shot(split="val")


def test_the_folder_of_the_data(monkeypatch):
    assert get_data_home() == Path.home() / "skcausalmeta_data"
    monkeypatch.setenv("SKCAUSALMETA_DATA", "/somewhere")
    assert get_data_home() == Path("/somewhere")
    assert get_data_home("~/here") == Path.home() / "here"
