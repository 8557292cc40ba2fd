"""Episodes whose support and query come from different environments."""

import numpy as np
import pytest

from skcausalmeta.episodes import EpisodeSampler, TaskSampler
from skcausalmeta.exceptions import EpisodeError, InvalidInputError

ENVS = np.tile(np.repeat(["a", "b", "c"], 6), 8)
TASKS = np.repeat(np.arange(8), 18)
LABELS = np.arange(144) % 2
CLASSES = np.repeat(np.arange(8), 18)


def pairs_of(sampler, n_episodes=60):
    """Environment of support and of query; each must be one."""
    found = []
    for episode in sampler.draw(n_episodes):
        one, two = set(ENVS[episode.support]), set(ENVS[episode.query])
        assert len(one) == len(two) == 1
        found.append((one.pop(), two.pop()))
    return found


def samplers():
    yield TaskSampler(TASKS, LABELS, n_shot=2, n_query=3, envs=ENVS, random_state=0)
    yield TaskSampler(
        TASKS,
        np.arange(144.0),
        n_shot=4,
        n_query=6,
        target_type="value",
        envs=ENVS,
        random_state=0,
    )
    yield EpisodeSampler(
        CLASSES, n_way=3, n_shot=2, n_query=4, envs=ENVS, random_state=0
    )


@pytest.mark.parametrize("sampler", list(samplers()))
def test_support_and_query_differ_and_change_roles(sampler):
    found = pairs_of(sampler)
    assert all(one != two for one, two in found)
    assert len(set(found)) == 6


def test_targets_belong_to_the_rows():
    sampler = EpisodeSampler(
        CLASSES, n_way=3, n_shot=2, n_query=4, envs=ENVS, random_state=0
    )
    for episode in sampler.draw(5):
        np.testing.assert_array_equal(
            episode.classes[episode.support_targets], CLASSES[episode.support]
        )
        np.testing.assert_array_equal(
            episode.classes[episode.query_targets], CLASSES[episode.query]
        )


def test_a_task_of_one_environment_is_divided_at_random():
    envs = np.where(TASKS == 0, "a", ENVS)
    sampler = TaskSampler(TASKS, LABELS, n_shot=2, n_query=3, envs=envs, random_state=0)
    for _ in range(20):
        episode = sampler.sample(task=0)
        assert not set(episode.support) & set(episode.query)


def test_classes_that_one_environment_lacks_are_left_out():
    envs = np.where(CLASSES == 0, "a", ENVS)
    sampler = EpisodeSampler(
        CLASSES, n_way=7, n_shot=2, n_query=3, envs=envs, random_state=0
    )
    for episode in sampler.draw(10):
        assert 0 not in episode.classes


def test_errors():
    with pytest.raises(
        EpisodeError, match=r"n_shot=3 and n_query=4 rows \(per class\)"
    ):
        TaskSampler(TASKS, LABELS, n_shot=3, n_query=4, envs=ENVS)
    with pytest.raises(EpisodeError, match="n_shot=7 and n_query=3 rows of n_way=5"):
        EpisodeSampler(CLASSES, n_shot=7, n_query=3, envs=ENVS)
    with pytest.raises(InvalidInputError, match=r"envs must hold one id a row.*144, 3"):
        TaskSampler(TASKS, LABELS, n_shot=1, n_query=1, envs=[0, 1, 2])
