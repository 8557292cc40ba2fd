"""Exam scores of pupils, with a task a school."""

from __future__ import annotations

import os

from sklearn.utils import Bunch
from sklearn.utils._param_validation import validate_params

from ._data_home import LOCAL_CONSTRAINTS, find, get_data_home, missing
from ._manifest import read_checked_npz
from ._task_rows import check_rows

_NPZ = "school.npz"
_DESCR = """\
Exam scores of 15,362 pupils of 139 schools in inner London in three years, by year,
sex, ethnic group, results of an earlier test and facts about the school.
Inner London Education Authority; in multi-task learning since T. Evgeniou, C. A.
Micchelli, M. Pontil (2005). Learning multiple tasks with kernel methods. JMLR 6,
615-637.
"""


@validate_params(
    {"data_home": LOCAL_CONSTRAINTS["data_home"]}, prefer_skip_nested_validation=True
)
def fetch_school(*, data_home: str | os.PathLike[str] | None = None) -> Bunch:
    """Load exam scores of pupils, a regression task a school.

    Parameters
    ----------
    data_home : path-like, default=None
        Folder with ``school.npz`` (see Notes). Nothing is downloaded. None: see
        `get_data_home`.

    Returns
    -------
    Bunch
        ``data`` (n, 27) float32; ``target`` (n,) exam scores; ``tasks`` (n,) number of
        the school; ``DESCR``.

    Raises
    ------
    FileNotFoundError
        If the file is not there.
    InvalidInputError
        If it is damaged, or has another checksum than ``MANIFEST.sha256`` beside it
        says.

    Notes
    -----
    The npz file holds ``X`` (n, 27), ``y`` (n,) and ``tasks`` (n,).

    References
    ----------
    .. [1] T. Evgeniou, C. A. Micchelli, M. Pontil (2005). Learning multiple tasks with
       kernel methods. JMLR 6, 615-637.

    Examples
    --------
    >>> from skcausalmeta.datasets import fetch_school
    >>> fetch_school(data_home="no such folder")
    Traceback (most recent call last):
    ...
    FileNotFoundError: Cannot find school.npz in 'no such folder'. ...
    """
    home = get_data_home(data_home)
    path = find(home, [_NPZ])
    if path is None:
        raise missing([_NPZ], home, "Put the file there")
    arrays = read_checked_npz(path, ("X", "y", "tasks"))
    check_rows(arrays, path.name)
    return Bunch(
        data=arrays["X"], target=arrays["y"], tasks=arrays["tasks"], DESCR=_DESCR
    )
