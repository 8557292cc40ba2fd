"""What a saved estimator is."""

from __future__ import annotations

from pathlib import Path

from ..persistence import describe, installed_versions


def info_text(path: Path | None) -> str:
    """Class, parameters and versions of a file; of this installation without one."""
    here = installed_versions()
    if path is None:
        return _lines("versions", here)
    found = describe(path)
    title = (
        f"{found['class']}, {found['n_tensors']} arrays, "
        f"{found['n_bytes'] / 1e3:.1f} kB, format {found['format']}"
    )
    parts = [title, _lines("parameters", found["parameters"])]
    if found["modules"]:
        parts.append(f"needs modules: {', '.join(found['modules'])}")
    saved = {
        name: text if here.get(name) == text else f"{text} (here: {here.get(name)})"
        for name, text in found["versions"].items()
    }
    return "\n".join([*parts, _lines("saved with", saved)])


def _lines(title: str, values: dict[str, str]) -> str:
    width = max(map(len, values), default=0)
    rows = [f"  {name:<{width}}  {text}" for name, text in values.items()]
    return "\n".join([f"{title}:", *rows])
