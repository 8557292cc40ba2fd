"""Files in a folder, a zip or a tar archive, read alike and never unpacked."""

from __future__ import annotations

import hashlib
import lzma
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath

from ..exceptions import InvalidInputError

_MOST_BYTES = 1 << 29
_BLOCK = 1 << 20
# RuntimeError: zip archives with a password or an unknown compression.
# ValueError, struct.error: damaged headers that the standard library trips over.
_BROKEN = (
    *(zipfile.BadZipFile, tarfile.TarError, EOFError, OSError),
    *(zlib.error, lzma.LZMAError, struct.error, RuntimeError, ValueError),
)


def list_files(source: Path) -> list[str]:
    """Names of the files, with forward slashes; hidden ones are left out.

    Raises
    ------
    InvalidInputError
        If it is neither a folder nor an archive, or a damaged one.
    """
    with _expect_whole(source):
        return sorted(name for name, _ in _walk(source) if not _is_hidden(name))


def read_files(source: Path, names: set[str]) -> Iterator[tuple[str, bytes]]:
    """Name and content of files, in the order in which they lie there.

    Nothing is written to disk, so no name in an archive can do harm, and links in
    archives are not followed.

    Raises
    ------
    InvalidInputError
        If the archive is damaged, or a file is larger than 512 MB.
    """
    with _expect_whole(source):
        for name, read in _walk(source):
            if name in names:
                yield name, read()


def fingerprint(source: Path) -> str:
    """Text that changes when the files do, by their names, sizes and times."""
    digest = hashlib.sha256()
    paths = [source] if source.is_file() else _paths(source)
    for path in paths:
        facts = path.stat()
        where = path.relative_to(source).as_posix()
        digest.update(f"{where}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _walk(source: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Name of every file and a function that reads it, good until the next name."""
    if source.is_dir():
        for path in _paths(source):
            _check_size(path.name, path.stat().st_size)
            yield path.relative_to(source).as_posix(), path.read_bytes
    elif not source.is_file():
        raise FileNotFoundError(f"Cannot find the folder or archive {str(source)!r}.")
    elif zipfile.is_zipfile(source):
        yield from _walk_zip(source)
    else:
        yield from _walk_tar(source)


@contextmanager
def _expect_whole(source: Path) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, PermissionError, InvalidInputError):
        raise
    except _BROKEN as error:
        raise InvalidInputError(
            f"{source.name} must be a folder, or a zip or tar archive that is whole. "
            f"Got {type(error).__name__}: {error}; fetch it again."
        ) from error


def _paths(folder: Path) -> list[Path]:
    walk = os.walk(folder, followlinks=True)
    return sorted(Path(root, name) for root, _, names in walk for name in names)


def _walk_zip(source: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    with zipfile.ZipFile(source) as archive:
        for member in archive.infolist():
            if not member.is_dir():
                _check_size(member.filename, member.file_size)
                yield member.filename, partial(archive.read, member)


def _walk_tar(source: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    with tarfile.open(source, "r:*") as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() else None
            if file is not None:
                _check_size(member.name, member.size)
                yield member.name.removeprefix("./"), file.read
        # The checksum of the compressed stream is behind the last file.
        while archive.fileobj is not None and archive.fileobj.read(_BLOCK):
            pass


def _check_size(name: str, n_bytes: int) -> None:
    if n_bytes > _MOST_BYTES:
        raise InvalidInputError(
            f"A file of a data set must have at most {_MOST_BYTES >> 20} MB. Got "
            f"{name} with {n_bytes >> 20} MB; remove it."
        )


def _is_hidden(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return any(part.startswith(".") or part == "__MACOSX" for part in parts)
