"""How much a folder, an archive or an image may hold."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any

from sklearn.utils._param_validation import Interval

from ..exceptions import InvalidInputError
from ..utils import printable

_COUNT = Interval(Integral, 1, None, closed="left")
LIMIT_CONSTRAINTS: dict[str, list[Any]] = {
    "max_files": [_COUNT],
    "max_header_bytes": [_COUNT],
    "max_pixels": [_COUNT],
}
# What is packed may grow so many times; small archives so many bytes in any case.
_FREE_BYTES, _EXPANSION = 1 << 26, 100
# Every file of an archive takes room in it.
_FREE_FILES, _BYTES_PER_FILE = 1000, 32


@dataclass(frozen=True)
class Limits:
    """What is read of a source that nobody vouches for.

    Parameters
    ----------
    max_files : int, default=10_000_000
        Files in a folder or archive.
    max_header_bytes : int, default=1_048_576
        Bytes of an archive before each of its files.
    max_pixels : int, default=16_777_216
        Pixels of an image.
    max_file_bytes : int, default=536_870_912
        Bytes of a file.
    """

    max_files: int = 10_000_000
    max_header_bytes: int = 1 << 20
    max_pixels: int = 1 << 24
    max_file_bytes: int = 1 << 29

    def check_file(self, name: str, n_bytes: int) -> None:
        """Refuse a file that is too large."""
        if n_bytes > self.max_file_bytes:
            raise InvalidInputError(
                f"A file of a data set must have at most {self.max_file_bytes >> 20} "
                f"MB. Got {printable(name)} with {n_bytes >> 20} MB; remove it."
            )

    def check_count(self, n_files: int, packed_bytes: int | None = None) -> None:
        """Refuse too many files; of an archive, more than it has room for."""
        most = self.max_files
        if packed_bytes is not None:
            most = min(most, _FREE_FILES + packed_bytes // _BYTES_PER_FILE)
        if n_files > most:
            raise InvalidInputError(
                f"A data set must have at most {most} files here. Got more; divide it, "
                "pack it anew, or raise max_files."
            )

    def check_image(self, name: str, width: int, height: int) -> None:
        """Refuse an image that is too large, before it is decoded."""
        if width * height > self.max_pixels:
            raise InvalidInputError(
                f"An image must have at most {self.max_pixels} pixels. Got {name!r} of "
                f"{width} x {height}; make it smaller, or raise max_pixels."
            )


def most_unpacked(packed_bytes: int) -> int:
    """Bytes that an archive of a size may unpack to."""
    return _FREE_BYTES + _EXPANSION * packed_bytes
