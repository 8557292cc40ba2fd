"""MovieLens 100K: film ratings, with a task per genre."""

from __future__ import annotations

import os
from numbers import Integral
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch
from sklearn.utils._param_validation import Interval, validate_params

from ..exceptions import InvalidInputError
from ._data_home import FETCH_CONSTRAINTS, find, get_data_home
from ._download import RemoteFile, fetch_files
from ._files import list_files, read_files
from ._npz import read_npz

_REMOTE = RemoteFile(
    "ml-100k.zip",
    "https://files.grouplens.org/datasets/movielens/ml-100k.zip",
    "sha256:50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
)
_FOLDER = "ml-100k"
_NPZ = "movielens100k.npz"
_ARRAYS = [
    "user",
    "item",
    "rating",
    "timestamp",
    "item_genres",
    "genre_names",
    "user_age",
    "user_gender",
    "user_occupation",
    "occupation_names",
]
_TABLES = {
    "u.data": ("\t", 4),
    "u.item": ("|", 6),
    "u.user": ("|", 4),
    "u.genre": ("|", 2),
    "u.occupation": ("|", 1),
}

_DESCR = """\
MovieLens 100K: 100,000 ratings (1 to 5) of 1,682 films by 943 users. For research; not
to be passed on, and no commercial use without permission of GroupLens. Acknowledge it:
F. M. Harper, J. A. Konstan (2015). The MovieLens datasets: history and context. ACM
TiiS 5(4), 19.
"""


