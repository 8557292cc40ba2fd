"""Decoded images kept on disk, mapped into memory when needed."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..exceptions import InvalidInputError

_TABLE, _IMAGES = "table.json", "images.npy"

# (shape, dtype) -> array to be filled
Allocate = Callable[[tuple[int, ...], Any], NDArray[Any]]


def from_cache(cache: Path, key: str) -> tuple[list[str], NDArray[Any]] | None:
    """Names and mapped images that were kept under a key; None without any."""
    try:
        table = json.loads((cache / _TABLE).read_text(encoding="utf-8"))
        if table["key"] != key:
            return None
        images = np.load(cache / _IMAGES, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, KeyError, TypeError):  # none yet, or damaged
        return None
    return (table["names"], images) if len(images) == len(table["names"]) else None


def to_cache(
    cache: Path,
    key: str,
    source: Path,
    names: list[str],
    decode: Callable[[Allocate], NDArray[Any]],
) -> NDArray[Any] | None:
    """Decode images into a file and map it; None if nothing can be written there.

    The cache appears when it is complete. What a crash leaves behind is a folder with
    another name.

    Raises
    ------
    InvalidInputError
        If the place of the cache holds something else, or is part of the source.
    """
    _check_place(cache, source)
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f"{cache.name}.", dir=cache.parent))
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
        table = json.dumps({"key": key, "names": names})
        (draft / _TABLE).write_text(table, encoding="utf-8")
        shutil.rmtree(cache, ignore_errors=True)
        with suppress(OSError):  # another process was faster
            draft.rename(cache)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    kept = from_cache(cache, key)
    if kept is None:
        raise OSError(f"The cache {str(cache)!r} cannot be read back. Remove it.")
    return kept[1]


def _check_place(cache: Path, source: Path) -> None:
    """Never delete what is not a cache."""
    if cache.exists() and not (cache / _TABLE).is_file() and _holds_anything(cache):
        raise InvalidInputError(
            "cache must be a new folder or one that an earlier call made. Got "
            f"{str(cache)!r}, which holds other files; name another folder."
        )
    if cache.absolute().is_relative_to(source.absolute()):
        raise InvalidInputError(
            f"The cache must lie outside the images. Got {str(cache)!r} inside "
            f"{str(source)!r}; name another folder."
        )


def _holds_anything(path: Path) -> bool:
    return not path.is_dir() or next(path.iterdir(), None) is not None
