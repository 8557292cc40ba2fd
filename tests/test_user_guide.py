"""The code of the user guide runs and prints what it says."""

import doctest
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted([*DOCS.glob("*.rst"), *DOCS.glob("user_guide/*.rst")])
PAGES = [path for path in PAGES if ">>> " in path.read_text(encoding="utf-8")]
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def test_every_kind_of_page_has_code():
    names = {path.stem for path in PAGES}
    assert names >= {
        "choose",
        "extend",
        "traps",
        "synergies",
        "kfo",
        "mtcrl",
        "metacrl",
    }


@pytest.mark.slow
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_code_of_the_page_runs(path):
    failed, tried = doctest.testfile(
        str(path), module_relative=False, optionflags=FLAGS, encoding="utf-8"
    )
    assert tried > 0
    assert failed == 0
