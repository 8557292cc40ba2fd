"""The two processes of the page "From notebook to service"."""

import io
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from skcausalmeta.backbones import MLP
from skcausalmeta.export import to_onnx
from skcausalmeta.heads import RidgeHead
from skcausalmeta.learners import SparseMetaClassifier, SparseMetaRegressor
from skcausalmeta.persistence import save

ROOT = Path(__file__).parents[2]
SERVICE = ROOT / "examples" / "service"
Y = np.repeat(np.arange(5), 12)
X = np.random.default_rng(0).normal(size=(60, 6)) + Y[:, None]
NAMES = np.array(["ash", "birch", "cedar", "elm", "fir"])
SHORT = {"max_epochs": 1, "batches_per_epoch": 2, "verbose": 0, "random_state": 0}
# Runs a script where nothing but onnxruntime and numpy can be imported.
ALONE = """
import runpy, sys
for name in ("skcausalmeta", "torch", "sklearn", "skorch", "scipy", "onnx"):
    sys.modules[name] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def ask(command, lines):
    """Send lines to a process; return those that it answers."""
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        input="".join(json.dumps(line) + "\n" for line in lines),
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_process_without_the_package_answers_and_refuses_other_rows(tmp_path):
    learner = SparseMetaClassifier(RidgeHead(), backbone=MLP((8,)), **SHORT)
    learner.fit(X, NAMES[Y]).adapt(X[:36], NAMES[Y[:36]])
    to_onnx(learner, tmp_path / "task.onnx")
    rows = X[:7].astype(np.float32)
    command = ["-c", ALONE, SERVICE / "answer.py", tmp_path / "task.onnx"]
    one, all_rows = ask(command, [rows[:1].tolist(), rows.tolist()])
    assert all_rows["labels"] == learner.predict(rows).tolist()
    np.testing.assert_allclose(
        all_rows["probabilities"], learner.predict_proba(rows), atol=1e-6
    )
    assert one["labels"] == all_rows["labels"][:1]
    with pytest.raises(AssertionError, match=r"Rows must have shape \(6,\)"):
        ask(command, [rows[:, :5].tolist()])


@pytest.mark.slow
def test_it_answers_for_a_regressor(tmp_path):
    learner = SparseMetaRegressor(backbone=MLP((8,)), **SHORT).fit(X, X[:, 0])
    to_onnx(learner, tmp_path / "task.onnx")
    rows = X[:7].astype(np.float32)
    command = ["-c", ALONE, SERVICE / "answer.py", tmp_path / "task.onnx"]
    (found,) = ask(command, [rows.tolist()])
    np.testing.assert_allclose(found["predictions"], learner.predict(rows), rtol=1e-5)


def test_a_process_with_the_package_adapts(tmp_path, monkeypatch, capsys):
    learner = SparseMetaClassifier(RidgeHead(), backbone=MLP((8,)), **SHORT)
    save(learner.fit(X, NAMES[Y]), tmp_path / "learner.skcm")
    first, second = Y < 2, Y == 2
    requests = [
        {
            "task": "a",
            "support": X[first].tolist(),
            "labels": NAMES[Y[first]].tolist(),
            "rows": X[:4].tolist(),
        },
        {"task": "a", "support": X[second].tolist(), "labels": ["cedar"] * 12},
        {"task": "a", "rows": X[:30].tolist()},
        {"task": "b", "rows": X[:4].tolist()},
        {"task": "a", "support": X[:2, :3].tolist(), "labels": ["ash", "elm"]},
        {"task": "a", "rows": X[:30].tolist()},
    ]
    # Here, as another process would import the package for seconds.
    path = str(SERVICE / "adapt.py")
    monkeypatch.setattr(sys, "argv", [path, str(tmp_path / "learner.skcm")])
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(map(json.dumps, requests))))
    runpy.run_path(path, run_name="__main__")
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    learner.adapt(X[first], NAMES[Y[first]])
    assert found[0]["labels"] == learner.predict(X[:4]).tolist()
    assert found[1] == {"task": "a"}
    learner.adapt(X[:36], NAMES[Y[:36]])
    assert found[2]["labels"] == learner.predict(X[:30]).tolist()
    np.testing.assert_allclose(
        found[2]["probabilities"], learner.predict_proba(X[:30]), rtol=1e-6
    )
    assert found[3]["error"].startswith("KeyError")
    assert "error" in found[4]
    assert found[5] == found[2]  # a failure leaves the task as it was
