"""Few-shot image sets from local npz files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from ..exceptions import InvalidInputError

_SPLITS = ("train", "val", "test")
_VARIABLE = "SKCAUSALMETA_DATA"
_PER_CLASS = ("alphabet_names", "wnid", "name")


def fetch_omniglot(
    *, data_home: str | os.PathLike[str] | None = None, split: str | None = None
) -> Bunch:
    """Load handwritten characters from a local ``omniglot.npz``.

    Grey images of 28 x 28 pixels, ink bright on black. The characters of one
    alphabet belong to one split.

    Parameters
    ----------
    data_home : path-like, default=None
        Folder of the file. None: the environment variable SKCAUSALMETA_DATA.
    split : {"train", "val", "test"}, default=None
        Images of this split only. None: all.

    Returns
    -------
    Bunch
        ``data`` (n_samples, 28, 28) uint8, ``target`` (n_samples,) character
        numbers, ``alphabet`` (n_samples,) names, ``split`` (n_samples,).

    Raises
    ------
    InvalidInputError
        If no folder is given or `split` is unknown.
    FileNotFoundError
        If the file is not there.

    References
    ----------
    .. [1] B. Lake, R. Salakhutdinov, J. Tenenbaum (2015). Human-level concept
       learning through probabilistic program induction. Science 350, 1332-1338.

    Examples
    --------
    >>> from skcausalmeta.datasets import fetch_omniglot
    >>> fetch_omniglot(data_home="no such folder")
    Traceback (most recent call last):
    ...
    FileNotFoundError: Cannot find omniglot.npz in 'no such folder'. ...
    """
    arrays = _read("omniglot.npz", data_home, split)
    names = arrays["alphabet_names"][arrays["alphabet"]]
    return Bunch(
        data=arrays["images"],
        target=arrays["character"],
        alphabet=names,
        split=arrays["split"],
    )


def fetch_tiny_imagenet(
    *, data_home: str | os.PathLike[str] | None = None, split: str | None = None
) -> Bunch:
    """Load photographs of 100 classes from a local ``tiny_imagenet_fs.npz``.

    Colour images of 32 x 32 pixels; 64 classes to train, 16 to validate, 20 to
    test on.

    Parameters
    ----------
    data_home : path-like, default=None
        Folder of the file. None: the environment variable SKCAUSALMETA_DATA.
    split : {"train", "val", "test"}, default=None
        Images of this split only. None: all.

    Returns
    -------
    Bunch
        ``data`` (n_samples, 32, 32, 3) uint8, ``target`` (n_samples,),
        ``target_names`` (100,), ``split`` (n_samples,).

    Raises
    ------
    InvalidInputError
        If no folder is given or `split` is unknown.
    FileNotFoundError
        If the file is not there.

    Examples
    --------
    >>> from skcausalmeta.datasets import fetch_tiny_imagenet
    >>> fetch_tiny_imagenet(data_home="no such folder")
    Traceback (most recent call last):
    ...
    FileNotFoundError: Cannot find tiny_imagenet_fs.npz in 'no such folder'. ...
    """
    arrays = _read("tiny_imagenet_fs.npz", data_home, split)
    return Bunch(
        data=arrays["images"],
        target=arrays["label"],
        target_names=arrays["name"],
        split=arrays["split"],
    )


def _read(
    file_name: str, data_home: str | os.PathLike[str] | None, split: str | None
) -> dict[str, Any]:
    """Arrays of a file; all but those with one entry per class cut to the split."""
    if split is not None and split not in _SPLITS:
        raise InvalidInputError(
            f"split must be one of {_SPLITS} or None. Got {split!r}."
        )
    path = find_npz(file_name, data_home)
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    if split is None:
        return arrays
    keep = arrays["split"] == split
    return {
        name: values if name in _PER_CLASS else values[keep]
        for name, values in arrays.items()
    }


def find_npz(
    file_name: str,
    data_home: str | os.PathLike[str] | None,
    *,
    must_exist: bool = True,
) -> Path:
    """Path of a file in the folder that is given or set in the environment."""
    folder = data_home if data_home is not None else os.environ.get(_VARIABLE)
    if folder is None:
        raise InvalidInputError(
            f"{file_name} is read from a local folder. Got none; pass data_home or set "
            f"the environment variable {_VARIABLE}."
        )
    path = Path(folder).expanduser() / file_name
    if must_exist and not path.is_file():
        raise FileNotFoundError(
            f"Cannot find {file_name} in {str(folder)!r}. Pass the folder that holds "
            f"it as data_home or in the environment variable {_VARIABLE}."
        )
    return path
