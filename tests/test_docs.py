"""Pages that are written from the code and from the results."""

import importlib
import io
import json
import pkgutil
import re
import sys
from pathlib import Path

import docutils.core
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
        for name in [*sys.modules]:
            if name in names or name.split(".")[0] == "_results":
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


def write_lines(path, lines, **more):
    text = [json.dumps({"settings": s, "result": r, **more}) for s, r in lines]
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
    assert row == [*expected, "+0.600 +- 1.271", "--"]


def test_scores_of_episodes_are_pooled_and_shown_in_per_cent(results, tmp_path):
    settings = {"part": "conv", "data": "omniglot", "n_shot": 1, "depth": 2}
    lines = [
        ({**settings, "learner": "KFO", "seed": 0}, {"scores": [0.2, 0.4]}),
        ({**settings, "learner": "KFO", "seed": 1}, {"scores": [0.2, 0.4]}),
        ({**settings, "part": "unknown"}, {"scores": [0.9]}),
    ]
    write_lines(tmp_path / "kfo_depth.jsonl", lines)
    header, row = cells(results.page(tmp_path))
    assert header[:5] == ["learner", "runs", "1 layer", "2 layers", "4 layers"]
    # 3.182 * 0.1155 / 2
    assert row[:5] == ["KFO", "2", "--", "30.0 +- 18.4", "--"]


def test_differences_are_paired_by_seed_and_episode(results, tmp_path):
    settings = {"part": "conv", "data": "omniglot", "n_shot": 1, "depth": 2}
    base = {0: [0.2, 0.9], 1: [0.6, 0.1]}
    lines = [
        ({**settings, "learner": name, "seed": seed}, {"scores": scores})
        for name, gain in (("MAML", 0.0), ("KFO", 0.1))
        for seed in (1, 0)
        for scores in [[score + gain for score in base[seed]]]
    ]
    # The base may have fewer episodes.
    lines[0][1]["scores"].pop()
    write_lines(tmp_path / "kfo_depth.jsonl", lines)
    header, maml, kfo = cells(results.page(tmp_path))
    column = header.index("2, - MAML")
    assert (maml[0], maml[column]) == ("MAML", "--")
    assert (kfo[0], kfo[column]) == ("KFO", "+10.0 +- 0.0")


def test_gains_are_relative_to_the_baseline_of_the_seed(results, tmp_path):
    settings = {"problem": "scenes", "seed": 3}
    lines = [
        ({**settings, "contender": name}, {"shifted": [x], "unshifted": [0.5]})
        for name, x in (("single", 0.6), ("MMoE", 0.5))
    ]
    write_lines(tmp_path / "mtcrl.jsonl", lines)
    _, single, *_ = cells(results.page(tmp_path))
    assert single == ["single", "1", "+0.0", "+20.0"]


def test_leads_are_paired_by_task_over_splits(results, tmp_path):
    settings = {"data": "school", "supports": 2, "shares": "equal", "query": "all"}
    scores = {
        "mixed model": [[10.0, 12.0, 8.0, 8.0], [9.0, 9.0, 10.0, 10.0]],
        "sparse head": [[11.0, 13.0, 9.0, 9.0], [10.0, 10.0, 11.0, 11.0]],
    }
    lines = [
        (
            {**settings, "contender": name, "split": split, "seed": 0},
            {
                "scores": {"RMSE": {"5": scores[name][split]}},
                "fit seconds": 2.0,
                "job seconds": {"5": 0.003},
            },
        )
        for name in ("sparse head", "mixed model")
        for split in (1, 0)
    ]
    natural = {**lines[0][0], "shares": "natural"}
    write_lines(tmp_path / "tables.jsonl", [*lines, (natural, lines[0][1])])
    rows = cells(results.page(tmp_path))
    header, first, second, _, lead, other = rows
    assert header[:4] == ["contender", "runs", "k = 0", "k = 5"]
    # Tasks of mean 11, 8, 9 and 10: 3.182 * 1.291 / 2.
    assert first[:4] == ["mixed model", "2", "--", "9.500 +- 2.054"]
    assert first[-2:] == ["2", "3"]
    assert second[3] == "10.500 +- 2.054"
    assert lead[:4] == ["mixed model", "2", "--", "+0.000 +- 0.000"]
    assert other[3] == "+1.000 +- 0.000"


def test_heads_that_read_trained_features_are_rows(results, tmp_path):
    settings = {"part": "table", "data": "tiny", "learner": "ridge (R2D2)", "n_shot": 5}
    own = {"scores": [0.5, 0.5], "sparsity": None}
    other = {"scores": [0.75, 0.75], "sparsity": 0.75}
    result = {"evaluations": {"5w5s": own}, "readers": {"relaxed": {"5w5s": other}}}
    write_lines(tmp_path / "few_shot.jsonl", [({**settings, "seed": 0}, result)])
    _, first, second = cells(results.page(tmp_path))
    assert first[:6] == ["ridge (R2D2)", "its own", "1", "50.0 +- 0.0", "--", "1"]
    assert second[1:6] == ["relaxed", "1", "75.0 +- 0.0", "+25.0 +- 0.0", "0.25"]


