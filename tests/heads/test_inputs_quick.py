"""Plain arrays and plain parameters take a shorter way to the same answers."""

import numpy as np
import pandas as pd
import pytest
import torch

from skcausalmeta.heads import GroupLassoLogistic, LassoHead

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((12, 4)), np.arange(12) % 3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "labels", [Y, Y.astype(np.uint8), Y - 1, 5 * Y], ids=["0", "bytes", "-1", "times 5"]
)
def test_plain_arrays_give_what_lists_give(dtype, labels):
    rows = np.asfortranarray(X.astype(dtype))
    quick = GroupLassoLogistic(0.2).fit(rows, labels)
    slow = GroupLassoLogistic(0.2).fit(rows.tolist(), labels.tolist())
    np.testing.assert_array_equal(quick.coef_, slow.coef_)
    np.testing.assert_array_equal(quick.classes_, slow.classes_)
    assert quick.objective_ == slow.objective_
    assert quick.n_features_in_ == slow.n_features_in_ == 4


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_plain_arrays_that_are_not_finite_are_refused(value):
    rows = X.copy()
    rows[3, 1] = value
    with pytest.raises(ValueError, match="Input X contains"):
        GroupLassoLogistic().fit(rows, Y)


def test_plain_arrays_whose_sum_overflows_are_finite():
    rows = np.full((4, 3), 1.5e308)
    with pytest.raises(ValueError, match="largest size"):
        GroupLassoLogistic().fit(rows, [0, 1, 0, 1])
    with pytest.raises(ValueError, match="largest size"):
        GroupLassoLogistic().fit(rows, np.array([0, 1, 0, 1]))


def test_rows_are_left_alone():
    rows = X.copy()
    GroupLassoLogistic(0.2).fit(rows, Y)
    np.testing.assert_array_equal(rows, X)


@pytest.mark.parametrize("head", [GroupLassoLogistic(), LassoHead()])
def test_an_array_makes_a_head_forget_the_names_of_columns(head):
    head.fit(pd.DataFrame(X, columns=list("abcd")), Y)
    assert head.feature_names_in_.tolist() == list("abcd")
    head.fit(X[:, :3], Y)
    assert head.n_features_in_ == 3
    assert not hasattr(head, "feature_names_in_")


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("ridge_reg", 0.5, -0.5),
        ("ridge_reg", 1, "1"),
        ("refit", False, 0),  # equal, but no boolean
        ("group_reg", torch.tensor(0.1), None),
    ],
)
def test_parameters_are_checked_anew_when_they_change(name, good, bad):
    head = GroupLassoLogistic(**{name: good}).fit(X, Y)
    head.set_params(**{name: bad})
    with pytest.raises(ValueError, match=f"'{name}' parameter of GroupLassoLogistic"):
        head.fit(X, Y)
    with pytest.raises(ValueError, match=f"'{name}' parameter of GroupLassoLogistic"):
        head.solve_episodes(torch.tensor(X)[None], torch.tensor(Y)[None], 3)
