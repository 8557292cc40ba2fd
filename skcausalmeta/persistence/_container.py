r"""The file: a safetensors file whose metadata describe an estimator.

::

    8 bytes    length of the header, little-endian
    header     {"__metadata__":{"skcausalmeta":"{\"sha256\":\"<digest>\", ...}"},
                "<tensor>":{"dtype":...,"shape":...,"data_offsets":...}, ...}
    data       the tensors

The digest is that of the whole file with 64 zeros in its own place.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..exceptions import PersistenceError
from ._strict_json import read_json, write_json

_KEY = "skcausalmeta"
_START = rb'{"__metadata__":{"skcausalmeta":"{\"sha256\":\"'
_ZEROS = "0" * 64
_DIGEST = slice(8 + len(_START), 8 + len(_START) + 64)
# The most that the safetensors library reads, and reason enough to stop writing.
_MOST_HEADER_BYTES = 100_000_000
_BLOCK = 1 << 20


class Header(NamedTuple):
    """What a file says before its numbers."""

    metadata: str
    description: dict[str, Any]
    tensors: dict[str, Any]
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
        If the description is too long, or the library cannot write.
    """
    text = write_json({"sha256": _ZEROS, **description})
    if len(write_json(text)) > _MOST_HEADER_BYTES - 200 * len(tensors):
        raise PersistenceError(
            "The settings and histories of an estimator must take less than 100 MB. "
            f"Got {len(text) / 1e6:.0f} MB of text; drop what is not needed, such as "
            "net_.history_."
        )
    # Beside the target, since a file moves in one step within a file system only.
    draft = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        draft.open("xb").close()
        save_file(dict(tensors), draft, metadata={_KEY: text})
        with draft.open("r+b") as file:
            digest = file_digest(file)
            file.seek(_DIGEST.start)
            file.write(digest.encode())
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except SafetensorError as error:
        raise PersistenceError(
            f"The numbers of the estimator could not be written. Got: {error}; check "
            "the space on the disk."
        ) from error
    finally:
        draft.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make the new name of a file last through a power cut, where there is a way."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_header(path: Path) -> Header:
    """Verify a file as a whole and read what comes before its numbers.

    Raises
    ------
    OSError
        If the file cannot be read.
    PersistenceError
        If it is no saved estimator or does not match its checksum.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > min(size - 8, _MOST_HEADER_BYTES):
            raise _no_estimator(path, f"a header of {length} bytes in {size}")
        header = file.read(length)
        if not header.startswith(_START):
            raise _no_estimator(path, f"a file that begins with {header[:20]!r}")
        claimed = header[len(_START) : len(_START) + 64].decode("latin-1")
        if file_digest(file) != claimed:
            raise PersistenceError(
                f"The file {path} must match its checksum. It does not: it was "
                "changed or cut short since it was saved; get another copy."
            )
    return _parse(path, header, size)


def file_digest(file: BinaryIO) -> str:
    """Digest of an open file, with zeros in the place of the digest."""
    file.seek(0)
    start = bytearray(file.read(_DIGEST.stop))
    start[_DIGEST] = _ZEROS.encode()
    found = hashlib.sha256(start)
    while block := file.read(_BLOCK):
        found.update(block)
    return found.hexdigest()


def _parse(path: Path, header: bytes, size: int) -> Header:
    try:
        table = read_json(header.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise _no_estimator(path, str(error)) from error
    metadata = table.pop("__metadata__")
    if list(metadata) != [_KEY] or not isinstance(metadata[_KEY], str):
        raise _no_estimator(path, f"the metadata {list(metadata)}")
    description = read_json(metadata[_KEY])
    if not isinstance(description, dict):
        raise _no_estimator(path, "a description without keys")
    return Header(metadata[_KEY], description, table, size)


def _no_estimator(path: Path, got: str) -> PersistenceError:
    return PersistenceError(
        f"The file {path} must be an estimator saved by skcausalmeta.persistence.save."
        f" Got {got}; it is of another kind, cut short or damaged."
    )


class TensorReader:
    """Tensors of a file whose header has been read.

    Parameters
    ----------
    path : Path
        The file.
    header : Header
        What `read_header` found.

    Raises
    ------
    PersistenceError
        If the sizes in the header do not fit the file, or the file was replaced
        since.
    """

    def __init__(self, path: Path, header: Header) -> None:
        self._path = path
        try:
            # Maps the file: nothing is allocated, whatever sizes it claims.
            self._file = safe_open(path, framework="pt")
        except SafetensorError as error:
            raise _no_estimator(path, f"the sizes of its numbers wrong: {error}") from (
                error
            )
        if (self._file.metadata() or {}).get(_KEY) != header.metadata:
            raise PersistenceError(
                f"The file {path} must not change while it is read. It was replaced; "
                "read it again."
            )
        self._names = set(self._file.keys())

    def __getitem__(self, name: str) -> Tensor:
        """The tensor on the file itself: copy it, do not keep it."""
        if not isinstance(name, str) or name not in self._names:
            raise PersistenceError(
                f"Every array must be in the file. Got no {name!r} in {self._path}; "
                "it is damaged, get another copy."
            )
        return self._file.get_tensor(name)
