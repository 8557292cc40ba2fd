"""EpisodeSampler: labels that leak nothing, rows that never recur in an episode."""

from itertools import islice

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.utils import check_random_state

from skcausalmeta.episodes import Episode, EpisodeSampler
from skcausalmeta.exceptions import EpisodeError, InvalidInputError

LABELS = np.array(["ant", "bee", "cat", "dog", "eel", "fox", "gnu"])


def make_labels(sizes=(20, 25, 30, 20, 40, 22, 21), seed=0):
    y = np.repeat(LABELS[: len(sizes)], sizes)
    return np.random.default_rng(seed).permutation(y)


def rows_of(episode):
    return np.concatenate([episode.support, episode.query])


def test_shapes_and_dtypes():
    episode = EpisodeSampler(make_labels(), n_shot=2, n_query=3).sample()
    assert isinstance(episode, Episode)
    assert (episode.n_way, episode.n_support, episode.n_query) == (5, 10, 15)
    assert episode.classes.shape == (5,)
    assert episode.task is None
    assert episode.support_targets.dtype == np.int64
    np.testing.assert_array_equal(np.bincount(episode.support_targets), [2] * 5)
    np.testing.assert_array_equal(np.bincount(episode.query_targets), [3] * 5)


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 12), min_size=2, max_size=6),
    data=st.data(),
    seed=st.integers(0, 2**32 - 1),
)
def test_an_episode_holds_what_it_says(sizes, data, seed):
    sizes = [size + 1 for size in sizes]
    y = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    n_shot = data.draw(st.integers(1, min(sizes) - 1))
    n_query = data.draw(st.integers(1, min(sizes) - n_shot))
    n_way = data.draw(st.integers(2, len(sizes)))
    sampler = EpisodeSampler(
        y, n_way=n_way, n_shot=n_shot, n_query=n_query, random_state=seed
    )
    for episode in sampler.draw(3):
        rows = rows_of(episode)
        assert len(np.unique(rows)) == n_way * (n_shot + n_query)
        assert len(np.unique(episode.classes)) == n_way
        # Rows and labels stay together through the re-mapping.
        np.testing.assert_array_equal(
            y[episode.support], episode.classes[episode.support_targets]
        )
        np.testing.assert_array_equal(
            y[episode.query], episode.classes[episode.query_targets]
        )


def test_remapped_label_says_nothing_about_the_class():
    y = make_labels()
    episodes = EpisodeSampler(y, n_query=1, random_state=3).draw(4000)
    codes = np.array([np.searchsorted(LABELS, e.classes) for e in episodes])
    counts = np.array(
        [np.bincount(codes[:, label], minlength=len(LABELS)) for label in range(5)]
    )
    # Each label stands for each class equally often, and the other way round.
    for observed in [*counts, *counts.T]:
        assert stats.chisquare(observed).pvalue > 1e-4
    # A guess by sorted class order is right no more often than chance.
    hits = np.argsort(codes, axis=1) == np.arange(5)
    assert hits.mean() == pytest.approx(1 / 5, abs=0.01)


def test_every_row_is_drawn_equally_often_for_support_and_query():
    y = np.repeat([0, 1], 8)
    sampler = EpisodeSampler(y, n_way=2, n_shot=2, n_query=2, random_state=0)
    episodes = sampler.draw(2000)
    for kind in ("support", "query"):
        rows = np.concatenate([getattr(episode, kind) for episode in episodes])
        assert stats.chisquare(np.bincount(rows, minlength=16)).pvalue > 1e-4


def test_fresh_episodes_at_every_pass():
    sampler = EpisodeSampler(make_labels(), random_state=0)
    passes = [
        sampler.draw(3),
        sampler.draw(3),
        list(islice(sampler, 3)),
        list(islice(sampler, 3)),
        [sampler.sample()],
    ]
    seen = {tuple(rows_of(episode)) for episodes in passes for episode in episodes}
    assert len(seen) == 13


