"""Rows of none of the classes of a task: how unfamiliar they are, and from where on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, softmax
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import (
    Interval,
    StrOptions,
    validate_parameter_constraints,
)

from ..exceptions import InvalidInputError
from ._task_state import of_states

# Scores of logits (n, n_classes).
_OF_LOGITS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "energy": lambda logits: -logsumexp(logits, axis=1),
    "margin": lambda logits: -np.diff(np.sort(logits, axis=1)[:, -2:], axis=1)[:, 0],
    "probability": lambda logits: 1.0 - softmax(logits, axis=1).max(axis=1),
}
_ROWS_AT_ONCE = 1024


class Rejection(BaseEstimator):
    """Rejection: which rows a classifier takes for none of its classes.

    A row x is refused if its score is above a threshold. With features f and the mean
    c_k of the n_k support rows of class k, the score "distance" is ::

        min_k  || f(x) - c_k || / sqrt(1 + 1 / n_k)

    which has one unit for any number of shots. The threshold is the quantile
    ``1 - share`` of query rows of held-out episodes, all of which are of a class.

    Parameters
    ----------
    share : float, default=0.05
        Share of the rows of a class of the task that may be refused.
    label : int or str, default=None
        What `predict` answers for refused rows; no class may have it. None: -1 where
        labels are numbers, "rejected" where they are strings.
    score : {"auto", "distance", "margin", "probability", "energy"}, default="auto"
        "distance": above. Of the logits z: "margin" is the second largest minus the
        largest, "probability" one minus the largest of the softmax, "energy"
        ``-log sum_k exp z_k``. "auto": "distance", and "probability" where tasks share
        their labels, whose support may lack a class.
    n_episodes : int, default=100
        Episodes that the threshold is learned on.

    Examples
    --------
    >>> from skcausalmeta.learners import Rejection
    >>> Rejection(0.1, label=99)
    Rejection(label=99, share=0.1)
    """

    def __init__(
        self,
        share: float = 0.05,
        *,
        label: int | str | None = None,
        score: str = "auto",
        n_episodes: int = 100,
    ) -> None:
        self.share = share
        self.label = label
        self.score = score
        self.n_episodes = n_episodes

    @classmethod
    def of(cls, given: Any) -> Rejection | None:
        """Read the `reject` parameter of a classifier.

        Parameters
        ----------
        given : None, float or Rejection
            A number is the share.

        Returns
        -------
        Rejection or None
            Checked; None where nothing is refused.

        Raises
        ------
        ValueError
            If a parameter is invalid.

        Examples
        --------
        >>> from skcausalmeta.learners import Rejection
        >>> Rejection.of(0.1)
        Rejection(share=0.1)
        """
        if given is None:
            return None
        found = given if isinstance(given, Rejection) else cls(given)
        validate_parameter_constraints(
            {
                "share": [Interval(Real, 0, 1, closed="neither")],
                "label": [Integral, str, None],
                "score": [StrOptions({"auto", "distance", *_OF_LOGITS})],
                "n_episodes": [Interval(Integral, 1, None, closed="left")],
            },
            found.get_params(deep=False),
            caller_name="Rejection",
        )
        return found


@of_states
@dataclass(frozen=True, eq=False)
class ClassMeans:
    """Means of the classes of a task in features.

    Attributes
    ----------
    means : ndarray of shape (n_classes, n_features)
    counts : ndarray of shape (n_classes,)
        Support rows of every class, or the sums of their weights.
    """

    means: NDArray[np.float64]
    counts: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        features: NDArray[Any],
        labels: NDArray[Any],
        weights: NDArray[Any] | None = None,
    ) -> ClassMeans:
        """Return those of support rows, of these weights; None: 1."""
        names, numbers = np.unique(labels, return_inverse=True)
        weights = np.ones(len(features)) if weights is None else weights
        counts = np.bincount(numbers, weights).astype(np.float64)
        sums = np.zeros((len(names), features.shape[1]))
        np.add.at(sums, numbers, features * weights[:, None])
        return cls(sums / counts[:, None], counts)

    def distances(self, features: NDArray[Any]) -> NDArray[np.float64]:
        """Return the distance (n,) of rows to the nearest mean, in units of one row."""
        inflation = 1.0 + 1.0 / self.counts
        found = np.empty(len(features))
        for begin in range(0, len(features), _ROWS_AT_ONCE):
            part = features[begin : begin + _ROWS_AT_ONCE]
            nearest = np.full(len(part), np.inf)
            for mean, factor in zip(self.means, inflation, strict=True):
                squares = np.square(part - mean).sum(axis=1) / factor
                nearest = np.minimum(nearest, squares)
            found[begin : begin + len(part)] = np.sqrt(nearest)
        return found


def score_name(rejection: Rejection | None, shared_labels: bool) -> str:
    """Return the name of the score in force.

    Raises
    ------
    InvalidInputError
        If distances are asked for where a task may lack support rows of a class.
    """
    name = "auto" if rejection is None else rejection.score
    if name == "auto":
        return "probability" if shared_labels else "distance"
    if name == "distance" and shared_labels:
        raise InvalidInputError(
            'score="distance" measures from the support rows of every class. Got tasks '
            "that share their labels, whose support may lack one; use "
            f"score={' or '.join(map(repr, sorted(_OF_LOGITS)))}."
        )
    return name


def of_logits(name: str, logits: NDArray[Any]) -> NDArray[Any]:
    """Return the novelty (n,) of rows by their logits (n, n_classes)."""
    return _OF_LOGITS[name](logits)


def threshold_of(scores: Iterable[NDArray[Any]], share: float) -> float:
    """Return what at most this share of the scores of known rows is above."""
    return float(
        np.quantile(np.concatenate(list(scores)), 1.0 - share, method="higher")
    )


def label_of_rejected(rejection: Rejection, classes: NDArray[Any]) -> Any:
    """Return the label of refused rows beside some classes.

    Raises
    ------
    InvalidInputError
        If it is a class, or of another kind than the classes.
    """
    of_text = classes.dtype.kind in "US" or (
        classes.dtype.kind == "O" and all(isinstance(name, str) for name in classes)
    )
    label = rejection.label
    if label is None:
        label = "rejected" if of_text else -1
    if classes.dtype.kind not in "iufUO" or isinstance(label, str) != of_text:
        raise InvalidInputError(
            "The label of refused rows must be of the kind of the classes: an integer "
            f"beside numbers, a string beside strings. Got {label!r} beside classes of "
            f"type {classes.dtype}; set reject=Rejection(label=...), or convert y."
        )
    if label in classes.tolist():
        raise InvalidInputError(
            f"The label of refused rows must be no class. Got {label!r}, which is "
            "one; set another by reject=Rejection(label=...)."
        )
    return label


def with_rejected(
    labels: NDArray[Any], rejected: NDArray[np.bool_], label: Any
) -> NDArray[Any]:
    """Return labels with those of refused rows replaced."""
    kind = labels.dtype
    if kind.kind in "iu":  # which the label may not fit in
        kind = np.promote_types(kind, np.min_scalar_type(label))
        kind = np.dtype(np.int64) if kind.kind == "f" else kind
    elif kind.kind == "U":
        kind = np.promote_types(kind, np.asarray(label).dtype)
    found = labels.astype(kind)
    found[rejected] = label
    return found
