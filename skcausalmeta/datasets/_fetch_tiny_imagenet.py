"""Tiny ImageNet: photographs of 200 classes."""

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
from ._data_home import FETCH_CONSTRAINTS, find, get_data_home, missing
from ._download import RemoteFile, fetch_files
from ._files import list_files, read_files
from ._images import ImageForm, read_images
from ._npz import check_split, finish, read_npz

_REMOTE = RemoteFile(
    "tiny-imagenet-200.zip",
    "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
    "md5:90528d7ca1a48142e341f4ef8d21d0de",
)
_FOLDER = "tiny-imagenet-200"
_NPZ = "tiny_imagenet_fs.npz"
_SIZE = 64

_DESCR = """\
Tiny ImageNet: photographs of 200 classes of ImageNet at 64 x 64 pixels, made for the
course CS231n of Stanford University. ImageNet gives access to its images for research
and education that is not commercial, and does not own their copyright.
"""


@validate_params(
    {
        **FETCH_CONSTRAINTS,
        "split": [str, None],
        "partition": [StrOptions({"few-shot", "published"}), None],
        "image_size": [Interval(Integral, 1, None, closed="left")],
    },
    prefer_skip_nested_validation=True,
)
def fetch_tiny_imagenet(
    *,
    data_home: str | os.PathLike[str] | None = None,
    split: str | None = None,
    partition: str | None = None,
    image_size: int = _SIZE,
    download_if_missing: bool = True,
    n_retries: int = 3,
    delay: float = 1.0,
    return_X_y: bool = False,
) -> Bunch | tuple[NDArray[np.uint8], NDArray[Any]]:
    """Load small photographs of up to 200 classes.

    Parameters
    ----------
    data_home : path-like, default=None
        Folder with ``tiny_imagenet_fs.npz`` (see Notes), or with the original archive
        ``tiny-imagenet-200.zip`` or what it unpacks to, or to download that to (248
        MB, decoded once). None: see `get_data_home`.
    split : {"train", "val", "test"}, default=None
        Images of this split only. None: all.
    partition : {"few-shot", "published"}, default=None
        "few-shot": the npz file, whose splits have no class in common. "published":
        the original archive, of which "train" has 100,000 and "val" 10,000 images of
        the same 200 classes (its "test" has no labels and is left out); divide the
        classes with `ClassKFold`. None: the npz file if there is one.
    image_size : int, default=64
        Height and width to resize the images of the archive to.
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
        ``data`` (n_samples, height, width, 3) uint8; ``target`` (n_samples,);
        ``target_names`` (n_classes,) words; ``wnid`` (n_classes,) WordNet ids;
        ``split`` (n_samples,); ``DESCR``.

    Raises
    ------
    FileNotFoundError
        If the data are not there and may not be downloaded.
    OSError
        If the download fails or is not the published file.
    ImportError
        If pooch is needed to download, or Pillow to decode, and is not installed.
    InvalidInputError
        If a local file is damaged, or there is no such split.

    Notes
    -----
    The npz file holds ``images`` (n, height, width, 3), ``label``, ``wnid`` and
    ``name`` per class, and ``split``. It cannot be downloaded.

    Examples
    --------
    >>> from skcausalmeta.datasets import fetch_tiny_imagenet
    >>> fetch_tiny_imagenet(data_home="no such folder", partition="few-shot")
    Traceback (most recent call last):
    ...
    FileNotFoundError: Cannot find tiny_imagenet_fs.npz in 'no such folder'. ...
    """
    check_split(split)
    home = get_data_home(data_home)
    npz = find(home, [_NPZ])
    if npz is None and partition == "few-shot":
        raise missing([_NPZ], home, "Put the file there")
    if npz is not None and partition != "published":
        bunch = _from_npz(npz)
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
        bunch = _from_archive(source, image_size, home / "cache")
    return finish(bunch, split, return_X_y)


def _from_npz(path: Path) -> Bunch:
    arrays = read_npz(path, ("images", "label", "wnid", "name", "split"))
    return Bunch(
        data=arrays["images"],
        target=arrays["label"],
        target_names=arrays["name"],
        wnid=arrays["wnid"],
        split=arrays["split"],
        DESCR=f"{_DESCR}\nRead from {path.name} with the split of that file.\n",
    )


def _from_archive(source: Path, image_size: int, cache: Path) -> Bunch:
    texts = _read_texts(source)
    words = dict(line.split("\t", 1) for line in texts["words.txt"] if "\t" in line)
    annotated = [line.split("\t") for line in texts["val_annotations.txt"]]
    validation = {fields[0]: fields[1] for fields in annotated if len(fields) > 1}

    def order(name: str) -> tuple[int, str, str]:
        wnid = _wnid(name, validation)
        return int(_is_validation(name)), wnid, name

    names, images = read_images(
        source,
        ImageForm((image_size, image_size)),
        order=order,
        wanted=lambda name: _wnid(name, validation) != "",
        cache=cache / f"{_FOLDER}_{image_size}",
    )
    classes = [_wnid(name, validation) for name in names]
    wnid, target = np.unique(classes, return_inverse=True)
    return Bunch(
        data=images,
        target=target.astype(np.int64),
        target_names=np.array([words.get(k, k) for k in wnid.tolist()]),
        wnid=wnid,
        split=np.where([_is_validation(name) for name in names], "val", "train"),
        DESCR=f"{_DESCR}\nThe published split: val has the classes of train.\n",
    )


def _read_texts(source: Path) -> dict[str, list[str]]:
    """Lines of the two tables of names and labels."""
    wanted = ("words.txt", "val_annotations.txt")
    paths = {n for n in list_files(source) if PurePosixPath(n).name in wanted}
    texts = {
        PurePosixPath(name).name: content.decode().splitlines()
        for name, content in read_files(source, paths)
    }
    if len(texts) < len(wanted):
        raise InvalidInputError(
            f"{source.name} must hold {' and '.join(wanted)}. Got {sorted(texts)}; "
            "take the original archive."
        )
    return texts


def _is_validation(name: str) -> bool:
    return "val" in PurePosixPath(name).parts


def _wnid(name: str, validation: dict[str, str]) -> str:
    """Class of an image, empty for those without a label."""
    path = PurePosixPath(name)
    if _is_validation(name):
        return validation.get(path.name, "")
    return path.parts[-3] if "train" in path.parts and len(path.parts) > 2 else ""
