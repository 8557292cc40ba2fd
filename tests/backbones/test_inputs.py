"""Columns of a table: centre, scale, what is wild, and what cannot be held."""

import copy
import tracemalloc

import numpy as np
import pytest
import torch

from skcausalmeta.backbones import MLP, MLPModule, entry_of, input_statistics
from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.utils import isolated_torch_rng

TABLE = np.random.default_rng(0).normal(size=(2400, 3))


def built(rows=None, **params):
    with isolated_torch_rng(0):
        module = MLPModule(3, out_features=4, **params).eval()
    if rows is not None:
        module.fit_inputs(rows)
    return module


def features(rows, **params):
    with torch.no_grad():
        return built(rows, **params)(torch.tensor(rows, dtype=torch.float32))


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int32, np.uint8, bool])
def test_statistics_are_the_mean_and_the_standard_deviation(dtype):
    rows = (0.7 * np.abs(TABLE) * (1 if dtype is bool else 10)).astype(np.float64)
    rows = (rows > 0.5) if dtype is bool else rows.astype(dtype)
    center, scale = input_statistics(rows)
    wide = rows.astype(np.float64)
    np.testing.assert_allclose(center, wide.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(scale, wide.std(axis=0), rtol=1e-10)


def test_a_wide_table_costs_little_beside_itself():
    """Blocks of rows alone would hold copies of the whole table."""
    rows = np.random.default_rng(0).normal(size=(300, 6_000))
    rows[3, 4_500] = 1e20
    tracemalloc.start()
    center, scale = input_statistics(rows)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.6 * rows.nbytes
    some = [0, 1023, 1024, 4_500, 5_999]
    expected = input_statistics(rows[:, some])
    np.testing.assert_allclose([center[some], scale[some]], expected, rtol=1e-12)
    rows[:, 5_999] += 1e9
    with pytest.raises(InvalidInputError, match="in column 5999; subtract"):
        input_statistics(rows)


@pytest.mark.parametrize(
    "change",
    [
        lambda X: X * 1e3,
        lambda X: X * 1e5,
        lambda X: X * -1e30,
        lambda X: X * 1e-30,
        lambda X: X + 1e3,
        lambda X: X * [1.0, 1e-9, 1e12] + [0.0, 1e-7, -1e13],
    ],
)
def test_an_affine_change_of_a_column_changes_nothing(change):
    sign = np.sign(change(TABLE)[0] - change(TABLE)[1]) * np.sign(TABLE[0] - TABLE[1])
    expected = features(TABLE * sign)
    torch.testing.assert_close(features(change(TABLE)), expected, rtol=0, atol=1e-3)


def test_a_large_offset_costs_the_digits_that_single_precision_has_not():
    near = features(TABLE)
    for offset, atol in ((1e5, 0.02), (1e6, 0.2)):
        found = features(TABLE + offset)
        torch.testing.assert_close(found, near, rtol=0, atol=atol)


@pytest.mark.parametrize("n", [20, 200, 2400])
@pytest.mark.parametrize("wild", [1e30, -1e7, 1e4])
def test_one_wild_value_does_not_flatten_its_column(n, wild):
    rows = TABLE[:n].copy()
    rows[7, 1] = wild
    center, scale = input_statistics(rows)
    kept = np.delete(TABLE[:n, 1], 7)
    np.testing.assert_allclose(center[1], kept.mean(), rtol=1e-9)
    np.testing.assert_allclose(scale[1], kept.std(), rtol=1e-9)
    others = [0, 2]
    np.testing.assert_allclose(scale[others], rows[:, others].std(axis=0))
    outside = features(rows)
    assert outside.isfinite().all()
    assert outside[7].abs().max() < 10


def test_several_wild_values_are_left_out_and_rare_ones_are_not():
    rows = TABLE.copy()
    rows[::200, 0] = 1e20
    rows[:, 1] = 0
    rows[::400, 1] = 1  # six rows have this property: nothing is wild about it
    rows[:, 2] = np.exp(3 * rows[:, 2])  # a long tail
    scale = input_statistics(rows)[1]
    assert scale[0] < 2
    np.testing.assert_allclose(scale[1:], rows[:, 1:].std(axis=0))


@pytest.mark.parametrize(
    "column",
    [
        np.zeros(9),
        np.full(9, 1e3),
        np.full(9, 7, dtype=np.int64),
        np.full(9, 0.1, dtype=np.float32),
        np.array([0.3, 0.1 * 3, 0.1 + 0.2] * 3),  # one number, computed thrice
        np.array([5.0]),
    ],
)
def test_a_constant_column_becomes_zero(column):
    rows = np.stack([column, column, column], axis=1)
    module = built(rows)
    scaled = module(torch.tensor(rows, dtype=torch.float32))
    torch.testing.assert_close(scaled, features(np.zeros((len(rows), 3))))
    assert module.input_scale.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x * 1e-200, "above 1e-37. Got less in column 1;"),
        (lambda x: x * 1e-42, "above 1e-37. Got less in column 1;"),
        (lambda x: x * 1e160, "up to 3.4e38. Got a larger value.* in column 1;"),
        (lambda x: x * np.nan, "NaN or infinity in column 1;"),
        (lambda x: x + 1e9, "about 1e-7 of the mean. Got less in column 1; subtract"),
        (lambda x: 1.7e18 + 60e9 * x, "of the mean. Got less in column 1"),
    ],
)
def test_what_single_precision_cannot_hold_is_refused_by_its_column(change, message):
    rows = TABLE.copy()
    rows[:, 1] = change(rows[:, 1])
    with pytest.raises(InvalidInputError, match=message):
        input_statistics(rows)


