"""The metadata, the pins and the files that a release is made of."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import setuptools
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import skcausalmeta
from skcausalmeta.utils import all_estimators

ROOT = Path(__file__).resolve().parents[1]


def read_metadata(root):
    """Return the keywords that the setup.py of `root` gives to setuptools."""
    captured = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setuptools, "setup", lambda **keywords: captured.update(keywords))
        patch.chdir(root)
        runpy.run_path(str(root / "setup.py"))
    return captured


@pytest.fixture(scope="module")
def metadata():
    return read_metadata(ROOT)


@pytest.fixture(scope="module")
def pins():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    parsed = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(item.name): item.specifier for item in parsed}


def test_the_metadata_says_what_the_package_is(metadata):
    assert metadata["name"] == "skcausalmeta"
    assert metadata["version"] == skcausalmeta.__version__
    assert metadata["license"] == "BSD-3-Clause"
    assert "3.11" in SpecifierSet(metadata["python_requires"])
    assert "3.10" not in SpecifierSet(metadata["python_requires"])


def test_every_package_with_code_is_shipped(metadata):
    folders = {path.parent for path in (ROOT / "skcausalmeta").rglob("*.py")}
    names = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    assert set(metadata["packages"]) == names
    assert metadata["package_data"] == {"skcausalmeta": ["py.typed"]}
    assert (ROOT / "skcausalmeta" / "py.typed").read_text() == ""


def test_every_requirement_states_a_lower_bound(metadata):
    lists = [metadata["install_requires"], *metadata["extras_require"].values()]
    for requirement in (Requirement(line) for lines in lists for line in lines):
        operators = {specifier.operator for specifier in requirement.specifier}
        assert operators == {">="}, requirement.name


def test_the_extras_are_the_documented_ones(metadata):
    extras = "plot data io export tasks dist neighbours docs bench test"
    assert set(metadata["extras_require"]) == set(extras.split())


@pytest.mark.parametrize("extra", [None, "plot", "docs", "neighbours", "test"])
def test_what_the_make_targets_install_is_pinned_within_range(metadata, pins, extra):
    lines = (
        metadata["install_requires"]
        if extra is None
        else metadata["extras_require"][extra]
    )
    for requirement in map(Requirement, lines):
        pin = pins[canonicalize_name(requirement.name)]
        (version,) = [item.version for item in pin]
        assert version in requirement.specifier, requirement.name


def test_the_oldest_environment_is_at_the_lower_bounds(metadata, pins):
    lowest = runpy.run_path(str(ROOT / ".ci" / "lowest.py"))["lowest"]()
    found = {item.name: str(item.specifier) for item in map(Requirement, lowest)}
    for requirement in map(Requirement, metadata["install_requires"]):
        (bound,) = [item.version for item in requirement.specifier]
        wanted = pins["torch"] if requirement.name == "torch" else f"=={bound}"
        assert found[requirement.name] == str(wanted)
    assert found.keys() >= {"pytest", "hypothesis"}


def test_pins_are_exact_and_without_a_local_suffix(pins):
    for name, specifier in pins.items():
        assert re.fullmatch(r"==[0-9][0-9a-z.]*", str(specifier)), name


def test_the_long_description_is_the_readme_or_empty(tmp_path):
    (tmp_path / "setup.py").write_text((ROOT / "setup.py").read_text())
    (tmp_path / "skcausalmeta").mkdir()
    (tmp_path / "skcausalmeta" / "_version.py").write_text('__version__ = "9.8.7"\n')
    bare = read_metadata(tmp_path)
    assert (bare["version"], bare["long_description"]) == ("9.8.7", "")
    (tmp_path / "README.rst").write_text("Read this\n")
    assert read_metadata(tmp_path)["long_description"] == "Read this\n"


def test_a_version_file_without_a_version_is_an_error(tmp_path):
    (tmp_path / "setup.py").write_text((ROOT / "setup.py").read_text())
    (tmp_path / "skcausalmeta").mkdir()
    (tmp_path / "skcausalmeta" / "_version.py").write_text("version = 1\n")
    with pytest.raises(RuntimeError, match=r"must hold a line.*Got no such line"):
        read_metadata(tmp_path)


def test_the_licence_and_the_changes_are_there():
    assert "BSD 3-Clause" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    changes = (ROOT / "CHANGES.rst").read_text(encoding="utf-8")
    assert re.search(
        rf"^{re.escape(skcausalmeta.__version__)} \(", changes, flags=re.MULTILINE
    )


def test_the_compiled_solver_is_optional_and_its_sources_are_shipped(metadata):
    (extension,) = metadata["ext_modules"]
    assert extension.optional
    assert extension.name == "skcausalmeta.solvers._compiled._kernel"
    folder = ROOT / "skcausalmeta" / "solvers" / "_compiled"
    named = {*extension.sources, *extension.depends}
    written = [path for path in folder.iterdir() if path.suffix in (".c", ".h", ".pyx")]
    paths = {str(path.relative_to(ROOT)) for path in written}
    assert named == paths - {str(folder.relative_to(ROOT) / "_kernel.c")}
    assert all(path.stat().st_size <= 24 * 1024 for path in map(ROOT.joinpath, named))


def test_without_a_compiler_the_build_goes_on(tmp_path):
    folders = ["--build-lib", str(tmp_path / "lib"), "--build-temp", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "setup.py", "build_ext", *folders],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "CC": str(tmp_path / "no-compiler")},
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.rglob("*.so")) == []


def test_importing_the_package_imports_no_heavy_dependency():
    program = """if True:
        import sys
        import sklearn, torch
        before = set(sys.modules)
        import skcausalmeta
        print(*{name.split(".")[0] for name in set(sys.modules) - before})
        skcausalmeta.GroupLassoSVC, skcausalmeta.learners.MAMLClassifier
        print(*{name.split(".")[0] for name in set(sys.modules) - before})
    """
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    package, learners = (set(line.split()) for line in done.stdout.splitlines())
    assert "skcausalmeta" in package
    assert package.isdisjoint({"cvxpy", "matplotlib", "pandas", "skorch"})
    # Learners train by skorch; the rest waits for its first use.
    assert "skorch" in learners
    assert learners.isdisjoint({"cvxpy", "matplotlib", "pandas"})


def test_the_root_offers_every_estimator_and_no_other_name():
    found = dict(all_estimators())
    assert skcausalmeta.__all__ == sorted([*found, "__version__"])
    assert set(skcausalmeta.__all__) <= set(dir(skcausalmeta))
    for name, estimator in found.items():
        assert getattr(skcausalmeta, name) is estimator
    imported = {}
    exec("from skcausalmeta import *", imported)
    assert imported.keys() - {"__builtins__"} == set(skcausalmeta.__all__)
    for name in ("SparseMeta", "Head", "check_head", "BaseMetaClassifier"):
        with pytest.raises(AttributeError, match=f"no attribute '{name}'"):
            getattr(skcausalmeta, name)


def test_ci_runs_exactly_both_tiers_from_the_root(tmp_path):
    record = tmp_path / "record"
    fake_make = tmp_path / "make"
    fake_make.write_text(f'#!/bin/sh\npwd -P >> "{record}"\necho "$@" >> "{record}"\n')
    fake_make.chmod(0o755)
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    subprocess.run(
        [ROOT / ".ci" / "run"],
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
    )
    assert record.read_text().splitlines() == [
        str(ROOT),
        "test",
        str(ROOT),
        "test-slow",
    ]
