"""The code of README.rst runs as it stands, and its claims about files hold."""

import re
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.rst").read_text(encoding="utf-8")


def code_blocks():
    pattern = r"\.\. code-block:: python\n\n((?:    .*\n|\n)+)"
    return [textwrap.dedent(block) for block in re.findall(pattern, README)]


def run(block, capsys):
    exec(compile(block, "README.rst", "exec"), {})
    return capsys.readouterr().out.split()


def test_every_block_is_found():
    assert len(code_blocks()) == README.count(".. code-block:: python") == 3


def test_first_example_has_ten_lines():
    lines = [line for line in code_blocks()[0].splitlines() if line.strip()]
    assert len(lines) <= 10


def test_first_example_learns_new_digits(capsys):
    accuracy, sparsity, gap = map(float, run(code_blocks()[0], capsys))
    assert accuracy > 0.85
    assert 0 < sparsity < 1
    assert 0 <= gap < 1e-3


def test_grid_search_example_runs(capsys):
    printed = " ".join(run(code_blocks()[1], capsys))
    assert "sparsemetaclassifier__head__group_reg" in printed


def test_head_example_selects_features(capsys):
    *features, gap = run(code_blocks()[2], capsys)
    assert 0 < len(features) <= 4
    assert 0 <= float(gap) < 1e-3


@pytest.mark.parametrize("room", ["heads", "learners", "solvers", "compose"])
def test_map_names_the_rooms(room):
    assert re.search(rf"^\d +.*\b{room}\b", README, flags=re.MULTILINE)
    assert (ROOT / "skcausalmeta" / room).is_dir()
