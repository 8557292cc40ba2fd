"""python -m skcausalmeta: what it prints, and its exit codes."""

import csv
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas
import pytest
from sklearn.preprocessing import StandardScaler
from torch import nn

from skcausalmeta.cli import main
from skcausalmeta.compose import make_meta_pipeline
from skcausalmeta.heads import RidgeHead, RidgeRegressionHead
from skcausalmeta.learners import (
    MTCRLClassifier,
    SparseMetaClassifier,
    SparseMetaRegressor,
)
from skcausalmeta.persistence import save

SMALL = {"max_epochs": 1, "batches_per_epoch": 2, "tasks_per_batch": 2, "verbose": 0}
RNG = np.random.RandomState(0)
TASKS = np.repeat(["ann", "bob", "cid"], 40)
Y = np.tile(np.repeat(["no", "yes"], 20), 3)
X = RNG.randn(120, 4) + 3 * (Y == "yes")[:, None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    np.savez(folder / "tasks.npz", X=X, y=Y, tasks=TASKS)
    np.savez(folder / "values.npz", X=X, y=X @ [1.0, 2, 3, 4], tasks=TASKS)
    np.savez(folder / "classes.npz", X=X, y=np.repeat(np.arange(6), 20))
    with (folder / "tasks.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["a", "b", "c", "d", "task", "label"])
        writer.writerows([*row, t, y] for row, t, y in zip(X, TASKS, Y, strict=True))
    learner = make_meta_pipeline(StandardScaler(), SparseMetaClassifier(**SMALL))
    save(learner.fit(X, np.repeat(np.arange(6), 20)), folder / "learner")
    return folder


def run(capsys, *arguments):
    code = main([str(part) for part in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_evaluate_a_csv_file(folder, capsys):
    code, out, err = run(
        capsys,
        *("evaluate", folder / "learner", folder / "tasks.csv", "--target", "label"),
        *("--shots", 2, "--queries", 5, "--episodes", 9),
    )
    assert (code, err) == (0, "")
    assert out.startswith("accuracy ")
    assert "% (9 episodes of 3 tasks, 2-shot, 95% interval)" in out
    assert 90 < float(out.split()[1]) <= 100


def test_evaluate_is_repeatable_and_takes_npz_files(folder, capsys):
    options = ("--shots", 1, "--queries", 9, "--episodes", 5)
    files = [folder / "tasks.npz", folder / "tasks.npz", folder / "tasks.csv"]
    targets = ["y", "y", "label"]
    outs = [
        run(capsys, "evaluate", folder / "learner", file, "--target", name, *options)
        for file, name in zip(files, targets, strict=True)
    ]
    assert outs[0] == outs[1] == outs[2]
    again = ("evaluate", folder / "learner", files[0], *options, "--seed")
    # Scores near the top may well be the same twice.
    assert any(run(capsys, *again, seed) != outs[0] for seed in (1, 2, 3))


@pytest.mark.filterwarnings("error")
def test_columns_of_a_csv_file_are_found_by_name(folder, tmp_path, capsys):
    frame = pandas.read_csv(folder / "tasks.csv")
    head = RidgeHead().fit(frame[["d", "c", "b", "a"]], Y)
    save(head, tmp_path / "head")
    options = ("--target", "label", "--shots", 3, "--episodes", 3)
    command = ("evaluate", tmp_path / "head", folder / "tasks.csv", *options)
    assert run(capsys, *command)[0] == 0
    save(head.fit(frame[["a"]].rename(columns={"a": "z"}), Y), tmp_path / "head")
    code, _, err = run(capsys, *command)
    assert code == 1
    assert "Got no ['z']" in err


def test_evaluate_draws_classes_without_tasks(folder, capsys):
    code, out, _ = run(
        capsys,
        *("evaluate", folder / "learner", folder / "classes.npz", "--way", 3),
        *("--episodes", 4, "--queries", 5),
    )
    assert code == 0
    assert "4 episodes of 3-way 5-shot, 95% interval" in out


def test_evaluate_multi_task_learners_on_their_tasks(folder, capsys):
    learner = MTCRLClassifier(max_epochs=3, random_state=0).fit(X, Y, tasks=TASKS)
    save(learner, folder / "multi")
    code, out, _ = run(capsys, "evaluate", folder / "multi", folder / "tasks.npz")
    assert code == 0
    assert "(3 tasks, 95% interval)" in out
    expected = np.mean(learner.predict(X, tasks=TASKS) == Y)
    assert float(out.split()[1]) == pytest.approx(100 * expected, abs=0.05)


@pytest.mark.parametrize(
    "estimator", [RidgeRegressionHead(1e-6), SparseMetaRegressor(**SMALL)]
)
def test_evaluate_regressors_by_r2(folder, capsys, estimator):
    save(estimator.fit(X, X @ [1.0, 2, 3, 4]), folder / "values")
    code, out, _ = run(
        capsys,
        *("evaluate", folder / "values", folder / "values.npz", "--shots", 20),
        *("--queries", 10, "--episodes", 3),
    )
    assert code == 0
    assert out.startswith("R2 ")
    if isinstance(estimator, RidgeRegressionHead):
        assert float(out.split()[1]) == pytest.approx(1.0, abs=1e-2)


def test_info_of_a_file_and_of_the_installation(folder, capsys):
    save(RidgeHead(0.25), folder / "head")
    code, out, _ = run(capsys, "info", folder / "head")
    assert code == 0
    assert out.startswith("RidgeHead, 0 arrays, ")
    assert "  ridge_reg      0.25\n" in out
    assert "saved with:" in out
    code, out, _ = run(capsys, "info")
    assert code == 0
    assert "skcausalmeta" in out
    assert "torch" in out


def test_info_tells_other_versions_apart(folder, capsys, monkeypatch):
    from skcausalmeta.cli import _info

    save(RidgeHead(), folder / "head")
    monkeypatch.setattr(_info, "installed_versions", lambda: {"skcausalmeta": "99"})
    assert "(here: 99)" in run(capsys, "info", folder / "head")[1]


MODULE = """
from torch import nn


class Own(nn.Linear):
    def __init__(self):
        super().__init__(4, 3)
"""


def test_classes_of_ones_own_are_named_on_the_command_line(
    folder, tmp_path, capsys, monkeypatch
):
    (tmp_path / "own_nets.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    from own_nets import Own

    assert issubclass(Own, nn.Module)
    learner = SparseMetaClassifier(backbone=Own, **SMALL).fit(X, Y)
    save(learner, folder / "own")
    assert "needs modules: Own" in run(capsys, "info", folder / "own")[1]
    command = ("evaluate", folder / "own", folder / "tasks.npz", "--episodes", 3)
    code, _, err = run(capsys, *command)
    assert code == 1
    assert "needs 'Own'" in err
    assert run(capsys, *command, "--trust", "own_nets:Own")[0] == 0
    code, _, err = run(capsys, *command, "--trust", "own_nets")
    assert code == 1
    assert "--trust takes MODULE:NAME" in err


def bad_csv(text):
    def write(path):
        (path / "bad.csv").write_text(text)
        return path / "bad.csv"

    return write


ERRORS = {
    "missing": (lambda path: path / "nowhere.npz", "No such file"),
    "kind": (lambda path: path / "rows.txt", r"must be a \.csv or \.npz"),
    "empty": (bad_csv(""), "must have a column 'y'"),
    "no rows": (bad_csv("a,y\n"), "needs rows"),
    "text": (bad_csv("a,y\nb,1\n"), "Features must be numbers.*'a'"),
    "ragged": (bad_csv("a,y\n1\n"), "argument 2 is longer|shorter|longer"),
    "width": (bad_csv("a,y,task\n" + "1,0,t\n2,1,t\n" * 40), "features"),
}


@pytest.mark.parametrize(("make", "match"), ERRORS.values(), ids=ERRORS)
def test_errors_are_one_line_and_exit_code_1(folder, tmp_path, capsys, make, match):
    code, out, err = run(capsys, "evaluate", folder / "learner", make(tmp_path))
    assert (code, out) == (1, "")
    err = "".join(
        line for line in err.splitlines(True) if not line.startswith("warning: ")
    )
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert re.search(match, err)


def test_a_damaged_estimator_is_exit_code_1(tmp_path, capsys):
    (tmp_path / "damaged").write_bytes(b"\0" * 100)
    code, _, err = run(capsys, "info", tmp_path / "damaged")
    assert code == 1
    assert "saved by skcausalmeta" in err


@pytest.mark.parametrize(
    "arguments",
    [[], ["fly"], ["evaluate"], ["demo", "--data", "x"], ["info", "a", "b"]],
)
def test_wrong_usage_is_exit_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: python -m skcausalmeta" in capsys.readouterr().err


@pytest.mark.parametrize("command", [[], ["demo"], ["evaluate"], ["info"]])
def test_help_explains(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    assert "Exit codes: 0 done, 1 an error" in capsys.readouterr().out


def test_the_module_runs_as_a_process(folder):
    command = [sys.executable, "-m", "skcausalmeta", "info", str(folder / "nowhere")]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("picture", [False, True])
def test_demo_prints_a_table_and_draws(tmp_path, capsys, picture):
    output = ["--output", tmp_path / "demo.png"] if picture else []
    code, out, _ = run(capsys, "demo", "--smoke", *output)
    assert code == 0
    assert "4-way accuracy, %" in out
    assert "SparseMetaClassifier" in out
    assert "+-" in out
    if picture:
        assert (tmp_path / "demo.png").read_bytes().startswith(b"\x89PNG")


def test_demo_takes_omniglot(tmp_path, capsys):
    character = np.repeat(np.arange(18), 20)
    np.savez(
        tmp_path / "omniglot.npz",
        images=RNG.randint(0, 256, (360, 28, 28)).astype(np.uint8),
        character=character,
        alphabet=character // 6,
        alphabet_names=np.array(["one", "two", "three"]),
        split=np.array(["train", "val", "test"])[character // 6],
    )
    command = ("demo", "--smoke", "--data", "omniglot", "--data-dir")
    code, out, _ = run(capsys, *command, tmp_path)
    assert code == 0
    assert "5-way accuracy" in out
    code, _, err = run(capsys, *command, tmp_path / "nowhere")
    assert code == 1
    assert "Cannot find omniglot.npz" in err
    assert not (tmp_path / "nowhere").exists()


@pytest.fixture
def pooled(tmp_path):
    """A saved learner around a common predictor, and a CSV file of its tasks."""
    learner = SparseMetaClassifier(
        backbone="identity", common="linear", **{**SMALL, "random_state": 0}
    )
    frame = pandas.DataFrame(X, columns=list("abcd"))
    save(learner.fit(frame, Y, tasks=TASKS), tmp_path / "learner")
    frame.assign(task=TASKS, label=Y).to_csv(tmp_path / "table.csv", index=False)
    return tmp_path


def adapt(capsys, pooled, table="table.csv"):
    return run(
        capsys,
        *("adapt", pooled / "learner", pooled / table, "--target", "label"),
        *("--store", pooled / "store", "--tasks-per-part", 2),
    )


def test_adapt_predict_and_update_a_table(pooled, capsys):
    code, out, err = adapt(capsys, pooled)
    assert (code, err) == (0, "")
    assert out.startswith("3 tasks in ")
    arguments = ("predict", pooled / "store", pooled / "table.csv", "--output")
    code, out, err = run(
        capsys, *arguments, pooled / "found.parquet", "--target", "label"
    )
    assert (code, err) == (0, "")
    assert out.startswith("120 rows in ")
    found = pandas.read_parquet(pooled / "found.parquet")
    assert (found["task"] == TASKS).all()
    assert (found["prediction"] == Y).mean() > 0.9
    frame = pandas.read_csv(pooled / "table.csv")
    flipped = frame[frame["task"] == "bob"].replace({"no": "yes", "yes": "no"})
    new = frame[frame["task"] == "ann"].replace({"ann": "dee"})
    pandas.concat([flipped, new]).to_csv(pooled / "new.csv", index=False)
    code, out, err = run(
        capsys,
        *("update", pooled / "store", pooled / "new.csv", "--target", "label"),
    )
    assert (code, err) == (0, "")
    assert out.startswith("4 tasks in ")
    run(capsys, *arguments, pooled / "found.parquet", "--target", "label")
    again = pandas.read_parquet(pooled / "found.parquet")["prediction"]
    changed = again != found["prediction"]
    assert changed[TASKS == "bob"].mean() > 0.5
    assert not changed[TASKS != "bob"].any()
    page = pooled / "tasks.md"
    code, out, err = run(capsys, "report", pooled / "store", "--output", page)
    assert (code, err) == (0, "")
    assert out.startswith("4 tasks in ")
    assert "4 tasks of SparseMetaClassifier are solved" in page.read_text()
    code, _, err = run(capsys, "report", pooled / "store", "--output", pooled / "t.pdf")
    assert code != 0
    assert ".html or .md" in err


def test_unknown_tasks_of_a_table_are_counted(pooled, capsys):
    adapt(capsys, pooled)
    frame = pandas.read_csv(pooled / "table.csv").replace({"cid": "dee"})
    frame.drop(columns="label").to_csv(pooled / "rows.csv", index=False)
    code, out, _ = run(
        capsys,
        *("predict", pooled / "store", pooled / "rows.csv"),
        *("--output", pooled / "found.parquet"),
    )
    assert code == 0
    assert out.endswith("40 of unknown tasks\n")


def test_tables_that_do_not_fit_end_in_a_line(pooled, folder, capsys):
    code, _, err = adapt(capsys, pooled, "missing.csv")
    assert (code, err.count("\n")) == (1, 1)
    code, _, err = adapt(capsys, pooled, "missing")
    assert (code, err.count("\n")) == (1, 1)
    assert "no table" in err
    code, _, err = run(
        capsys,
        *("adapt", folder / "learner", folder / "classes.npz"),
        *("--store", pooled / "store"),
    )
    assert code == 1
    assert "--task-column" in err
    code, _, err = run(capsys, "update", pooled / "store", pooled / "table.csv")
    assert code == 1
    assert "manifest.json" in err
