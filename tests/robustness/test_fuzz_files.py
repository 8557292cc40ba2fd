"""The fuzz test in its smallest size, and that it can fail."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_damaged_and_forged_files_do_no_harm(tmp_path):
    script = Path(__file__).with_name("fuzz_files.py")
    command = [sys.executable, script, "--smoke", "--threads", "1"]
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = done.stdout.splitlines()[-1].split()
    files, _sealed, refused, identical, loaded, faults = map(int, figures[:6])
    assert files == refused + identical + loaded == 120
    assert refused > 60
    assert faults == 0


@pytest.fixture(scope="module")
def fuzz():
    path = Path(__file__).with_name("fuzz_files.py")
    spec = importlib.util.spec_from_file_location("fuzz_persistence", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def watch(fuzz):
    return fuzz.Watch()


def fail(path):
    raise KeyError("not the package's own")


HARM = {
    "code": (lambda path: compile("1", "file", "eval"), "FAULT event compile"),
    "write": (lambda path: path.with_name("new").open("w").close(), "FAULT event open"),
    "error": (fail, "FAULT KeyError"),
}


@pytest.mark.parametrize(("harm", "verdict"), HARM.values(), ids=HARM)
def test_harm_is_noticed(fuzz, watch, tmp_path, monkeypatch, harm, verdict):
    monkeypatch.setattr(fuzz, "read", harm)
    found, _ = fuzz.judge(tmp_path / "file", b"", False, watch)
    assert found.startswith(verdict)


def test_another_estimator_and_a_slow_load_are_noticed(
    fuzz, watch, tmp_path, monkeypatch
):
    monkeypatch.setattr(fuzz, "read", lambda path: fuzz.RidgeHead())
    found, _ = fuzz.judge(tmp_path / "file", b"", False, watch)
    assert found == "FAULT loaded to something else"
    monkeypatch.setattr(fuzz, "MOST_SECONDS", -1.0)
    assert fuzz.judge(tmp_path / "file", b"", True, watch)[0].startswith("FAULT 0.0 s")
