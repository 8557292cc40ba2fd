r"""The file: a safetensors file whose metadata describe an estimator.

::

    8 bytes    length of the header, little-endian
    header     {"__metadata__":{"skcausalmeta":"{\"sha256\":\"<digest>\", ...}"},
                "<tensor>":{"dtype":...,"shape":...,"data_offsets":...}, ...}
    data       the tensors

The digest is that of the whole file with 64 zeros in its own place. A file is read
once, through one descriptor: what was verified is what is used, whatever happens to
its name meanwhile.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..exceptions import PersistenceError
from ..utils import printable
from ._drafts import in_one_step, open_file
from ._strict_json import check_text, read_json, write_json
from ._table import Place, bytes_of, places, table_of, tensor_at

_KEY = "skcausalmeta"
_START = rb'{"__metadata__":{"skcausalmeta":"{\"sha256\":\"'
_ZEROS = "0" * 64
_DIGEST = slice(8 + len(_START), 8 + len(_START) + 64)
# The most that the safetensors library reads, and reason enough to stop writing.
_MOST_HEADER_BYTES = 100_000_000
_BLOCK = 1 << 20


class Header(NamedTuple):
    """What a file says before its numbers."""

    description: dict[str, Any]
    n_tensors: int
    n_bytes: int


def write_file(
    path: Path, description: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> None:
    """Write a file in one step: there is the old one or the new one, never a part.

    Raises
    ------
    OSError
        If the folder cannot be written to.
    PersistenceError
        If the description is too long, or there is something else than a file.
    """
    text = write_json({"sha256": _ZEROS, **description})
    check_text(text)  # what is saved can be loaded
    table, ordered = table_of(tensors)
    header = write_json({"__metadata__": {_KEY: text}, **table}).encode()
    header += b" " * (-len(header) % 8)
    if len(header) > _MOST_HEADER_BYTES:
        raise PersistenceError(
            "The settings and histories of an estimator must take less than 100 MB. "
            f"Got {len(text) / 1e6:.0f} MB of text; drop what is not needed, such as "
            "net_.history_."
        )
    with in_one_step(path) as file:
        found = hashlib.sha256()
        for part in (len(header).to_bytes(8, "little"), header):
            _put(file, memoryview(part), found)
        for tensor in ordered:
            _put(file, bytes_of(tensor), found)
        file.seek(_DIGEST.start)
        file.write(found.hexdigest().encode())


def _put(file: BinaryIO, content: memoryview, found: Any) -> None:
    for start in range(0, len(content), _BLOCK):
        block = content[start : start + _BLOCK]
        found.update(block)
        file.write(block)


class SavedFile:
    """A file, verified as a whole.

    Parameters
    ----------
    path : Path
        The file.
    with_numbers : bool
        Keep the tensors, which are then read with everything else.

    Attributes
    ----------
    header : Header
        What it says before its numbers.

    Raises
    ------
    OSError
        If the file cannot be read.
    PersistenceError
        If it is no saved estimator or does not match its checksum.
    """

    def __init__(self, path: Path, *, with_numbers: bool) -> None:
        self._path = path
        with open_file(path) as file:
            length, size = _lengths(file, path)
            found = hashlib.sha256()
            header = _read_header(file, length, path, found)
            table, description, fault = _parse(header, size - 8 - length, path)
            self._numbers = _read_numbers(file, table, found, keep=with_numbers)
            _read_rest(file, found)
        claimed = header[len(_START) : len(_START) + 64].decode("latin-1")
        if found.hexdigest() != claimed:
            raise PersistenceError(
                f"The file {path} must match its checksum. It does not: it was "
                "changed or cut short since it was saved; get another copy."
            )
        if fault is not None:
            raise fault
        self._table = table
        self.header = Header(description, len(table), size)

    def take(self, name: Any) -> Tensor:
        """A tensor in memory of its own, which one node may have.

        Raises
        ------
        PersistenceError
            If there is no such tensor, or it was taken before.
        """
        if not isinstance(name, str) or name not in self._numbers:
            raise PersistenceError(
                "Every array must be in the file, and stand for one thing. Got no "
                f"{printable(str(name)[:60])!r} that is left in {self._path}; it is "
                "damaged, get another copy."
            )
        return tensor_at(self._table[name], self._numbers.pop(name))


def _lengths(file: BinaryIO, path: Path) -> tuple[int, int]:
    size = file.seek(0, 2)
    file.seek(0)
    start = file.read(8)
    length = int.from_bytes(start, "little")
    if len(start) < 8 or length > min(size - 8, _MOST_HEADER_BYTES):
        _refuse(path, f"a header of {length} bytes in {size}")
    return length, size


def _read_header(file: BinaryIO, length: int, path: Path, found: Any) -> bytes:
    header = file.read(length)
    if len(header) < length or not header.startswith(_START):
        _refuse(path, f"a file that begins with {header[:20]!r}")
    place = slice(len(_START), len(_START) + 64)
    found.update(length.to_bytes(8, "little"))
    found.update(header[: place.start] + _ZEROS.encode())
    found.update(memoryview(header)[place.stop :])
    return header


def _read_numbers(
    file: BinaryIO, table: Mapping[str, Place], found: Any, *, keep: bool
) -> dict[str, NDArray[np.uint8]]:
    """The bytes of every tensor, as far as they are there; none without `keep`."""
    numbers = {}
    for name, place in table.items() if keep else ():
        numbers[name] = values = np.empty(place.n_bytes, dtype=np.uint8)
        view = values.data
        for start in range(0, place.n_bytes, _BLOCK):
            block = view[start : start + _BLOCK]
            got = file.readinto(block)  # type: ignore[attr-defined]
            found.update(block[:got])
    return numbers


def _read_rest(file: BinaryIO, found: Any) -> None:
    while block := file.read(_BLOCK):
        found.update(block)


def file_digest(file: BinaryIO) -> str:
    """Digest of an open file, with zeros in the place of the digest."""
    file.seek(0)
    start = bytearray(file.read(_DIGEST.stop))
    start[_DIGEST] = _ZEROS.encode()
    found = hashlib.sha256(start)
    _read_rest(file, found)
    return found.hexdigest()


def _parse(
    header: bytes, n_bytes: int, path: Path
) -> tuple[dict[str, Place], dict[str, Any], PersistenceError | None]:
    """Places of the tensors and the description, or what is wrong with them.

    What is wrong is said after the checksum, which tells damage from intent.
    """
    try:
        table = read_json(header.decode("ascii"))
        metadata = table.pop("__metadata__")
        if list(metadata) != [_KEY] or not isinstance(metadata[_KEY], str):
            _refuse(path, f"the metadata {printable(str(list(metadata))[:60])}")
        found = places(table, n_bytes, path)
        text = metadata.pop(_KEY)
        description = read_json(text)
        if not isinstance(description, dict):
            _refuse(path, "a description without keys")
    except PersistenceError as error:
        return {}, {}, error
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        return {}, {}, _no_estimator(path, f"a header with {type(error).__name__}")
    return found, description, None


def _refuse(path: Path, got: str) -> NoReturn:
    raise _no_estimator(path, got)


def _no_estimator(path: Path, got: str) -> PersistenceError:
    return PersistenceError(
        f"The file {path} must be an estimator saved by skcausalmeta.persistence.save."
        f" Got {got}; it is of another kind, cut short or damaged."
    )
