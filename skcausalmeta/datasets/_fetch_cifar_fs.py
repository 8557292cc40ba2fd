"""CIFAR-FS: the classes of CIFAR-100 divided for few-shot learning."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch
from sklearn.utils._param_validation import validate_params

from ..exceptions import InvalidInputError
from ._data_home import FETCH_CONSTRAINTS, find, get_data_home
from ._download import RemoteFile, fetch_files
from ._files import list_files, read_files
from ._npz import check_split, class_numbers, finish, read_npz

_REMOTE = RemoteFile(
    "cifar-100-binary.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
    "sha256:58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
)
_FOLDER = "cifar-100-binary"
_NPZ = "cifar_fs.npz"
_FILES = ("train.bin", "test.bin")
_NAMES = "fine_label_names.txt"
_PIXELS = 3 * 32 * 32

# Classes of Bertinetto et al. (2019); the other 64 are for training.
_VALIDATION = [
    "otter",
    "motorcycle",
    "television",
    "crocodile",
    "shark",
    "butterfly",
    "beaver",
    "beetle",
    "tractor",
    "flatfish",
    "maple_tree",
    "camel",
    "crab",
    "sea",
    "cattle",
    "lamp",
]
_TEST = [
    "baby",
    "bed",
    "bicycle",
    "chimpanzee",
    "fox",
    "leopard",
    "man",
    "pickup_truck",
    "plain",
    "poppy",
    "rocket",
    "rose",
    "snail",
    "sweet_pepper",
    "table",
    "telephone",
    "wardrobe",
    "whale",
    "woman",
    "worm",
]

_DESCR = """\
CIFAR-FS: photographs of the 100 classes of CIFAR-100, 600 of each, colour, 32 x 32
pixels; 64 classes to train, 16 to validate and 20 to test on.
A. Krizhevsky (2009). Learning multiple layers of features from tiny images.
L. Bertinetto, J. Henriques, P. Torr, A. Vedaldi (2019). Meta-learning with
differentiable closed-form solvers. ICLR.
"""


@validate_params(
    {**FETCH_CONSTRAINTS, "split": [str, None]}, prefer_skip_nested_validation=True
)
def fetch_cifar_fs(
    *,
    data_home: str | os.PathLike[str] | None = None,
    split: str | None = None,
    download_if_missing: bool = True,
    n_retries: int = 3,
    delay: float = 1.0,
    return_X_y: bool = False,
) -> Bunch | tuple[NDArray[np.uint8], NDArray[Any]]:
    """Load the photographs of CIFAR-100, divided by class for few-shot learning.

    60,000 colour images of 32 x 32 pixels, 600 of each class.

    Parameters
    ----------
    data_home : path-like, default=None
        Folder with ``cifar_fs.npz`` (see Notes), or with the original archive
        ``cifar-100-binary.tar.gz`` or what it unpacks to, or to download that to (169
        MB). None: see `get_data_home`.
    split : {"train", "val", "test"}, default=None
        Images of this split only: 64, 16 or 20 classes. None: all.
    download_if_missing : bool, default=True
        Download the archive if it is not there. It is the binary version; the one
        for Python is a pickle, which can run code.
    n_retries : int, default=3
        How often to try again after a broken transfer, which is then continued.
    delay : float, default=1.0
        Seconds between two tries.
    return_X_y : bool, default=False
        Return ``(data, target)``.

    Returns
    -------
    Bunch or (data, target)
        ``data`` (n_samples, 32, 32, 3) uint8; ``target`` (n_samples,), training
        classes first; ``target_names`` (100,); ``split`` (n_samples,); ``DESCR``.

    Raises
    ------
    FileNotFoundError
        If the data are not there and may not be downloaded.
    OSError
        If the download fails or is not the published file.
    ImportError
        If pooch is needed to download and is not installed.
    InvalidInputError
        If a local file is damaged, or there is no such split.

    Notes
    -----
    The npz file holds ``images`` (n, 32, 32, 3), ``label``, ``name`` per class and
    ``split``.

    References
    ----------
    .. [1] L. Bertinetto, J. Henriques, P. Torr, A. Vedaldi (2019). Meta-learning with
       differentiable closed-form solvers. ICLR.

    Examples
    --------
    >>> from skcausalmeta.datasets import fetch_cifar_fs
    >>> fetch_cifar_fs(data_home="no such folder", download_if_missing=False)
    Traceback (most recent call last):
    ...
    FileNotFoundError: Cannot find cifar_fs.npz or cifar-100-binary.tar.gz in ...
    """
    check_split(split)
    home = get_data_home(data_home)
    if (home / _NPZ).is_file():
        arrays = read_npz(home / _NPZ, ("images", "label", "name", "split"))
        bunch = Bunch(
            data=arrays["images"],
            target=arrays["label"],
            target_names=arrays["name"],
            split=arrays["split"],
            DESCR=_DESCR,
        )
        return finish(bunch, split, return_X_y)
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
    return finish(_from_archive(source), split, return_X_y)


def _from_archive(source: Path) -> Bunch:
    images, labels, names = _read_records(source)
    classes = names[labels]
    held_out = [np.isin(classes, _VALIDATION), np.isin(classes, _TEST)]
    split = np.select(held_out, ["val", "test"], "train")
    target_names, target = class_numbers(classes, split)
    order = np.argsort(target, kind="stable")  # so that a split is one stretch
    return Bunch(
        data=images[order],
        target=target[order],
        target_names=target_names,
        split=split[order],
        DESCR=_DESCR,
    )


def _read_records(
    source: Path,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[Any]]:
    """Images (n, 32, 32, 3), labels (n,) and the names of the classes.

    A record is a coarse label, a fine label and an image, channel by channel.
    """
    wanted = (*_FILES, _NAMES)
    paths = {n for n in list_files(source) if PurePosixPath(n).name in wanted}
    found = {PurePosixPath(n).name: c for n, c in read_files(source, paths)}
    whole = all(len(found.get(name, b"?")) % (_PIXELS + 2) == 0 for name in _FILES)
    names = found.get(_NAMES, b"").decode().split()
    if not whole or not names:
        raise InvalidInputError(
            f"{source.name} must hold {', '.join(wanted)} with whole records of "
            f"{_PIXELS + 2} bytes. Got {[(k, len(v)) for k, v in found.items()]}; take "
            "the original archive, in its binary version."
        )
    content = b"".join(found[name] for name in _FILES)
    records = np.frombuffer(content, dtype=np.uint8).reshape(-1, _PIXELS + 2)
    if int(records[:, 1].max(initial=0)) >= len(names):
        raise InvalidInputError(
            f"{source.name} must hold labels below {len(names)}. Got "
            f"{int(records[:, 1].max())}; take the original archive."
        )
    pixels = records[:, 2:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(pixels), records[:, 1], np.array(names)