def test_the_last_line_of_a_repeated_run_stands_with_its_commit(results, tmp_path):
    path = tmp_path / "synthetic_sparsity.jsonl"
    run = {"share": 0.05, "n": 25, "seed": 0}
    write_lines(path, [(run, {"disentangled + lasso": 0.1})], commit="0000000aaa")
    old = path.read_text()
    new = [(run, {"disentangled + lasso": 0.9})]
    write_lines(path, new, commit="1234567890", dirty=True)
    path.write_text(old + path.read_text())
    page = results.page(tmp_path)
    assert cells(page)[1][2:4] == ["1", "0.900"]
    assert "Measured at 1234567+." in page
    assert "0000000" not in page


def test_names_that_begin_like_a_list_are_cells(results, tmp_path):
    settings = {"problem": "scenes", "contender": "- invariance", "seed": 3}
    lines = [(settings, {"shifted": [0.5], "unshifted": [0.5]})]
    write_lines(tmp_path / "mtcrl.jsonl", lines)
    assert cells(results.page(tmp_path))[-1][1] == "\\- invariance"


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
    lines = [({"seed": seed}, {"x": 1.0}) for seed in range(3)]
    write_lines(tmp_path / "something_new.jsonl", lines)
    assert cells(results.page(tmp_path))[-1] == ["something_new", "3"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [("a/b/0", 1.0), ("a/b/-1", 2.0), ("a/b/9", None), ("a/c", None), ("x/y", None)],
)
def test_entries_are_found_by_path(results, path, expected):
    assert results.at({"a": {"b": [1.0, 2.0]}}, path) == expected


@pytest.fixture(scope="module")
def committed(makers):
    return makers["make_results"].page(DOCS.parent / "benchmarks" / "results")


# Every table of numbers that the project has shown stands on the page.
@pytest.mark.parametrize(
    "title",
    [
        "Tox21: 9 training and 3 new assays, AUC",
        "ToxCast: 249 training and 60 new assays, AUC",
        "WISDM: 24 training and 12 new people, accuracy",
        "School: 100 training and 39 new schools, error (RMSE)",
        "tox21: features in use",
        "wisdm: features in use",
        "tox21: molecules that no training row has",
        "Omniglot, 5w1s",
        "Omniglot, 5w5s",
        "Tiny-ImageNet-FS, 5w5s",
        "Tiny-ImageNet-FS, 5w1s",
        "Tiny-ImageNet-FS, 5w5s, test classes",
        "Omniglot, 5w1s, test classes",
        "Tiny-ImageNet-FS, 5w5s, val classes",
        "Omniglot, 5w1s, val classes",
        "Recipes",
        "Features used by the recipes, and what few features cost",
        "Certificates of random problems",
        "Working set against the plain dual",
        "Forward and backward",
        "Times the time of ours",
        "Milliseconds a task",
        "Peak memory beyond the imports, MB",
        "Test R2 by labels and share of relevant factors",
        "Damaged and forged files",
        "omniglot, 1 shot, rates searched",
        "omniglot, 1 shot, rate .1 for all",
        "omniglot, 5 shots, rates searched",
        "omniglot, 5 shots, rate .1 for all",
        "tiny, 1 shot, rates searched",
        "tiny, 1 shot, rate .1 for all",
        "tiny, 5 shots, rates searched",
        "tiny, 5 shots, rate .1 for all",
        "Loss after one step on linear and logistic tasks",
        "Mean squared error on 10-shot sinusoids",
        "Mean correlation with the matched factors (MCC)",
        "Supports in blocks, which the theory excludes (MCC)",
        "Rendered scenes, MCC",
        "Relative gain over MMoE in per cent, shifted test data",
        "Relative gain over MMoE in per cent, unshifted test data",
        "MovieLens over all seeds, relative gain in per cent",
        "Scenes, relative gain over MMoE in per cent",
        "confounded, vectors",
        "confounded, images",
        "Parts left out (vectors)",
        "Tasks in one batch (vectors, ANIL)",
        "unshifted, omniglot",
        "unshifted, tiny",
        "regression, sinusoid",
        "regression, harmonic",
        "CPU milliseconds of a training step",
        "Milliseconds a task of predict_episodes",
        "Tasks of training a second by processes",
        "Grid search on two Dask workers",
        "Eight threads that share a learner",
        "Found with 20 labels",
        "Five new classes with 1 to 10 rows each",
    ],
)
def test_the_committed_lines_fill_every_table(committed, title):
    _, _, after = committed.partition(f"\n{title}\n{'~' * len(title)}\n")
    table, _, _ = after.partition("~~~")
    assert len(cells(table)) >= 2
    assert any(re.search(r"\d", cell) for cell in cells(table)[1][1:])


def test_every_file_of_lines_is_on_the_page(results, committed):
    folder = DOCS.parent / "benchmarks" / "results"
    titles = {one.name: one.title for one in results.BENCHMARKS}
    for path in folder.rglob("*.jsonl"):
        title = titles.get(path.stem)
        assert f"\n{title}\n" in committed or f"   * - {path.stem}" in committed


def test_the_page_is_valid_markup(committed):
    found = io.StringIO()
    settings = {"report_level": 2, "warning_stream": found, "_disable_config": True}
    text = committed.replace(":doc:", "")  # known to Sphinx alone
    docutils.core.publish_doctree(text, settings_overrides=settings)
    # Titles may be repeated under other titles.
    assert found.getvalue() == ""
