"""Tables that programs and people write: read as they are meant, or refused."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from skcausalmeta.cli import main
from skcausalmeta.cli._tables import read_table
from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.heads import RidgeHead, RidgeRegressionHead
from skcausalmeta.learners import SparseMetaClassifier
from skcausalmeta.persistence import describe, save

RNG = np.random.RandomState(0)
Y = np.repeat([0, 1], 30)
X = RNG.randn(60, 2) + 3 * Y[:, None]
ODD = "\x1b[2J\x9b31m\x07\u202eend"


def write(path, header, rows, encoding="utf-8"):
    lines = [header, *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join([*lines, ""]), encoding=encoding)
    return path


def table(tmp_path, header, rows, encoding="utf-8", **options):
    path = write(tmp_path / "table.csv", header, rows, encoding)
    return read_table(path, "y", None, **options)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("estimators")
    import pandas

    frame = pandas.DataFrame(X, columns=["a", "b"])
    save(RidgeHead().fit(frame, Y), folder / "head")
    save(RidgeRegressionHead().fit(frame, X[:, 0]), folder / "values")
    return folder


def run(capsys, *arguments):
    code = main([str(part) for part in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def one_line(err):
    return err.startswith("error: ") and err.count("\n") == 1 and err[:-1].isprintable()


# -- headers ---------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["a,b,y", "a , b, y", "\ufeffa,b,y"])
def test_a_mark_of_excel_and_spaces_are_no_part_of_a_name(
    saved, tmp_path, capsys, header
):
    rows = np.c_[X, Y.astype(int)].tolist()
    rows = [(a, b, int(y)) for a, b, y in rows]
    plain = write(tmp_path / "plain.csv", "a,b,y", rows)
    odd = write(tmp_path / "odd.csv", header, rows)
    command = ("evaluate", saved / "head", "--way", 2, "--episodes", 3)
    expected = run(capsys, *command, plain)
    assert expected[0] == 0
    assert run(capsys, *command, odd) == expected


@pytest.mark.parametrize(
    "header", ["a,a,y", "a,b,y,y", "a, a,y", "é,e\u0301,y", "a,a\u200b,y", ",,y"]
)
def test_a_name_twice_is_refused(saved, tmp_path, capsys, header):
    width = header.count(",")
    rows = [[*([k % 7] * width), k % 2] for k in range(60)]
    path = write(tmp_path / "table.csv", header, rows)
    code, out, err = run(capsys, "evaluate", saved / "head", path)
    assert (code, out) == (1, "")
    assert "names of their own" in err
    assert one_line(err)


# -- labels and ids --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["1", "2"], [1, 2]),
        (["-1", "01"], [-1, 1]),
        (["0.5", "1"], [0.5, 1.0]),
        (["a", "2"], ["a", "2"]),
        (["a ", " b"], ["a", "b"]),
        (["123456789012345678901", "7"], ["123456789012345678901", "7"]),
        (["9007199254740993", "9007199254740992"], [2**53 + 1, 2**53]),
        (["123456789012345678901", "123456789012345678902"], None),
        (["1_0", "10"], ["1_0", "10"]),
        (["inf", "1"], ["inf", "1"]),
        (["x" * 1000, "y"], ["x" * 1000, "y"]),
    ],
)
def test_labels_are_what_they_say(tmp_path, labels, expected):
    found = table(tmp_path, "a,y", [(k, label) for k, label in enumerate(labels)]).y
    assert found.tolist() == (labels if expected is None else expected)
    assert len(np.unique(found)) == 2


ALIKE = [
    *(("1", "01"), ("1", "1.0"), ("10", "1e1"), ("0", "-0"), ("+5", "5")),
    *(("é", "e\u0301"), ("a b", "a  b"), ("a", "a\u200b"), ("a\u00a0b", "a b")),
    ("123456789012345678901", "0123456789012345678901"),
]


@pytest.mark.parametrize("pair", ALIKE)
@pytest.mark.parametrize("column", ["y", "task"])
def test_labels_and_ids_that_look_alike_are_refused(tmp_path, pair, column):
    header = "a,y" if column == "y" else "a,y,task"
    rows = [(0, "u", pair[0]), (1, "v", pair[1])]
    rows = [(a, text) if column == "y" else (a, y, text) for a, y, text in rows]
    with pytest.raises(InvalidInputError, match="must be written alike"):
        table(tmp_path, header, rows)


def test_values_may_be_written_in_many_ways(tmp_path):
    rows = [(0, "1"), (1, "1.0"), (2, "1e0"), (3, "-0")]
    found = table(tmp_path, "a,y", rows, values=True).y
    assert found.tolist() == [1.0, 1.0, 1.0, 0.0]
    for text in ("inf", "a", "1_0", "٣"):
        with pytest.raises(InvalidInputError, match="must be finite numbers"):
            table(tmp_path, "a,y", [*rows, (4, text)], values=True)


@pytest.mark.parametrize("text", ["", "  ", '""', "nan", "NaN"])
@pytest.mark.parametrize("column", ["y", "task"])
def test_empty_targets_and_ids_are_refused(tmp_path, text, column):
    rows = [(1, "u", "v"), (2, text, "v") if column == "y" else (2, "u", text)]
    match = rf"must have a value in '{column}'. Got none in line 3"
    with pytest.raises(InvalidInputError, match=match):
        table(tmp_path, "a,y,task", rows)


@pytest.mark.parametrize("ids", [["a", ""], ["a", " "], [1.0, np.nan], ["1", "01"]])
def test_ids_of_arrays_are_looked_at_too(tmp_path, ids):
    np.savez(tmp_path / "t.npz", X=np.eye(2), y=[0, 1], tasks=np.array(ids))
    with pytest.raises(InvalidInputError, match=r"a value in 'tasks'|written alike"):
        read_table(tmp_path / "t.npz", "y", None)


@pytest.mark.parametrize("text", ["", "a", "1_0", "٣", "0x10", "1;2", "1 2"])
def test_features_that_are_no_numbers_are_refused(tmp_path, text):
    with pytest.raises(InvalidInputError, match=r"Features must be numbers.*line 2"):
        table(tmp_path, "a,y", [(f'"{text}"', 1)])


# -- files -----------------------------------------------------------------------------

BAD = {
    "utf-16": ("a,b,y\n1,2,0\n".encode("utf-16"), "must be in UTF-8"),
    "latin": ("a,b,é\n1,2,0\n".encode("latin-1"), "must be in UTF-8"),
    "binary": (bytes(range(256)) * 9, "UTF-8|CSV file"),
    "a quote": (b'a,b,y\n1,"2,0\n', "must be a CSV file"),
    "a quote within": (b'a,b,y\n1,"2"3,0\n', "must be a CSV file"),
    "a long field": (b"a,b,y\n1,2," + b"x" * 200_000, "must be a CSV file"),
    "nulls": (b"a,b,y\n1,\x00,0\n", "must be numbers|CSV file"),
    "short": (b"a,b,y\n1,2,0\n1,2\n", "line 3 .* shorter"),
    "long": (b"a,b,y\n1,2,0\n1,2,0,0\n", "line 3 .* longer"),
    "only a header": (b"a,b,y\n", "needs rows"),
    "blank lines": (b"a,b,y\n\n\n", "needs rows"),
    "semicolons": (b"a;b;y\n1;2;0\n", "must have a column 'y'"),
    "codes": (f"a,b,y\n1,{ODD},0\n".encode(), "must be numbers"),
    "codes of a name": (f"a,{ODD},z\n".encode(), "must have a column 'y'"),
    "many columns": (b",".join(b"c%d" % k for k in range(50_000)), "column 'y'"),
    "a label of digits": (b"a,b,y\n" + b"1,2," + b"9" * 21 + b"\n", "."),
}


@pytest.mark.parametrize(("content", "match"), BAD.values(), ids=BAD)
def test_bad_files_end_in_one_line(saved, tmp_path, capsys, content, match):
    (tmp_path / "bad.csv").write_bytes(content)
    code, out, err = run(capsys, "evaluate", saved / "head", tmp_path / "bad.csv")
    assert (code, out) == (1, "")
    assert one_line(err)
    assert __import__("re").search(match, err)


ARRAYS = {
    "no archive": b"hello",
    "a pickle": b"\x80\x04N.",
    "cut short": b"PK\3\4",
}


@pytest.mark.parametrize("content", ARRAYS.values(), ids=ARRAYS)
def test_bad_archives_end_in_one_line(saved, tmp_path, capsys, content):
    (tmp_path / "bad.npz").write_bytes(content)
    code, out, err = run(capsys, "evaluate", saved / "head", tmp_path / "bad.npz")
    assert (code, out) == (1, "")
    assert "must be an npz file" in err
    assert one_line(err)


SHAPES = {
    "lengths": {"X": np.eye(3), "y": np.arange(2)},
    "no rows": {"X": np.array(3.0), "y": np.arange(2)},
    "one value": {"X": np.eye(3), "y": np.array(3)},
    "empty": {"X": np.zeros((0, 2)), "y": np.zeros(0)},
    "times": {"X": np.zeros((9, 2), dtype="M8[D]"), "y": np.arange(9) % 2},
    "text": {"X": np.full((9, 2), ODD), "y": np.arange(9) % 2},
    "labels of two columns": {"X": np.eye(4), "y": np.eye(4)},
    "complex": {"X": np.eye(4) * 1j, "y": np.arange(4) % 2},
}


@pytest.mark.parametrize("arrays", SHAPES.values(), ids=SHAPES)
def test_odd_arrays_end_in_one_line(saved, tmp_path, capsys, arrays):
    np.savez(tmp_path / "odd.npz", **arrays)
    code, out, err = run(capsys, "evaluate", saved / "head", tmp_path / "odd.npz")
    assert (code, out) == (1, "")
    assert one_line(err)


@pytest.mark.parametrize(
    "options",
    [
        ("--shots", "0"),
        ("--shots", "9" * 25),
        ("--queries", "-1"),
        ("--episodes", "0"),
        ("--way", "1"),
        ("--seed", "-1"),
        ("--seed", "9" * 25),
        ("--max-rows", "3"),
        ("--max-bytes", "3"),
    ],
)
def test_odd_numbers_end_in_one_line(saved, tmp_path, capsys, options):
    np.savez(tmp_path / "t.npz", X=X, y=Y)
    code, out, err = run(
        capsys, "evaluate", saved / "head", tmp_path / "t.npz", *options
    )
    assert (code, out) == (1, "")
    assert one_line(err)


def test_rows_are_limited(tmp_path):
    rows = [(k, k % 2) for k in range(10)]
    assert len(table(tmp_path, "a,y", rows, max_rows=10).X) == 10
    with pytest.raises(InvalidInputError, match="at most 9 rows"):
        table(tmp_path, "a,y", rows, max_rows=9)
    np.savez(tmp_path / "t.npz", X=X, y=Y)
    with pytest.raises(InvalidInputError, match="at most 9 rows"):
        read_table(tmp_path / "t.npz", "y", None, max_rows=9)


# -- modules and terminals -------------------------------------------------------------

MODULES = {
    "syntax": "def (",
    "fails": "raise RuntimeError('no')",
    "ends": "import sys; sys.exit(3)",
    "recursion": "def f(): f()\nf()",
    "no name": "",
}


@pytest.mark.parametrize("name", MODULES)
def test_modules_that_fail_end_in_one_line(saved, tmp_path, capsys, monkeypatch, name):
    module = f"odd_{name.replace(' ', '_')}"
    (tmp_path / f"{module}.py").write_text(MODULES[name])
    monkeypatch.syspath_prepend(str(tmp_path))
    np.savez(tmp_path / "t.npz", X=X, y=Y)
    command = ("evaluate", saved / "head", tmp_path / "t.npz", "--trust")
    code, out, err = run(capsys, *command, f"{module}:Net")
    assert (code, out) == (1, "")
    assert one_line(err)


@pytest.mark.parametrize("trust", ["", ":", "a:", ":a", "..:a", "a b:c", "\0:a"])
def test_odd_names_of_modules_end_in_one_line(saved, tmp_path, capsys, trust):
    np.savez(tmp_path / "t.npz", X=X, y=Y)
    command = ("evaluate", saved / "head", tmp_path / "t.npz", "--trust", trust)
    code, _, err = run(capsys, *command)
    assert code == 1
    assert one_line(err)


def test_info_prints_nothing_that_a_terminal_obeys(tmp_path, capsys, monkeypatch):
    save(RidgeHead(), tmp_path / "head")
    odd = {**describe(tmp_path / "head"), "class": ODD, "modules": [ODD]}
    odd |= {"parameters": {ODD: ODD}, "versions": {ODD: ODD}}
    monkeypatch.setattr("skcausalmeta.cli._info.describe", lambda path: odd)
    code, out, _ = run(capsys, "info", tmp_path / "head")
    assert code == 0
    assert all(line.isprintable() for line in out.split("\n"))
    monkeypatch.undo()
    code, _, err = run(capsys, "info", tmp_path / ODD.replace("/", ""))
    assert code == 1
    assert one_line(err)


def test_warnings_are_one_line(saved, tmp_path, capsys):
    head = RidgeHead().fit(X, Y)
    head.note = "mine"
    with pytest.warns(UserWarning, match="was saved without"):
        save(head, tmp_path / "noted")
    np.savez(tmp_path / "t.npz", X=X, y=Y)
    command = ("evaluate", tmp_path / "noted", tmp_path / "t.npz", "--way", 2)
    code, out, err = run(capsys, *command, "--episodes", 2)
    assert (code, out.count("\n")) == (0, 1)
    assert err.startswith("warning: ")
    assert "RidgeHead.note" in err
    assert err.count("\n") == 1


def test_an_interruption_is_one_line(saved, capsys, monkeypatch):
    def interrupt(path):
        raise KeyboardInterrupt

    monkeypatch.setattr("skcausalmeta.cli._main.info_text", interrupt)
    assert run(capsys, "info") == (1, "", "error: interrupted\n")


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
def test_a_reader_that_leaves_and_a_terminal_of_few_letters(tmp_path):
    root = str(Path(__file__).parents[2])
    env = os.environ | {"PYTHONPATH": root, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "skcausalmeta", "info"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() in (0, 1)
    save(RidgeHead(), tmp_path / "née")
    (tmp_path / "née").write_bytes(b"")
    done = subprocess.run(
        [*command, str(tmp_path / "née")], capture_output=True, env=env
    )
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: ")
    assert b"Traceback" not in done.stderr


def test_regressors_take_numbers_only(saved, tmp_path, capsys):
    rows = [(a, b, "x") for a, b in X.tolist()]
    path = write(tmp_path / "t.csv", "a,b,y", rows)
    code, _, err = run(capsys, "evaluate", saved / "values", path)
    assert code == 1
    assert "targets of a regressor must be finite numbers" in err


# -- tables of many tasks --------------------------------------------------------------


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A saved learner, and a store of the tasks of a table."""
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    folder = tmp_path_factory.mktemp("many")
    learner = SparseMetaClassifier(
        backbone="identity",
        common="linear",
        shared_labels=True,
        max_epochs=1,
        batches_per_epoch=1,
        verbose=0,
        random_state=0,
    )
    frame = pandas.DataFrame(X, columns=["a", "b"])
    save(learner.fit(frame, Y, tasks=np.arange(60) % 3), folder / "learner")
    ids = np.array(["NA", "01", "c"])[np.arange(60) % 3]
    rows = [[*row, y, t] for row, y, t in zip(X, Y, ids, strict=True)]
    write(folder / "table.csv", "a,b,y,task", rows)
    given = [folder / "learner", folder / "table.csv", "--store", folder / "store"]
    assert main(["adapt", *map(str, given)]) == 0
    return folder


