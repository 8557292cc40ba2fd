"""What a file says about its estimator, as text and without any classes."""

from __future__ import annotations

from typing import Any

from ..exceptions import PersistenceError

_MOST_CHARACTERS = 120
_MOST_NESTED = 4
_MOST_ITEMS = 8


def parameter_texts(nodes: list[Any], root: Any) -> tuple[str, dict[str, str]]:
    """Class of the estimator that `root` refers to, and its parameters as text.

    Raises
    ------
    PersistenceError
        If `root` refers to no estimator.
    """
    node = _node(nodes, root)
    state = node.get("state")
    if not isinstance(state, dict) or not isinstance(node.get("class"), str):
        raise PersistenceError(
            "The file must hold an estimator. Got a node of kind "
            f"{node.get('kind')!r}; the file is damaged, get another copy."
        )
    texts = {
        name: _cut(_text(nodes, value, 0)) for name, value in _settings(state).items()
    }
    return _short(node["class"]), texts


def _node(nodes: list[Any], value: Any) -> dict[str, Any]:
    number = value.get("ref") if isinstance(value, dict) else None
    if type(number) is not int or not 0 <= number < len(nodes):
        return {}
    return nodes[number] if isinstance(nodes[number], dict) else {}


def _settings(state: dict[str, Any]) -> dict[str, Any]:
    """What a constructor was given, as far as names tell."""
    return {
        name: value
        for name, value in state.items()
        if not (name.startswith("_") or name.endswith("_"))
    }


def _text(nodes: list[Any], value: Any, depth: int) -> str:
    if not isinstance(value, dict):
        return repr(value)
    if "float" in value:
        return str(value["float"])
    node = _node(nodes, value)
    kind = str(node.get("kind"))
    if depth == _MOST_NESTED:
        return "..."
    if kind in ("object", "module"):
        return f"{_short(node.get('class'))}({_arguments(nodes, node, depth)})"
    if kind in ("name", "device"):
        return _short(node.get("name"))
    if kind == "array":
        return f"array of shape {tuple(node.get('shape', ()))}"
    items = node.get("items")
    if kind in ("list", "tuple") and isinstance(items, list):
        texts = [_text(nodes, v, depth + 1) for v in items[:_MOST_ITEMS]]
        return f"[{', '.join(texts)}]"
    if kind == "dict" and isinstance(items, list):
        pairs = [pair for pair in items[:_MOST_ITEMS] if isinstance(pair, list)]
        texts = [": ".join(_text(nodes, v, depth + 1) for v in p[:2]) for p in pairs]
        return f"{{{', '.join(texts)}}}"
    return kind


def _arguments(nodes: list[Any], node: dict[str, Any], depth: int) -> str:
    """Settings of an object; of a module that holds others or weights, "..."."""
    state = node.get("state")
    if not isinstance(state, dict) or node.get("modules") or node.get("parameters"):
        return "..."
    settings = list(_settings(state).items())
    texts = [f"{k}={_text(nodes, v, depth + 1)}" for k, v in settings[:_MOST_ITEMS]]
    return ", ".join(texts + ["..."] * (len(settings) > _MOST_ITEMS))


def _cut(text: str) -> str:
    return (
        text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 3]}..."
    )


def _short(name: Any) -> str:
    """Name without the room: heads.RidgeHead is RidgeHead."""
    return str(name).removeprefix("custom:").rpartition(".")[2]
