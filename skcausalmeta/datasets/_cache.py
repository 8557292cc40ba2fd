"""Decoded images kept on disk, mapped into memory when needed."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..exceptions import InvalidInputError

_TABLE, _IMAGES = "table.json", "images.npy"
_KIND = "skcausalmeta cache of images 2"
_ENTRIES = {"kind": str, "key": str, "names": list, "sha256": str, "file": list}
_BLOCK = 1 << 20
# Whatever numpy and json make of a damaged file.
_DAMAGED = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError),
    *(EOFError, RecursionError, MemoryError, SyntaxError),
)

# (shape, dtype) -> array to be filled
Allocate = Callable[[tuple[int, ...], Any], NDArray[Any]]


def from_cache(cache: Path, key: str) -> tuple[list[str], NDArray[Any]] | None:
    """Names and mapped images that were kept under a key; None without any.

    The images are those that were written: a file with other facts than it had is
    compared by its checksum.
    """
    cache = cache.resolve()
    table = _read_table(cache)
    if table is None or table["key"] != key:
        return None
    try:
        if not _is_whole(cache, table):
            return None
        images = np.load(cache / _IMAGES, mmap_mode="r", allow_pickle=False)
        fits = isinstance(images, np.memmap) and images.ndim > 0
        same = fits and len(images) == len(table["names"])
    except _DAMAGED:
        return None
    return (table["names"], images) if same else None


def to_cache(
    cache: Path,
    key: str,
    source: Path,
    names: list[str],
    decode: Callable[[Allocate], NDArray[Any]],
) -> NDArray[Any] | None:
    """Decode images into a file and map it; None if nothing can be written there.

    The cache appears when it is complete. What a crash leaves behind is a folder with
    another name. Of an older cache in its place the two files that make it up are
    deleted, and nothing else ever is.

    Raises
    ------
    InvalidInputError
        If the place of the cache holds something else, or lies in the source, or the
        source in it.
    """
    cache, source = cache.resolve(), source.resolve()
    _check_place(cache, source)
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f"{cache.name}.", dir=cache.parent))
        draft.chmod(_mode_of_folders(cache.parent))
    except OSError:
        return None

    def allocate(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        return np.lib.format.open_memmap(
            draft / _IMAGES, mode="w+", dtype=np.dtype(dtype), shape=shape
        )

    try:
        images = decode(allocate)
        if isinstance(images, np.memmap):
            images.flush()
        del images
        _write_table(draft, key, names)
        _delete(cache, aside=True)
        with suppress(OSError):  # another process was faster
            draft.rename(cache)
    finally:
        _delete(draft)
    kept = from_cache(cache, key)
    if kept is None:
        raise OSError(f"The cache {str(cache)!r} cannot be read back. Remove it.")
    return kept[1]


def _mode_of_folders(parent: Path) -> int:
    """Permissions that the umask leaves to a new folder."""
    probe = parent / f".skcausalmeta-{secrets.token_hex(8)}"
    probe.mkdir()
    try:
        return probe.stat().st_mode & 0o777
    finally:
        probe.rmdir()


def _write_table(folder: Path, key: str, names: list[str]) -> None:
    table = {
        "kind": _KIND,
        "key": key,
        "names": names,
        "sha256": _digest(folder / _IMAGES),
        "file": _facts(folder / _IMAGES),
    }
    (folder / _TABLE).write_text(json.dumps(table), encoding="utf-8")


def _read_table(cache: Path) -> dict[str, Any] | None:
    """The table of a cache; None for anything that is none."""
    try:
        table = json.loads((cache / _TABLE).read_text(encoding="utf-8"))
    except _DAMAGED:
        return None
    if type(table) is not dict or table.keys() != _ENTRIES.keys():
        return None
    typed = all(isinstance(table[name], kind) for name, kind in _ENTRIES.items())
    if not typed or table["kind"] != _KIND:
        return None
    return table if all(isinstance(name, str) for name in table["names"]) else None


def _is_whole(cache: Path, table: dict[str, Any]) -> bool:
    """Whether the images are those that were written."""
    if table["file"] == _facts(cache / _IMAGES):
        return True
    # Copied to another place, or changed: the content tells.
    if _digest(cache / _IMAGES) != table["sha256"]:
        return False
    with suppress(OSError):
        moved = {**table, "file": _facts(cache / _IMAGES)}
        draft = cache / f"{_TABLE}.{secrets.token_hex(8)}"
        draft.write_text(json.dumps(moved), encoding="utf-8")
        os.replace(draft, cache / _TABLE)
    return True


def _facts(path: Path) -> list[int]:
    """What no program can set back after it has written to a file."""
    facts = path.stat()
    return [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino]


def _digest(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            found.update(block)
    return found.hexdigest()


def _check_place(cache: Path, source: Path) -> None:
    """Never delete what is not a cache."""
    if cache.exists() and not _is_own(cache) and _holds_anything(cache):
        raise InvalidInputError(
            "cache must be a new folder or one that an earlier call made. Got "
            f"{str(cache)!r}, which holds other files; name another folder."
        )
    if cache.is_relative_to(source) or source.is_relative_to(cache):
        raise InvalidInputError(
            f"The cache must lie outside the images. Got {str(cache)!r} and "
            f"{str(source)!r}, of which one holds the other; name another folder."
        )


def _is_own(cache: Path) -> bool:
    """Whether a folder holds the two files of a cache, and nothing else."""
    if not cache.is_dir() or _read_table(cache) is None:
        return False
    names = {entry.name for entry in os.scandir(cache)}
    plain = all(not (cache / name).is_symlink() for name in (_TABLE, _IMAGES))
    return plain and {_TABLE} <= names <= {_TABLE, _IMAGES}


def _delete(folder: Path, *, aside: bool = False) -> None:
    """Delete the files of a cache, and the folder if nothing else is in it.

    With `aside` the folder takes another name first, so that it leaves in one step.
    """
    if not folder.is_dir():
        return
    if aside:
        if not _is_own(folder) and _holds_anything(folder):
            return
        other = folder.with_name(f"{folder.name}.{secrets.token_hex(8)}")
        try:
            folder = folder.rename(other)
        except OSError:
            return
    for name in (_TABLE, _IMAGES):
        with suppress(OSError):
            (folder / name).unlink()
    with suppress(OSError):  # somebody has put a file into it
        folder.rmdir()


def _holds_anything(path: Path) -> bool:
    return not path.is_dir() or next(path.iterdir(), None) is not None
