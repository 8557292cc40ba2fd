"""The digits of scikit-learn, divided by class."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.utils import Bunch
from sklearn.utils._param_validation import validate_params

from ._npz import check_split, class_numbers, finish

_N_TRAINING = 6

_DESCR = """\
Handwritten digits of the UCI repository, grey, 8 x 8 pixels, about 180 of each: 0 to 5
to train and 6 to 9 to test on.
E. Alpaydin, C. Kaynak (1998). Optical recognition of handwritten digits. UCI Machine
Learning Repository. CC BY 4.0.
"""


@validate_params(
    {"split": [str, None], "return_X_y": ["boolean"]},
    prefer_skip_nested_validation=True,
)
def load_digits_few_shot(
    *, split: str | None = None, return_X_y: bool = False
) -> Bunch | tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Load small handwritten digits, some to learn from and others to adapt to.

    The digits 0 to 5 are for training and 6 to 9 for test tasks. They come with
    scikit-learn, so nothing is downloaded. `add_rotated_classes` makes more classes.

    Parameters
    ----------
    split : {"train", "test"}, default=None
        Images of this split only. None: all.
    return_X_y : bool, default=False
        Return ``(data, target)``.

    Returns
    -------
    Bunch or (data, target)
        ``data`` (n_samples, 8, 8) float32 in 0 to 1, ordered by class; ``target``
        (n_samples,) digits; ``target_names`` (10,); ``split`` (n_samples,); ``DESCR``.

    Raises
    ------
    InvalidInputError
        If `split` is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.datasets import load_digits_few_shot
    >>> X, y = load_digits_few_shot(split="test", return_X_y=True)
    >>> print(X.shape, np.unique(y))
    (714, 8, 8) [6 7 8 9]
    """
    check_split(split, ("train", "test"))
    digits: Any = load_digits()
    order = np.argsort(digits.target, kind="stable")
    labels = digits.target[order]
    part = np.where(labels < _N_TRAINING, "train", "test")
    names, target = class_numbers(labels, part)
    bunch = Bunch(
        data=(digits.images[order] / 16).astype(np.float32),
        target=target,
        target_names=names.astype(str),
        split=part,
        DESCR=_DESCR,
    )
    return finish(bunch, split, return_X_y)
