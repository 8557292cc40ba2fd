"""ClassKFold: no class on both sides of a split."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import config_context
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import GroupKFold, check_cv, cross_validate
from sklearn.utils import check_random_state

from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.model_selection import ClassKFold


def folds_of(splitter, y):
    return [test for _, test in splitter.split(np.zeros((len(y), 1)), y)]


@settings(max_examples=50, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=12),
    shuffle=st.booleans(),
    data=st.data(),
)
def test_folds_partition_the_classes(sizes, shuffle, data):
    y = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    n_splits = data.draw(st.integers(2, len(sizes)))
    splitter = ClassKFold(n_splits, shuffle=shuffle)
    assert splitter.get_n_splits() == n_splits
    n_classes = []
    tested = []
    for train, test in splitter.split(np.zeros((len(y), 2)), y):
        assert not set(y[train]) & set(y[test])
        np.testing.assert_array_equal(np.sort(np.r_[train, test]), np.arange(len(y)))
        n_classes.append(len(set(y[test])))
        tested.extend(test)
    np.testing.assert_array_equal(np.sort(tested), np.arange(len(y)))
    assert len(n_classes) == n_splits
    assert max(n_classes) - min(n_classes) <= 1


def test_agrees_with_group_kfold_on_classes():
    # Distinct sizes and one class per fold leave both the same partition.
    y = np.repeat(["a", "b", "c"], [3, 5, 9])
    X = np.zeros((len(y), 1))
    ours = {tuple(test) for _, test in ClassKFold(3).split(X, y)}
    theirs = {tuple(test) for _, test in GroupKFold(3).split(X, y, groups=y)}
    assert ours == theirs


def test_rows_are_balanced():
    # Hand-worked: 10 | 7, then 6 joins 7 and 4 joins 10, then 3 joins 13 of 14.
    y = np.repeat(np.arange(5), [10, 7, 6, 4, 3])
    first, second = folds_of(ClassKFold(2), y)
    assert set(y[first]) == {0, 3}
    assert set(y[second]) == {1, 2, 4}


def test_shuffle_is_reproducible_and_random():
    y = np.repeat(np.arange(12), 3)
    first = folds_of(ClassKFold(3, shuffle=True, random_state=0), y)
    again = ClassKFold(3, shuffle=True, random_state=0)
    for _ in range(2):
        for a, b in zip(first, folds_of(again, y), strict=True):
            np.testing.assert_array_equal(a, b)
    other = folds_of(ClassKFold(3, shuffle=True, random_state=1), y)
    assert any(not np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_global_random_state_is_left_alone():
    shared = check_random_state(None)  # numpy's global state
    start = shared.get_state()
    folds_of(ClassKFold(2, shuffle=True), np.repeat([0, 1, 2], 4))
    np.testing.assert_equal(shared.get_state(), start)


def test_pandas_and_strings():
    y = pd.Series(list("abcabc"), index=range(10, 16))
    X = pd.DataFrame({"x": range(6)}, index=y.index)
    for train, test in ClassKFold(3).split(X, y):
        assert not set(y.iloc[train]) & set(y.iloc[test])


def test_scikit_learn_takes_it_as_cv():
    y = np.repeat(np.arange(6), 5)
    splitter = ClassKFold(3)
    assert check_cv(splitter, y, classifier=True) is splitter
    result = cross_validate(
        DummyClassifier(), np.zeros((30, 1)), y, cv=splitter, return_indices=True
    )
    assert len(result["test_score"]) == 3
    # Test classes are never trained on, so a classifier that only knows those fails.
    np.testing.assert_array_equal(result["test_score"], 0)
    assert repr(clone(splitter, safe=False)) == repr(splitter)


def test_repr_shows_the_parameters():
    assert repr(ClassKFold(4, shuffle=True, random_state=3)) == (
        "ClassKFold(n_splits=4, random_state=3, shuffle=True)"
    )


def test_more_folds_than_classes():
    with pytest.raises(InvalidInputError, match="Got n_splits=4 for 3 classes; lower"):
        folds_of(ClassKFold(4), np.repeat([0, 1, 2], 5))


def test_y_is_needed():
    with pytest.raises(InvalidInputError, match=r"split needs y\. Got y=None"):
        next(ClassKFold().split(np.zeros((10, 1))))


def test_random_state_needs_shuffle():
    with pytest.raises(ValueError, match="random_state=0 with shuffle=False"):
        ClassKFold(3, random_state=0)


@pytest.mark.parametrize(
    "parameters", [{"n_splits": 1}, {"n_splits": 2.5}, {"shuffle": "yes"}]
)
def test_parameters_out_of_range(parameters):
    with pytest.raises(ValueError, match="parameter of ClassKFold"):
        ClassKFold(**parameters)


# -- groups ----------------------------------------------------------------------------


def splits_of(splitter, y, groups):
    return list(splitter.split(np.zeros((len(y), 1)), y, groups))


def stay_apart(y, groups, splits):
    assert all(len(train) and len(test) for train, test in splits)
    return all(
        not set(ids[train]) & set(ids[test])
        for train, test in splits
        for ids in (y, groups)
    )


@pytest.mark.parametrize("shuffle", [False, True])
def test_whole_groups_of_classes_are_held_out(shuffle):
    y = np.repeat(np.arange(12), 4)
    alphabets = np.array(["greek", "latin", "runes", "thai"])[y % 4]
    splitter = ClassKFold(2, shuffle=shuffle, random_state=0 if shuffle else None)
    splits = splits_of(splitter, y, alphabets)
    assert stay_apart(y, alphabets, splits)
    assert [len(test) for _, test in splits] == [24, 24]
    assert all(len(train) + len(test) == 48 for train, test in splits)
    by_row = splits_of(splitter, y, np.arange(48))  # every row a group: none is linked
    for (_, test), expected in zip(by_row, folds_of(splitter, y), strict=True):
        np.testing.assert_array_equal(test, expected)


def test_classes_that_share_a_group_go_together():
    y = np.repeat(np.arange(6), 5)
    groups = np.arange(30)
    groups[[0, 5]] = 100  # a row of class 0, and one of class 1
    groups[[6, 29]] = 101  # of classes 1 and 5
    for _, test in splits_of(ClassKFold(3), y, groups):
        assert len({0, 1, 5} & set(y[test])) in (0, 3)
    assert stay_apart(y, groups, splits_of(ClassKFold(3), y, groups))


@pytest.mark.parametrize("shuffle", [False, True])
def test_new_classes_of_new_groups_where_all_are_crossed(shuffle):
    y, people = (ids.ravel() for ids in np.mgrid[:6, :9])
    splitter = ClassKFold(3, shuffle=shuffle, random_state=0 if shuffle else None)
    splits = splits_of(splitter, pd.Series(y), pd.Series(people))
    assert stay_apart(y, people, splits)
    assert [(len(train), len(test)) for train, test in splits] == [(24, 6)] * 3
    assert sorted(np.concatenate([np.unique(y[test]) for _, test in splits])) == [
        *range(6)
    ]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (np.tile([0, 1], 9), "for 2 groups that share classes; lower n_splits"),
        (np.r_[np.nan, np.arange(17)], "must not hold NaN, NaT or None. Got 1 such"),
        (np.arange(17), r"inconsistent numbers of samples: \[18, 18, 17\]"),
        (list("bbbcccbaaaaacaaaaa"), "no row for the test set of split 0; lower"),
    ],
)
def test_groups_that_leave_no_split_are_refused(groups, message):
    y = np.repeat(np.arange(3), 6)
    with pytest.raises(ValueError, match=message):
        splits_of(ClassKFold(3), y, groups)


def test_cross_validations_pass_groups_on():
    y = np.repeat(np.arange(6), 5)
    groups = np.repeat([0, 1, 2], 10)
    given = (DummyClassifier(), np.zeros((30, 1)), y)
    kept = {"cv": ClassKFold(2), "return_indices": True}
    plain = cross_validate(*given, groups=groups, **kept)
    with config_context(enable_metadata_routing=True):
        routed = cross_validate(*given, params={"groups": groups}, **kept)
        without = cross_validate(*given, **kept)
    for found in (plain, routed):
        pairs = zip(found["indices"]["train"], found["indices"]["test"], strict=True)
        assert stay_apart(y, groups, list(pairs))
    assert len(without["test_score"]) == 2
