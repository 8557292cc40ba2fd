"""The list of the parts of a store, as it may be and as it has to be."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..exceptions import PersistenceError

FORMAT = 1
LEARNER = "learner.safetensors"
# The names of parts, which other writers of Parquet files do not give.
PART = "part-{:06d}-{}.parquet"
KINDS = ("solved", "dropped", "failed")
IS_PART = re.compile(r"part-\d{6,12}-[0-9a-f]{8}\.parquet")


def sealed(body: Mapping[str, Any]) -> bytes:
    """Return the text of a list of parts, with its checksum."""
    return json.dumps({"store": body, "sha256": checksum(body)}).encode()


def checksum(body: Mapping[str, Any]) -> str:
    """Return the checksum of a list of parts."""
    text = json.dumps(body, sort_keys=True).encode()
    return hashlib.sha256(text).hexdigest()


def unsealed(text: bytes, path: Path) -> dict[str, Any]:
    """Return the list of parts that a text holds, whose every value is what it may be.

    Raises
    ------
    PersistenceError
        If it is damaged, of a newer format, or not such a list.
    """
    try:
        found = json.loads(text)
        body = found["store"]
        good = isinstance(body, dict) and found["sha256"] == checksum(body)
    except (ValueError, KeyError, TypeError, RecursionError):
        good = False
    if not good:
        raise PersistenceError(
            "The list of the parts of a store must be as it was written. Got a "
            f"damaged {path}; restore it from a copy."
        )
    number = body.get("format")
    if _is_count(number) and number > FORMAT:
        raise PersistenceError(
            f"This version reads stores of format {FORMAT}. Got format {number} in "
            f"{path.parent}; install a newer skcausalmeta."
        )
    for name, fault in _faults(body):
        if fault:
            raise PersistenceError(
                f"The list of the parts of a store must hold {name}. Got something "
                f"else in {path}; restore it from a copy."
            )
    manifest: dict[str, Any] = body
    return manifest


def _faults(body: dict[str, Any]) -> list[tuple[str, bool]]:
    parts, run = body.get("parts"), body.get("run", {"table": None, "done": []})
    return [
        ("the number of its format", not _is_count(body.get("format"))),
        ("a list of parts", not _is_list(parts, _is_part)),
        ("parts once", _is_list(parts, _is_part) and _repeat(parts)),
        ("the name of its learner", body.get("learner") not in (None, LEARNER)),
        ("the parts of a table that are done", not _is_run(run)),
    ]


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_list(values: Any, check: Any) -> bool:
    return isinstance(values, list) and all(map(check, values))


def _is_part(part: Any) -> bool:
    return (
        isinstance(part, dict)
        and isinstance(part.get("file"), str)
        and IS_PART.fullmatch(part["file"]) is not None
        and _is_count(part.get("bytes"))
        and part.get("kind") in KINDS
    )


def _repeat(parts: Any) -> bool:
    names = [part["file"] for part in parts]
    return len(set(names)) < len(names)


def _is_run(run: Any) -> bool:
    return (
        isinstance(run, dict)
        and isinstance(run.get("table"), str | None)
        and _is_list(run.get("done"), lambda key: isinstance(key, str))
    )
