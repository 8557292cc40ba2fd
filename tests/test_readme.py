"""The code of README.rst runs as it stands, and its claims about files hold."""

import doctest
import importlib
import io
import re
import sys
import textwrap
from pathlib import Path

import docutils.core
import numpy as np
import pandas
import pytest

from skcausalmeta.cli import main

pytestmark = pytest.mark.whole_common

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.rst").read_text(encoding="utf-8")


def code_blocks():
    pattern = r"\.\. code-block:: python\n\n((?:    .*\n|\n)+)"
    return [textwrap.dedent(block) for block in re.findall(pattern, README)]


def run(block, capsys):
    exec(compile(block, "README.rst", "exec"), {})
    return capsys.readouterr().out.split()


def test_it_is_short():
    assert len(README.splitlines()) <= 150


def test_every_block_is_found():
    assert len(code_blocks()) == README.count(".. code-block:: python") == 2


@pytest.mark.parametrize("block", [0, 1])
def test_newcomers_examples_have_ten_lines(block):
    lines = [line for line in code_blocks()[block].splitlines() if line.strip()]
    assert len(lines) <= 10


def test_first_example_learns_new_digits(capsys):
    accuracy, sparsity, gap = map(float, run(code_blocks()[0], capsys))
    assert accuracy > 0.85
    assert 0 < sparsity < 1
    assert 0 <= gap < 1e-3


def test_head_example_prints_what_it_says():
    test = doctest.DocTestParser().get_doctest(README, {}, "README.rst", None, 0)
    failed, tried = doctest.DocTestRunner().run(test)
    assert tried == 5
    assert failed == 0


@pytest.mark.slow
def test_csv_example_saves_reloads_and_adapts(tmp_path, monkeypatch, capsys):
    rng = np.random.RandomState(0)
    tasks = np.repeat([f"customer {k}" for k in range(15)] + ["zoe"], 60)
    X = rng.randn(len(tasks), 8).round(3)
    # Every customer decides by one of three features.
    column = np.unique(tasks, return_inverse=True)[1] % 3
    label = np.where(X[np.arange(len(X)), column] > 0, "buys", "leaves")
    table = pandas.DataFrame(X, columns=[f"f{k}" for k in range(8)])
    monkeypatch.chdir(tmp_path)
    table.assign(task=tasks, label=label).to_csv("customers.csv", index=False)
    before, after = map(float, run(code_blocks()[1], capsys))
    assert 0.55 < before < after
    assert after > 0.7
    for arguments in (["info"], ["evaluate", "customers.csv", "--target", "label"]):
        command, *rest = arguments
        assert main([command, "learner.safetensors", *rest]) == 0


def test_map_names_every_room_by_rank():
    ranked = re.findall(r"^    (\d)  (\w+)", README, flags=re.MULTILINE)
    assert [rank for rank, _ in ranked] == sorted(rank for rank, _ in ranked)
    package = ROOT / "skcausalmeta"
    rooms = {path.parent.name for path in package.glob("*/__init__.py")}
    assert {room for _, room in ranked} == rooms | {"exceptions"}


def test_numbers_of_the_table_are_computed_from_the_lines(monkeypatch):
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    page = importlib.import_module("make_results").page(ROOT / "benchmarks" / "results")
    for name in set(sys.modules) - before:
        if name == "make_results" or name.split(".")[0] == "_results":
            del sys.modules[name]
    _, _, section = README.partition("What was measured\n---")
    table, _, _ = section.partition("All tables are on")
    found = re.findall(r"\d+\.\d \+- \d+\.\d", table)
    assert len(found) == 13
    for number in found:
        assert f"- {number}\n" in page


@pytest.mark.parametrize("name", ["README.rst", "CHANGES.rst", "CONTRIBUTING.rst"])
def test_text_is_valid_markup(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    found = io.StringIO()
    settings = {"report_level": 2, "warning_stream": found, "_disable_config": True}
    docutils.core.publish_doctree(text, settings_overrides=settings)
    assert found.getvalue() == ""