def test_same_random_state_gives_the_same_episodes():
    y = make_labels()
    first = EpisodeSampler(y, random_state=7).draw(5)
    second = list(islice(EpisodeSampler(y, random_state=7), 5))
    other = EpisodeSampler(y, random_state=8).draw(5)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(rows_of(a), rows_of(b))
        np.testing.assert_array_equal(a.classes, b.classes)
    assert any(
        not np.array_equal(rows_of(a), rows_of(b))
        for a, b in zip(first, other, strict=True)
    )


@pytest.mark.parametrize("random_state", [None, 0])
def test_global_random_state_is_left_alone(random_state):
    y = make_labels()
    shared = check_random_state(None)  # numpy's global state
    start = shared.get_state()
    first = EpisodeSampler(y, random_state=random_state).sample()
    np.testing.assert_equal(shared.get_state(), start)
    # Nor is it read: the same global state gives other episodes without a seed.
    second = EpisodeSampler(y, random_state=random_state).sample()
    same = np.array_equal(rows_of(first), rows_of(second))
    assert same == (random_state is not None)


def test_classes_restrict_the_draw():
    y = make_labels()
    sampler = EpisodeSampler(y, n_way=2, classes=["fox", "bee", "ant"])
    np.testing.assert_array_equal(sampler.classes_, ["ant", "bee", "fox"])
    drawn = {name for episode in sampler.draw(50) for name in episode.classes}
    assert drawn == {"ant", "bee", "fox"}


def test_small_class_that_is_not_drawn_does_no_harm():
    y = np.repeat(LABELS[:4], [20, 20, 20, 2])
    sampler = EpisodeSampler(y, n_way=3, n_query=10, classes=LABELS[:3])
    assert "dog" not in sampler.sample().classes


def test_pandas_labels():
    y = pd.Series(make_labels(), index=np.arange(178)[::-1])
    episode = EpisodeSampler(y, random_state=0).sample()
    np.testing.assert_array_equal(
        y.to_numpy()[episode.query], episode.classes[episode.query_targets]
    )


def test_class_with_too_few_rows_is_named():
    y = np.repeat(LABELS[:5], [20, 17, 3, 20, 20])
    with pytest.raises(
        EpisodeError, match=r"class 'cat' with 3 rows for n_shot=1"
    ) as e:
        EpisodeSampler(y, n_query=17)
    assert "2 of 5 classes are too small" in str(e.value)
    assert "lower n_shot or n_query" in str(e.value)


def test_too_few_classes():
    with pytest.raises(EpisodeError, match="Got n_way=8 for 7 classes; lower n_way"):
        EpisodeSampler(make_labels(), n_way=8)


def test_unknown_class():
    with pytest.raises(EpisodeError, match=r"Got \['yak'\], of which y has no row"):
        EpisodeSampler(make_labels(), classes=["ant", "bee", "yak"], n_way=2)


@pytest.mark.parametrize(
    ("name", "value"),
    [("n_way", 1), ("n_shot", 0), ("n_query", 0), ("n_shot", 1.5), ("n_way", "5")],
)
def test_parameters_out_of_range(name, value):
    with pytest.raises(ValueError, match=f"The '{name}' parameter of EpisodeSampler"):
        EpisodeSampler(make_labels(), **{name: value})


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.zeros((4, 2)), r"one-dimensional.*shape \(4, 2\)"),
        ([], "at least one row"),
        ([0.0, 1.0, np.nan], "1 rows with NaN or infinity; drop them"),
        ([0.0, 1.5, 1.5], "continuous values such as 1.5.*target_type='value'"),
        (np.array(["a", None, 1], dtype=object), "one type, none of them missing"),
    ],
)
def test_labels_that_cannot_be_classes(y, message):
    with pytest.raises(InvalidInputError, match=message):
        EpisodeSampler(y)
