"""What a file says about its estimator, as text and without any classes."""

from __future__ import annotations

from typing import Any

from ..exceptions import PersistenceError
from ..utils import printable
from ._strict_json import Ref

_MOST_CHARACTERS = 120
_MOST_NESTED = 4
_MOST_ITEMS = 8
_MOST_PARAMETERS = 1000


def parameter_texts(nodes: list[Any], root: Any) -> tuple[str, dict[str, str]]:
    """Class of the estimator that `root` refers to, and its parameters as text.

    Every text is short and holds what can be printed only, whatever the file says.

    Raises
    ------
    PersistenceError
        If `root` refers to no estimator.
    """
    summary = _Summary(nodes)
    node = summary.node(root)
    state = node.get("state")
    if not isinstance(state, dict) or not isinstance(node.get("class"), str):
        raise PersistenceError(
            "The file must hold an estimator. Got a node of kind "
            f"{str(node.get('kind'))[:60]!r}; the file is damaged, get another copy."
        )
    settings = _settings(state)
    if len(settings) > _MOST_PARAMETERS:
        raise PersistenceError(
            f"An estimator must have at most {_MOST_PARAMETERS} parameters. Got "
            f"{len(settings)}; the file was not written by skcausalmeta."
        )
    texts = {
        printable(name[:_MOST_CHARACTERS]): summary.text(value, 0)
        for name, value in settings.items()
    }
    return _short(node["class"]), texts


class _Summary:
    """Texts of values; that of a node is made once, however often it is named."""

    def __init__(self, nodes: list[Any]) -> None:
        self._nodes = nodes
        self._texts: dict[tuple[int, int], str] = {}

    def node(self, value: Any) -> dict[str, Any]:
        number = value.number if type(value) is Ref else -1
        node = self._nodes[number] if 0 <= number < len(self._nodes) else None
        return node if isinstance(node, dict) else {}

    def text(self, value: Any, depth: int) -> str:
        if type(value) is not Ref:
            return _cut(_scalar(value))
        key = value.number, depth
        if key not in self._texts:
            self._texts[key] = _cut(self._of_node(self.node(value), depth))
        return self._texts[key]

    def _of_node(self, node: dict[str, Any], depth: int) -> str:
        kind = node.get("kind")
        if depth == _MOST_NESTED:
            return "..."
        if kind in ("object", "module"):
            return f"{_short(node.get('class'))}({self._arguments(node, depth)})"
        if kind in ("name", "device"):
            return _short(node.get("name"))
        if kind == "array":
            return f"array of shape {_shape(node.get('shape'))}"
        items = node.get("items")
        if kind in ("list", "tuple") and isinstance(items, list):
            texts = [self.text(v, depth + 1) for v in items[:_MOST_ITEMS]]
            return f"[{', '.join(texts)}]"
        if kind == "dict" and isinstance(items, list):
            pairs = [pair for pair in items[:_MOST_ITEMS] if isinstance(pair, list)]
            texts = [": ".join(self.text(v, depth + 1) for v in p[:2]) for p in pairs]
            return f"{{{', '.join(texts)}}}"
        return kind[:_MOST_CHARACTERS] if isinstance(kind, str) else "?"

    def _arguments(self, node: dict[str, Any], depth: int) -> str:
        """Settings of an object; of a module that holds others or weights, "..."."""
        state = node.get("state")
        if not isinstance(state, dict) or node.get("modules") or node.get("parameters"):
            return "..."
        settings = list(_settings(state).items())
        texts = [
            f"{k[:_MOST_CHARACTERS]}={self.text(v, depth + 1)}"
            for k, v in settings[:_MOST_ITEMS]
        ]
        return ", ".join(texts + ["..."] * (len(settings) > _MOST_ITEMS))


def _settings(state: dict[str, Any]) -> dict[str, Any]:
    """What a constructor was given, as far as names tell."""
    return {
        name: value
        for name, value in state.items()
        if not (name.startswith("_") or name.endswith("_"))
    }


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        return repr(value[:_MOST_CHARACTERS])
    if isinstance(value, dict | list):
        return "?"
    return repr(value)


def _shape(shape: Any) -> str:
    lengths = shape if isinstance(shape, list) else []
    return str(tuple(k for k in lengths[:_MOST_ITEMS] if type(k) is int))


def _cut(text: str) -> str:
    short = (
        text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 3]}..."
    )
    return printable(short)


def _short(name: Any) -> str:
    """Name without the room: heads.RidgeHead is RidgeHead."""
    text = name[:_MOST_CHARACTERS] if isinstance(name, str) else "?"
    return printable(text.removeprefix("custom:").rpartition(".")[2])