def test_rows_are_predicted_by_the_ids_as_written(many, tmp_path, capsys):
    import pyarrow.parquet

    rows = [["NA", 1, 2], ["01", 3, 4], ["c", 5, 6], ["new", 7, 8]]
    for header in ("task,a,b", "\ufefftask , a,b"):
        path = write(tmp_path / "rows.csv", header, rows)
        found = tmp_path / "found.parquet"
        code, out, _ = run(capsys, "predict", many / "store", path, "--output", found)
        assert (code, "1 of unknown tasks" in out) == (0, True)
        table = pyarrow.parquet.read_table(found)
        assert table.column("task").to_pylist() == ["NA", "01", "c", "new"]


ROWS_OF_TASKS = {
    "a name twice": "a,b,a,task\n1,2,3,c\n",
    "a name alike": "a,b,a ,task\n1,2,3,c\n",
    "no ids": "a,b,y\n1,2,0\n",
    "no feature": "a,task\n1,c\n",
    "an id of none": "a,b,task\n1,2,\n",
    "ids alike": "a,b,task\n1,2,1\n1,2,01\n",
    "a short row": "a,b,task\n1,2\n",
    "a long row": "a,b,task\n1,2,c,4,5\n",
    "text": "a,b,task\nred,2,c\n",
    "digits of others": "a,b,task\n\u0663,2,c\n",
    "no rows": "a,b,task\n",
    "nothing": "",
    "zeros": "a,b,task\n1,2,c\0\n\0\0\n",
    "an open quote": 'a,b,task\n1,2,"c\n',
    "codes": "a,b,task,\x1b[2J\n\x1b[2J,2,c,1\n",
    "more rows": "a,b,task\n" + "1,2,c\n" * 9,
    "too large": "a,b,task\n1e999,2,c\n",
}


