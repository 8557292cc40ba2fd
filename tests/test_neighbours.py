"""The recipes beside other packages run, where these are installed."""

import doctest
import sys
import types
from pathlib import Path

import pytest

pytestmark = pytest.mark.whole_common

PAGE = Path(__file__).parents[1] / "docs" / "neighbours.rst"
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
PACKAGES = {
    "MLflow": ["mlflow"],
    "Optuna": ["optuna"],
    "imbalanced-learn": ["imblearn"],
    "SHAP": ["shap"],
    "skops": ["skops"],
}


def sections():
    """The lines before the first heading, and those of every section by its name."""
    lines = PAGE.read_text(encoding="utf-8").splitlines(keepends=True)
    heads = [k - 1 for k, line in enumerate(lines) if line.startswith("----")]
    parts = [lines[a:b] for a, b in zip(heads, [*heads[1:], None], strict=True)]
    return lines[: heads[0]], {part[0].strip(): part for part in parts}


def test_every_package_of_the_extra_has_a_section():
    assert list(sections()[1]) == list(PACKAGES)
    setup = (PAGE.parents[1] / "setup.py").read_text(encoding="utf-8")
    extra = setup.split('"neighbours": [')[1].split("]")[0]
    for name in ("mlflow", "optuna", "imbalanced-learn", "shap", "skops"):
        assert f'"{name}' in extra


@pytest.mark.slow
@pytest.mark.parametrize("name", PACKAGES)
def test_the_recipe_runs(name, monkeypatch):
    for package in PACKAGES[name]:
        pytest.importorskip(
            package, reason=f"{package} comes with the extra 'neighbours'"
        )
    page = types.ModuleType("page_neighbours")  # its classes can be pickled
    monkeypatch.setitem(sys.modules, page.__name__, page)
    first, by_name = sections()
    text = "".join([*first, *by_name[name]])
    test = doctest.DocTestParser().get_doctest(text, {}, name, str(PAGE), 0)
    test.globs = vars(page)
    failed, tried = doctest.DocTestRunner(optionflags=FLAGS).run(test, False)
    assert tried > 12
    assert failed == 0
