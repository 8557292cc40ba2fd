"""Tables in CSV files: numbers by column, labels and ids as they are meant."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..exceptions import InvalidInputError
from ..utils import as_seen, look_alikes, number_in, printable

_LARGEST, _EXACT = 2**63, 2**53
# Longer texts would take the place of the longest in every row of an array.
_MOST_LETTERS = 16


class Columns(NamedTuple):
    """Columns of a file, by position."""

    numbers: list[NDArray[np.float64]]
    texts: list[list[str]]


def read_columns(
    path: Path, numbers: Sequence[int], texts: Sequence[int], max_rows: int
) -> Columns:
    """Read columns of numbers and of text, a row at a time.

    Raises
    ------
    InvalidInputError
        If a row is too short or long, a number is none, a text is empty, or there are
        too many rows.
    """
    values = [array("d") for _ in numbers]
    found: list[list[str]] = [[] for _ in texts]
    known: dict[str, str] = {}  # one copy of each text
    with _Rows(path) as rows:
        names = rows.header()
        for count, row in enumerate(rows):
            if count == max_rows:
                raise InvalidInputError(
                    f"A table must have at most {max_rows} rows. Got more in "
                    f"{path.name}; divide it, or allow more by --max-rows."
                )
            for column, into in zip(numbers, values, strict=True):
                into.append(_number(row[column], names[column], rows))
            for column, kept in zip(texts, found, strict=True):
                text = row[column].strip()
                if not text or text.lower() == "nan":
                    raise InvalidInputError(
                        f"Every row must have a value in {names[column]!r}. Got none "
                        f"in line {rows.line} of {path.name}; fill it, or drop the row."
                    )
                kept.append(known.setdefault(text, text))
    return Columns([np.array(column) for column in values], found)


def read_header(path: Path) -> list[str]:
    """Names of the columns.

    Raises
    ------
    InvalidInputError
        If two columns share a name.
    """
    with _Rows(path) as rows:
        return rows.header()


class _Rows:
    """Rows of a file, all as long as its header."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> _Rows:
        # Excel begins a file with a mark of the order of bytes.
        self._file = self._path.open(newline="", encoding="utf-8-sig")
        self._reader = csv.reader(self._file, strict=True)
        self._width = 0
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def line(self) -> int:
        """Number of the line that was read last."""
        return self._reader.line_num

    def header(self) -> list[str]:
        names = [name.strip() for name in next(self._plain(), [])]
        seen: set[str] = set()
        for name in names:
            if as_seen(name) in seen:
                raise InvalidInputError(
                    "Columns must have names of their own. Got two that are called "
                    f"{printable(name[:60])!r} in {self._path.name}; rename one."
                )
            seen.add(as_seen(name))
        self._width = len(names)
        return names

    def __iter__(self) -> Iterator[list[str]]:
        for row in self._plain():
            if not row:  # a blank line
                continue
            if len(row) != self._width:
                kind = "shorter" if len(row) < self._width else "longer"
                raise InvalidInputError(
                    f"Every row must have the {self._width} columns of the header. Got "
                    f"line {self.line} of {self._path.name}, which is {kind}; mend it."
                )
            yield row

    def _plain(self) -> Iterator[list[str]]:
        try:
            yield from self._reader
        except UnicodeDecodeError as error:
            raise InvalidInputError(
                f"A CSV file must be in UTF-8. Got {self._path.name}, which is not "
                f"({error.reason}); save it as 'CSV UTF-8'."
            ) from error
        except csv.Error as error:
            raise InvalidInputError(
                f"{self._path.name} must be a CSV file. Got an error in line "
                f"{self.line}: {printable(str(error))}; mend it."
            ) from error


def _number(text: str, name: str, rows: _Rows) -> float:
    """A number; NaN where the file says so, which is for the estimator to judge."""
    try:
        # Digits of other scripts and marks between digits are no numbers in a table.
        if text.isascii() and "_" not in text:
            return float(text)
    except ValueError:
        pass
    raise InvalidInputError(
        f"Features must be numbers. Got column {printable(name[:60])!r} with "
        f"{printable(text[:40])!r} in line {rows.line}; encode or drop it."
    )


def labels_of(texts: list[str], name: str, *, values: bool) -> NDArray[Any]:
    """Targets as whole numbers, numbers or text, whichever all of them are.

    Parameters
    ----------
    texts : list of str
        One per row.
    name : str
        Name of the column, for messages.
    values : bool
        Whether they are values of a regression, so that 1 and 1.0 are the same.

    Raises
    ------
    InvalidInputError
        If values are no finite numbers, or two labels look alike.
    """
    kinds = list(dict.fromkeys(texts))
    if values:
        numbers = [number_in(text) for text in kinds]
        if None in numbers:
            wrong = kinds[numbers.index(None)]
            raise InvalidInputError(
                "The targets of a regressor must be finite numbers. Got "
                f"{printable(wrong[:40])!r} in {name!r}; mend it, or drop the row."
            )
        known = dict(zip(kinds, numbers, strict=True))
        return np.array([known[text] for text in texts], dtype=np.float64)
    check_look_alikes(kinds, name)
    wholes = [_whole(text) for text in kinds]
    numbers = [number_in(text) for text in kinds]
    exact = [n if n is not None and abs(n) < _EXACT else None for n in numbers]
    for read, dtype in ((wholes, np.int64), (exact, np.float64)):
        if None not in read:
            table = dict(zip(kinds, read, strict=True))
            return np.array([table[text] for text in texts], dtype=dtype)
    return texts_of(texts)


def texts_of(texts: list[str]) -> NDArray[Any]:
    """Texts as an array, of objects where one is long."""
    longest = max(map(len, set(texts)), default=0)
    return np.array(texts, dtype=object if longest > _MOST_LETTERS else None)


def check_look_alikes(kinds: list[str], name: str) -> None:
    """Refuse labels or ids that differ in writing only, such as 1, 01 and 1.0.

    Raises
    ------
    InvalidInputError
        With the two.
    """
    pair = look_alikes(kinds)
    if pair is not None:
        other, text = pair
        raise InvalidInputError(
            f"Labels and ids must be written alike. Got {printable(other)!r} "
            f"and {printable(text)!r} in {printable(name[:60])!r}, which look "
            "like the same; write them in one way."
        )


def _whole(text: str) -> int | None:
    """Whole number of a text; None where it is none, or is too large for one."""
    digits = text.removeprefix("-")
    plain = digits.isascii() and digits.isdigit() and len(digits) < 20
    value = int(text) if plain else _LARGEST
    return value if -_LARGEST <= value < _LARGEST else None
