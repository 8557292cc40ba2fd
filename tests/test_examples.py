"""Every example runs in its smoke mode and writes a picture."""

import runpy
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import sklearn
from matplotlib import pyplot as plt

FOLDER = Path(__file__).parents[1] / "examples"
EXAMPLES = sorted(FOLDER.glob("plot_*.py"))


def run(*arguments):
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.fixture
def run_here(monkeypatch, capsys):
    """Run an example in this process, which has imported everything, and clean up."""

    def run_example(path, *arguments):
        monkeypatch.setattr(sys, "argv", [str(path), *map(str, arguments)])
        with warnings.catch_warnings():
            runpy.run_path(str(path), run_name="__main__")
        return capsys.readouterr().out

    plt.switch_backend("agg")
    yield run_example
    plt.close("all")


def test_there_are_enough_examples():
    assert len(EXAMPLES) >= 10


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_prints_a_table_and_draws(path, tmp_path, run_here):
    picture = tmp_path / "picture.png"
    printed = run_here(path, "--smoke", "--output", picture)
    assert "+-" in printed
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert not sklearn.get_config()["enable_metadata_routing"]


def test_digits_example_takes_omniglot(tmp_path):
    rng = np.random.RandomState(0)
    character = np.repeat(np.arange(18), 20)
    np.savez(
        tmp_path / "omniglot.npz",
        images=rng.randint(0, 256, (360, 28, 28)).astype(np.uint8),
        character=character,
        alphabet=character // 6,
        alphabet_names=np.array(["one", "two", "three"]),
        split=np.array(["train", "val", "test"])[character // 6],
    )
    example = Path(__file__).parents[1] / "examples" / "plot_digits_few_shot.py"
    output = tmp_path / "picture.png"
    options = ("--smoke", "--data", "omniglot", "--data-dir", tmp_path)
    done = run(example, *options, "--output", output)
    assert done.returncode == 0, done.stderr
    assert "5-way accuracy" in done.stdout
    assert output.exists()


def test_example_says_where_omniglot_must_be(tmp_path):
    example = Path(__file__).parents[1] / "examples" / "plot_digits_few_shot.py"
    done = run(example, "--data", "omniglot", "--data-dir", tmp_path / "nowhere")
    assert done.returncode != 0
    assert "Cannot find omniglot.npz" in done.stderr
