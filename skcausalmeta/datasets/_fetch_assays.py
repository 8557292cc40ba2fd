"""Tox21 and ToxCast: molecules by assays, with a task an assay."""

from __future__ import annotations

import os
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils import Bunch
from sklearn.utils._param_validation import Interval, validate_params

from ._assays import N_BITS, RADIUS, keep_assays, long_bunch, read_molecules, wide_bunch
from ._data_home import LOCAL_CONSTRAINTS, get_data_home

_COUNT = Interval(Integral, 1, None, closed="left")
_CONSTRAINTS: dict[str, list[Any]] = {
    "data_home": LOCAL_CONSTRAINTS["data_home"],
    "radius": [Interval(Integral, 0, None, closed="left")],
    "n_bits": [_COUNT],
    "wide": ["boolean"],
    "max_per_task": [_COUNT, None],
    "random_state": ["random_state"],
}
_NEW = ("SR-HSE", "SR-MMP", "SR-p53")

_TOX21 = """\
Tox21: about 8,000 molecules in 12 assays of nuclear receptors and stress response,
active (1) or not (0), as Morgan fingerprints. A molecule can occur in several assays.
A. Mayr, G. Klambauer, T. Unterthiner, S. Hochreiter (2016). DeepTox: toxicity
prediction using deep learning. Frontiers in Environmental Science 3, 80.
The division into 9 training and 3 new assays is that of H. Altae-Tran, B. Ramsundar,
A. S. Pappu, V. Pande (2017). Low data drug discovery with one-shot learning. ACS
Central Science 3, 283-293.
"""
_TOXCAST = """\
ToxCast: about 8,600 molecules in hundreds of assays, active (1) or not (0), as Morgan
fingerprints. A molecule can occur in many assays.
A. M. Richard et al. (2016). ToxCast chemical landscape: paving the road to 21st century
toxicology. Chemical Research in Toxicology 29, 1225-1251.
"""


