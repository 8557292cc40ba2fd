"""Tar archives from anywhere: what they may unpack to is bounded."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ..exceptions import InvalidInputError
from ._limits import Limits, most_unpacked

_BLOCK = 1 << 20
_MOST_GLOBAL_HEADERS = 100
_OPENERS: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}


class _Unpacked(io.RawIOBase):
    """A stream that is read forward, and only so far.

    Between two files, where an archive says what comes next, less is read at once
    and in all.
    """

    def __init__(self, stream: BinaryIO, most: int, limits: Limits) -> None:
        super().__init__()
        self._stream, self._most, self._limits = stream, most, limits
        self._at = self._of_header = 0
        self.in_content = False

    def next_header(self) -> None:
        """Begin to count anew: a file has been found."""
        self._of_header = 0

    def read(self, size: int | None = -1) -> bytes:
        """Read bytes, or refuse to."""
        size = self._most + 1 if size is None or size < 0 else size
        self._check(size)
        content = self._stream.read(size)
        self._at += len(content)
        return content

    def _check(self, size: int) -> None:
        if not self.in_content:
            self._of_header += size
            if self._of_header > self._limits.max_header_bytes:
                raise InvalidInputError(
                    "An archive must say in at most "
                    f"{self._limits.max_header_bytes} bytes what a file is. Got more; "
                    "pack it anew, or raise max_header_bytes."
                )
        self.check_end(self._at + size)

    def check_end(self, end: int) -> None:
        """Refuse to go beyond what the archive may unpack to."""
        if end > self._most + _BLOCK:
            raise InvalidInputError(
                f"An archive of this size must unpack to at most {self._most >> 20} "
                "MB. Got more; unpack it and pass the folder."
            )

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go forward by reading, since the stream may be packed."""
        if whence != 0 or offset < self._at:
            raise tarfile.ReadError("the archive goes backwards")
        self.check_end(offset)
        while self._at < offset:
            content = self._stream.read(min(_BLOCK, offset - self._at))
            self._at += len(content)
            if not content:
                break
        return self._at

    def tell(self) -> int:
        """Bytes that were read."""
        return self._at


def walk_tar(source: Path, limits: Limits) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Name of every file and a function that reads it, good until the next name.

    Raises
    ------
    InvalidInputError
        If it has more or larger files, or longer headers, than the limits allow, or
        unpacks to far more than it is.
    """
    packed = source.stat().st_size
    with _opened(source) as stream:
        file = _Unpacked(stream, most_unpacked(packed), limits)
        n_bytes = 0
        with tarfile.open(fileobj=file, mode="r:") as archive:
            for count, member in enumerate(_members(archive)):
                limits.check_count(count + 1, packed)
                file.next_header()
                if member.isfile():
                    limits.check_file(member.name, member.size)
                    n_bytes += member.size  # of which holes take no room
                    file.check_end(n_bytes)
                    yield member.name.removeprefix("./"), _reader(archive, member, file)
            # The checksum of the compressed stream is behind the last file.
            file.in_content = True
            while file.read(_BLOCK):
                pass


def _opened(source: Path) -> Any:
    with source.open("rb") as file:
        start = file.read(6)
    for magic, opener in _OPENERS.items():
        if start.startswith(magic):
            return opener(source)
    return source.open("rb")


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (member := archive.next()) is not None:
        if len(archive.pax_headers) > _MOST_GLOBAL_HEADERS:
            raise InvalidInputError(
                f"An archive must have at most {_MOST_GLOBAL_HEADERS} facts about all "
                "of its files. Got more; pack it anew."
            )
        yield member
        # It keeps all that it has seen.
        archive.members.clear()  # type: ignore[attr-defined]


def _reader(
    archive: tarfile.TarFile, member: tarfile.TarInfo, file: _Unpacked
) -> Callable[[], bytes]:
    def read() -> bytes:
        content = archive.extractfile(member)
        if content is None:
            return b""
        file.in_content = True
        try:
            return content.read()
        finally:
            file.in_content = False

    return read
