"""Values that stand for none are counted; many names are cut short."""

import numpy as np
import pandas as pd
import pytest

from skcausalmeta.utils import count_missing, few_of


@pytest.mark.parametrize(
    ("values", "n_missing"),
    [
        (np.array([1.0, np.nan, np.inf]), 1),
        (np.array([1, 2]), 0),
        (np.array(["a", "nan", ""]), 0),
        (np.array([True, False]), 0),
        (np.array(["NaT", "2026-01-05"], "M8[D]"), 1),
        (np.array(["NaT", "NaT"], "m8[D]"), 2),
        (np.array([1, None, np.nan, pd.NA, pd.NaT, "a"], dtype=object), 4),
        (np.array([(1, 2), "b", 3.0, None], dtype=object), 1),
        (np.array([], dtype=object), 0),
    ],
)
def test_missing_values_are_counted(values, n_missing):
    assert count_missing(values) == n_missing


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["a"], "1 ('a')"),
        ([1, 2, 3, 4, 5], "5 (1, 2, 3, 4, 5)"),
        (range(7), "7 (0, 1, 2, 3, 4 and 2 more)"),
    ],
)
def test_at_most_five_names_are_told(names, told):
    assert few_of(names) == told
