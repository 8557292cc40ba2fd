"""WISDM: activities of people, with a task a person."""

from __future__ import annotations

import os

import numpy as np
from sklearn.utils import Bunch
from sklearn.utils._param_validation import validate_params

from ._data_home import LOCAL_CONSTRAINTS, find, get_data_home, missing
from ._manifest import read_checked_npz
from ._task_rows import check_rows

_NPZ = "wisdm.npz"
_DESCR = """\
WISDM activity recognition v1.1: 43 summaries of ten seconds of a telephone's
accelerometer, six activities of 36 people, who have two to six of them (person 9 has
one).
J. R. Kwapisz, G. M. Weiss, S. A. Moore (2010). Activity recognition using cell phone
accelerometers. ACM SIGKDD Explorations 12, 74-82.
"""


@validate_params(
    {"data_home": LOCAL_CONSTRAINTS["data_home"]}, prefer_skip_nested_validation=True
)
def fetch_wisdm(*, data_home: str | os.PathLike[str] | None = None) -> Bunch:
    """Load activities of people, a task a person.

    Parameters
    ----------
    data_home : path-like, default=None
        Folder with ``wisdm.npz`` (see Notes). Nothing is downloaded. None: see
        `get_data_home`.

    Returns
    -------
    Bunch
        ``data`` (n, 43) float32; ``target`` (n,) numbers of activities, whose names
        are ``names`` (6,); ``tasks`` (n,) number of the person; ``DESCR``.

    Raises
    ------
    FileNotFoundError
        If the file is not there.
    InvalidInputError
        If it is damaged, or has another checksum than ``MANIFEST.sha256`` beside it
        says.

    Notes
    -----
    The npz file holds ``X`` (n, 43), ``y`` (n,), ``tasks`` (n,) and ``classes`` (6,).

    References
    ----------
    .. [1] J. R. Kwapisz, G. M. Weiss, S. A. Moore (2010). Activity recognition using
       cell phone accelerometers. ACM SIGKDD Explorations 12, 74-82.

    Examples
    --------
    >>> from skcausalmeta.datasets import fetch_wisdm
    >>> fetch_wisdm(data_home="no such folder")
    Traceback (most recent call last):
    ...
    FileNotFoundError: Cannot find wisdm.npz in 'no such folder'. ...
    """
    home = get_data_home(data_home)
    path = find(home, [_NPZ])
    if path is None:
        raise missing([_NPZ], home, "Put the file there")
    arrays = read_checked_npz(path, ("X", "y", "tasks", "classes"))
    check_rows(arrays, path.name)
    return Bunch(
        data=arrays["X"],
        target=arrays["y"].astype(np.int64),
        tasks=arrays["tasks"],
        names=arrays["classes"],
        DESCR=_DESCR,
    )
