"""Public sets for multi-task learning from local npz files, or downloaded."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from ..exceptions import InvalidInputError
from ._download import RemoteFile, download
from ._few_shot_npz import find_npz


def fetch_mnist(
    *,
    data_home: str | os.PathLike[str] | None = None,
    split: str | None = None,
    url: str | None = None,
    sha256: str | None = None,
) -> Bunch:
    """Load handwritten digits from ``mnist.npz``.

    Parameters
    ----------
    data_home : path-like, default=None
        Folder of the file. None: the environment variable SKCAUSALMETA_DATA.
    split : {"train", "test"}, default=None
        The original 60,000 or 10,000. None: all, train first.
    url : str, default=None
        Where to download the file from if the folder does not hold it.
    sha256 : str, default=None
        Checksum that the file must have; needed with `url`.

    Returns
    -------
    Bunch
        ``data`` (n, 28, 28) uint8, ``target`` (n,).

    Raises
    ------
    InvalidInputError
        If no folder is given, `split` is unknown or the checksum of a file that is
        there differs.
    FileNotFoundError
        If the file is not there and no `url` is given.
    OSError
        If the download fails or does not have the checksum; nothing is kept.

    Examples
    --------
    >>> from skcausalmeta.datasets import fetch_mnist
    >>> fetch_mnist(data_home="no such folder")
    Traceback (most recent call last):
    ...
    FileNotFoundError: Cannot find mnist.npz in 'no such folder'. ...
    """
    if split not in ("train", "test", None):
        raise InvalidInputError(
            f"split must be 'train', 'test' or None. Got {split!r}."
        )
    arrays = _load("mnist.npz", data_home, url, sha256)
    parts = ["train", "test"] if split is None else [split]
    return Bunch(
        data=np.concatenate([arrays[f"x_{part}"] for part in parts]),
        target=np.concatenate([arrays[f"y_{part}"] for part in parts]),
    )


def fetch_movielens(
    *,
    data_home: str | os.PathLike[str] | None = None,
    n_slices: int = 5,
    min_ratings: int = 1000,
    url: str | None = None,
    sha256: str | None = None,
) -> Bunch:
    """Load film ratings from ``movielens100k.npz``, a task per genre.

    Tasks are genres: the rating of a film is a label of each of its genres and
    missing for the others. Environments are slices of time with as many ratings;
    the last one serves as a shifted test.

    Parameters
    ----------
    data_home : path-like, default=None
        Folder of the file. None: the environment variable SKCAUSALMETA_DATA.
    n_slices : int, default=5
        Number of time slices.
    min_ratings : int, default=1000
        Genres with fewer ratings are left out, and films of no other genre.
    url : str, default=None
        Where to download the file from if the folder does not hold it.
    sha256 : str, default=None
        Checksum that the file must have; needed with `url`.

    Returns
    -------
    Bunch
        ``data`` (n, n_features): age, gender and occupation of the user, genres of
        the film; ``feature_names``; ``target`` (n, n_genres) ratings 1 to 5 or NaN;
        ``target_names``; ``envs`` (n,) slices 0..n_slices - 1 in order of time;
        ``user``, ``item``, ``rating`` and ``timestamp`` (n,).

    Raises
    ------
    InvalidInputError
        If no folder is given, `n_slices` is not positive or the checksum of a file
        that is there differs.
    FileNotFoundError
        If the file is not there and no `url` is given.
    OSError
        If the download fails or does not have the checksum; nothing is kept.

    References
    ----------
    .. [1] F. M. Harper, J. A. Konstan (2015). The MovieLens datasets: history and
       context. ACM TiiS 5(4), 19.

    Examples
    --------
    >>> from skcausalmeta.datasets import fetch_movielens
    >>> fetch_movielens(data_home="no such folder")
    Traceback (most recent call last):
    ...
    FileNotFoundError: Cannot find movielens100k.npz in 'no such folder'. ...
    """
    if n_slices < 1:
        raise InvalidInputError(f"n_slices must be at least 1. Got {n_slices}.")
    arrays = _load("movielens100k.npz", data_home, url, sha256)
    genres = arrays["item_genres"][arrays["item"]].astype(bool)  # (n, n_genres)
    kept = genres.sum(axis=0) >= min_ratings
    if not kept.any():
        raise InvalidInputError(
            f"min_ratings={min_ratings} leaves no genre; the largest has "
            f"{int(genres.sum(axis=0).max())} ratings. Lower it."
        )
    rows = np.flatnonzero(genres[:, kept].any(axis=1))
    rows = rows[np.argsort(arrays["timestamp"][rows], kind="stable")]
    data, names = _movielens_features(arrays, rows, genres)
    rating = arrays["rating"][rows].astype(float)
    return Bunch(
        data=data,
        feature_names=names,
        target=np.where(genres[rows][:, kept], rating[:, None], np.nan),
        target_names=arrays["genre_names"][kept],
        envs=np.arange(len(rows)) * n_slices // len(rows),
        user=arrays["user"][rows],
        item=arrays["item"][rows],
        rating=rating,
        timestamp=arrays["timestamp"][rows],
    )


def _movielens_features(
    arrays: dict[str, NDArray[Any]], rows: NDArray[np.intp], genres: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[Any]]:
    user = arrays["user"][rows]
    occupation = arrays["user_occupation"][user]
    names = arrays["occupation_names"]
    data = np.column_stack(
        [
            arrays["user_age"][user],
            arrays["user_gender"][user],
            occupation[:, None] == np.arange(len(names)),
            genres[rows],
        ]
    ).astype(float)
    labels = ["age", "gender", *names, *arrays["genre_names"]]
    return data, np.array(labels)


def _load(
    file_name: str,
    data_home: str | os.PathLike[str] | None,
    url: str | None,
    sha256: str | None,
) -> dict[str, NDArray[Any]]:
    if url is not None and sha256 is None:
        raise InvalidInputError(
            "A download needs the checksum of the file. Got a url and no sha256."
        )
    path = find_npz(file_name, data_home, must_exist=url is None)
    if not path.is_file() and url is not None and sha256 is not None:
        download(RemoteFile(file_name, url, sha256.lower()), path.parent)
    if sha256 is not None and _checksum(path) != sha256.lower():
        raise InvalidInputError(
            f"{file_name} must have the checksum {sha256}. Got {_checksum(path)}; "
            "remove the file and fetch it again from a trusted place."
        )
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
