"""Episodes of tasks whose labels mean the same in all of them."""

import warnings

import numpy as np
import pytest
from scipy import stats

from skcausalmeta.episodes import TaskSampler
from skcausalmeta.exceptions import EpisodeError, InvalidInputError

# Task a has three labels, b two, c one, d three rows, e a single one.
SIZES = {
    "a": {"hot": 30, "mild": 20, "cold": 50},
    "b": {"hot": 90, "cold": 10},
    "c": {"mild": 40},
    "d": {"cold": 2, "hot": 1},
    "e": {"hot": 1},
}
PAIRS = [
    (t, c) for t, sizes in SIZES.items() for c, n in sizes.items() for _ in range(n)
]
TASKS, Y = np.array(PAIRS)[np.random.default_rng(0).permutation(len(PAIRS))].T
CLASSES = ["cold", "hot", "mild"]


def make(n_shot=4, n_query=12, keep=TASKS != "e", **params):
    params = {"shared_labels": True, "random_state": 0, **params}
    return TaskSampler(TASKS[keep], Y[keep], n_shot=n_shot, n_query=n_query, **params)


def shares(targets):
    return np.bincount(np.concatenate(targets), minlength=3) / sum(map(len, targets))


def test_labels_keep_their_number():
    sampler = make()
    np.testing.assert_array_equal(sampler.classes_, CLASSES)
    for episode in sampler.draw(40):
        np.testing.assert_array_equal(episode.classes, CLASSES)
        assert episode.n_way == 3
        rows = np.concatenate([episode.support, episode.query])
        assert len(set(rows)) == len(rows)
        targets = np.concatenate([episode.support_targets, episode.query_targets])
        assert targets.dtype == np.int64
        y = Y[TASKS != "e"][rows]
        np.testing.assert_array_equal(y, episode.classes[targets])
        assert set(TASKS[TASKS != "e"][rows]) == {episode.task}


def test_all_labels_of_the_data_are_counted():
    keep = TASKS == "b"
    sampler = make(keep=keep, classes=CLASSES)
    assert sampler.sample().n_way == 3
    assert set(sampler.sample().query_targets) <= {0, 1}
    assert make(keep=keep).sample().n_way == 2


def test_stratified_supports_have_as_many_rows_of_every_class():
    sampler = make(natural=0.0)
    for task, wanted in [("a", [4, 4, 4]), ("b", [4, 4, 0]), ("c", [0, 0, 4])]:
        for _ in range(20):
            shots = np.bincount(sampler.sample(task).support_targets, minlength=3)
            # A query may take rare rows that the support then lacks.
            short = task == "b" and shots[0] < 4
            assert short or shots.tolist() == wanted


def test_natural_supports_and_all_queries_have_the_shares_of_the_task():
    for natural in (0.0, 1.0):
        sampler = make(natural=natural)
        for task in ("a", "b"):
            rows = np.array(list(SIZES[task].values()))
            known = [CLASSES.index(name) for name in SIZES[task]]
            truth = np.zeros(3)
            truth[known] = rows / rows.sum()
            episodes = [sampler.sample(task) for _ in range(800)]
            found = shares([e.query_targets for e in episodes])
            np.testing.assert_allclose(found, truth, atol=0.02)
            if natural:
                assert {e.n_support for e in episodes} == {4 * len(rows)}
                found = shares([e.support_targets for e in episodes])
                np.testing.assert_allclose(found, truth, atol=0.02)


def test_natural_is_decided_for_a_whole_draw():
    sampler = make(natural=0.3, keep=TASKS == "b")
    kinds = []
    for _ in range(300):
        # Natural supports of b lack cold rows or have few of them.
        cold = [np.mean(e.support_targets == 0) for e in sampler.draw(6)]
        kinds.append(np.mean(cold) < 0.25)
    assert np.mean(kinds) == pytest.approx(0.3, abs=0.08)
    apart = [e.support_targets for e in sampler.draw(300, alike=False)]
    assert np.mean([np.mean(t == 0) < 0.25 for t in apart]) > 0.15


def test_one_class_and_few_rows_take_part():
    sampler = make(n_shot=5, n_query=20)
    sizes = {e.task: (e.n_support, e.n_query) for e in sampler.draw(4)}
    assert sizes["c"] == (5, 20)
    assert sizes["d"] == (1, 2)
    assert sum(sizes["a"]) == 35
    counts = dict.fromkeys("abcd", 0)
    for episode in sampler.draw(40):
        counts[episode.task] += 1
    assert set(counts.values()) == {10}


def test_every_row_is_in_queries_equally_often():
    sampler = make(n_shot=(1, 20), keep=TASKS == "a")
    rows = np.concatenate([e.query for e in sampler.draw(1500, alike=False)])
    assert stats.chisquare(np.bincount(rows, minlength=100)).pvalue > 1e-4


def test_ranges_reach_small_and_large_supports():
    sampler = make(n_shot=(1, 20), natural=0.0)
    found = {sampler.sample("a").n_support for _ in range(200)}
    assert min(found) == 3
    assert max(found) > 40


def test_tasks_of_one_row_are_left_out_with_one_warning():
    with pytest.warns(
        UserWarning, match=r"Got a single row in 1 \('e'\) of 5 tas"
    ) as w:
        sampler = make(keep=slice(None))
    assert len(w) == 1
    assert w[0].filename == __file__.replace(".pyc", ".py")
    np.testing.assert_array_equal(sampler.task_ids, list("abcd"))
    many = np.concatenate([np.arange(9), [9] * 8])
    with pytest.warns(UserWarning, match=r"9 \(0, 1, 2, 3, 4 and 4 more\) of 10 tasks"):
        TaskSampler(many, [0] * 17, n_shot=1, n_query=1, shared_labels=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make()


def test_environments_divide_support_and_query():
    envs = np.array(["x", "y", "z"])[np.arange(len(Y)) % 3][TASKS != "e"]
    sampler = make(envs=envs, n_query=6)
    for task in "abc":
        for _ in range(20):
            episode = sampler.sample(task)
            (one,), (two,) = set(envs[episode.support]), set(envs[episode.query])
            assert one != two
            assert episode.n_query == 6


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"target_type": "value", "keep": slice(0, 0)}, InvalidInputError, "at least"),
        ({"classes": ["cold", "hot"]}, EpisodeError, r"all labels of y. Got .*'mild'"),
        ({"keep": TASKS == "e"}, EpisodeError, "Got 1 tasks of a single row; collect"),
        ({"natural": 1.5}, ValueError, "The 'natural' parameter of TaskSampler"),
    ],
)
def test_what_is_refused(params, error, message):
    with pytest.raises(error, match=message):
        make(**params)


def test_real_targets_share_no_labels():
    with pytest.raises(InvalidInputError, match="real targets are never re-mapped"):
        TaskSampler([0] * 9, np.arange(9.0), shared_labels=True, target_type="value")