@pytest.mark.parametrize("text", ROWS_OF_TASKS.values(), ids=ROWS_OF_TASKS)
@pytest.mark.parametrize("command", ["adapt", "predict", "update"])
def test_odd_tables_of_many_tasks_are_refused(many, tmp_path, capsys, command, text):
    path = tmp_path / "odd.csv"
    text = text if command == "predict" else text.replace("task", "y,task")
    path.write_bytes(text.encode())
    given = {
        "adapt": [many / "learner", path, "--store", tmp_path / "new"],
        "predict": [many / "store", path, "--output", tmp_path / "found"],
        "update": [many / "store", path],
    }
    before = sorted(os.listdir(many / "store"))
    code, _, err = run(capsys, command, *given[command], "--max-rows", "5")
    assert code == 1
    assert one_line(err)
    assert sorted(os.listdir(many / "store")) == before
    assert not (tmp_path / "found").exists()


@pytest.mark.parametrize("raw", [b"\xff\xfea\0,\0", b"a,b,task\n\xe9,2,c\n", b"PK\3\4"])
@pytest.mark.parametrize("name", ["odd.csv", "odd.npz", "odd.parquet", "odd"])
def test_files_that_are_no_tables_of_tasks_are_refused(
    many, tmp_path, capsys, name, raw
):
    path = tmp_path / name
    path.write_bytes(raw)
    for command in (
        ["predict", many / "store", path, "--output", tmp_path / "found"],
        ["update", many / "store", path],
    ):
        code, _, err = run(capsys, *command)
        assert code == 1
        assert one_line(err)


def test_reasons_of_a_table_obey_no_terminal(many, tmp_path, capsys):
    rows = [[1, 2, 0, ODD], ["nan", 2, 1, ODD], [3, 4, 1, "c"], [5, 6, 0, "c"]]
    path = write(tmp_path / "table.csv", "a,b,y,task", rows)
    given = [many / "learner", path, "--store", tmp_path / "store"]
    code, out, _ = run(capsys, "adapt", *given)
    assert code == 0
    assert "1 tasks left out" in out
    assert all(map(str.isprintable, out.splitlines()))
