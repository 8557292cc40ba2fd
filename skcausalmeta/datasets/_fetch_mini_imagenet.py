"""mini-ImageNet and tiered-ImageNet from a local folder or archive."""

from __future__ import annotations

import csv
import io
import os
from numbers import Integral
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch
from sklearn.utils._param_validation import Interval, validate_params

from ..exceptions import InvalidInputError
from ._data_home import LOCAL_CONSTRAINTS, find, get_data_home, missing
from ._files import list_files, read_files
from ._images import ImageForm, read_images
from ._npz import SPLITS, check_split, class_numbers, finish, read_npz

_ARCHIVES = ("", ".zip", ".tar", ".tar.gz", ".tgz")
_CONSTRAINTS: dict[str, list[Any]] = {
    **LOCAL_CONSTRAINTS,
    "path": [str, os.PathLike, None],
    "split": [str, None],
    "image_size": [Interval(Integral, 1, None, closed="left")],
}
_LICENCE = """\
ImageNet gives access to its images for research and education that is not commercial,
and does not own their copyright.
"""
_MINI = f"""\
mini-ImageNet: 100 classes of ImageNet with 600 photographs each; 64 classes to train,
16 to validate and 20 to test on.
S. Ravi, H. Larochelle (2017). Optimization as a model for few-shot learning. ICLR.
{_LICENCE}"""
_TIERED = f"""\
tiered-ImageNet: 608 classes of ImageNet, 351 to train, 97 to validate and 160 to test
on, with no broad category on both sides of a split.
M. Ren et al. (2018). Meta-learning for semi-supervised few-shot classification. ICLR.
{_LICENCE}"""


@validate_params(_CONSTRAINTS, prefer_skip_nested_validation=True)
def fetch_mini_imagenet(
    *,
    data_home: str | os.PathLike[str] | None = None,
    path: str | os.PathLike[str] | None = None,
    split: str | None = None,
    image_size: int = 84,
    return_X_y: bool = False,
) -> Bunch | tuple[NDArray[np.uint8], NDArray[Any]]:
    """Load mini-ImageNet from a local folder or archive.

    There is no public address for it that lasts, nor a published checksum: make it
    from ImageNet, or get a copy from someone who did. Copies as pickles are not read,
    since a pickle can run code.

    Parameters
    ----------
    data_home : path-like, default=None
        Folder with ``mini_imagenet.npz`` (see Notes), or with a folder or archive
        ``mini_imagenet`` or ``mini-imagenet``. None: see `get_data_home`.
    path : path-like, default=None
        The folder, zip or tar archive itself, whatever its name. It holds
        ``train.csv``, ``val.csv`` and ``test.csv`` with columns ``filename`` and
        ``label`` [1]_ and the images anywhere, or images like
        ``train/n01532829/1.jpg``.
    split : {"train", "val", "test"}, default=None
        Images of this split only. None: all.
    image_size : int, default=84
        Height and width to resize images to that have another size.
    return_X_y : bool, default=False
        Return ``(data, target)``.

    Returns
    -------
    Bunch or (data, target)
        ``data`` (n_samples, height, width, 3) uint8, decoded once and then mapped
        from ``data_home/cache``; ``target`` (n_samples,), training classes first;
        ``target_names`` (n_classes,); ``split`` (n_samples,); ``DESCR``.

    Raises
    ------
    FileNotFoundError
        If the data are not there.
    ImportError
        If Pillow is not installed.
    InvalidInputError
        If a file is damaged, or the layout is another.

    Notes
    -----
    The npz file holds ``images`` (n, height, width, 3), ``label``, ``name`` per class
    and ``split``.

    References
    ----------
    .. [1] S. Ravi, H. Larochelle (2017). Optimization as a model for few-shot
       learning. ICLR.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from skcausalmeta.datasets import fetch_mini_imagenet
    >>> with tempfile.TemporaryDirectory() as home:
    ...     for name in ("train/n1", "train/n2", "val/n3", "test/n4"):
    ...         folder = Path(home, "mini_imagenet", name)
    ...         folder.mkdir(parents=True)
    ...         Image.new("RGB", (84, 84)).save(folder / "1.jpg")
    ...     bunch = fetch_mini_imagenet(data_home=home)
    >>> print(bunch.data.shape, bunch.target, bunch.split)
    (4, 84, 84, 3) [0 1 2 3] ['train' 'train' 'val' 'test']
    """
    check_split(split)
    bunch = _load("mini_imagenet", data_home, path, image_size, _MINI)
    return finish(bunch, split, return_X_y)


