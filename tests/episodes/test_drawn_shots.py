"""Support rows drawn from a range, and classes or tasks that have fewer rows."""

import numpy as np
import pytest
from scipy import stats

from skcausalmeta.episodes import EpisodeSampler, TaskSampler
from skcausalmeta.exceptions import EpisodeError, InvalidInputError

SIZES = [40] * 7 + [2]
Y = np.repeat(np.arange(8), SIZES)
TASKS = np.repeat(np.arange(5), 60)
LABELS = np.tile([0, 1], 150)


def shots_of(episodes):
    """Support rows of every class of episodes."""
    return [np.bincount(episode.support_targets).tolist() for episode in episodes]


def check_rows(episode, y):
    """Support and query are apart, and targets belong to their rows."""
    assert not set(episode.support) & set(episode.query)
    assert len(set(episode.support)) == episode.n_support
    assert len(set(episode.query)) == episode.n_query
    for rows, targets in [
        (episode.support, episode.support_targets),
        (episode.query, episode.query_targets),
    ]:
        np.testing.assert_array_equal(y[rows], episode.classes[targets])


@pytest.mark.parametrize(("low", "high"), [(1, 4), (3, 20)])
def test_a_range_is_drawn_log_uniformly(low, high):
    sampler = EpisodeSampler(
        np.repeat([0, 1], 60), n_way=2, n_shot=(low, high), n_query=1, random_state=0
    )
    drawn = [sampler.sample().n_support // 2 for _ in range(3000)]
    shots = np.arange(low, high + 1)
    share = np.log((shots + 1) / shots) / np.log((high + 1) / low)
    counts = np.bincount(drawn, minlength=high + 1)
    assert counts[:low].sum() == 0
    assert len(counts) == high + 1
    assert stats.chisquare(counts[low:], 3000 * share).pvalue > 1e-4


def class_sampler(n_shot=(1, 9), **params):
    y = np.repeat(np.arange(6), 40)
    return EpisodeSampler(y, n_way=3, n_shot=n_shot, n_query=4, **params)


def task_sampler(n_shot=(1, 9), **params):
    return TaskSampler(TASKS, LABELS, n_shot=n_shot, n_query=4, **params)


def value_sampler(n_shot=(1, 9), **params):
    params = {"target_type": "value", **params}
    return TaskSampler(TASKS, np.arange(300.0), n_shot=n_shot, n_query=4, **params)


MAKERS = pytest.mark.parametrize("make", [class_sampler, task_sampler, value_sampler])


@MAKERS
def test_one_draw_has_one_number_of_rows(make):
    sampler = make(random_state=0)
    sizes = [{episode.n_support for episode in sampler.draw(4)} for _ in range(40)]
    assert all(len(found) == 1 for found in sizes)
    assert len(set.union(*sizes)) > 5
    assert len({episode.n_support for episode in sampler.draw(40, alike=False)}) > 5


@MAKERS
def test_drawn_sizes_are_repeatable(make):
    one, two = make(random_state=3), make(random_state=3)
    for first, second in zip(
        one.draw(6) + one.draw(6), two.draw(6) + two.draw(6), strict=True
    ):
        np.testing.assert_array_equal(first.support, second.support)
        np.testing.assert_array_equal(first.query, second.query)


@MAKERS
def test_a_list_of_two_is_a_range_too(make):
    pair, listed = make(random_state=0), make([1, 9], random_state=0)
    for one, two in zip(pair.draw(3), listed.draw(3), strict=True):
        np.testing.assert_array_equal(one.support, two.support)


def test_classes_may_draw_apart():
    y = np.repeat(np.arange(6), 40)
    sampler = EpisodeSampler(y, n_shot=(1, 10), n_query=4, unequal=True, random_state=0)
    episodes = sampler.draw(200)
    shots = np.array(shots_of(episodes))
    assert (shots.min(), shots.max()) == (1, 10)
    assert np.mean(shots.min(axis=1) < shots.max(axis=1)) > 0.9
    for episode in episodes[:20]:
        check_rows(episode, y)
        np.testing.assert_array_equal(np.bincount(episode.query_targets), 4)


def test_a_small_class_gives_what_it_has_and_the_others_keep_their_size():
    sampler = EpisodeSampler(
        Y, n_way=8, n_shot=5, n_query=10, fewest=(1, 1), random_state=0
    )
    for episode in sampler.draw(10):
        check_rows(episode, Y)
        small = int(np.flatnonzero(episode.classes == 7)[0])
        wanted = np.full(8, 5)
        wanted[small] = 1
        np.testing.assert_array_equal(np.bincount(episode.support_targets), wanted)
        wanted = np.full(8, 10)
        wanted[small] = 1
        np.testing.assert_array_equal(np.bincount(episode.query_targets), wanted)


@pytest.mark.parametrize("n_rows", range(2, 20))
@pytest.mark.parametrize("fewest", [(1, 1), (5, 1), (1, 8), (3, 4), (5, 8)])
def test_what_a_group_gives(n_rows, fewest):
    tasks = np.repeat([0, 1], [n_rows, 30])
    y = np.arange(len(tasks), dtype=float)
    params = {"n_shot": 5, "n_query": 8, "target_type": "value", "fewest": fewest}
    if n_rows < sum(fewest):
        with pytest.raises(EpisodeError, match=f"Got task 0 with {n_rows} rows"):
            TaskSampler(tasks, y, **params)
        return
    sampler = TaskSampler(tasks, y, random_state=0, **params)
    small, large = sampler.sample(0), sampler.sample(1)
    assert (large.n_support, large.n_query) == (5, 8)
    assert fewest[0] <= small.n_support <= 5
    assert fewest[1] <= small.n_query <= 8
    # No row lies idle.
    assert small.n_support + small.n_query == min(n_rows, 13)


def test_a_small_environment_gives_what_it_has():
    envs = np.repeat(["a", "b", "c", "d"], [20, 20, 18, 2])
    y = np.tile([0, 1], 30)
    sampler = TaskSampler(
        np.zeros(60), y, n_shot=4, n_query=6, envs=envs, fewest=(1, 1), random_state=0
    )
    found = {}
    for episode in sampler.draw(100):
        check_rows(episode, y)
        (one,), (two,) = set(envs[episode.support]), set(envs[episode.query])
        assert one != two
        found[one, two] = episode.n_support, episode.n_query
    assert len(found) == 12
    for (one, two), sizes in found.items():
        assert sizes == (2 if one == "d" else 8, 2 if two == "d" else 12)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_shot": (3, 1)}, r"pair \(low, high\) .* Got \(3, 1\)"),
        ({"n_shot": (0, 4)}, r"1 <= low <= high. Got \(0, 4\)"),
        ({"n_shot": (1, 2, 3)}, r"Got \(1, 2, 3\); write for instance"),
        ({"n_shot": (1.0, 4)}, r"Got \(1.0, 4\)"),
        ({"n_shot": 3, "fewest": (4, 1)}, r"to n_shot=3 and n_query=4. Got \(4, 1\)"),
        ({"n_shot": 3, "fewest": (1, 5)}, r"fewest must be a pair .* Got \(1, 5\)"),
        ({"n_shot": 3, "fewest": (1, 0)}, r"Got \(1, 0\); write fewest=\(1, 1\)"),
        ({"n_shot": 3, "fewest": (1,)}, r"Got \(1,\)"),
    ],
)
def test_pairs_that_are_none(params, message):
    with pytest.raises(InvalidInputError, match=message):
        EpisodeSampler(Y, n_way=2, n_query=4, **params)
    with pytest.raises(InvalidInputError, match=message):
        TaskSampler(TASKS, LABELS, n_query=4, **params)


def test_messages_name_what_exists():
    with pytest.raises(
        EpisodeError, match="or leave out the rows of small classes"
    ) as e:
        EpisodeSampler(Y, n_way=8, n_shot=5, n_query=10)
    assert "classes=" not in str(e.value)
    # Nothing can be lowered where one row of each kind would do.
    with pytest.raises(EpisodeError, match=r"1 rows .* collect more rows, or drop the"):
        TaskSampler([0, 0, 0], [0, 0, 1], n_shot=1, n_query=1)
    with pytest.raises(
        EpisodeError, match="1 support and 4 query rows must be at most"
    ):
        EpisodeSampler(Y, n_way=8, n_shot=(1, 3), n_query=4)


@pytest.mark.parametrize(
    "tasks",
    [
        np.array(["2026-01-05", "NaT"], "M8[D]"),
        np.array([1.0, np.nan], dtype=object),
        np.array([np.timedelta64(3, "D"), np.timedelta64("NaT", "D")]),
    ],
)
def test_ids_that_stand_for_none_are_refused(tasks):
    with pytest.raises(InvalidInputError, match="tasks must not hold NaN"):
        TaskSampler(np.repeat(tasks, 8), np.tile([0, 1], 8), n_shot=1, n_query=1)
