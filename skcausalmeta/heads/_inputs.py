"""What a head is given: rows, labels, weights and offsets, checked."""

from __future__ import annotations

import operator
from functools import lru_cache
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.utils import check_array, check_X_y, column_or_1d, compute_class_weight
from sklearn.utils._param_validation import validate_parameter_constraints
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, validate_data
from torch import Tensor
from torch.nn.functional import one_hot

from ..exceptions import InvalidInputError
from ..utils import (
    dense_rows,
    refuse_masked,
    refuse_mixed,
    refuse_other_index,
    refuse_other_kinds,
    without_graph,
)

# A centred column below this many units in the last place of its mean is constant.
_CONSTANT = 16.0
# Numbers within these powers of the smallest and the largest one have squares.
_SQUARED = 0.45
# Values whose type and equality say all that a constraint may ask about.
_PLAIN = frozenset({bool, int, float, str, type(None)})
# Parameters of heads, not all plain, that were last found in range.
_CHECKED: WeakKeyDictionary[Any, tuple[Any, ...]] = WeakKeyDictionary()


class TrainingBatch(NamedTuple):
    """The checked rows of `fit` as a batch of one task, float64.

    Parameters
    ----------
    features : Tensor of shape (1, n_samples, n_features)
        Rows.
    targets : Tensor of shape (1, n_samples, n_classes)
        One-hot targets.
    weights : Tensor of shape (1, n_samples)
        Row weights times class weights.
    classes : ndarray of shape (n_classes,)
        Labels of the classes.
    offset : Tensor of shape (1, n_samples, n_classes) or None
        What is added to the scores.
    """

    features: Tensor
    targets: Tensor
    weights: Tensor
    classes: NDArray[Any]
    offset: Tensor | None = None


def training_batch(
    estimator: Any,
    X: ArrayLike,
    y: ArrayLike,
    sample_weight: ArrayLike | None,
    class_weight: dict[Any, float] | str | None = None,
    *,
    offset: ArrayLike | None = None,
    classes: ArrayLike | None = None,
) -> TrainingBatch:
    """Check what `fit` was given; the estimator stays as it was.

    Raises
    ------
    ValueError
        For invalid rows, labels, weights or offsets, and for a single class.
    """
    refuse_other_index(X=X, y=y, sample_weight=sample_weight, offset=offset)
    rows, named = _plain_rows(X, y) or _checked_rows(estimator, X, y)
    # Whole numbers always name classes.
    if named.dtype.kind not in "iub":
        check_classification_targets(named)
    codes, labels = _encoded(estimator, named, classes)
    if sample_weight is None:
        weights = np.ones(len(rows))
    else:
        weights = _check_sample_weight(
            sample_weight, rows, dtype=np.float64, ensure_non_negative=True
        )
    targets = one_hot(torch.from_numpy(codes), len(labels))[None].double()
    if is_balanced(class_weight, offset):
        rows_of_task = torch.from_numpy(weights)[None]
        weights = balanced_weights(targets, rows_of_task)[0].numpy()
    elif class_weight is not None and class_weight != "auto":
        factors = compute_class_weight(class_weight, classes=labels, y=named)
        weights = weights * factors[codes]
    if not weights.any() or (weights < 0).any():
        raise ValueError(
            "sample_weight times class_weight must be >= 0 for every row and > 0 "
            f"for one. Got values from {weights.min():g} to {weights.max():g}."
        )
    given = None
    if offset is not None:
        scores = score_offset(offset, len(rows), len(labels))
        given = torch.from_numpy(scores)[None]
    features = torch.from_numpy(rows)[None]
    check_size(features, "The features of X")
    return TrainingBatch(
        features,
        targets,
        torch.from_numpy(weights)[None],
        labels,
        given,
    )


