"""What the classes and the source files of the package show without a call."""

from __future__ import annotations

import ast
import importlib
import inspect
import io
import pkgutil
import re
import tokenize
from abc import ABC
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import skcausalmeta
from skcausalmeta import learners

PACKAGE = skcausalmeta.__name__
ROOT = Path(skcausalmeta.__file__).parent
HOOK = re.compile(r"\bhook\b|EpisodeHook")


def learner_classes() -> dict[str, type]:
    """Public classes of the learners that are fitted and adapted, by name."""
    found = {name: getattr(learners, name) for name in learners.__all__}
    return {
        name: cls
        for name, cls in sorted(found.items())
        if inspect.isclass(cls) and hasattr(cls, "fit") and hasattr(cls, "adapt")
    }


def own_bases(cls: type) -> list[str]:
    """Names of the classes of the package that a class rests on."""
    return [base.__name__ for base in cls.__mro__[1:] if is_own(base)]


def is_own(cls: type) -> bool:
    return cls.__module__.split(".")[0] == PACKAGE


def n_parameters(cls: type) -> int:
    return len(inspect.signature(cls).parameters)


def mixins_with_one_user() -> list[str]:
    """Names of the mixins that one class of the package names as a base.

    A mixin is a class of that name, or one with no ``__init__`` that rests on
    nothing but ``object``, ``ABC`` and mixins: it adds methods to something else.
    """
    classes = set(package_classes())
    users = {cls: sum(cls in other.__bases__ for other in classes) for cls in classes}
    return sorted(cls.__name__ for cls in classes if users[cls] == 1 and _is_mixin(cls))


def _is_mixin(cls: type) -> bool:
    bases = [base for base in cls.__mro__ if base not in (object, ABC)]
    own = all(is_own(base) or base.__name__.endswith("Mixin") for base in bases)
    starts = any("__init__" in vars(base) for base in bases)
    return cls.__name__.endswith("Mixin") or (own and not starts)


def package_classes() -> Iterator[type]:
    """Classes that the modules of the package define at their top level."""
    for info in pkgutil.walk_packages(skcausalmeta.__path__, f"{PACKAGE}."):
        if not info.name.endswith("__main__"):
            module = importlib.import_module(info.name)
            for cls in vars(module).values():
                if inspect.isclass(cls) and cls.__module__ == info.name:
                    yield cls


def attribute_tricks(room: str = "learners") -> list[str]:
    """Places of a room that ask or change what attributes an object has.

    These are ``hasattr(self, ...)``, ``x.__dict__.pop`` and ``x.__dict__ = ...``.
    """
    places = []
    for path in sorted((ROOT / room).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        lines = sorted(node.lineno for node in ast.walk(tree) if _is_trick(node))
        places += [f"{path.relative_to(ROOT)}:{line}" for line in lines]
    return places


def _is_trick(node: Any) -> bool:
    if isinstance(node, ast.Call):
        asked = ast.unparse(node.func) == "hasattr" and node.args
        return bool(asked) and ast.unparse(node.args[0]) == "self"
    if not isinstance(node, ast.Attribute):
        return False
    swapped = node.attr == "__dict__" and isinstance(node.ctx, ast.Store)
    return swapped or ast.unparse(node).endswith(".__dict__.pop")


def private_imports() -> list[str]:
    """Imports of private modules of another room, as "module -> module".

    A room is a folder right below the package; folders within it are the same room.
    """
    modules = {_dotted(path): path for path in sorted(ROOT.rglob("*.py"))}
    return [
        f"{name} -> {target}"
        for name, path in modules.items()
        for target in _imported(name, path, modules)
        if _room(target) not in (None, _room(name)) and _is_private(target)
    ]


def _dotted(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _room(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == PACKAGE and len(parts) > 1 else None


def _is_private(module: str) -> bool:
    return any(part.startswith("_") for part in module.split(".")[2:])


def _imported(name: str, path: Path, modules: dict[str, Path]) -> Iterator[str]:
    """Modules that a module imports, also those named behind ``import``."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            parts = parts[: len(parts) - node.level + 1] if node.level else []
            base = ".".join([*parts, *filter(None, [node.module])])
            inner = [f"{base}.{alias.name}" for alias in node.names]
            named = [module for module in inner if module in modules]
            yield from named or [base]


def files_with_hook() -> list[str]:
    """Files whose code names the hook, comments and docstrings left out."""
    return [
        str(path.relative_to(ROOT))
        for path in sorted(ROOT.rglob("*.py"))
        if HOOK.search(_code_words(path.read_text(encoding="utf-8")))
    ]


def _code_words(source: str) -> str:
    """Names of a source text and its strings that are no docstrings."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    names = [token.string for token in tokens if token.type == tokenize.NAME]
    nodes = list(ast.walk(ast.parse(source)))
    alone = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    strings = [
        str(node.value)
        for node in nodes
        if isinstance(node, ast.Constant) and id(node) not in alone
    ]
    return "\n".join([*names, *strings])
