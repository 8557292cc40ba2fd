"""Omniglot: handwritten characters of fifty alphabets."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch
from sklearn.utils._param_validation import StrOptions, validate_params

from ..exceptions import InvalidInputError
from ._data_home import FETCH_CONSTRAINTS, find, get_data_home
from ._download import RemoteFile, fetch_files
from ._images import ImageForm, ImageTable, read_images
from ._npz import check_split, finish, read_npz

_URL = "https://github.com/brendenlake/omniglot/raw/master/python/"
_SETS = ("images_background", "images_evaluation")
_REMOTES = (
    RemoteFile(
        "images_background.zip",
        f"{_URL}images_background.zip",
        "sha256:ad41ab679c8b5d90b271ef46be6987cc81211774a695c29dcc5367b2b26ee640",
    ),
    RemoteFile(
        "images_evaluation.zip",
        f"{_URL}images_evaluation.zip",
        "sha256:1f61a8f3366785b057fc117d9228e78a16e3d976c8953b2a10fcc74cf0609cee",
    ),
)
_NPZ = "omniglot.npz"
_ARRAYS = ("images", "character", "alphabet", "alphabet_names", "split")
_FORM = ImageForm((28, 28), "L", ink=True)
_PER_ROW = ("data", "target", "alphabet", "drawer", "split")

# The partition of Vinyals et al. (2016): five background alphabets to validate on, and
# what follows the 41st character of Gurmukhi in the evaluation set to test on.
_VALIDATION = (
    "Armenian",
    "Bengali",
    "Early_Aramaic",
    "Hebrew",
    "Mkhedruli_(Georgian)",
)
_LAST_TRAINING = ("Gurmukhi", 41)

_DESCR = """\
Omniglot: characters of 50 alphabets, each drawn by 20 people, as grey images of 28 x 28
pixels, ink bright on black (exact averages over areas of the 105 x 105 originals).
B. Lake, R. Salakhutdinov, J. Tenenbaum (2015). Human-level concept learning through
probabilistic program induction. Science 350, 1332-1338. MIT licence.
"""


@validate_params(
    {
        **FETCH_CONSTRAINTS,
        "split": [str, None],
        "partition": [StrOptions({"vinyals", "background"}), None],
    },
    prefer_skip_nested_validation=True,
)
def fetch_omniglot(
    *,
    data_home: str | os.PathLike[str] | None = None,
    split: str | None = None,
    partition: str | None = None,
    download_if_missing: bool = True,
    n_retries: int = 3,
    delay: float = 1.0,
    return_X_y: bool = False,
) -> Bunch | tuple[NDArray[np.uint8], NDArray[Any]]:
    """Load handwritten characters of fifty alphabets.

    1,623 characters with 20 drawings each, as grey images of 28 x 28 pixels, ink
    bright on black. The archives have 16 MB and are decoded once.

    Parameters
    ----------
    data_home : path-like, default=None
        Folder with ``omniglot.npz`` (see Notes), or with the original archives
        ``images_background.zip`` and ``images_evaluation.zip`` or what they unpack
        to, or to download those to. None: see `get_data_home`.
    split : {"train", "val", "test"}, default=None
        Images of this split only. None: all.
    partition : {"vinyals", "background"}, default=None
        "vinyals": 1,028 characters to train, 172 to validate, 423 to test on [2]_;
        Gurmukhi is divided between training and test. "background": the background
        alphabets are "train", the evaluation alphabets "test" [1]_, and there is no
        "val". None: that of ``omniglot.npz`` if there is one, else "vinyals".
    download_if_missing : bool, default=True
        Download the archives that are not there.
    n_retries : int, default=3
        How often to try again after a broken transfer, which is then continued.
    delay : float, default=1.0
        Seconds between two tries.
    return_X_y : bool, default=False
        Return ``(data, target)``.

    Returns
    -------
    Bunch or (data, target)
        ``data`` (n_samples, 28, 28) uint8; ``target`` (n_samples,) character numbers;
        ``target_names`` (n_characters,) such as "Greek/character01"; ``alphabet``
        (n_samples,) names; ``drawer`` (n_samples,) 1 to 20; ``split`` (n_samples,);
        ``DESCR``.

    Raises
    ------
    FileNotFoundError
        If the data are not there and may not be downloaded.
    OSError
        If a download fails or is not the published file.
    ImportError
        If pooch is needed to download, or Pillow to decode, and is not installed.
    InvalidInputError
        If a local file is damaged, or there is no such split.

    Notes
    -----
    The npz file holds ``images``, ``character`` (numbers), ``alphabet`` (indices),
    ``alphabet_names`` and ``split``, and possibly ``drawer`` and
    ``character_in_alphabet``. It may be a part of Omniglot with a split of its own.

    References
    ----------
    .. [1] B. Lake, R. Salakhutdinov, J. Tenenbaum (2015). Human-level concept
       learning through probabilistic program induction. Science 350, 1332-1338.
    .. [2] O. Vinyals et al. (2016). Matching networks for one shot learning. NIPS.

    Examples
    --------
    >>> from skcausalmeta.datasets import fetch_omniglot
    >>> fetch_omniglot(data_home="no such folder", download_if_missing=False)
    Traceback (most recent call last):
    ...
    FileNotFoundError: Cannot find omniglot.npz or images_background.zip in ...
    """
    check_split(split)
    home = get_data_home(data_home)
    if partition is None and (home / _NPZ).is_file():
        bunch = _from_npz(home / _NPZ)
    else:
        sources = [
            find(home, (f"{name}.zip", name)) or home / f"{name}.zip" for name in _SETS
        ]
        absent = [r for r, s in zip(_REMOTES, sources, strict=True) if not s.exists()]
        fetch_files(
            absent,
            home,
            download_if_missing=download_if_missing,
            n_retries=n_retries,
            delay=delay,
            instead=_NPZ,
        )
        tables = [
            read_images(source, _FORM, cache=home / "cache" / f"omniglot_{name}")
            for source, name in zip(sources, _SETS, strict=True)
        ]
        bunch = _from_tables(tables, partition or "vinyals")
    return finish(bunch, split, return_X_y, per_row=_PER_ROW)


def _from_npz(path: Path) -> Bunch:
    arrays = read_npz(path, _ARRAYS)
    alphabet = arrays["alphabet_names"][arrays["alphabet"]]
    target = arrays["character"]
    within = arrays.get("character_in_alphabet", target)
    names = np.array(
        [f"{a}/character{k:02d}" for a, k in zip(alphabet, within, strict=True)]
    )
    numbers, first = np.unique(target, return_index=True)
    target_names = np.full(int(numbers.max()) + 1, "", dtype=names.dtype)
    target_names[numbers] = names[first]
    return Bunch(
        data=arrays["images"],
        target=target,
        target_names=target_names,
        alphabet=alphabet,
        drawer=arrays.get("drawer", np.zeros(len(target), dtype=np.int16)),
        split=arrays["split"],
        DESCR=f"{_DESCR}\nRead from {path.name} with the split of that file.\n",
    )


def _from_tables(tables: list[ImageTable], partition: str) -> Bunch:
    """Characters in the order of the sets, alphabets and numbers."""
    facts = [
        (*_facts(name), evaluated)
        for evaluated in (0, 1)
        for name in tables[evaluated].names
    ]
    alphabet, number, drawer, evaluated = map(np.array, zip(*facts, strict=True))
    names = np.array([f"{a}/character{k:02d}" for a, k, _, _ in facts])
    _, first, code = np.unique(names, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    return Bunch(
        data=np.concatenate([table.images for table in tables]),
        target=np.argsort(order)[code],
        target_names=names[first[order]],
        alphabet=alphabet,
        drawer=drawer.astype(np.int16),
        split=_split(alphabet, number, evaluated == 1, partition),
        DESCR=f"{_DESCR}\nPartition: {partition}.\n",
    )


def _facts(name: str) -> tuple[str, int, int]:
    """Alphabet, number and drawer of ".../Greek/character01/0394_01.png"."""
    parts = PurePosixPath(name).parts
    try:
        character, drawer = parts[-2], PurePosixPath(parts[-1]).stem
        return parts[-3], int(character[-2:]), int(drawer.split("_")[1])
    except (IndexError, ValueError) as error:
        raise InvalidInputError(
            "Images of Omniglot must be named like Greek/character01/0394_01.png. Got "
            f"{name}; take the original archives."
        ) from error


def _split(
    alphabet: NDArray[Any],
    number: NDArray[Any],
    evaluated: NDArray[np.bool_],
    partition: str,
) -> NDArray[Any]:
    if partition == "background":
        return np.where(evaluated, "test", "train")
    name, last = _LAST_TRAINING
    tested = (alphabet > name) | ((alphabet == name) & (number > last))
    held_out = np.isin(alphabet, _VALIDATION)
    return np.select(
        [evaluated & tested, ~evaluated & held_out], ["test", "val"], "train"
    )
