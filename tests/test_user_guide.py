"""The code of the documentation runs and prints what it says."""

import doctest
import sys
import types
from pathlib import Path

import pytest

pytestmark = pytest.mark.whole_common

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted([*DOCS.glob("*.rst"), *DOCS.glob("user_guide/*.rst")])
# The recipes beside other packages are run section by section, in a file of their own.
PAGES = [
    path
    for path in PAGES
    if path.stem != "neighbours" and ">>> " in path.read_text(encoding="utf-8")
]
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def run(path, monkeypatch):
    """Run a page as a module of its own, so that its classes can be pickled."""
    page = types.ModuleType(f"page_{path.stem}")
    monkeypatch.setitem(sys.modules, page.__name__, page)
    text = path.read_text(encoding="utf-8")
    test = doctest.DocTestParser().get_doctest(text, {}, path.name, str(path), 0)
    test.globs = vars(page)
    return doctest.DocTestRunner(optionflags=FLAGS).run(test, clear_globs=False)


def test_every_kind_of_page_has_code():
    names = {path.stem for path in PAGES}
    guide = {path.stem for path in DOCS.glob("user_guide/*.rst")} - {"index"}
    assert names >= guide | {
        "choose",
        "extend",
        "getting_started",
        "rows",
        "service",
        "traps",
    }


@pytest.mark.slow
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_code_of_the_page_runs(path, monkeypatch):
    failed, tried = run(path, monkeypatch)
    assert tried > 0
    assert failed == 0


@pytest.mark.parametrize("check", ["head", "update_rule", "backbone"])
def test_parts_of_your_own_are_checked(check):
    text = (DOCS / "extend.rst").read_text(encoding="utf-8")
    assert f"\n>>> check_{check}(" in text


def test_every_page_is_in_the_table_of_contents():
    index = (DOCS / "index.rst").read_text(encoding="utf-8")
    made = {"sg_execution_times"}  # by a build
    names = {path.stem for path in DOCS.glob("*.rst")} - {"index"} - made
    assert [name for name in names if f"   {name}\n" not in index] == []
