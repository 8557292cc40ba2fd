"""Cross-validation over classes instead of rows."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.model_selection import BaseCrossValidator
from sklearn.utils._param_validation import Interval, validate_parameter_constraints

from ..exceptions import InvalidInputError
from ..utils import named_seeds


class ClassKFold(BaseCrossValidator):
    """K-fold cross-validator whose folds are disjoint sets of classes.

    A learner that must cope with new classes has to be judged on classes it was
    not trained on. Every class is in the test set of exactly one split and then
    never in the training set of that split.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, at least 2 and at most the number of classes.
    shuffle : bool, default=False
        Whether to deal the classes out at random. If False, they are dealt from
        the largest to the smallest, each round of `n_splits` classes so that its
        largest goes to the fold with the fewest rows so far. Either way the folds
        differ by at most one in their number of classes.
    random_state : int, RandomState instance or None, default=None
        Decides the order if `shuffle` is True. With an int, every call of
        ``split`` gives the same folds.

    See Also
    --------
    few_shot_scorer : Scores a learner on episodes of the held-out classes.

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.model_selection import ClassKFold
    >>> y = np.repeat(["a", "b", "c", "d"], [4, 3, 2, 1])
    >>> for train, test in ClassKFold(n_splits=2).split(np.zeros((10, 1)), y):
    ...     print(np.unique(y[train]), np.unique(y[test]))
    ['b' 'c'] ['a' 'd']
    ['a' 'd'] ['b' 'c']
    """

    def __init__(
        self,
        n_splits: int = 5,
        *,
        shuffle: bool = False,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        validate_parameter_constraints(
            {
                "n_splits": [Interval(Integral, 2, None, closed="left")],
                "shuffle": ["boolean"],
                "random_state": ["random_state"],
            },
            {"n_splits": n_splits, "shuffle": shuffle, "random_state": random_state},
            caller_name="ClassKFold",
        )
        if not shuffle and random_state is not None:
            raise ValueError(
                "random_state has an effect only with shuffle=True. Got "
                f"random_state={random_state!r} with shuffle=False; set shuffle=True "
                "or leave random_state at None."
            )
        self.n_splits = n_splits
        self.shuffle = shuffle
        self.random_state = random_state

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of splits.

        Parameters
        ----------
        X : object, default=None
            Ignored.
        y : object, default=None
            Ignored.
        groups : object, default=None
            Ignored.

        Returns
        -------
        n_splits : int
            Number of folds.
        """
        return self.n_splits

    def split(
        self, X: Any, y: ArrayLike | None = None, groups: Any = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Generate row numbers of training and test sets.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Data; only its length is used.
        y : array-like of shape (n_samples,)
            Class of each row.
        groups : object, default=None
            Not used: rows of one group may be on both sides, in different classes.

        Yields
        ------
        train : ndarray of shape (n_train,)
            Rows of all classes but those of the fold.
        test : ndarray of shape (n_test,)
            Rows of the classes of the fold.

        Raises
        ------
        InvalidInputError
            If `y` is missing or has fewer classes than `n_splits`.

        Warns
        -----
        UserWarning
            If `groups` are given.
        """
        if groups is not None:
            warnings.warn(
                "ClassKFold divides classes and does not keep groups together. Got "
                "groups, which it leaves unused; use sklearn.model_selection.GroupKFold"
                " to hold out groups, or pass groups=None.",
                UserWarning,
                stacklevel=2,
            )
        if y is None:
            raise InvalidInputError(
                "ClassKFold divides the classes, so split needs y. Got y=None; pass "
                "the class of each row."
            )
        yield from super().split(X, y, groups)

    def _iter_test_indices(
        self, X: Any = None, y: Any = None, groups: Any = None
    ) -> Iterator[np.ndarray]:
        classes, codes, sizes = np.unique(
            np.asarray(y), return_inverse=True, return_counts=True
        )
        if len(classes) < self.n_splits:
            raise InvalidInputError(
                "n_splits must be at most the number of classes. Got n_splits="
                f"{self.n_splits} for {len(classes)} classes; lower n_splits."
            )
        fold_of_class = self._shuffled(sizes) if self.shuffle else self._balanced(sizes)
        for fold in range(self.n_splits):
            yield np.flatnonzero(fold_of_class[codes] == fold)

    def _shuffled(self, sizes: np.ndarray) -> np.ndarray:
        seed = named_seeds(self.random_state, "classes")["classes"]
        order = np.random.default_rng(seed).permutation(len(sizes))
        return order % self.n_splits

    def _balanced(self, sizes: np.ndarray) -> np.ndarray:
        fold_of_class = np.empty(len(sizes), dtype=np.intp)
        n_rows = np.zeros(self.n_splits, dtype=np.int64)
        largest_first = np.argsort(-sizes, kind="stable")
        for start in range(0, len(sizes), self.n_splits):
            dealt = largest_first[start : start + self.n_splits]
            folds = np.argsort(n_rows, kind="stable")[: len(dealt)]
            fold_of_class[dealt] = folds
            n_rows[folds] += sizes[dealt]
        return fold_of_class