def test_many_columns_are_counted_and_large_integers_are_refused():
    with pytest.raises(InvalidInputError, match="columns 0, 1, 2, 3, 4 and 5 more;"):
        input_statistics(np.full((4, 10), np.inf))
    times = 10**15 + np.arange(12).reshape(4, 3)
    with pytest.raises(InvalidInputError, match="columns 0, 1, 2; subtract"):
        input_statistics(times)
    with pytest.raises(InvalidInputError, match="at least one row"):
        input_statistics(np.empty((0, 3)))


def test_before_the_rows_are_known_inputs_are_taken_as_they_are():
    rows = torch.full((2, 3), 1e4)
    plain = built(standardize=False)
    assert torch.equal(built()(rows), plain(rows))
    assert not built().inputs_fitted
    assert plain.inputs_fitted
    plain.fit_inputs(TABLE)
    assert not list(plain.buffers())


def test_rows_are_learned_once_and_are_part_of_the_state():
    module = built(TABLE)
    before = copy.deepcopy(module.state_dict())
    module.fit_inputs(TABLE * 7)
    other = built()
    other.load_state_dict(before)
    rows = torch.tensor(TABLE, dtype=torch.float32)
    for one in (module, other, copy.deepcopy(module)):
        assert one.inputs_fitted
        assert torch.equal(one(rows), module(rows))
        assert all(torch.equal(before[k], v) for k, v in one.state_dict().items())
    with pytest.raises(InvalidInputError, match="in_features=3"):
        built().fit_inputs(TABLE[:, :2])


def test_skip_appends_the_standardised_clipped_inputs():
    rows = TABLE.copy()
    rows[0, 0] = 1e3
    module = built(rows, skip=True, clip=2.0)
    found = module(torch.tensor(rows, dtype=torch.float32)).detach()
    assert module.blocks == (4, 3)
    assert module.out_features == found.shape[1] == 7
    assert built().blocks == (built().out_features,) == (4,)
    center, scale = input_statistics(rows)
    expected = np.clip((rows - center) / scale, -2, 2)
    np.testing.assert_allclose(found[:, 4:], expected, atol=1e-5)
    free = built(rows, skip=True, clip=None)(torch.tensor(rows).float())
    np.testing.assert_allclose(free[0, 4].item(), (1e3 - center[0]) / scale[0])
    before = built(skip=True)(torch.full((1, 3), 9.0))
    assert before[0, 4:].tolist() == [9, 9, 9]


@pytest.mark.parametrize("clip", [0, -1.0, np.nan, np.inf, True, "5"])
def test_clip_must_be_positive(clip):
    with pytest.raises(InvalidInputError, match="'clip' parameter of MLP must be a po"):
        MLP(clip=clip).build((3,))


def test_the_entry_is_what_the_rows_reach_first():
    inner = MLPModule(3)
    net = torch.nn.Sequential(torch.nn.Sequential(inner), torch.nn.ReLU())
    assert entry_of(net) is inner
    empty = torch.nn.Sequential()
    assert entry_of(empty) is empty
