"""MNIST: handwritten digits."""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch
from sklearn.utils._param_validation import validate_params

from ..exceptions import InvalidInputError
from ._data_home import FETCH_CONSTRAINTS, find, get_data_home
from ._download import RemoteFile, fetch_files
from ._npz import check_split, finish, read_npz

_URL = "https://storage.googleapis.com/cvdf-datasets/mnist/"
_NAMES = {
    "x_train": "train-images-idx3-ubyte.gz",
    "y_train": "train-labels-idx1-ubyte.gz",
    "x_test": "t10k-images-idx3-ubyte.gz",
    "y_test": "t10k-labels-idx1-ubyte.gz",
}
_CHECKSUMS = (
    "sha256:440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "sha256:3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "sha256:8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "sha256:f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
)
_REMOTES = tuple(
    RemoteFile(name, f"{_URL}{name}", checksum)
    for name, checksum in zip(_NAMES.values(), _CHECKSUMS, strict=True)
)
_FOLDER = "mnist"  # of its own: other sets have files of the same names
_NPZ = "mnist.npz"

_DESCR = """\
MNIST: handwritten digits, grey, 28 x 28 pixels; 60,000 to train and 10,000 to test on.
Y. LeCun, L. Bottou, Y. Bengio, P. Haffner (1998). Gradient-based learning applied to
document recognition. Proceedings of the IEEE 86, 2278-2324.
"""


@validate_params(
    {**FETCH_CONSTRAINTS, "split": [str, None]}, prefer_skip_nested_validation=True
)
def fetch_mnist(
    *,
    data_home: str | os.PathLike[str] | None = None,
    split: str | None = None,
    download_if_missing: bool = True,
    n_retries: int = 3,
    delay: float = 1.0,
    return_X_y: bool = False,
) -> Bunch | tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Load handwritten digits.

    Parameters
    ----------
    data_home : path-like, default=None
        Folder with ``mnist.npz`` (see Notes), or with the four original files (IDX,
        with or without gzip) in its folder ``mnist``, or to download those to (12
        MB). None: see `get_data_home`.
    split : {"train", "test"}, default=None
        The original 60,000 or 10,000. None: all, train first.
    download_if_missing : bool, default=True
        Download the files that are not there.
    n_retries : int, default=3
        How often to try again after a broken transfer, which is then continued.
    delay : float, default=1.0
        Seconds between two tries.
    return_X_y : bool, default=False
        Return ``(data, target)``.

    Returns
    -------
    Bunch or (data, target)
        ``data`` (n, 28, 28) uint8, ``target`` (n,), ``target_names`` (10,), ``split``
        (n,), ``DESCR``.

    Raises
    ------
    FileNotFoundError
        If the data are not there and may not be downloaded.
    OSError
        If a download fails or is not the published file.
    ImportError
        If pooch is needed to download and is not installed.
    InvalidInputError
        If a local file is damaged, or there is no such split.

    Notes
    -----
    The npz file holds ``x_train``, ``y_train``, ``x_test`` and ``y_test``.

    Examples
    --------
    >>> from skcausalmeta.datasets import fetch_mnist
    >>> fetch_mnist(data_home="no such folder", download_if_missing=False)
    Traceback (most recent call last):
    ...
    FileNotFoundError: Cannot find mnist.npz or train-images-idx3-ubyte.gz in ...
    """
    check_split(split, ("train", "test"))
    home = get_data_home(data_home)
    if (home / _NPZ).is_file():
        arrays = read_npz(home / _NPZ, tuple(_NAMES))
    else:
        arrays = _read_original(
            home / _FOLDER,
            download_if_missing=download_if_missing,
            n_retries=n_retries,
            delay=delay,
        )
    sizes = [len(arrays["y_train"]), len(arrays["y_test"])]
    bunch = Bunch(
        data=np.concatenate([arrays["x_train"], arrays["x_test"]]),
        target=np.concatenate([arrays["y_train"], arrays["y_test"]]),
        target_names=np.array([str(digit) for digit in range(10)]),
        split=np.repeat(["train", "test"], sizes),
        DESCR=_DESCR,
    )
    return finish(bunch, split, return_X_y)


def _read_original(folder: Path, **how: Any) -> dict[str, NDArray[np.uint8]]:
    paths = {
        remote.name: find(folder, [remote.name.removesuffix(".gz"), remote.name])
        for remote in _REMOTES
    }
    absent = [remote for remote in _REMOTES if paths[remote.name] is None]
    fetched = fetch_files(absent, folder, instead=_NPZ, **how)
    paths.update({path.name: path for path in fetched})
    arrays = {key: _read_idx(paths[name]) for key, name in _NAMES.items()}  # type: ignore[arg-type]
    for part in ("train", "test"):
        images, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if images.ndim != 3 or labels.shape != images.shape[:1]:
            raise InvalidInputError(
                f"The files of MNIST must hold images and a label for each. Got "
                f"{images.shape} and {labels.shape} for {part}; take the originals."
            )
    return arrays


def _read_idx(path: Path) -> NDArray[np.uint8]:
    """Bytes with their shape in a header: 0, 0, 8, axes, then sizes in 4 bytes each."""
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidInputError(
            f"{path.name} must be a gzip file that is whole. Got {error}; remove it "
            "and fetch it again."
        ) from error
    axes = content[3] if content[:3] == b"\0\0\x08" and len(content) > 3 else 0
    begin = 4 + 4 * axes
    shape = tuple(np.frombuffer(content[4:begin], dtype=">u4").tolist()) if axes else ()
    values = np.frombuffer(content[begin:], dtype=np.uint8)
    if len(shape) != axes or not axes or values.size != int(np.prod(shape)):
        raise InvalidInputError(
            f"{path.name} must be an IDX file of bytes. Got {len(content)} bytes with "
            f"the header {content[:4]!r}; remove it and fetch it again."
        )
    return values.reshape(shape)
