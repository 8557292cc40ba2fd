"""Class numbers of many tasks: what `np.unique` finds in each of them."""

import numpy as np
import pytest

from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.learners._task_batches import encode_tasks

RNG = np.random.default_rng(0)
NUMBERS = RNG.integers(0, 4, size=(30, 9)) + RNG.integers(0, 3, size=(30, 1))


@pytest.mark.parametrize(
    "labels",
    [
        NUMBERS,
        NUMBERS.astype(float) - 2,
        np.array(list("gfedcba"))[NUMBERS],
        np.array(["one", "two", "three", "four", "five", "six", "x"], object)[NUMBERS],
        NUMBERS % 2 == 0,
    ],
    ids=["numbers", "floats", "text", "objects", "booleans"],
)
def test_every_task_has_numbers_of_its_own(labels):
    numbers, classes = encode_tasks(labels)
    for row, found, names in zip(labels, numbers, classes, strict=True):
        expected = np.unique(row, return_inverse=True)
        np.testing.assert_array_equal(names, expected[0])
        np.testing.assert_array_equal(found, expected[1])
        assert names.dtype == labels.dtype


def test_the_first_task_of_a_single_class_is_named():
    labels = np.array([[0, 1, 0], [4, 4, 4], [2, 2, 2]])
    with pytest.raises(InvalidInputError, match=r"Got 1 class in task 1: .*4"):
        encode_tasks(labels)
    with pytest.raises(InvalidInputError, match="Got no rows in task 0"):
        encode_tasks(np.zeros((2, 0), dtype=int))