@validate_params(_CONSTRAINTS, prefer_skip_nested_validation=True)
def fetch_tox21(
    *,
    data_home: str | os.PathLike[str] | None = None,
    radius: int = RADIUS,
    n_bits: int = N_BITS,
    wide: bool = False,
    max_per_task: int | None = None,
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    """Load molecules with their activity in 12 assays, a task an assay.

    Parameters
    ----------
    data_home : path-like, default=None
        Folder with ``tox21.npz`` (see Notes), or with ``tox21.csv`` or
        ``tox21.csv.gz`` of DeepChem, whose fingerprints RDKit then makes. Nothing is
        downloaded. None: see `get_data_home`.
    radius : int, default=2
        Radius of the Morgan fingerprints. Other fingerprints than the default need
        the CSV file.
    n_bits : int, default=1024
        Length of the fingerprints.
    wide : bool, default=False
        A row a molecule and a column of labels an assay, NaN where there is no label,
        and neither ``tasks`` nor ``split``. False: a row a label.
    max_per_task : int, default=None
        Most rows of an assay, drawn at random; for ``wide=False``. None: all.
    random_state : int, RandomState instance or None, default=None
        Draws these rows.

    Returns
    -------
    Bunch
        ``data`` (n, n_bits) uint8, 0 or 1; ``target`` (n,), 1 for active; ``tasks``
        (n,) numbers of assays, whose names are ``names`` (12,); ``molecule`` (n,)
        number of the molecule of a row, so that molecules can be held apart;
        ``split`` (n,) "train" or "test", the published division of the assays;
        ``DESCR``. With `wide`, ``target`` is (n, 12).

    Raises
    ------
    FileNotFoundError
        If no file is there.
    ImportError
        If a CSV file is there and RDKit is not installed.
    InvalidInputError
        If a file is damaged, or has another checksum than ``MANIFEST.sha256`` beside
        it says.

    See Also
    --------
    fetch_toxcast : Hundreds of assays.

    Notes
    -----
    The npz file holds ``X_bits`` (n, 128) packed bits of radius 2, ``Y`` (n, 12) 0, 1
    or -1 for no label, and ``names``. Molecules that RDKit cannot read are left out.

    References
    ----------
    .. [1] A. Mayr et al. (2016). DeepTox: toxicity prediction using deep learning.
       Frontiers in Environmental Science 3, 80.
    .. [2] H. Altae-Tran et al. (2017). Low data drug discovery with one-shot learning.
       ACS Central Science 3, 283-293.

    Examples
    --------
    >>> from skcausalmeta.datasets import fetch_tox21
    >>> fetch_tox21(data_home="no such folder")
    Traceback (most recent call last):
    ...
    FileNotFoundError: Cannot find tox21.npz or tox21.csv or tox21.csv.gz in ...
    """
    found = read_molecules(
        get_data_home(data_home),
        "tox21.npz",
        ("tox21.csv", "tox21.csv.gz"),
        radius,
        n_bits,
    )
    if wide:
        return wide_bunch(found, _TOX21)
    bunch = long_bunch(found, max_per_task, random_state, _TOX21)
    new = np.isin(bunch.names, _NEW)
    bunch.split = np.where(new[bunch.tasks], "test", "train")
    return bunch


@validate_params(
    {**_CONSTRAINTS, "min_per_class": [_COUNT]}, prefer_skip_nested_validation=True
)
def fetch_toxcast(
    *,
    data_home: str | os.PathLike[str] | None = None,
    min_per_class: int = 100,
    radius: int = RADIUS,
    n_bits: int = N_BITS,
    wide: bool = False,
    max_per_task: int | None = None,
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    """Load molecules with their activity in hundreds of assays, a task an assay.

    Parameters
    ----------
    data_home : path-like, default=None
        Folder with ``toxcast.npz`` (see Notes), or with ``toxcast_data.csv`` or
        ``toxcast_data.csv.gz`` of DeepChem, whose fingerprints RDKit then makes.
        Nothing is downloaded. None: see `get_data_home`.
    min_per_class : int, default=100
        Assays with fewer active or fewer inactive molecules are left out.
    radius : int, default=2
        Radius of the Morgan fingerprints. Other fingerprints than the default need
        the CSV file.
    n_bits : int, default=1024
        Length of the fingerprints.
    wide : bool, default=False
        A row a molecule and a column of labels an assay, NaN where there is no label,
        and no ``tasks``. False: a row a label, which is a million rows, one gigabyte.
    max_per_task : int, default=None
        Most rows of an assay, drawn at random; for ``wide=False``. None: all.
    random_state : int, RandomState instance or None, default=None
        Draws these rows.

    Returns
    -------
    Bunch
        ``data`` (n, n_bits) uint8, 0 or 1; ``target`` (n,), 1 for active; ``tasks``
        (n,) numbers of assays, whose names are ``names``; ``molecule`` (n,) number of
        the molecule of a row, so that molecules can be held apart; ``DESCR``. With
        `wide`, ``target`` is (n, n_tasks).

    Raises
    ------
    FileNotFoundError
        If no file is there.
    ImportError
        If a CSV file is there and RDKit is not installed.
    InvalidInputError
        If a file is damaged, has another checksum than ``MANIFEST.sha256`` beside it
        says, or no assay is left.

    See Also
    --------
    fetch_tox21 : Twelve assays with a published division.

    Notes
    -----
    The npz file holds ``X_bits`` (n, 128) packed bits of radius 2, ``Y`` (n, n_tasks)
    0, 1 or -1 for no label, and ``names``, of the 309 assays that have at least 100
    molecules of either class. Molecules that RDKit cannot read are left out.

    References
    ----------
    .. [1] A. M. Richard et al. (2016). ToxCast chemical landscape. Chemical Research
       in Toxicology 29, 1225-1251.

    Examples
    --------
    >>> from skcausalmeta.datasets import fetch_toxcast
    >>> fetch_toxcast(data_home="no such folder")
    Traceback (most recent call last):
    ...
    FileNotFoundError: Cannot find toxcast.npz or toxcast_data.csv or ...
    """
    found = read_molecules(
        get_data_home(data_home),
        "toxcast.npz",
        ("toxcast_data.csv", "toxcast_data.csv.gz"),
        radius,
        n_bits,
    )
    found = keep_assays(found, min_per_class)
    if wide:
        return wide_bunch(found, _TOXCAST)
    return long_bunch(found, max_per_task, random_state, _TOXCAST)
