"""Sphinx settings; pages that are made from code and results are written first."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
# Examples are for one thread; several processes would compete for the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import make_api
import make_results

import skcausalmeta

HERE = Path(__file__).resolve().parent
make_api.write(HERE / "api")
make_results.write(HERE.parent / "benchmarks" / "results", HERE / "results.rst")

project = "skcausalmeta"
author = "skcausalmeta developers"
copyright = "skcausalmeta developers"
release = version = skcausalmeta.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "auto_examples/GALLERY_HEADER.rst"]
# Single backquotes name objects; what cannot be found is set as code.
default_role = "py:obj"
# Attributes that a class inherits from elsewhere are links by name, and several
# classes of the package have some of the same name, such as classes_.
suppress_warnings = ["ref.python"]

autosummary_generate = True
autosummary_imported_members = True
autodoc_typehints = "none"
numpydoc_show_class_members = False

html_theme = "pydata_sphinx_theme"
html_theme_options = {"show_prev_next": False, "secondary_sidebar_items": ["page-toc"]}
html_title = f"skcausalmeta {release}"
html_show_sourcelink = False

sphinx_gallery_conf = {
    "examples_dirs": [str(HERE.parent / "examples")],
    "gallery_dirs": ["auto_examples"],
    # The digits example, three minutes of "make demo", is shown but not run.
    "filename_pattern": r"plot_(?!digits)",
    "within_subsection_order": "FileNameSortKey",
    "show_memory": False,
    "download_all_examples": False,
    "only_warn_on_example_error": False,
}
warnings.filterwarnings("ignore", message=".*non-interactive.*")


def skip_foreign(app, what, name, obj, skip, options):
    """Leave out members that a class inherits from another package."""
    home = getattr(obj, "__module__", None)
    if isinstance(obj, property):
        home = getattr(obj.fget, "__module__", None)
    foreign = home is not None and not str(home).startswith("skcausalmeta")
    return True if foreign else None


def setup(app):
    app.connect("autodoc-skip-member", skip_foreign)
