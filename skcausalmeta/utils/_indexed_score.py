"""Scores of rows and targets that belong together."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from ._indices import refuse_other_index


class IndexedScoreMixin:
    """`score` of scikit-learn, for rows and targets of one index.

    Stands before `ClassifierMixin` or `RegressorMixin` among the bases of a class.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn.dummy import DummyClassifier
    >>> from skcausalmeta.exceptions import InvalidInputError
    >>> from skcausalmeta.utils import IndexedScoreMixin
    >>> class Most(IndexedScoreMixin, DummyClassifier):
    ...     pass
    >>> X, y = pd.DataFrame({"a": [1, 2, 3]}), pd.Series([0, 0, 1])
    >>> most = Most().fit(X, y)
    >>> print(round(most.score(X, y), 3))
    0.667
    >>> try:
    ...     most.score(X, y[::-1])
    ... except InvalidInputError as error:
    ...     print(str(error)[:28])
    X and y must have one index,
    """

    def score(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> float:
        """Return the accuracy of `predict`, or of real targets R squared.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows of the kind seen in `fit`.
        y : array-like of shape (n_samples,)
            True labels or targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights.

        Returns
        -------
        float

        Raises
        ------
        InvalidInputError
            If pandas objects among them have different indices.
        """
        refuse_other_index(X=X, y=y, sample_weight=sample_weight)
        score: Any = super().score  # type: ignore[misc]
        return float(score(X, y, sample_weight))