@validate_params(_CONSTRAINTS, prefer_skip_nested_validation=True)
def fetch_tiered_imagenet(
    *,
    data_home: str | os.PathLike[str] | None = None,
    path: str | os.PathLike[str] | None = None,
    split: str | None = None,
    image_size: int = 84,
    return_X_y: bool = False,
) -> Bunch | tuple[NDArray[np.uint8], NDArray[Any]]:
    """Load tiered-ImageNet from a local folder or archive.

    There is no public address for it that lasts, nor a published checksum. Copies as
    pickles are not read, since a pickle can run code.

    Parameters
    ----------
    data_home : path-like, default=None
        Folder with a folder or archive ``tiered_imagenet`` or ``tiered-imagenet``.
        None: see `get_data_home`.
    path : path-like, default=None
        The folder, zip or tar archive itself, whatever its name, with images like
        ``train/n01530575/1.jpg``.
    split : {"train", "val", "test"}, default=None
        Images of this split only. None: all.
    image_size : int, default=84
        Height and width to resize images to that have another size.
    return_X_y : bool, default=False
        Return ``(data, target)``.

    Returns
    -------
    Bunch or (data, target)
        ``data`` (n_samples, height, width, 3) uint8, decoded once and then mapped
        from ``data_home/cache`` (15 GB for all 779,165 images, on disk); ``target``
        (n_samples,), training classes first; ``target_names`` (n_classes,);
        ``split`` (n_samples,); ``DESCR``.

    Raises
    ------
    FileNotFoundError
        If the data are not there.
    ImportError
        If Pillow is not installed.
    InvalidInputError
        If a file is damaged, or the layout is another.

    References
    ----------
    .. [1] M. Ren et al. (2018). Meta-learning for semi-supervised few-shot
       classification. ICLR.

    Examples
    --------
    >>> from skcausalmeta.datasets import fetch_tiered_imagenet
    >>> fetch_tiered_imagenet(data_home="no such folder")
    Traceback (most recent call last):
    ...
    FileNotFoundError: Cannot find tiered_imagenet.npz or tiered_imagenet or ...
    """
    check_split(split)
    bunch = _load("tiered_imagenet", data_home, path, image_size, _TIERED)
    return finish(bunch, split, return_X_y)


def _load(
    name: str,
    data_home: str | os.PathLike[str] | None,
    path: str | os.PathLike[str] | None,
    image_size: int,
    descr: str,
) -> Bunch:
    home = get_data_home(data_home)
    spellings = (name, name.replace("_", "-"))
    names = [f"{name}.npz", *(s + end for s in spellings for end in _ARCHIVES)]
    source = find(home, names) if path is None else Path(path).expanduser()
    if source is None:
        raise missing(
            [names[0], name, f"{name}.zip"],
            home,
            "It cannot be downloaded, since no public address lasts: make it from "
            "ImageNet or get a copy, then pass its folder or archive as path",
        )
    if source.suffix == ".npz":
        arrays = read_npz(source, ("images", "label", "name", "split"))
        images, target = arrays["images"], arrays["label"]
        target_names, split = arrays["name"], arrays["split"]
    else:
        cache = home / "cache" / f"{name}_{image_size}"
        images, target, target_names, split = _read_source(source, image_size, cache)
    return Bunch(
        data=images, target=target, target_names=target_names, split=split, DESCR=descr
    )


def _read_source(
    source: Path, image_size: int, cache: Path
) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[Any], NDArray[Any]]:
    listed = _read_lists(source)

    def facts(name: str) -> tuple[str, str] | None:
        """Split and class of an image; None for others."""
        path = PurePosixPath(name)
        if listed:
            return listed.get(path.name)
        known = len(path.parts) > 2 and path.parts[-3] in SPLITS
        return (path.parts[-3], path.parts[-2]) if known else None

    def order(name: str) -> tuple[int, str, str]:
        split, label = facts(name) or ("", "")
        return SPLITS.index(split), label, name

    names, images = read_images(
        source,
        ImageForm((image_size, image_size)),
        order=order,
        wanted=lambda name: facts(name) is not None,
        cache=cache,
    )
    if listed and len(names) < len(listed):
        raise InvalidInputError(
            f"Every file of train.csv, val.csv and test.csv must be there. Got "
            f"{len(names)} of {len(listed)} images in {source.name}; add the others."
        )
    split, classes = (np.array(k) for k in zip(*map(facts, names), strict=True))
    target_names, target = class_numbers(classes, split)
    return images, target, target_names, split


def _read_lists(source: Path) -> dict[str, tuple[str, str]]:
    """Split and class by the name of the image file; empty without lists."""
    wanted = {f"{split}.csv": split for split in SPLITS}
    paths = {n for n in list_files(source) if PurePosixPath(n).name in wanted}
    listed = {}
    for name, content in read_files(source, paths):
        table = csv.DictReader(io.StringIO(content.decode()))
        if not {"filename", "label"} <= set(table.fieldnames or ()):
            raise InvalidInputError(
                f"{name} must have the columns filename and label. Got "
                f"{table.fieldnames}; take the lists of Ravi and Larochelle."
            )
        split = wanted[PurePosixPath(name).name]
        listed.update({row["filename"]: (split, row["label"]) for row in table})
    return listed
