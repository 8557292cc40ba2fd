"""Cross-validation over classes instead of rows."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import BaseCrossValidator
from sklearn.utils import column_or_1d, indexable
from sklearn.utils._param_validation import Interval, validate_parameter_constraints

from ..exceptions import InvalidInputError
from ..utils import count_missing, named_seeds


class ClassKFold(BaseCrossValidator):
    """K-fold cross-validator whose folds are disjoint sets of classes.

    A learner that must cope with new classes has to be judged on classes it was
    not trained on. Every class is in the test set of exactly one split and then
    never in the training set of that split. Groups of rows, where `split` gets them,
    are never on both sides either.

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

    Notes
    -----
    Classes that share a group are held out together: where every class belongs to one
    group (a character to its alphabet), folds are sets of whole groups. Where groups
    link the classes to fewer sets than folds (every gesture made by every person),
    groups are dealt out to folds as classes are: the test set of a split has the rows
    of its classes in its groups, the training set those of other classes in other
    groups, and the remaining rows are left out of that split.

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

    # Groups are used where they are given, as by GroupKFold.
    __metadata_request__split: ClassVar = {"groups": True}

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
        self, X: Any, y: ArrayLike | None = None, groups: ArrayLike | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Generate row numbers of training and test sets.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Data; only its length is used.
        y : array-like of shape (n_samples,)
            Class of each row.
        groups : array-like of shape (n_samples,), default=None
            Group of each row, such as the person or the alphabet. No group is on
            both sides of a split; see Notes. None: rows are told apart by class only.

        Yields
        ------
        train : ndarray of shape (n_train,)
            Rows of all classes, and groups, but those of the fold.
        test : ndarray of shape (n_test,)
            Rows of the classes, and groups, of the fold.

        Raises
        ------
        InvalidInputError
            If `y` is missing or has fewer classes than `n_splits`, a group is missing,
            or `groups` leave a side of a split empty.
        """
        if y is None:
            raise InvalidInputError(
                "ClassKFold divides the classes, so split needs y. Got y=None; pass "
                "the class of each row."
            )
        if groups is None:
            yield from super().split(X, y)
            return
        X, y, groups = indexable(X, y, groups)
        labels = column_or_1d(groups)
        if missing := count_missing(labels):
            raise InvalidInputError(
                f"groups must not hold NaN, NaT or None. Got {missing} such rows; give "
                "each of them a group of its own."
            )
        ids = np.unique(labels, return_inverse=True)[1]
        yield from self._apart(np.asarray(y), ids)

    def _apart(
        self, y: NDArray[Any], groups: NDArray[np.intp]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield splits that neither a class nor a group is on both sides of."""
        classes, codes = np.unique(y, return_inverse=True)
        self._refuse_few(len(classes), "classes")
        linked = _linked(codes, groups)  # one number a row
        if linked.max() + 1 >= self.n_splits:
            folds = [self._deal(np.bincount(linked))[linked]]
        else:
            self._refuse_few(groups.max() + 1, "groups that share classes")
            folds = [
                self._deal(np.bincount(codes))[codes],
                self._deal(np.bincount(groups), "groups")[groups],
            ]
        for fold in range(self.n_splits):
            test = np.flatnonzero(np.all([of == fold for of in folds], axis=0))
            train = np.flatnonzero(np.all([of != fold for of in folds], axis=0))
            if not (len(test) and len(train)):
                side = "training" if len(test) else "test"
                raise InvalidInputError(
                    "Neither a class nor a group may be on both sides of a split. Got "
                    f"groups that leave no row for the {side} set of split {fold}; "
                    "lower n_splits, or pass groups=None."
                )
            yield train, test

    def _refuse_few(self, n_found: int, what: str) -> None:
        if n_found < self.n_splits:
            raise InvalidInputError(
                f"n_splits must be at most the number of {what}. Got n_splits="
                f"{self.n_splits} for {n_found} {what}; lower n_splits."
            )

    def _iter_test_indices(
        self, X: Any = None, y: Any = None, groups: Any = None
    ) -> Iterator[np.ndarray]:
        classes, codes, sizes = np.unique(
            np.asarray(y), return_inverse=True, return_counts=True
        )
        self._refuse_few(len(classes), "classes")
        fold_of_class = self._deal(sizes)
        for fold in range(self.n_splits):
            yield np.flatnonzero(fold_of_class[codes] == fold)

    def _deal(self, sizes: np.ndarray, name: str = "classes") -> np.ndarray:
        """Return the fold of every unit, of `sizes` rows each."""
        return self._shuffled(sizes, name) if self.shuffle else self._balanced(sizes)

    def _shuffled(self, sizes: np.ndarray, name: str) -> np.ndarray:
        seed = named_seeds(self.random_state, name)[name]
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


def _linked(codes: NDArray[np.intp], groups: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the number of the set of classes, linked by groups, of every row."""
    n_classes = codes.max() + 1
    n_nodes = n_classes + groups.max() + 1
    links = (np.ones(len(codes)), (codes, n_classes + groups))
    graph = coo_array(links, shape=(n_nodes, n_nodes))
    found = connected_components(graph, directed=False)[1]
    linked: NDArray[np.intp] = np.unique(found[codes], return_inverse=True)[1]
    return linked
