"""Labels and ids that differ in writing only."""

import warnings

import numpy as np
import pandas as pd
import pytest

from skcausalmeta.utils import look_alikes, warn_of_look_alikes

ALIKE = [
    ("no", "no "),
    ("caf\u00e9", "cafe\u0301"),
    ("1", "01"),
    ("1", "1.0"),
    ("1e2", "100"),
    ("a b", "a\u00a0b"),
    ("a", "a\u200b"),
    ("10000000000000000001", "010000000000000000001"),
]
APART = [
    ("no", "No"),
    ("1", "-1"),
    ("a", "\u0430"),
    ("9007199254740993", "9007199254740992"),
    ("nan", "NaN"),
    ("1_0", "10"),
    ("\u0663", "3"),
]


@pytest.mark.parametrize("pair", ALIKE)
def test_what_looks_like_the_same_is_found(pair):
    assert look_alikes(["x", *pair, "y", *pair]) == pair


@pytest.mark.parametrize("pair", APART)
def test_what_a_reader_tells_apart_is_left_alone(pair):
    assert look_alikes(["x", *pair, "y", *pair]) is None


@pytest.mark.parametrize(
    "made",
    [
        list,
        np.array,
        pd.Series,
        pd.Categorical,
        lambda texts: np.array(texts, dtype=object),
        lambda texts: pd.Series(texts, dtype="string"),
    ],
)
def test_a_warning_names_both_and_the_place(made):
    with pytest.warns(UserWarning, match=r"'01' and '1' in ids") as found:
        warn_of_look_alikes(y=[0, 1, 0], ids=made(["01", "b", "1"]))
    assert str(found[0].message).isprintable()


@pytest.mark.parametrize(
    "values",
    [None, [1, 1.0], ["a", "b"], [["a", "a "]], [[1], [1, 2]], ["a", None, 1], 3],
)
def test_anything_else_says_nothing(values):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_look_alikes(y=values)
