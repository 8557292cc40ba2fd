"""Where data sets lie on this machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from sklearn.utils._param_validation import Interval

_VARIABLE = "SKCAUSALMETA_DATA"
_DEFAULT = "~/skcausalmeta_data"

LOCAL_CONSTRAINTS: dict[str, list[Any]] = {
    "data_home": [str, os.PathLike, None],
    "return_X_y": ["boolean"],
}
FETCH_CONSTRAINTS: dict[str, list[Any]] = {
    **LOCAL_CONSTRAINTS,
    "download_if_missing": ["boolean"],
    "n_retries": [Interval(Integral, 0, None, closed="left")],
    "delay": [Interval(Real, 0, None, closed="left")],
}


def get_data_home(data_home: str | os.PathLike[str] | None = None) -> Path:
    """Folder that the `fetch_*` functions read from and download to.

    Parameters
    ----------
    data_home : path-like, default=None
        The folder; "~" is the home folder of the user. None: the environment
        variable SKCAUSALMETA_DATA, or ``~/skcausalmeta_data`` if it is not set.

    Returns
    -------
    Path
        The folder, which need not exist: a download makes it.

    Examples
    --------
    >>> from skcausalmeta.datasets import get_data_home
    >>> print(get_data_home("my_data"))
    my_data
    """
    folder = data_home if data_home is not None else os.environ.get(_VARIABLE)
    return Path(folder or _DEFAULT).expanduser()


def find(folder: Path, names: Sequence[str]) -> Path | None:
    """The first of some files or folders that is there."""
    present = (folder / name for name in names if (folder / name).exists())
    return next(present, None)


def missing(names: Sequence[str], folder: Path, remedy: str) -> FileNotFoundError:
    """Error that says what was looked for, where, and what to do."""
    return FileNotFoundError(
        f"Cannot find {' or '.join(names)} in {str(folder)!r}. {remedy}, or pass the "
        f"folder that holds it as data_home or in the environment variable {_VARIABLE}."
    )
