"""Named seeds, and blocks that leave torch's global random state alone."""

import os
import threading

import numpy as np
import pytest
import torch

from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.utils import isolated_torch_rng, named_seeds


def test_a_name_keeps_its_seed_when_others_are_added_or_reordered():
    alone = named_seeds(3, "episodes")
    among = named_seeds(3, "weights", "episodes", "split")
    reordered = named_seeds(3, "split", "weights", "episodes")
    assert among["episodes"] == alone["episodes"]
    assert among == reordered
    assert list(reordered) == ["split", "weights", "episodes"]


def test_seeds_differ_between_names_and_between_states():
    names = [f"purpose_{i}" for i in range(200)]
    seeds = named_seeds(0, *names)
    assert len(set(seeds.values())) == len(names)
    assert named_seeds(1, "purpose_0") != named_seeds(0, "purpose_0")


def test_seeds_fill_31_bits_evenly():
    seeds = np.array(list(named_seeds(0, *map(str, range(4000))).values()))
    assert seeds.min() >= 0
    assert seeds.max() < 2**31
    # The mean of 4000 uniform draws has a standard deviation of 0.0046.
    assert abs(seeds.mean() / 2**31 - 0.5) < 5 * 0.0046


def test_seeds_are_python_integers_that_numpy_and_torch_take():
    seed = named_seeds(0, "weights")["weights"]
    assert type(seed) is int
    np.random.RandomState(seed)
    torch.Generator().manual_seed(seed)


def test_seeds_are_the_same_in_every_process_and_release():
    seeds = named_seeds(7, "episodes", "weights")
    assert seeds == {"episodes": 1456018674, "weights": 660460900}


def test_an_instance_is_advanced_by_one_draw_whatever_the_names():
    one, many = np.random.RandomState(5), np.random.RandomState(5)
    named_seeds(one, "a")
    named_seeds(many, "a", "b", "c")
    assert one.randint(10**6) == many.randint(10**6)
    assert named_seeds(one, "a") != named_seeds(np.random.RandomState(5), "a")


def test_none_gives_fresh_seeds_and_leaves_the_global_state_alone():
    kind, keys, position, *_ = np.random.get_state()  # noqa: NPY002
    first, second = named_seeds(None, "a", "b"), named_seeds(None, "a", "b")
    kind_after, keys_after, position_after, *_ = np.random.get_state()  # noqa: NPY002
    assert first != second
    assert (kind, position) == (kind_after, position_after)
    np.testing.assert_array_equal(keys, keys_after)


def test_a_repeated_name_is_refused():
    with pytest.raises(InvalidInputError, match=r"once.*Got \['a'\].*rename or drop"):
        named_seeds(0, "a", "b", "a")


def test_a_bad_random_state_is_refused_as_in_scikit_learn():
    with pytest.raises(ValueError, match="cannot be used to seed"):
        named_seeds("zero", "a")


def test_the_block_draws_what_a_generator_with_the_seed_draws():
    expected = torch.rand(5, generator=torch.Generator().manual_seed(11))
    with isolated_torch_rng(11):
        drawn = torch.rand(5)
    torch.testing.assert_close(drawn, expected, rtol=0, atol=0)


def test_the_state_outside_is_restored_and_blocks_nest():
    before = torch.get_rng_state()
    with isolated_torch_rng(1):
        first = torch.rand(3)
        with isolated_torch_rng(2):
            torch.rand(100)
        second = torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)
    with isolated_torch_rng(1):
        torch.testing.assert_close(torch.rand(6), torch.cat([first, second]))


def test_the_state_outside_is_restored_after_an_error():
    @isolated_torch_rng(1)
    def draw_and_fail():
        torch.rand(3)
        raise KeyError("inside")

    before = torch.get_rng_state()
    with pytest.raises(KeyError, match="inside"):
        draw_and_fail()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_seed_that_waits_for_cuda_is_put_back(monkeypatch):
    waiting = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", waiting.append)
    with isolated_torch_rng(4):
        assert waiting == [4]
    assert waiting == [4, torch.initial_seed()]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes of POSIX")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_waits_for_no_thread_of_its_parent():
    taken, done = threading.Event(), threading.Event()

    def take_a_turn():
        with isolated_torch_rng(0):
            taken.set()
            done.wait(60)

    thread = threading.Thread(target=take_a_turn, daemon=True)
    thread.start()
    assert taken.wait(60)
    child = os.fork()
    if child == 0:
        turns = threading.Thread(target=lambda: isolated_torch_rng(1).__enter__())
        turns.start()
        turns.join(30)
        os._exit(3 if turns.is_alive() else 0)
    _, status = os.waitpid(child, 0)
    done.set()
    thread.join(60)
    assert os.waitstatus_to_exitcode(status) == 0