def _plain_rows(
    X: ArrayLike, y: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[Any]] | None:
    """What `_checked_rows` returns for the rule, which needs few checks; else None.

    The rule is a finite array of numbers and an array of whole numbers.
    """
    if type(X) is not np.ndarray or type(y) is not np.ndarray:
        return None
    if X.ndim != 2 or y.shape != X.shape[:1] or not X.size or y.dtype.kind not in "iu":
        return None
    if X.dtype not in (np.float32, np.float64):
        return None
    rows = np.array(X, np.float64, order="C")
    # A sum that overflows leaves the answer to the long way.
    with np.errstate(over="ignore", invalid="ignore"):
        return (rows, y) if np.isfinite(rows.sum()) else None


def _checked_rows(
    estimator: Any, X: ArrayLike, y: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """A copy of the rows as a dense array, and the labels.

    Raises
    ------
    ValueError
        If they are invalid.
    """
    X = without_graph(X)
    refuse_masked(X, "X")
    refuse_masked(y, "y")
    refuse_mixed(y, "y")
    try:
        rows, labels = check_X_y(
            X,
            y,
            accept_sparse="csr",
            dtype=np.float64,
            order="C",
            estimator=estimator,
        )
    except ValueError as error:
        refuse_other_kinds(X, "X", error)
        raise
    if sparse.issparse(rows):
        rows = dense_rows(rows, type(estimator).__name__)
    return np.array(rows), np.asarray(labels)


def remember_columns(head: Any, X: Any) -> None:
    """Set `n_features_in_`, and `feature_names_in_` where the columns have names."""
    if type(X) is np.ndarray and X.ndim == 2:  # the rule, and quick
        head.n_features_in_ = X.shape[1]
        vars(head).pop("feature_names_in_", None)
    else:
        validate_data(head, X, skip_check_array=True)


def _encoded(
    estimator: Any, y: NDArray[Any], classes: ArrayLike | None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Numbers of the classes of all rows, and the sorted labels."""
    labels = np.unique(y if classes is None else column_or_1d(classes))
    name = type(estimator).__name__
    if len(labels) < 2:
        raise ValueError(
            f"{name} needs at least 2 classes in y. Got 1 class: "
            f"{labels.tolist()[0]!r}; add rows of another class, or name all labels "
            "with classes=."
        )
    unknown = y[:0] if classes is None else np.setdiff1d(y, labels)
    if unknown.size:
        raise InvalidInputError(
            f"classes must hold all labels of y. Got {unknown.tolist()} in y, which "
            f"are not among {labels.tolist()}; add them to classes."
        )
    return np.searchsorted(labels, y), labels


def balanced_weights(targets: Tensor, weights: Tensor) -> Tensor:
    """Row weights times ``n / (n_present * n_class)``, differentiable.

    Rows are counted with their weights; a class without any does not take part.

    Parameters
    ----------
    targets : Tensor of shape (n_tasks, n_samples, n_classes)
        One-hot targets.
    weights : Tensor of shape (n_tasks, n_samples)
        Row weights.

    Returns
    -------
    Tensor of shape (n_tasks, n_samples)
        Weights with the same sum in every class; those of equal classes stay.
    """
    counts = (weights[..., None] * targets).sum(1)
    present = counts > 0
    share = weights.sum(-1, keepdim=True) / present.sum(-1, keepdim=True)
    factors = torch.where(present, share / torch.where(present, counts, 1.0), 0.0)
    return weights * (targets @ factors[..., None])[..., 0]


def check_parameters(head: Any) -> None:
    """Refuse a head with a parameter out of its range.

    A layer is called in every step of a training, and a learner makes a new head for
    every task: plain values are checked once for a kind of head, others once for a
    head that still holds the very objects.

    Raises
    ------
    InvalidParameterError
    """
    kind: Any = type(head)
    held = tuple(getattr(head, name) for name in _parameter_names(kind))
    types = tuple(map(type, held))
    if _PLAIN.issuperset(types):
        _check_plain(kind, held, types)
        return
    checked = _CHECKED.get(head, ())
    if len(held) == len(checked) and all(map(operator.is_, held, checked)):
        return
    _check_constraints(kind, held)
    # A graph must not be kept alive.
    if not any(isinstance(v, Tensor) and v.requires_grad for v in held):
        _CHECKED[head] = held


@lru_cache(maxsize=128)
def _parameter_names(kind: Any) -> tuple[str, ...]:
    """Names of the parameters, which scikit-learn reads from a signature."""
    return tuple(kind._get_param_names())


@lru_cache(maxsize=1024)
def _check_plain(kind: Any, values: tuple[Any, ...], types: tuple[type, ...]) -> None:
    """Check values; equal ones of other types (1, 1.0 and True) are others."""
    _check_constraints(kind, values)


def _check_constraints(kind: Any, values: tuple[Any, ...]) -> None:
    validate_parameter_constraints(
        kind._parameter_constraints,
        dict(zip(_parameter_names(kind), values, strict=True)),
        caller_name=kind.__name__,
    )


def is_balanced(class_weight: Any, offset: Any) -> bool:
    """Whether the classes weigh the same: "auto" leaves shares to an offset."""
    if isinstance(class_weight, str):
        return class_weight == "balanced" or offset is None
    return False


def held_units(head: Any) -> str:
    """Say that the gradient of a head holds the units of its strengths fixed, or ""."""
    fixed = head.reg_scale != "absolute" and not head.reg_gradient
    return "the units of relative strengths are held fixed" if fixed else ""


def centred(matrix: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Columns minus their weighted means, constant columns exactly 0; the means.

    Parameters
    ----------
    matrix : Tensor of shape (n_tasks, n_samples, n_columns)
        Columns.
    weights : Tensor of shape (n_tasks, n_samples)
        Row weights with the sum 1.

    Returns
    -------
    tuple of Tensor
        (n_tasks, n_samples, n_columns) and (n_tasks, 1, n_columns).
    """
    mean = weights[:, None, :] @ matrix
    moved = matrix - mean
    with torch.no_grad():
        spread = (weights[:, None, :] @ moved.square()).sqrt()
        rounding = _CONSTANT * torch.finfo(mean.dtype).eps * mean.abs()
        constant = spread <= rounding
    return torch.where(constant, 0.0, moved), mean


def score_offset(offset: ArrayLike, n_rows: int, n_classes: int) -> NDArray[Any]:
    """An offset of scores as (n_rows, n_classes), in double.

    One number a row is the score of the second of two classes minus the one of the
    first, and is shared out between them.

    Raises
    ------
    InvalidInputError
        If it has another shape.
    ValueError
        If it is not finite.
    """
    scores: NDArray[Any] = check_array(
        offset,
        dtype=np.float64,
        ensure_2d=False,
        ensure_min_samples=0,
        input_name="offset",
    )
    if n_classes == 2 and scores.shape == (n_rows,):
        return np.stack([-scores / 2, scores / 2], axis=1)
    if scores.shape != (n_rows, n_classes):
        rule = f"({n_rows}, {n_classes})" + f" or ({n_rows},)" * (n_classes == 2)
        raise InvalidInputError(
            "offset must hold a score of every class for every row, in the order of "
            f"the sorted labels. Got shape {scores.shape}, expected {rule}."
        )
    return scores


def episode_offset(
    offset: Tensor | None, shape: tuple[int, ...], features: Tensor, name: str
) -> Tensor | None:
    """An offset of the layer like the features, None where there is none.

    Raises
    ------
    InvalidInputError
        If it has another shape or is not finite.
    """
    if offset is None:
        return None
    if tuple(offset.shape) != shape:
        raise InvalidInputError(
            f"{name} must have shape {shape}: what is added to every score. Got "
            f"{tuple(offset.shape)}."
        )
    if not bool(torch.isfinite(offset.detach()).all()):
        raise InvalidInputError(
            f"{name} must be finite. Got NaN or infinity; if it comes from a common "
            "predictor, its training diverged: lower its learning rate."
        )
    return offset.to(features)


def episode_inputs(
    features: Tensor,
    targets: Tensor,
    n_classes: int,
    sample_weight: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Check support sets; one-hot targets and row weights like the features.

    Raises
    ------
    InvalidInputError
        If shapes do not agree, a feature is not finite, a label is outside
        0..n_classes-1 or a task has no row of positive weight.
    """
    if features.ndim != 3 or targets.shape != features.shape[:2]:
        raise InvalidInputError(
            "Support features must have shape (n_tasks, n_support, n_features) and "
            f"targets (n_tasks, n_support). Got {tuple(features.shape)} and "
            f"{tuple(targets.shape)}."
        )
    if n_classes < 2:
        raise InvalidInputError(
            f"A head needs at least 2 classes. Got n_classes={n_classes}."
        )
    if targets.numel():
        least, most = int(targets.min()), int(targets.max())
        if not 0 <= least <= most < n_classes:
            raise InvalidInputError(
                f"Targets must be class numbers 0..{n_classes - 1}. Got values from "
                f"{least} to {most}."
            )
    check_size(features, "Support features")
    weights = row_weights(features, sample_weight)
    return one_hot(targets.long(), n_classes).to(features), weights


def check_size(values: Tensor, what: str) -> None:
    """Refuse numbers that are not finite, or whose squares would not be.

    Parameters
    ----------
    values : Tensor of shape (n_tasks, ...)
        Numbers; a task of zeros is let pass.
    what : str
        Their name, for the message.

    Raises
    ------
    InvalidInputError
    """
    if not values.numel():
        return
    # Unlike `aminmax` along an axis, these two use vector instructions.
    flat = values.detach().flatten(1)
    sizes = torch.maximum(-flat.amin(-1), flat.amax(-1))
    numbers = torch.finfo(sizes.dtype)
    least, most = numbers.tiny**_SQUARED, numbers.max**_SQUARED
    smallest, largest = sizes.aminmax()
    if least <= float(smallest) <= float(largest) <= most:  # the rule, and quick
        return
    if not bool(torch.isfinite(sizes).all()):
        raise InvalidInputError(
            f"{what} must be finite. Got NaN or infinity; if they come "
            "from a backbone, its training diverged: lower its learning rate."
        )
    outside = (sizes > most) | ((sizes > 0) & (sizes < least))
    if bool(outside.any()):
        raise InvalidInputError(
            f"{what} must have a largest size between {least:.0e} and {most:.0e}, or "
            f"be 0: squares of others cannot be represented. Got a task with the "
            f"largest size {float(sizes[outside][0]):.1e}; change their unit."
        )


def row_weights(features: Tensor, sample_weight: Tensor | None) -> Tensor:
    """Row weights like the features, 1 where not given.

    Raises
    ------
    InvalidInputError
        If they do not fit the rows or leave a task without any.
    """
    if sample_weight is None:
        return features.new_ones(features.shape[:2])
    weights = sample_weight.detach()
    if weights.shape != features.shape[:2]:
        raise InvalidInputError(
            "sample_weight must have one weight for every row. Got shape "
            f"{tuple(weights.shape)}, expected {tuple(features.shape[:2])}."
        )
    if not bool((weights >= 0).all()) or not bool((weights > 0).any(-1).all()):
        raise InvalidInputError(
            "sample_weight must be >= 0, with a row > 0 in every task. Got a "
            "negative weight, NaN, or a task of zeros; drop that task."
        )
    return sample_weight.to(features)


def check_query(query: Tensor, support: Tensor) -> None:
    """Refuse query rows of other tasks or other features than the support rows.

    Raises
    ------
    InvalidInputError
    """
    if query.ndim != 3 or query.shape[::2] != support.shape[::2]:
        raise InvalidInputError(
            "Query features must have shape (n_tasks, n_query, n_features), with the "
            f"tasks and features of the support rows. Got {tuple(query.shape)} beside "
            f"{tuple(support.shape)}."
        )
