"""Weights of classes around a common predictor: a shift of the scores."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...exceptions import InvalidInputError


def check_class_weight(class_weight: Any, classes: NDArray[Any]) -> None:
    """Refuse weights that name other labels, or that are not above 0.

    Raises
    ------
    InvalidInputError
    """
    if not isinstance(class_weight, dict):
        return
    known = set(classes.tolist())
    other = [label for label in class_weight if label not in known]
    if other:
        raise InvalidInputError(
            "class_weight must name labels of fit, which are "
            f"{classes.tolist()}. Got {other}; remove them."
        )
    wrong = {c: w for c, w in class_weight.items() if not 0 < w < np.inf}
    if wrong:
        raise InvalidInputError(
            "Around a common predictor class_weight must be finite numbers above 0: "
            f"their logarithms are added to the scores. Got {wrong}."
        )


def class_shift(
    class_weight: Any, classes: NDArray[Any], shares: NDArray[Any]
) -> NDArray[np.float64] | None:
    r"""Return what weights of classes add to the scores (n_classes,), None if nothing.

    Rows of class c that weigh :math:`w_c` change the minimiser of the logistic loss
    by a constant of the class, in the population:

    .. math:: P_w(c \mid x) \propto w_c P(c \mid x), \qquad z_c(x) + \log w_c.

    With :math:`w_c = 1 / P(c)` the largest score minimises the mean error over the
    classes. A support is too small to learn that constant from, and its classes may
    have been drawn in other shares; the rows of all training tasks are not.

    Parameters
    ----------
    class_weight : dict, "balanced", "auto" or None
        By label. "balanced": ``1 / shares``; "auto" and None: 1.
    classes : ndarray of shape (n_classes,)
        Labels in order.
    shares : ndarray of shape (n_classes,)
        Of the classes among the training rows.

    References
    ----------
    A. K. Menon et al., "Long-tail learning via logit adjustment", ICLR 2021, eq. 9.
    """
    if isinstance(class_weight, dict):
        found = np.array([class_weight.get(c, 1.0) for c in classes.tolist()])
        weights = found.astype(np.float64)
    elif class_weight == "balanced":
        weights = 1.0 / shares
    else:
        return None
    logs = np.log(weights)
    shift: NDArray[np.float64] = logs - logs.mean()
    return shift
