"""Arrays of npz files from anywhere: plain ones, and no more than the file holds."""

from __future__ import annotations

import io
import math
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from ..exceptions import InvalidInputError
from ._printable import printable

# What is packed may grow so many times; small files so many bytes in any case.
_FREE_BYTES, _EXPANSION = 1 << 26, 16
_MOST_HEADER_BYTES = 10_000
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_READERS = {
    (1, 0): npy.read_array_header_1_0,
    (2, 0): npy.read_array_header_2_0,
}


def read_npz_arrays(
    path: Path,
    names: Iterable[str] | None = None,
    *,
    max_bytes: int | None = None,
) -> dict[str, NDArray[Any]]:
    """Read arrays of an npz file that nobody vouches for.

    Parameters
    ----------
    path : Path
        The file.
    names : iterable of str, default=None
        Arrays to read; those that are not there are left out. None: all.
    max_bytes : int, default=None
        Most bytes of all arrays together. None: 64 MB and 16 times the file.

    Returns
    -------
    dict of str to ndarray
        Numbers, text or times; no objects.

    Raises
    ------
    InvalidInputError
        If the file is damaged, holds objects, or arrays larger than it can hold.
    OSError
        If it cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from skcausalmeta.utils import read_npz_arrays
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(Path(folder) / "rows.npz", X=np.eye(2), y=[0, 1])
    ...     print(read_npz_arrays(Path(folder) / "rows.npz", ["y"]))
    {'y': array([0, 1])}
    """
    size = path.stat().st_size
    most = _FREE_BYTES + _EXPANSION * size if max_bytes is None else max_bytes
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(archive, None if names is None else set(names))
            n_bytes = sum(member.file_size for member in members.values())
            if n_bytes > most:
                raise InvalidInputError(
                    f"The arrays of {path.name} must take at most {most >> 20} MB. Got "
                    f"{n_bytes >> 20} MB; divide the file, or allow more."
                )
            return {
                name: _array(archive, member, path.name)
                for name, member in members.items()
            }
    except (InvalidInputError, FileNotFoundError, PermissionError):
        raise
    # Whatever the standard library makes of a damaged archive.
    except Exception as error:
        raise InvalidInputError(
            f"{path.name} must be an npz file of plain arrays. Got "
            f"{printable(str(error)[:200])}; make or fetch it again."
        ) from error


def _members(
    archive: zipfile.ZipFile, names: set[str] | None
) -> dict[str, zipfile.ZipInfo]:
    found: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        name = member.filename.removesuffix(".npy")
        if names is not None and name not in names:
            continue
        if name in found or member.compress_type not in _METHODS:
            raise InvalidInputError(
                "An npz file must hold every array once, stored or deflated. Got "
                f"{printable(name[:60])!r} twice, or packed otherwise; save it again."
            )
        found[name] = member
    return found


def _array(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, file_name: str
) -> NDArray[Any]:
    with archive.open(member) as file:
        head = file.read(min(member.file_size, _MOST_HEADER_BYTES + 16))
        shape, fortran, dtype, begin = _header(io.BytesIO(head), member.filename)
        n_bytes = math.prod(shape) * dtype.itemsize
        if n_bytes != member.file_size - begin:
            raise InvalidInputError(
                f"Every array of {file_name} must be there. Got "
                f"{printable(member.filename[:60])!r} of {member.file_size - begin} "
                f"bytes for the shape {str(shape)[:60]}; make or fetch it again."
            )
        values = np.empty(n_bytes, dtype=np.uint8)
        view = values.data
        view[: len(head) - begin] = head[begin:]
        _fill(file, view[len(head) - begin :])
    found = values.view(dtype) if n_bytes else np.empty(0, dtype)
    _check_letters(found)
    return found.reshape(shape, order="F" if fortran else "C")


def _header(
    file: BinaryIO, name: str
) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, order, type and length of the header of an npy file."""
    reader = _READERS.get(npy.read_magic(file))
    if reader is None:
        raise ValueError(f"an array {name[:60]!r} of an unknown version")
    shape, fortran, dtype = reader(file, max_header_size=_MOST_HEADER_BYTES)
    if dtype.hasobject or dtype.fields is not None:
        raise ValueError(f"{name[:60]!r}: Object arrays cannot be loaded")
    if any(length < 0 for length in shape):
        raise ValueError(f"an array {name[:60]!r} of a negative shape")
    return shape, fortran, dtype, file.tell()


def _check_letters(values: NDArray[Any]) -> None:
    if values.dtype.kind == "U" and values.size:
        codes = values.view(np.dtype("u4").newbyteorder(values.dtype.byteorder))
        if int(codes.max()) > sys.maxunicode:
            raise ValueError("text with a code that is no letter")


def _fill(file: Any, view: memoryview) -> None:
    while len(view):
        n_read = file.readinto(view[: 1 << 20])
        if not n_read:
            raise ValueError("an array that is cut short")
        view = view[n_read:]
    file.read(1)  # which compares the checksum of the archive
