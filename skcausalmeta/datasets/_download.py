"""Download of one file: verified, or not there at all."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ._data_home import missing
from ._resume import ResumingDownloader, TransferError


class RemoteFile(NamedTuple):
    """Where a file is, and how to know it."""

    name: str
    url: str
    checksum: str  # "sha256:..." or "md5:..."

    def error(self, what: Any, folder: Path) -> OSError:
        """Why there is no file, and what to do."""
        return OSError(
            f"{self.name} could not be downloaded: {what} Try again later, or put "
            f"{self.url} as {self.name} into {str(folder)!r} by hand."
        )


def fetch_files(
    remotes: Sequence[RemoteFile],
    folder: Path,
    *,
    download_if_missing: bool,
    n_retries: int,
    delay: float,
    instead: str,
) -> list[Path]:
    """Paths of files, of which those that are not in the folder are downloaded.

    Parameters
    ----------
    remotes : sequence of RemoteFile
        The files.
    folder : Path
        Where they belong.
    download_if_missing : bool
        Whether to download at all.
    n_retries : int
        How often to try again after a broken transfer.
    delay : float
        Seconds between two tries.
    instead : str
        Another file that would have served, for the message.

    Raises
    ------
    FileNotFoundError
        If a file is not there and may not be downloaded.
    OSError
        If a download fails.
    """
    absent = [remote for remote in remotes if not (folder / remote.name).is_file()]
    if absent and not download_if_missing:
        raise missing(
            [instead, absent[0].name],
            folder,
            f"Use download_if_missing=True, put {absent[0].url} there by hand",
        )
    for remote in absent:
        download(remote, folder, n_retries=n_retries, delay=delay)
    return [folder / remote.name for remote in remotes]


def download(
    remote: RemoteFile, folder: Path, *, n_retries: int = 3, delay: float = 1.0
) -> Path:
    """Download a file; its name appears once it has the checksum.

    A transfer that breaks off is continued by the next try, or the next call. A file
    with another checksum is deleted.
    """
    pooch = _import_pooch(remote)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise remote.error(f"{error}.", folder) from error
    downloader = ResumingDownloader(folder / f"{remote.name}.part")
    while True:
        try:
            path = pooch.retrieve(
                remote.url,
                known_hash=remote.checksum,
                fname=remote.name,
                path=folder,
                downloader=downloader,
            )
        except (TransferError, ValueError) as error:
            # A wrong checksum of what came in one piece will be wrong again.
            again = not error.final if isinstance(error, TransferError) else False
            if n_retries == 0 or not (again or downloader.resumed):
                raise remote.error(error, folder) from error
        except OSError as error:  # the disk is full, the folder is read-only
            raise remote.error(f"{error}.", folder) from error
        else:
            return Path(path)
        n_retries -= 1
        time.sleep(delay)


def _import_pooch(remote: RemoteFile) -> Any:
    try:
        import pooch
    except ImportError as error:
        raise ImportError(
            f"pooch downloads {remote.name}. Install it with 'pip install pooch' or "
            f"'pip install skcausalmeta[data]', or put {remote.url} into the folder "
            "by hand."
        ) from error
    return pooch
