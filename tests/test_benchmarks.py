"""Every benchmark runs at its smallest size and prints a table."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch
from threadpoolctl import threadpool_limits

from benchmarks._harness import read_lines

FOLDER = Path(__file__).parents[1] / "benchmarks"
BENCHMARKS = sorted(FOLDER.rglob("bench_*.py"))
RECIPE_LINES = FOLDER / "results" / "recipes.jsonl"


def committed_results():
    return {path: path.read_bytes() for path in (FOLDER / "results").glob("*.jsonl")}


def test_there_are_benchmarks():
    assert "bench_group_lasso_svc" in {path.stem for path in BENCHMARKS}


@pytest.fixture
def run_here(monkeypatch, tmp_path, capsys):
    """Run a script in this process, which has imported everything."""

    def run(path, *arguments):
        monkeypatch.setattr(sys, "argv", [str(path), *map(str, arguments)])
        monkeypatch.chdir(tmp_path)
        runpy.run_path(str(path), run_name="__main__")
        return capsys.readouterr().out

    n_threads = torch.get_num_threads()
    with threadpool_limits(1):
        yield run
    torch.set_num_threads(n_threads)


@pytest.mark.slow
@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_smoke_run_prints_a_table_and_keeps_the_results(path, tmp_path, run_here):
    before = committed_results()
    output = tmp_path / "tables.txt"
    printed = run_here(path, "--smoke", "--threads", 1, "--output", output)
    lines = printed.splitlines()
    rules = [k for k, line in enumerate(lines) if line and set(line) == {"-"}]
    assert rules, printed
    for k in rules:  # header above, first row below, columns aligned
        assert len(lines[k - 1]) == len(lines[k]) == len(lines[k + 1])
    assert output.read_text() == printed
    assert committed_results() == before


@pytest.mark.slow
def test_the_structure_is_listed_and_appended_as_a_line(tmp_path, run_here):
    path = FOLDER / "structure" / "bench_structure.py"
    lines = tmp_path / "lines.jsonl"
    printed = run_here(path, "--smoke", "--list", "--lines", lines)
    (line,) = lines.read_text().splitlines()
    values = json.loads(line)["result"]
    for name, value in values.items():
        assert any(
            row.split()[: len(name.split()) + 1] == [*name.split(), str(value)]
            for row in printed.splitlines()
        )
    assert "SparseMetaClassifier.__init__" in printed
    assert values["adapt with RidgeHead: files"] > 0
    assert (
        values["adapt with RidgeHead: functions"]
        < values["SparseMetaClassifier.fit: functions"]
    )


def test_a_recipe_is_described_as_its_line_has_it():
    bench = runpy.run_path(str(FOLDER / "few_shot" / "bench_recipes.py"))
    lines = [line["settings"] for line in read_lines(RECIPE_LINES)]
    assert {line["recipe"] for line in lines} == set(bench["RECIPES"])
    for line in lines:
        learner = bench["module_of"](line["recipe"]).make_learner(line["seed"])
        assert line == {**line, **bench["described"](learner)}
