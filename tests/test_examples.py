"""Every example runs in its smoke mode and writes a picture."""

import runpy
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import sklearn
from matplotlib import pyplot as plt

from skcausalmeta.persistence import load

FOLDER = Path(__file__).parents[1] / "examples"
EXAMPLES = sorted(FOLDER.glob("plot_*.py"))


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


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_prints_a_table_and_draws(path, tmp_path, run_here):
    picture = tmp_path / "picture.png"
    printed = run_here(path, "--smoke", "--output", picture)
    assert "+-" in printed
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert not sklearn.get_config()["enable_metadata_routing"]


RECIPES = sorted((FOLDER / "recipes").glob("[a-z]*.py"))


def test_there_are_recipes():
    assert {path.stem for path in RECIPES} >= {"omniglot", "tiny_imagenet"}


@pytest.mark.slow
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_trains_evaluates_and_saves(path, tmp_path, run_here, monkeypatch):
    # A script finds what lies beside it.
    monkeypatch.syspath_prepend(str(path.parent))
    printed = run_here(path, "--smoke", "--save", tmp_path / "learner")
    assert "3-way 1-shot: " in printed
    assert "features in use" in printed
    learner = load(tmp_path / "learner")
    images = np.random.default_rng(0).integers(
        256, size=(4, *learner.reader_.row_shape), dtype=np.uint8
    )
    assert learner.adapt(images, [0, 0, 1, 1]).predict(images).shape == (4,)
