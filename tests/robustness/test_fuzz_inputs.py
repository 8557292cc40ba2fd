"""The fuzzing of tables, arrays and archives in its smallest size, and its watch."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(script, tmp_path):
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return subprocess.run(
        [sys.executable, Path(__file__).with_name(script), "--smoke", "--threads", "1"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
    )


@pytest.mark.slow
def test_odd_inputs_do_no_harm(tmp_path):
    done = run("fuzz_inputs.py", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    files, refused, read, faults = map(int, done.stdout.splitlines()[-1].split()[:4])
    assert (files, refused + read, faults) == (150, 150, 0)
    assert refused > 60
    assert read > 5


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes of POSIX")
def test_writers_and_readers_share_a_file(tmp_path):
    done = run("shared_file.py", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    writes, reads, faults, left = map(int, done.stdout.splitlines()[-1].split())
    assert writes > 2
    assert reads > 4
    assert (faults, left) == (0, 0)


@pytest.fixture(scope="module")
def fuzz():
    path = Path(__file__).with_name("fuzz_inputs.py")
    spec = importlib.util.spec_from_file_location("fuzz_inputs", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fail(path):
    raise KeyError("not the package's own")


HARM = {
    "code": (lambda path: exec("1"), "FAULT event exec"),
    "deletion": (lambda path: path.unlink(), "FAULT event os.remove"),
    "error": (fail, "FAULT KeyError"),
}


def test_harm_is_noticed(fuzz, tmp_path):
    watch = fuzz.Watch(allowed=["compile"])
    for harm, verdict in HARM.values():
        (tmp_path / "file").write_text("")
        assert fuzz.judge(harm, tmp_path / "file", watch)[0].startswith(verdict)
    assert fuzz.judge(lambda path: None, tmp_path / "file", watch)[0] == "read"
