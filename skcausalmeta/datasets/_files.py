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
from ..utils import printable
from ._limits import Limits, most_unpacked
from ._tar import walk_tar

_LIMITS = Limits()
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# RuntimeError: zip archives with a password or an unknown compression.
# ValueError, struct.error: damaged headers that the standard library trips over.
_BROKEN = (
    *(zipfile.BadZipFile, tarfile.TarError, EOFError, OSError, OverflowError),
    *(zlib.error, lzma.LZMAError, struct.error, RuntimeError, ValueError),
    *(IndexError, KeyError, AttributeError, TypeError, AssertionError, MemoryError),
)


def list_files(source: Path, limits: Limits = _LIMITS) -> list[str]:
    """Names of the files, with forward slashes; hidden ones are left out.

    Raises
    ------
    InvalidInputError
        If it is neither a folder nor an archive, or a damaged one, or larger than the
        limits allow.
    """
    with _expect_whole(source):
        names = (name for name, _ in _walk(source, limits))
        return sorted(name for name in names if not _is_hidden(name))


def read_files(
    source: Path, names: set[str], limits: Limits = _LIMITS
) -> Iterator[tuple[str, bytes]]:
    """Name and content of files, in the order in which they lie there.

    Nothing is written to disk, so no name in an archive can do harm, and links in
    archives are not followed.

    Raises
    ------
    InvalidInputError
        If the archive is damaged, or larger than the limits allow.
    """
    with _expect_whole(source):
        for name, read in _walk(source, limits):
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


def _walk(source: Path, limits: Limits) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Name of every file and a function that reads it, good until the next name."""
    if source.is_dir():
        for count, path in enumerate(_paths(source)):
            limits.check_count(count + 1)
            limits.check_file(path.name, path.stat().st_size)
            yield path.relative_to(source).as_posix(), path.read_bytes
    elif not source.is_file():
        raise FileNotFoundError(f"Cannot find the folder or archive {str(source)!r}.")
    elif zipfile.is_zipfile(source):
        yield from _walk_zip(source, limits)
    else:
        yield from walk_tar(source, limits)


@contextmanager
def _expect_whole(source: Path) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, PermissionError, InvalidInputError):
        raise
    except _BROKEN as error:
        raise InvalidInputError(
            f"{source.name} must be a folder, or a zip or tar archive that is whole. "
            f"Got {type(error).__name__}: {printable(str(error))}; fetch it again."
        ) from error


def _paths(folder: Path) -> list[Path]:
    """All files but pipes and the like; links are followed, once each."""
    found, seen = [], set()
    for root, folders, names in os.walk(folder, followlinks=True):
        facts = os.stat(root)
        if (facts.st_dev, facts.st_ino) in seen:
            folders.clear()  # a link to a folder that was visited
            continue
        seen.add((facts.st_dev, facts.st_ino))
        found += [path for name in names if (path := Path(root, name)).is_file()]
    return sorted(found)


def _walk_zip(
    source: Path, limits: Limits
) -> Iterator[tuple[str, Callable[[], bytes]]]:
    packed = source.stat().st_size
    left = most_unpacked(packed)
    with zipfile.ZipFile(source) as archive:
        limits.check_count(len(archive.infolist()), packed)
        for member in archive.infolist():
            if not member.is_dir():
                limits.check_file(member.filename, member.file_size)
                left -= member.file_size
                if left < 0:
                    raise InvalidInputError(
                        "An archive of this size must unpack to at most "
                        f"{most_unpacked(packed) >> 20} MB. Got more; unpack it and "
                        "pass the folder."
                    )
                yield member.filename, partial(_read_member, archive, member)


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    if member.compress_type not in _METHODS:
        # Those of the others unpack a block to any size.
        raise InvalidInputError(
            "Files in a zip archive must be stored or deflated. Got "
            f"{member.filename!r} packed otherwise; pack it anew."
        )
    return archive.read(member)


def _is_hidden(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return any(part.startswith(".") or part == "__MACOSX" for part in parts)