@validate_params(
    {
        **FETCH_CONSTRAINTS,
        "n_slices": [Integral],
        "min_ratings": [Interval(Integral, 0, None, closed="left")],
        "as_frame": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def fetch_movielens(
    *,
    data_home: str | os.PathLike[str] | None = None,
    n_slices: int = 5,
    min_ratings: int = 1000,
    as_frame: bool = False,
    download_if_missing: bool = True,
    n_retries: int = 3,
    delay: float = 1.0,
    return_X_y: bool = False,
) -> Bunch | tuple[Any, Any]:
    """Load film ratings, a task per genre.

    Tasks are genres: the rating of a film is a label of each of its genres and
    missing for the others. Environments are slices of time with as many ratings;
    the last one serves as a shifted test.

    Parameters
    ----------
    data_home : path-like, default=None
        Folder with ``movielens100k.npz`` (see Notes), or with the original archive
        ``ml-100k.zip`` or what it unpacks to, or to download that to (5 MB). None:
        see `get_data_home`.
    n_slices : int, default=5
        Number of time slices.
    min_ratings : int, default=1000
        Genres with fewer ratings are left out, and films of no other genre.
    as_frame : bool, default=False
        ``data`` and ``target`` as pandas data frames, and both together as ``frame``.
    download_if_missing : bool, default=True
        Download the archive if it is not there.
    n_retries : int, default=3
        How often to try again after a broken transfer, which is then continued.
    delay : float, default=1.0
        Seconds between two tries.
    return_X_y : bool, default=False
        Return ``(data, target)``.

    Returns
    -------
    Bunch or (data, target)
        ``data`` (n, n_features): age, gender and occupation of the user, genres of
        the film; ``feature_names``; ``target`` (n, n_genres) ratings 1 to 5 or NaN;
        ``target_names``; ``envs`` (n,) slices 0..n_slices - 1 in order of time;
        ``user``, ``item``, ``rating`` and ``timestamp`` (n,); ``DESCR``.

    Raises
    ------
    FileNotFoundError
        If the data are not there and may not be downloaded.
    OSError
        If the download fails or is not the published file.
    ImportError
        If pooch is needed to download, or pandas for `as_frame`, and is not there.
    InvalidInputError
        If a local file is damaged, `n_slices` is not positive, or no genre is left.

    Notes
    -----
    The npz file holds ``user``, ``item``, ``rating``, ``timestamp``, ``item_genres``
    (n_items, n_genres), ``genre_names``, ``user_age``, ``user_gender`` (1: female),
    ``user_occupation`` and ``occupation_names``, with users and items from 0.

    References
    ----------
    .. [1] F. M. Harper, J. A. Konstan (2015). The MovieLens datasets: history and
       context. ACM TiiS 5(4), 19.

    Examples
    --------
    >>> from skcausalmeta.datasets import fetch_movielens
    >>> fetch_movielens(data_home="no such folder", download_if_missing=False)
    Traceback (most recent call last):
    ...
    FileNotFoundError: Cannot find movielens100k.npz or ml-100k.zip in ...
    """
    if n_slices < 1:
        raise InvalidInputError(f"n_slices must be at least 1. Got {n_slices}.")
    home = get_data_home(data_home)
    if (home / _NPZ).is_file():
        arrays = read_npz(home / _NPZ, _ARRAYS)
    else:
        source = find(home, [_FOLDER])
        if source is None:
            (source,) = fetch_files(
                [_REMOTE],
                home,
                download_if_missing=download_if_missing,
                n_retries=n_retries,
                delay=delay,
                instead=_NPZ,
            )
        arrays = _read_original(source)
    bunch = _by_genre(arrays, n_slices, min_ratings)
    if as_frame:
        _to_frames(bunch)
    return (bunch.data, bunch.target) if return_X_y else bunch


def _by_genre(
    arrays: dict[str, NDArray[Any]], n_slices: int, min_ratings: int
) -> Bunch:
    genres = arrays["item_genres"][arrays["item"]].astype(bool)  # (n, n_genres)
    kept = genres.sum(axis=0) >= min_ratings
    if not kept.any():
        raise InvalidInputError(
            f"min_ratings={min_ratings} leaves no genre; the largest has "
            f"{int(genres.sum(axis=0).max())} ratings. Lower it."
        )
    rows = np.flatnonzero(genres[:, kept].any(axis=1))
    rows = rows[np.argsort(arrays["timestamp"][rows], kind="stable")]
    data, names = _features(arrays, rows, genres)
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
        DESCR=_DESCR,
    )


def _features(
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


def _to_frames(bunch: Bunch) -> None:
    try:
        import pandas
    except ImportError as error:
        raise ImportError(
            "as_frame=True needs pandas. Install it with 'pip install pandas', or use "
            "as_frame=False."
        ) from error
    bunch.data = pandas.DataFrame(bunch.data, columns=bunch.feature_names)
    # A genre is a feature of a film and the name of a task.
    columns = [f"rating_{name}" for name in bunch.target_names]
    bunch.target = pandas.DataFrame(bunch.target, columns=columns)
    bunch.frame = pandas.concat([bunch.data, bunch.target], axis=1)


def _read_original(source: Path) -> dict[str, NDArray[Any]]:
    """The tables u.* as the arrays of the npz file."""
    tables = _read_tables(source)
    try:
        ratings = np.array(tables["u.data"], dtype=np.int64)
        genre_names = [row[0] for row in tables["u.genre"]]
        genres = [row[-len(genre_names) :] for row in tables["u.item"]]
        occupations = [row[0] for row in tables["u.occupation"]]
        users = tables["u.user"]
        return {
            "user": ratings[:, 0] - 1,
            "item": ratings[:, 1] - 1,
            "rating": ratings[:, 2],
            "timestamp": ratings[:, 3],
            "item_genres": np.array(genres, dtype=np.uint8),
            "genre_names": np.array(genre_names),
            "user_age": np.array([int(row[1]) for row in users]),
            "user_gender": np.array([row[2] == "F" for row in users], dtype=np.int8),
            "user_occupation": np.array([occupations.index(row[3]) for row in users]),
            "occupation_names": np.array(occupations),
        }
    except (ValueError, IndexError) as error:
        raise InvalidInputError(
            f"{source.name} must hold the tables of MovieLens 100K as published. Got "
            f"{error}; take the original archive."
        ) from error


def _read_tables(source: Path) -> dict[str, list[list[str]]]:
    paths = {n for n in list_files(source) if PurePosixPath(n).name in _TABLES}
    tables = {}
    for path, content in read_files(source, paths):
        name = PurePosixPath(path).name
        separator, n_fields = _TABLES[name]
        lines = content.decode("latin-1").splitlines()
        rows = [line.split(separator) for line in lines if line.strip()]
        tables[name] = [row for row in rows if len(row) >= n_fields]
    absent = sorted(_TABLES.keys() - tables.keys())
    if absent:
        raise InvalidInputError(
            f"{source.name} must hold {', '.join(_TABLES)}. Got none of {absent}; take "
            "the original archive."
        )
    return tables
