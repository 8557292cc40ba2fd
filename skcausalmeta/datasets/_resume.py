"""Transfers over HTTP that continue where they broke off."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

_BLOCK = 1 << 18
_TIMEOUT = 60.0  # seconds without an answer
_EXTENT = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")


class TransferError(Exception):
    """A transfer that failed; `final` if another try would fail alike."""

    def __init__(self, message: str, *, final: bool = False) -> None:
        super().__init__(message)
        self.final = final


class ResumingDownloader:
    """Downloader for pooch that asks for what is missing of a part.

    The part stays beside the file to come when a transfer breaks off. It holds bytes
    as they were sent; whether they are the right ones, the checksum tells, which
    pooch compares.

    Parameters
    ----------
    part : Path
        Where to keep what has arrived.

    Attributes
    ----------
    resumed : bool
        Whether the last transfer continued an earlier one.
    """

    def __init__(self, part: Path) -> None:
        self._part = part
        self.resumed = False

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        """Complete the part and move it to where pooch wants it."""
        import requests
        from urllib3.exceptions import HTTPError

        try:
            self._complete(url, requests)
        except requests.HTTPError as error:
            # Of the errors of a client, only these two pass by themselves.
            code = 0 if error.response is None else error.response.status_code
            final = 400 <= code < 500 and code not in (408, 429)
            raise TransferError(f"{error}.", final=final) from error
        except (requests.RequestException, HTTPError) as error:
            raise TransferError(f"{error}.") from error
        os.replace(self._part, output_file)

    def _complete(self, url: str, requests: Any) -> None:
        begin = self._part.stat().st_size if self._part.exists() else 0
        # Bytes as they are stored: a range of a compressed stream has no meaning.
        headers = {"Accept-Encoding": "identity"}
        if begin:
            headers["Range"] = f"bytes={begin}-"
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as got:
            start, total = _extent(got)
            if got.status_code == 416 and total == begin > 0:
                self.resumed = True
                return
            if got.status_code == 416 or start not in (0, begin):
                self._part.unlink(missing_ok=True)
                raise TransferError("the server sent another part than asked for.")
            got.raise_for_status()
            self.resumed = start > 0
            with self._part.open("ab" if start else "wb") as file:
                for block in got.raw.stream(_BLOCK, decode_content=False):
                    file.write(block)
                size = file.tell()
        if total is not None and size < total:
            raise TransferError(f"the transfer ended after {size} of {total} bytes.")


def _extent(answer: Any) -> tuple[int, int | None]:
    """First byte of an answer, and the length of the whole file if it is stated."""
    if answer.status_code not in (206, 416):
        length = answer.headers.get("Content-Length", "")
        return 0, int(length) if length.isdigit() else None
    stated = _EXTENT.fullmatch(answer.headers.get("Content-Range", "").strip())
    if stated is None:
        return -1, None
    start, total = stated.groups()
    return int(start or 0), int(total) if total not in (None, "*") else None
