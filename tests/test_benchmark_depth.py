"""The depth benchmark: rates are searched until the best has neighbours."""

import json
import math

import pytest

from benchmarks._harness import RESULTS, read_lines
from benchmarks.maml._rates import LADDER, best_rate

LINES = [
    line
    for line in read_lines(RESULTS / "kfo_depth.jsonl")
    if line["settings"]["part"].startswith("conv-")
]


def cell_of(line):
    names = ("data", "n_shot", "depth", "learner", "params")
    return json.dumps([line["settings"][name] for name in names], sort_keys=True)


@pytest.mark.parametrize("start", [[0.1], [0.1, 0.3], [0.001, 100.0]])
@pytest.mark.parametrize("best", LADDER)
def test_the_grid_grows_to_the_best_rate_and_no_rate_is_judged_twice(start, best):
    asked = []

    def judge(rate):
        asked.append(rate)
        return -abs(math.log(rate / best))

    assert best_rate(judge, start) == best
    assert len(asked) == len(set(asked))
    place = LADDER.index(best)
    assert set(LADDER[max(0, place - 1) : place + 2]) <= set(asked)


@pytest.mark.parametrize("start", [[], [0.2]])
def test_rates_off_the_ladder_are_refused(start):
    with pytest.raises(ValueError, match=r"must be some of \(0\.001, .*\. Got \["):
        best_rate(lambda rate: 0.0, start)


def test_rates_of_the_lines_are_the_best_of_their_search_and_inside_it():
    judged = {}
    for line in LINES:
        if line["settings"]["part"] == "conv-rate":
            scores = line["result"]["scores"]
            mean = sum(scores) / len(scores) if scores else 0.0
            cell = judged.setdefault(cell_of(line), {})
            cell[line["settings"]["inner_lr"]] = mean
    assert judged
    for line in LINES:
        if line["settings"]["part"] != "conv-searched":
            continue
        rate, means = line["settings"]["inner_lr"], judged[cell_of(line)]
        best = max(means.values())  # rates of equal hits differ by a sum's last digit
        assert math.isclose(means[rate], best, rel_tol=1e-12), line["settings"]
        place = LADDER.index(rate)
        assert set(LADDER[max(0, place - 1) : place + 2]) <= set(means)


def test_the_seed_that_chooses_is_none_that_counts():
    seeds = {"conv-rate": set(), "conv-searched": set()}
    for line in LINES:
        seeds[line["settings"]["part"]].add(line["settings"]["seed"])
    assert not seeds["conv-rate"] & seeds["conv-searched"]
