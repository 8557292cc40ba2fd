"""Checksums of local files, where a list of them lies beside."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ..exceptions import InvalidInputError
from ._npz import read_npz

MANIFEST = "MANIFEST.sha256"


def read_checked_npz(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Arrays of a file that has its checksum in the list beside it, if there is one.

    The list has the form that ``sha256sum`` writes: a checksum and a name a line.

    Raises
    ------
    InvalidInputError
        If the checksum is another one, or the file is damaged or lacks an array.
    """
    wanted = _checksums(path.parent / MANIFEST).get(path.name)
    found = None if wanted is None else hashlib.sha256(path.read_bytes()).hexdigest()
    if wanted != found:
        raise InvalidInputError(
            f"{path.name} must have the checksum that {MANIFEST} beside it lists. Got "
            f"{found} and not {wanted}; copy the file again."
        )
    return read_npz(path, names)


def _checksums(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    pairs = [line.split(maxsplit=1) for line in lines if len(line.split()) > 1]
    return {name.strip().lstrip("*./"): digest.lower() for digest, name in pairs}
