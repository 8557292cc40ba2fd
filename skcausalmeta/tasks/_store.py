"""A folder of solved tasks: parts that never change, and a list of them."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..exceptions import InvalidInputError, PersistenceError
from ..learners import DroppedTasks
from ..persistence import in_one_step
from ._manifest import FORMAT, IS_PART, PART, sealed, unsealed
from ._parquet import FailedTasks, is_own, write_blocks

try:
    import fcntl
except ImportError:  # on Windows the file itself is the lock
    fcntl = None  # type: ignore[assignment]

_MANIFEST, _LOCK = "manifest.json", "writer.lock"
_KINDS = {DroppedTasks: "dropped", FailedTasks: "failed"}


class Store:
    """The files of a store.

    A reader sees the list of parts as it was when it was read, and parts are never
    changed: readers go on beside one writer. A part counts from the moment that the
    new list of parts has taken the place of the old one, in one step.

    Parameters
    ----------
    path : Path
        Folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def exists(self) -> bool:
        """Whether there is a list of parts."""
        return (self.path / _MANIFEST).is_file()

    def read(self) -> dict[str, Any]:
        """Return the list of parts, checked.

        Raises
        ------
        PersistenceError
            If it is damaged, of a newer format, or a part is missing or cut short.
        """
        try:
            text = (self.path / _MANIFEST).read_bytes()
        except FileNotFoundError as error:
            raise PersistenceError(
                f"A store of tasks is a folder with {_MANIFEST}. Got {self.path}, "
                "which has none; name one that adapt_table or save_tasks has written."
            ) from error
        manifest = unsealed(text, self.path / _MANIFEST)
        self._check_parts(manifest["parts"])
        return manifest

    def _check_parts(self, parts: Sequence[dict[str, Any]]) -> None:
        for part in parts:
            path = self.path / part["file"]
            size = path.stat().st_size if path.is_file() else None
            if size != part["bytes"]:
                raise PersistenceError(
                    "The parts of a store must be as they were written. Got "
                    f"{part['file']} of {size} bytes in {self.path}, expected "
                    f"{part['bytes']}; restore it from a copy."
                )

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Be the one writer of the store.

        Raises
        ------
        PersistenceError
            If another process writes to it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with _locked(self.path / _LOCK):
            self._sweep()
            yield

    def create(self, facts: dict[str, Any]) -> None:
        """Write an empty list of parts; call it as the writer.

        Raises
        ------
        InvalidInputError
            If there is a store already.
        """
        if self.exists:
            raise InvalidInputError(
                f"A new store needs a folder without one. Got {self.path}; name "
                "another, or update that one."
            )
        self._write({"format": FORMAT, "parts": [], **facts})

    def add(
        self,
        blocks: Sequence[Any],
        *,
        failed: Mapping[Any, str] | None = None,
        key: str | None = None,
    ) -> None:
        """Write blocks as a new part, and put it on the list; call it as the writer.

        Parameters
        ----------
        blocks : list
            Blocks of tasks, or `DroppedTasks`; none for failed tasks alone.
        failed : dict, default=None
            Why other tasks could not be solved, by their ids.
        key : str, default=None
            Of a part of the table that `begin` was told of, which is done with this.
            None: a change that is none of a table.
        """
        manifest = self.read()
        parts = manifest["parts"]
        if len(blocks):
            parts.append(self._part(len(parts), blocks))
        if failed:
            parts.append(self._part(len(parts), [FailedTasks.of(failed)]))
        run = manifest.setdefault("run", {"table": None, "done": []})
        if key is None:
            run.update(table=None, done=[])
        else:
            run["done"].append(key)
        self._write(manifest)

    def begin(self, table: str) -> set[str]:
        """Return the parts of a table that are done; call it as the writer.

        None are where another table or change came last: it may be of the same tasks.

        Parameters
        ----------
        table : str
            Tells the table from any other.
        """
        manifest = self.read()
        run = manifest.get("run", {})
        if run.get("table") == table:
            return set(run["done"])
        self._write({**manifest, "run": {"table": table, "done": []}})
        return set()

    def replace(
        self, blocks_of_parts: Iterator[Sequence[Any]], failed: Mapping[Any, str]
    ) -> None:
        """Write all parts anew, and take them for the old ones; call as the writer."""
        old = self.read()
        parts = [self._part(k, blocks) for k, blocks in enumerate(blocks_of_parts)]
        if failed:
            parts.append(self._part(len(parts), [FailedTasks.of(failed)]))
        self._write({**old, "parts": parts})

    def _part(self, number: int, blocks: Sequence[Any]) -> dict[str, Any]:
        """Write a file that counts when the list names it."""
        name = PART.format(number, secrets.token_hex(4))
        path = self.path / name
        try:
            with path.open("xb") as file:
                write_blocks(file, blocks, name)
                file.flush()
                os.fsync(file.fileno())
                n_bytes = file.tell()
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        kind = _KINDS.get(type(blocks[0]), "solved")
        return {"file": name, "bytes": n_bytes, "kind": kind}

    def _write(self, body: dict[str, Any]) -> None:
        with in_one_step(self.path / _MANIFEST) as file:
            file.write(sealed(body))

    def _sweep(self) -> None:
        """Delete own parts that no list names: a killed writer has left them."""
        if not self.exists:
            return
        known = {part["file"] for part in self.read()["parts"]}
        for path in self.path.glob("part-*.parquet"):
            strange = path.name in known or IS_PART.fullmatch(path.name) is None
            if not strange and is_own(path):
                with suppress(OSError):
                    path.unlink()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a+b") as file:
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            else:
                import msvcrt

                msvcrt.locking(  # type: ignore[attr-defined]
                    file.fileno(),
                    msvcrt.LK_NBLCK,  # type: ignore[attr-defined]
                    1,
                )
        except OSError as error:
            raise PersistenceError(
                f"A store has one writer at a time. Got {path.parent}, which another "
                "process writes to; wait until that has ended."
            ) from error
        yield
