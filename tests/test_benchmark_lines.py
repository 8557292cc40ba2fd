"""Lines of benchmarks: their commits, packed lists, and what is older than its code."""

import ast
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as runner
from benchmarks._harness import (
    append_line,
    commit_now,
    find_peer,
    pack,
    read_lines,
    results_by_key,
    unpack,
)

FOLDER = Path(runner.__file__).parent
BENCHMARKS = sorted(FOLDER.rglob("bench_*.py"))
RESULTS = sorted((FOLDER / "results").glob("*.jsonl"))


def test_benchmarks_enter_the_package_by_its_doors():
    for path in FOLDER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for name in names:
                assert not re.match(r"skcausalmeta\..*\b_", name), (path, name)


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_a_benchmark_stands_in_the_readme_of_its_folder(path):
    text = (path.parent / "README.rst").read_text()
    assert len(text.splitlines()) == 3
    assert f"python -m benchmarks {path.stem.removeprefix('bench_')}`" in text


@pytest.mark.parametrize("name", runner.scripts())
def test_what_a_benchmark_measures_is_there(name):
    paths = runner.measured_paths(runner.scripts()[name])
    assert paths
    assert all((FOLDER.parent / path).exists() for path in paths)


def test_a_benchmark_that_names_no_files_is_an_error():
    with pytest.raises(ValueError, match=r"tuple MEASURES\. Got none in benchmarks"):
        runner.measured_paths(FOLDER / "__init__.py")


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_every_line_names_its_commit_and_belongs_to_a_benchmark(path):
    assert path.stem in runner.scripts()
    lines = read_lines(path)
    assert len(lines) == len(path.read_text().splitlines())
    assert all(re.fullmatch("[0-9a-f]{7,}", line["commit"]) for line in lines)


def test_the_benchmarks_are_listed(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmarks"])
    runner.main()
    names = [row.split()[0] for row in capsys.readouterr().out.splitlines()]
    assert names == list(runner.scripts())


def git(folder, *arguments):
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    command = ["git", "-C", str(folder), *who, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository with one measured file, and the commit that it is of."""
    monkeypatch.setattr("benchmarks._harness._commits.ROOT", tmp_path)
    (tmp_path / "skcausalmeta").mkdir()
    (tmp_path / "skcausalmeta" / "code.py").write_text("1")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def test_a_line_is_of_a_commit_and_goes_stale_with_its_code(
    checkout, monkeypatch, capsys
):
    monkeypatch.setattr(runner, "RESULTS", checkout)
    lines, code = checkout / "mtcrl.jsonl", checkout / "skcausalmeta" / "code.py"
    monkeypatch.setattr(runner, "measured_paths", lambda path: ("skcausalmeta",))
    now = commit_now()
    assert now == {
        "commit": git(checkout, "rev-parse", "--short=7", "HEAD").strip(),
        "dirty": False,
    }
    append_line(lines, {"seed": 0}, {"score": 1.0}, now)
    runner.print_stale(["mtcrl"])
    assert "No line is older" in capsys.readouterr().out
    code.write_text("2")
    assert commit_now() == {**now, "dirty": True}
    append_line(lines, {"seed": 1}, {"score": 1.0}, {"commit": None, "dirty": None})
    runner.print_stale(["mtcrl"])
    rows = [row.split() for row in capsys.readouterr().out.splitlines()[2:]]
    assert [row[1] for row in rows] == [now["commit"], "?"]
    assert [row[3:] for row in rows] == [["1", "2", "1"], ["1", "2", "?"]]


@pytest.mark.parametrize(
    ("values", "over"),
    [
        ([k / 75 for k in range(76)], 75),
        ([round(k / 75, 4) for k in range(76)], 75),
        ([-k / 10**5 for k in range(10**5, 10**5 + 40)], 100_000),
        ([math.sqrt(k) for k in range(40)], None),
        ([0.5] * 40 + [float("inf"), float("-inf")], None),
        ([-0.0, 0.5] * 20, None),
        ([1.0] * 40, 1),
    ],
)
def test_long_lists_are_packed_without_loss(values, over):
    packed = json.loads(json.dumps(pack({"scores": values})))
    assert packed["scores"]["over"] == over
    assert json.dumps(unpack(packed)) == json.dumps({"scores": values})


@pytest.mark.parametrize(
    "values", [[0.5] * 29, [1] * 40, [0.5] * 39 + [None], "a" * 40]
)
def test_other_entries_stay_as_they_are(values):
    assert pack({"a": values}) == {"a": values}


def test_a_line_cut_short_is_left_out(tmp_path):
    path = tmp_path / "lines.jsonl"
    append_line(path, {"seed": 0}, {"scores": [k / 8 for k in range(64)]}, {})
    path.write_text(path.read_text() + '{"settings": {"se')
    assert results_by_key(path) == {
        '{"seed": 0}': {"scores": [k / 8 for k in range(64)]}
    }


def test_a_peer_that_cannot_be_imported_is_named():
    peer = find_peer("numpy", "no_such_module")
    assert peer.missing
    assert (
        peer.state == "left out, ModuleNotFoundError: No module named 'no_such_module'"
    )
    assert not find_peer("numpy", "numpy").missing
