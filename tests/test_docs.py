"""Pages that are written from the code and from the results."""

import importlib
import json
import pkgutil
import sys
from pathlib import Path

import pytest

import skcausalmeta

DOCS = Path(__file__).parents[1] / "docs"
ROOMS = [
    info.name
    for info in pkgutil.iter_modules(skcausalmeta.__path__)
    if not info.name.startswith("_")
]


@pytest.fixture(scope="module")
def makers():
    """The modules make_api and make_results of the folder docs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DOCS))
        names = ("make_api", "make_results")
        yield {name: importlib.import_module(name) for name in names}
        for name in names:
            del sys.modules[name]


@pytest.fixture
def results(makers):
    return makers["make_results"]


# -- API reference -------------------------------------------------------------------


@pytest.fixture(scope="module")
def api(makers, tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs") / "api"
    makers["make_api"].write(folder)
    return folder


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_is_in_the_reference(api, room):
    listed = (api / f"{room}.rst").read_text().splitlines()
    names = importlib.import_module(f"skcausalmeta.{room}").__all__
    assert [line.strip() for line in listed].count(".. autosummary::") in (1, 2)
    assert {f"   {name}" for name in names} <= set(listed)


def test_every_room_and_estimator_is_in_the_index(api):
    index = (api / "index.rst").read_text()
    assert set(ROOMS) <= {line.strip() for line in index.splitlines()}
    for name in skcausalmeta.__all__:
        assert name.startswith("__") or f".{name}`" in index


def test_pages_that_do_not_change_are_not_written_again(makers, tmp_path):
    makers["make_api"].write(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    makers["make_api"].write(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


# -- results -------------------------------------------------------------------------


def write_lines(path, lines):
    text = [json.dumps({"settings": s, "result": r}) for s, r in lines]
    path.write_text("\n".join(text) + "\n")


def cells(text):
    """Rows of the list tables of a page."""
    rows = []
    for line in text.splitlines():
        if line.startswith("   * - "):
            rows.append([line[7:]])
        elif line.startswith("     - "):
            rows[-1].append(line[7:])
    return rows


def test_a_table_is_computed_from_the_lines(results, tmp_path):
    result = {"disentangled + lasso": 0.6, "entangled + lasso": 0.1}
    other = {"disentangled + lasso": 0.8, "entangled + lasso": 0.1}
    settings = [{"share": 0.05, "n": 25, "seed": seed} for seed in (0, 1)]
    lines = [(settings[0], result), (settings[1], other)]
    write_lines(tmp_path / "synthetic_sparsity.jsonl", lines)
    header, row = cells(results.page(tmp_path))
    assert header[:3] == ["share", "n", "runs"]
    # t quantile with 1 degree of freedom times the standard error 0.1
    expected = ["0.05", "25", "2", "0.700 +- 1.271", "0.100 +- 0.000", "--"]
    assert row == expected


def test_scores_of_episodes_are_pooled_and_shown_in_per_cent(results, tmp_path):
    settings = {"part": "conv", "data": "omniglot", "n_shot": 1, "depth": 2}
    lines = [
        ({**settings, "learner": "KFO", "seed": 0}, {"scores": [0.2, 0.4]}),
        ({**settings, "learner": "KFO", "seed": 1}, {"scores": [0.2, 0.4]}),
        ({**settings, "part": "unknown"}, {"scores": [0.9]}),
    ]
    write_lines(tmp_path / "kfo_depth.jsonl", lines)
    _, row = cells(results.page(tmp_path))
    assert row[:5] == ["omniglot", "1", "2", "KFO", "2"]
    assert row[5] == "30.0 +- 18.4"  # 3.182 * 0.1155 / 2


def test_broken_lines_and_missing_files_do_no_harm(results, tmp_path):
    path = tmp_path / "recipes.jsonl"
    scores = {"5w1s": {"scores": [0.5, 0.5]}}
    line = ({"recipe": "omniglot", "seed": 0}, {"evaluations": scores})
    write_lines(path, [line])
    path.write_text(path.read_text() + '{"settings": {"learner"\n[1]\n')
    assert len(results.read(path)) == 1
    page = results.page(tmp_path)
    assert "50.0 +- 0.0" in page
    assert "Recovery of correlated factors" not in page


def test_a_folder_without_lines_says_so(results, tmp_path):
    page = results.page(tmp_path / "nowhere")
    assert "no result lines" in page
    assert cells(page) == []


def test_a_file_without_a_description_is_listed(results, tmp_path):
    write_lines(tmp_path / "something_new.jsonl", [({"seed": 0}, {"x": 1.0})] * 3)
    assert cells(results.page(tmp_path))[-1] == ["something_new", "3"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [("a/b/0", 1.0), ("a/b/-1", 2.0), ("a/b/9", None), ("a/c", None), ("x/y", None)],
)
def test_entries_are_found_by_path(results, path, expected):
    assert results.at({"a": {"b": [1.0, 2.0]}}, path) == expected


def test_the_committed_lines_fill_the_page(results):
    folder = DOCS.parent / "benchmarks" / "results"
    page = results.page(folder)
    assert page.count(".. list-table::") >= 8
    for path in folder.glob("*.jsonl"):
        assert (
            f"python -m benchmarks {path.stem}`" in page
            or f"   * - {path.stem}" in page
        )
