"""Write the API reference: one page a room, every public name on it."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from pathlib import Path
from types import ModuleType

import skcausalmeta

# Estimators first, what they are made of after.
ORDER = [
    "learners",
    "heads",
    "compose",
    "export",
    "tasks",
    "model_selection",
    "metrics",
    "inspection",
    "datasets",
    "persistence",
    "episodes",
    "training",
    "backbones",
    "solvers",
    "losses",
    "penalties",
    "implicit",
    "utils",
    "exceptions",
]


def rooms() -> list[str]:
    """Names of the public modules, those without a place in the order last."""
    found = [
        info.name
        for info in pkgutil.iter_modules(skcausalmeta.__path__)
        if not info.name.startswith("_")
    ]
    known = [name for name in ORDER if name in found]
    return known + sorted(set(found) - set(known))


def page(name: str) -> str:
    """Text of the page of a room."""
    room = importlib.import_module(f"skcausalmeta.{name}")
    title = f"skcausalmeta.{name}"
    summary = inspect.cleandoc(room.__doc__ or "")
    lines = [title, "=" * len(title), "", summary, "", f".. module:: {title}"]
    for heading, names in _kinds(room).items():
        lines += ["", heading, "-" * len(heading), "", ".. autosummary::"]
        lines += ["   :toctree: generated/", "", *(f"   {name}" for name in names)]
    return "\n".join(lines) + "\n"


def _kinds(room: ModuleType) -> dict[str, list[str]]:
    """Public names by what they are, leaving out kinds without a name."""
    found: dict[str, list[str]] = {"Classes": [], "Functions": []}
    for name in sorted(room.__all__):
        is_class = inspect.isclass(getattr(room, name))
        found["Classes" if is_class else "Functions"].append(name)
    return {heading: names for heading, names in found.items() if names}


def write(folder: Path) -> None:
    """Write the index and one page for every room."""
    folder.mkdir(parents=True, exist_ok=True)
    names = rooms()
    for name in names:
        _write(folder / f"{name}.rst", page(name))
    text = "API reference\n=============\n\n"
    text += "The package root re-exports the estimators: "
    public = [name for name in skcausalmeta.__all__ if not name.startswith("_")]
    text += ", ".join(f"`{_home(name)}`" for name in public) + ".\n\n"
    text += ".. toctree::\n   :maxdepth: 1\n\n"
    text += "".join(f"   {name}\n" for name in names)
    _write(folder / "index.rst", text)


def _home(name: str) -> str:
    """Full name of an estimator of the root, in the room whose door shows it."""
    module = getattr(skcausalmeta, name).__module__
    return ".".join([*module.split(".")[:2], name])


def _write(path: Path, text: str) -> None:
    """Write only what changes, since Sphinx reads again what is newer."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
