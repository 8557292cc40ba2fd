"""Download of one file, complete and verified or not at all."""

from __future__ import annotations

import hashlib
import os
import tempfile
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO, NamedTuple
from urllib.error import URLError

_BLOCK = 1 << 20
_TIMEOUT = 60.0  # seconds without an answer


class RemoteFile(NamedTuple):
    """Where a file is, and how to know it."""

    name: str
    url: str
    sha256: str


def download(remote: RemoteFile, folder: Path) -> Path:
    """Fetch a file into a folder; what arrives broken is deleted."""
    by_hand = (
        f"Try again, or put {remote.url} as {remote.name} into {str(folder)!r} by hand."
    )
    folder.mkdir(parents=True, exist_ok=True)
    # The final name appears in one step, so that no reader sees half a file.
    handle, part = tempfile.mkstemp(prefix=f"{remote.name}.", dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            digest = _copy(remote.url, file)
        if digest != remote.sha256:
            raise OSError(
                f"{remote.name} must have the SHA-256 {remote.sha256}. Got {digest}: "
                f"the file was cut off or replaced. {by_hand}"
            )
        os.replace(part, folder / remote.name)
    except (URLError, HTTPException, TimeoutError) as error:
        os.unlink(part)
        raise OSError(
            f"{remote.name} could not be downloaded: {error}. {by_hand}"
        ) from error
    except BaseException:  # Ctrl-C too leaves nothing behind
        os.unlink(part)
        raise
    return folder / remote.name


def _copy(url: str, file: BinaryIO) -> str:
    """Write what a URL holds and return its SHA-256."""
    digest = hashlib.sha256()
    with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:
        while block := answer.read(_BLOCK):
            file.write(block)
            digest.update(block)
    return digest.hexdigest()
