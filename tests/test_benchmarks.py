"""Every benchmark runs at its smallest size and prints a table."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
BENCHMARKS = sorted(FOLDER.glob("bench_*.py"))


def committed_results():
    return {path: path.read_bytes() for path in (FOLDER / "results").glob("*.jsonl")}


def test_there_are_benchmarks():
    assert "bench_group_lasso_svc" in {path.stem for path in BENCHMARKS}


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_smoke_run_prints_a_table_and_keeps_the_results(path, tmp_path):
    before = committed_results()
    output = tmp_path / "tables.txt"
    command = [sys.executable, path, "--smoke", "--threads", "1", "--output", output]
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    rules = [k for k, line in enumerate(lines) if line and set(line) == {"-"}]
    assert rules, done.stdout
    for k in rules:  # header above, first row below, columns aligned
        assert len(lines[k - 1]) == len(lines[k]) == len(lines[k + 1])
    assert output.read_text() == done.stdout
    assert committed_results() == before
