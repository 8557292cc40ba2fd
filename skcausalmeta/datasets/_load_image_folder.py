"""Own images: a folder of image files per class."""

from __future__ import annotations

import os
from numbers import Integral
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from ..exceptions import InvalidInputError
from ._images import ImageForm, read_images
from ._limits import LIMIT_CONSTRAINTS, Limits


@validate_params(
    {
        "folder": [str, os.PathLike],
        "size": [Interval(Integral, 1, None, closed="left"), tuple, None],
        "mode": [StrOptions({"RGB", "L"})],
        "dtype": [StrOptions({"uint8", "float32", "float64"})],
        "cache": [str, os.PathLike, None],
        "return_X_y": ["boolean"],
        **LIMIT_CONSTRAINTS,
    },
    prefer_skip_nested_validation=True,
)
def load_image_folder(
    folder: str | os.PathLike[str],
    *,
    size: int | tuple[int, int] | None = None,
    mode: str = "RGB",
    dtype: str = "uint8",
    cache: str | os.PathLike[str] | None = None,
    return_X_y: bool = False,
    max_files: int = 10_000_000,
    max_header_bytes: int = 2**20,
    max_pixels: int = 2**24,
) -> Bunch | tuple[NDArray[Any], NDArray[np.int64]]:
    """Load your own images, a folder of image files per class.

    Images may lie deeper in the folder of their class. Hidden files, and files that
    are no images, are left out.

    Parameters
    ----------
    folder : path-like
        Folder with one folder per class, or a zip or tar archive of such, in which
        one folder may stand around all.
    size : int or (height, width), default=None
        Resize to that many pixels. None: all images have the same size.
    mode : {"RGB", "L"}, default="RGB"
        Colour or grey.
    dtype : {"uint8", "float32", "float64"}, default="uint8"
        Bytes 0 to 255 or real numbers 0 to 1. The learners scale bytes of images to
        0 to 1 when they read an episode, so bytes do as well and are smaller.
    cache : path-like, default=None
        Folder to keep the decoded images in. ``data`` is then a memory map, which
        may be larger than memory, and later calls decode nothing as long as the
        files stay the same. None: ``data`` is in memory. A folder that holds anything
        but an earlier cache is refused, and nothing in it is deleted.
    return_X_y : bool, default=False
        Return ``(data, target)``.
    max_files : int, default=10_000_000
        Most files that a folder or archive may have.
    max_header_bytes : int, default=2**20
        Most bytes in which a tar archive may say what a file is.
    max_pixels : int, default=2**24
        Most pixels of an image, as 4096 x 4096.

    Returns
    -------
    Bunch or (data, target)
        ``data`` (n_samples, height, width, 3), or (n_samples, height, width) if
        `mode` is "L"; ``target`` (n_samples,) class numbers; ``target_names``
        (n_classes,) names of the folders, sorted; ``filenames`` (n_samples,).

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    ImportError
        If Pillow is not installed.
    InvalidInputError
        If there is no image, one cannot be read, the sizes differ, or a limit is
        exceeded. An archive may unpack to 64 MB and a hundred times its size.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from skcausalmeta.datasets import load_image_folder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("cat", "dog"):
    ...         (Path(folder) / name).mkdir()
    ...         Image.new("RGB", (20, 10)).save(Path(folder) / name / "1.png")
    ...     bunch = load_image_folder(folder, size=8)
    >>> print(bunch.data.shape, bunch.target, bunch.target_names)
    (2, 8, 8, 3) [0 1] ['cat' 'dog']
    """
    source = Path(folder).expanduser()
    names, images = read_images(
        source,
        ImageForm(_height_and_width(size), mode, dtype),
        wanted=lambda name: "/" in name,
        cache=None if cache is None else Path(cache).expanduser(),
        limits=Limits(max_files, max_header_bytes, max_pixels),
    )
    classes = _classes(names, packed=source.is_file())
    target_names, target = np.unique(classes, return_inverse=True)
    target = target.astype(np.int64)
    if return_X_y:
        return images, target
    return Bunch(
        data=images,
        target=target,
        target_names=target_names,
        filenames=np.array(names),
        DESCR=f"{len(names)} images of {len(target_names)} classes from {folder}.",
    )


def _classes(names: list[str], *, packed: bool) -> list[str]:
    """First folder of every name; of an archive not one that holds everything."""
    parts = [PurePosixPath(name).parts for name in names]
    one = len({part[0] for part in parts}) == 1
    depth = int(packed and one and all(len(part) > 2 for part in parts))
    return [part[depth] for part in parts]


def _height_and_width(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    pair = size if isinstance(size, tuple) else (size, size)
    if len(pair) != 2 or not all(isinstance(k, Integral) and k > 0 for k in pair):
        raise InvalidInputError(
            f"size must be a number of pixels or a pair (height, width). Got {size!r}."
        )
    return int(pair[0]), int(pair[1])
