"""Files that appear in one step, and the drafts that a crash leaves behind."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ..exceptions import PersistenceError

try:
    import fcntl
except ImportError:  # on Windows, where nobody deletes an open file
    fcntl = None  # type: ignore[assignment]

_NAMES = ".skcausalmeta-{}-{}.tmp"
_TRIES = 100


def open_file(path: Path) -> BinaryIO:
    """Open a file to read; what would make a reader wait, such as a pipe, is refused.

    Raises
    ------
    OSError
        If it cannot be read.
    PersistenceError
        If it is no file.
    """
    file = path.open("rb") if os.name == "nt" else _opened_at_once(path)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise _no_file(path)
    return file


def _opened_at_once(path: Path) -> BinaryIO:
    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NONBLOCK)

    return open(path, "rb", opener=opener)


@contextmanager
def in_one_step(path: Path) -> Iterator[BinaryIO]:
    """File to write that takes its name when the block ends without an error.

    It has the permissions that the umask leaves to new files. A link stays, and the
    file that it names is written. Drafts for the same file that killed processes have
    left are deleted.

    Parameters
    ----------
    path : Path
        Where the file shall be.

    Yields
    ------
    binary file
        To write to; after an error the old file stays, or none.

    Raises
    ------
    OSError
        If the folder cannot be written to.
    PersistenceError
        If there is something else than a file.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skcausalmeta.persistence import in_one_step
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "numbers"
    ...     with in_one_step(path) as file:
    ...         _ = file.write(b"1 2 3")
    ...     path.read_bytes()
    b'1 2 3'
    """
    target = _target(path)
    _sweep(target)
    draft, file = _new_draft(target)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if os.name != "nt":
                # While it is locked, so that nobody takes it for left behind.
                os.replace(draft, target)
        if os.name == "nt":
            os.replace(draft, target)
    finally:
        draft.unlink(missing_ok=True)
    _sync_folder(target.parent)


def _target(path: Path) -> Path:
    target = Path(os.path.realpath(path))
    if target.is_symlink():  # realpath leaves links that go round in circles
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if target.exists() and not target.is_file():
        raise _no_file(path)
    return target


def _no_file(path: Path) -> PersistenceError:
    return PersistenceError(
        f"An estimator is saved in a file. Got {path}, which is a pipe or a device; "
        "name a file."
    )


def _draft_name(target: Path, token: str) -> str:
    # Of a fixed length: a name may be as long as the file system takes.
    return _NAMES.format(
        hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16], token
    )


def _new_draft(target: Path) -> tuple[Path, BinaryIO]:
    """A new file beside the target, since a move in one step crosses no file system."""
    for _ in range(_TRIES):
        draft = target.with_name(_draft_name(target, secrets.token_hex(8)))
        file = draft.open("xb")
        # Between the two lines above and below, another process may sweep it.
        if _lock(file) is not False and draft.exists():
            return draft, file
        file.close()
    raise OSError(errno.EAGAIN, "no draft stays in the folder", str(target.parent))


def _lock(file: BinaryIO) -> bool | None:
    """Whether the lock was free, which ends with its process; None where none is."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _sweep(target: Path) -> None:
    """Delete drafts of this file that no process is writing any more."""
    ours = re.compile(re.escape(_draft_name(target, "@")).replace("@", "[0-9a-f]{16}"))
    with suppress(OSError), os.scandir(target.parent) as entries:
        for entry in entries:
            if ours.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with suppress(OSError):
                    _delete_if_left(Path(entry.path))


def _delete_if_left(draft: Path) -> None:
    if fcntl is None:
        draft.unlink()  # fails while a process has it open
        return
    with draft.open("r+b") as file:
        if _lock(file):
            draft.unlink()


def _sync_folder(folder: Path) -> None:
    """Make the new name of a file last through a power cut, where there is a way."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
