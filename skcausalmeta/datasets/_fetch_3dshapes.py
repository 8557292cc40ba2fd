"""The published 3D shapes images, from a local file or downloaded once."""

from __future__ import annotations

import os
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch
from sklearn.utils._param_validation import Interval, validate_params

from ..exceptions import InvalidInputError
from ..utils import named_seeds
from ._data_home import FETCH_CONSTRAINTS, find, get_data_home
from ._download import RemoteFile, fetch_files
from ._npz import read_npz
from ._shapes3d_factors import (
    FACTOR_NAMES,
    FACTOR_SIZES,
    FACTOR_VALUES,
    latents_of_factors,
)

_REMOTE = RemoteFile(
    "3dshapes.h5",
    "https://storage.googleapis.com/3d-shapes/3dshapes.h5",
    "sha256:0a0f6ed98baff276a50f3a081a7434d788da63cb135a98189b2a5b5769be1785",
)
_FILES = ("3dshapes.npz", _REMOTE.name)

_DESCR = """\
3D shapes: colour images of 64 x 64 pixels of an object in a room, one for every
combination of six factors. C. Burgess, H. Kim (2018). Apache licence 2.0.
https://github.com/deepmind/3dshapes-dataset
"""


@validate_params(
    {
        **FETCH_CONSTRAINTS,
        "path": [str, os.PathLike, None],
        "n_samples": [Interval(Integral, 1, None, closed="left"), None],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def fetch_3dshapes(
    *,
    data_home: str | os.PathLike[str] | None = None,
    path: str | os.PathLike[str] | None = None,
    n_samples: int | None = None,
    download_if_missing: bool = True,
    n_retries: int = 3,
    delay: float = 1.0,
    random_state: int | np.random.RandomState | None = None,
    return_X_y: bool = False,
) -> Bunch | tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Load the published 3D shapes images and their six factors.

    480,000 colour images of 64 x 64 pixels, one for every combination of the
    factors (255 MB on disk, 5.9 GB in memory). `make_shapes3d` draws scenes of
    the same kind without any file.

    Parameters
    ----------
    data_home : path-like, default=None
        Folder with ``3dshapes.npz`` or ``3dshapes.h5``, or to download the latter
        to. None: see `get_data_home`.
    path : path-like, default=None
        The file itself, HDF5 or npz with arrays ``images`` and ``labels``,
        whatever its folder.
    n_samples : int, default=None
        Load that many images, drawn without replacement. None: all.
    download_if_missing : bool, default=True
        Download the file into `data_home` if it is not there, and verify its
        SHA-256.
    n_retries : int, default=3
        How often to try again after a broken transfer, which is then continued.
    delay : float, default=1.0
        Seconds between two tries.
    random_state : int, RandomState instance or None, default=None
        Decides which images are drawn.
    return_X_y : bool, default=False
        Return ``(data, factors)``.

    Returns
    -------
    Bunch or (data, factors)
        ``data`` (n_samples, 64, 64, 3) uint8; ``factors`` (n_samples, 6) as
        published; ``latents`` (n_samples, 6), the factors in standard units;
        ``levels`` (n_samples, 6), numbers of the grid values; ``factor_names``
        and ``factor_sizes``; ``DESCR``. Rows keep the order of the file.

    Raises
    ------
    ImportError
        If the file is HDF5 and h5py is not installed, or pooch is needed and is not;
        nothing is downloaded then.
    FileNotFoundError
        If the file is not there and may not be downloaded.
    OSError
        If the download fails or is not the published file.
    InvalidInputError
        If the file does not hold the images.

    References
    ----------
    .. [1] C. Burgess, H. Kim (2018). 3D shapes dataset.
       https://github.com/deepmind/3dshapes-dataset

    Examples
    --------
    >>> from skcausalmeta.datasets import fetch_3dshapes
    >>> fetch_3dshapes(data_home="no such folder", download_if_missing=False)
    Traceback (most recent call last):
    ...
    FileNotFoundError: Cannot find 3dshapes.npz or 3dshapes.h5 in 'no such folder'. ...
    """
    file = _local(path, data_home)
    if file is None:
        if download_if_missing:
            _import_h5py(_REMOTE.name)  # before 255 MB that could not be read
        (file,) = fetch_files(
            [_REMOTE],
            get_data_home(data_home),
            download_if_missing=download_if_missing,
            n_retries=n_retries,
            delay=delay,
            instead=_FILES[0],
        )
    seed = named_seeds(random_state, "rows")["rows"]
    images, factors = _read(file, n_samples, np.random.RandomState(seed))
    levels = [
        np.abs(values - column[:, None]).argmin(axis=1)
        for values, column in zip(FACTOR_VALUES, factors.T, strict=True)
    ]
    if return_X_y:
        return images, factors
    return Bunch(
        data=images,
        factors=factors,
        latents=latents_of_factors(factors),
        levels=np.column_stack(levels),
        factor_names=list(FACTOR_NAMES),
        factor_sizes=FACTOR_SIZES,
        DESCR=_DESCR,
    )


def _local(
    path: str | os.PathLike[str] | None, data_home: str | os.PathLike[str] | None
) -> Path | None:
    """The file that is named, or one in the folder."""
    if path is None:
        return find(get_data_home(data_home), _FILES)
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"Cannot find the file {str(path)!r} of 3D shapes.")
    return file


def _import_h5py(name: str) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise ImportError(
            f"{name} is an HDF5 file, which h5py reads. Install it with 'pip install "
            "h5py' or 'pip install skcausalmeta[data]', or convert the file to an npz "
            "with arrays 'images' and 'labels'."
        ) from error
    return h5py


def _read(
    file: Path, n_samples: int | None, rng: np.random.RandomState
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    if file.suffix == ".npz":
        return _select(read_npz(file, ()), file.name, n_samples, rng)
    with _import_h5py(file.name).File(file, "r") as archive:
        return _select(archive, file.name, n_samples, rng)


def _select(
    archive: Any, name: str, n_samples: int | None, rng: np.random.RandomState
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Images and factors, of which an HDF5 file reads the chosen rows only."""
    if not {"images", "labels"} <= set(archive):
        raise InvalidInputError(
            f"{name} must hold the arrays 'images' and 'labels'. Got "
            f"{sorted(archive)}; take the published file."
        )
    images, labels = archive["images"], archive["labels"]
    if (
        len(images.shape) != 4
        or images.shape[3] != 3
        or images.dtype != np.uint8
        or labels.shape != (len(images), len(FACTOR_NAMES))
    ):
        raise InvalidInputError(
            f"{name} must hold images (n, height, width, 3) of bytes and labels "
            f"(n, 6). Got {images.dtype} {images.shape} and {labels.shape}."
        )
    rows: Any = slice(None)
    if n_samples is not None:
        if n_samples > len(images):
            raise InvalidInputError(
                f"n_samples must be at most the {len(images)} images of the file. Got "
                f"{n_samples}; use None for all."
            )
        # In increasing order, as h5py wants them.
        rows = np.sort(rng.choice(len(images), n_samples, replace=False))
    return images[rows], labels[rows].astype(np.float64)
