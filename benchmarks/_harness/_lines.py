"""Lines of results: one JSON object a run.

A line holds ``settings`` (what decides the run, seed included), ``result``,
``environment`` (versions, threads, peers), ``commit`` (the code that ran) and
``dirty`` (whether that code had changes that are not in the commit). A line without
``dirty`` is of before: its ``commit`` is the one that brought the line in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ._packing import pack, unpack


def key_of(settings: Mapping[str, Any]) -> str:
    """Settings as text, whatever their order; the same in every process."""
    text = json.dumps(dict(settings), sort_keys=True, default=float)
    if " at 0x" in text:
        raise ValueError(
            "Settings must name what they hold, since an address is another one in "
            f"the next process. Got {text}."
        )
    return text


def append_line(
    path: Path,
    settings: Mapping[str, Any],
    result: Mapping[str, Any],
    of: Mapping[str, Any],
) -> None:
    """Append a line; `of` holds its environment and its commit."""
    plain = json.loads(json.dumps(dict(result), default=float))
    line = {"settings": dict(settings), "result": pack(plain), **of}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, default=float) + "\n")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Lines of a file with their lists of numbers; what is no line is left out."""
    found = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue  # cut short by an interrupted run
        if isinstance(line, dict) and {"settings", "result"} <= line.keys():
            found.append({**line, "result": unpack(line["result"])})
    return found


def results_by_key(path: Path) -> dict[str, dict[str, Any]]:
    """Results of a file by the key of their settings, none if there is no file."""
    if not path.exists():
        return {}
    return {key_of(line["settings"]): line["result"] for line in read_lines(path)}


def end_last_line(path: Path) -> None:
    """Drop what an interrupted run left of its last line."""
    if path.exists():
        text = path.read_text(encoding="utf-8")
        if text and not text.endswith("\n"):
            path.write_text(text[: text.rfind("\n") + 1], encoding="utf-8")
