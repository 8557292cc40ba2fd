"""Image files as one array, in memory or mapped from a cache on disk."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..exceptions import InvalidInputError
from ..utils import printable, release_pages
from ._cache import Allocate, from_cache, to_cache
from ._files import fingerprint, list_files, read_files
from ._limits import Limits

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")
_IMAGES_AT_ONCE = 1024
_LIMITS = Limits()
_DEEP = ("I", "F")  # Pillow's modes of more than 8 bits


class ImageForm(NamedTuple):
    """What images are turned into.

    `size` is (height, width), or None for images that all have one size. With `ink`
    dark becomes bright and the size changes by exact averages over areas, otherwise
    by Lanczos' filter.
    """

    size: tuple[int, int] | None
    mode: str = "RGB"
    dtype: DTypeLike = np.uint8
    ink: bool = False


class ImageTable(NamedTuple):
    """Names of image files in a source, and the images (n, height, width[, 3])."""

    names: list[str]
    images: NDArray[Any]


def read_images(
    source: Path,
    form: ImageForm,
    *,
    order: Callable[[str], Any] | None = None,
    wanted: Callable[[str], bool] = lambda name: True,
    cache: Path | None = None,
    limits: Limits = _LIMITS,
) -> ImageTable:
    """Decode all images of a folder or archive.

    Parameters
    ----------
    source : Path
        Folder, zip or tar archive.
    form : ImageForm
        What the images are turned into.
    order : callable, default=None
        Key of a name to sort by. None: the name.
    wanted : callable, default=all
        Which names to take.
    cache : Path, default=None
        Folder to keep the decoded images in, mapped into memory now and when called
        again while the source stays the same. None, or a folder that cannot be
        written: the images are held in memory.
    limits : Limits
        How much is read of files that nobody vouches for.

    Raises
    ------
    ImportError
        If Pillow is not installed.
    InvalidInputError
        If there is no image, one cannot be read or is too large, sizes differ without
        `size`, or all do not fit into memory.
    """
    key = "" if cache is None else f"{fingerprint(source)} {form}"
    if cache is not None:
        kept = from_cache(cache, key)
        if kept is not None:
            return ImageTable(*kept)
    import_pillow()
    names = [n for n in list_files(source, limits) if _is_image(n) and wanted(n)]
    if not names:
        raise InvalidInputError(
            f"{str(source)!r} must hold images ({', '.join(_SUFFIXES)}) in the layout "
            "that is documented. Got none."
        )
    names.sort(key=order)

    def decode(allocate: Allocate) -> NDArray[Any]:
        return _decode_all(source, names, form, allocate, limits)

    images = None if cache is None else to_cache(cache, key, source, names, decode)
    return ImageTable(names, decode(np.empty) if images is None else images)


def import_pillow() -> Any:
    """Pillow, or what to do without it."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            "Pillow reads image files. Install it with 'pip install pillow' or 'pip "
            "install skcausalmeta[data]'."
        ) from error
    return Image


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in _SUFFIXES


def _decode_all(
    source: Path,
    names: list[str],
    form: ImageForm,
    allocate: Allocate,
    limits: Limits,
) -> NDArray[Any]:
    position = {name: k for k, name in enumerate(names)}
    images: Any = None
    for count, (name, content) in enumerate(read_files(source, set(names), limits)):
        image = _decode(content, name, form, limits)
        if images is None:
            images = _allocated(allocate, (len(names), *image.shape), image.dtype)
        if count % _IMAGES_AT_ONCE == 0:
            release_pages(images)
        if image.shape != images.shape[1:]:
            raise InvalidInputError(
                "Images must have one size, or be resized. Got "
                f"{image.shape[:2]} in {printable(name)} after {images.shape[1:3]}; "
                "pass size."
            )
        images[position[name]] = image
    return images


def _allocated(allocate: Allocate, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    try:
        return allocate(shape, dtype)
    except MemoryError as error:
        n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
        raise InvalidInputError(
            f"All images must fit into memory together. Got {shape[0]} of {shape[1:]}, "
            f"{n_bytes >> 20} MB; pass a smaller size, or a cache."
        ) from error


def _decode(content: bytes, name: str, form: ImageForm, limits: Limits) -> NDArray[Any]:
    """One image (height, width) or (height, width, 3)."""
    pillow = import_pillow()
    try:
        with _quiet_about_size(), _opened(content, pillow) as file:
            limits.check_image(name, *file.size)
            deep = file.mode.startswith(_DEEP)
            image = file.convert(form.mode)
    except InvalidInputError:
        raise
    except Exception as error:  # every format has its own ways to fail
        raise InvalidInputError(
            f"Every image must be readable. Got {printable(f'{name}: {error}')}; "
            "repair or remove it."
        ) from error
    if deep:
        raise InvalidInputError(
            "Images must have at most 8 bits per channel. Got more in "
            f"{printable(name)}; convert it."
        )
    if form.ink:
        return _average(255.0 - np.asarray(image), form.size)
    if form.size is not None and image.size != form.size[::-1]:
        image = image.resize(form.size[::-1], pillow.Resampling.LANCZOS)
    values = np.asarray(image)
    if np.dtype(form.dtype) == np.uint8:
        return values
    return values.astype(form.dtype) / np.asarray(255, dtype=form.dtype)


def _opened(content: bytes, pillow: Any) -> Any:
    # Of the other formats some are programs, which another program runs.
    return pillow.open(io.BytesIO(content), formats=_FORMATS)


@contextmanager
def _quiet_about_size() -> Iterator[None]:
    """Leave the size to the limits, which may be wider or narrower than Pillow's."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Image size .* exceeds limit")
        yield


def _average(image: NDArray[Any], size: tuple[int, int] | None) -> NDArray[np.uint8]:
    """Mean over the area of every new pixel, rounded."""
    if size is not None:
        rows, columns = (
            _overlaps(old, new) for old, new in zip(image.shape, size, strict=True)
        )
        image = rows @ image @ columns.T
    return np.rint(image).astype(np.uint8)


def _overlaps(n_old: int, n_new: int) -> NDArray[np.float64]:
    """Share of every new interval that an old one covers (n_new, n_old)."""
    edges = np.linspace(0.0, n_old, n_new + 1)
    left = np.maximum(edges[:-1, None], np.arange(n_old))
    right = np.minimum(edges[1:, None], np.arange(1, n_old + 1))
    return np.maximum(right - left, 0.0) * (n_new / n_old)
