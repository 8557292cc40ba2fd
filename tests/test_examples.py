"""Every example runs in its smoke mode and writes a picture."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("plot_*.py"))


def run(*arguments):
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_prints_a_table_and_draws(path, tmp_path):
    picture = tmp_path / "picture.png"
    done = run(path, "--smoke", "--output", picture)
    assert done.returncode == 0, done.stderr
    assert "+-" in done.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
