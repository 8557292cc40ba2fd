"""What a file says about its estimator, as text and without any classes."""

from __future__ import annotations

from typing import Any

from ..exceptions import PersistenceError

_MOST_CHARACTERS = 60
_MOST_NESTED = 4


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
        name: _text(nodes, value, 0)[:_MOST_CHARACTERS]
        for name, value in state.items()
        if not (name.startswith("_") or name.endswith("_"))
    }
    return _short(node["class"]), texts


def _node(nodes: list[Any], value: Any) -> dict[str, Any]:
    number = value.get("ref") if isinstance(value, dict) else None
    if type(number) is not int or not 0 <= number < len(nodes):
        return {}
    return nodes[number] if isinstance(nodes[number], dict) else {}


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
        return f"{_short(node.get('class'))}(...)"
    if kind in ("name", "device"):
        return _short(node.get("name"))
    if kind == "array":
        return f"array of shape {tuple(node.get('shape', ()))}"
    items = node.get("items")
    if kind in ("list", "tuple") and isinstance(items, list):
        return f"[{', '.join(_text(nodes, v, depth + 1) for v in items[:8])}]"
    if kind == "dict" and isinstance(items, list):
        pairs = [pair for pair in items[:8] if isinstance(pair, list)]
        texts = [": ".join(_text(nodes, v, depth + 1) for v in p[:2]) for p in pairs]
        return f"{{{', '.join(texts)}}}"
    return kind


def _short(name: Any) -> str:
    """Name without the room: heads.RidgeHead is RidgeHead."""
    return str(name).removeprefix("custom:").rpartition(".")[2]
