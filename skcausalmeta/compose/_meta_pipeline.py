"""A Pipeline that can adapt."""

from __future__ import annotations

import copy
from collections.abc import Callable
from importlib import import_module
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils import get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from ..exceptions import InvalidInputError
from ..learners import SolvedTasks, solve_tasks
from ..utils import are_sparse_tasks


def _final_step_has(method: str) -> Callable[[MetaPipeline], bool]:
    return lambda pipeline: hasattr(pipeline.steps[-1][1], method)


def _of_final_step(name: str, summary: str) -> property:
    """Make a read-only property that reads `name` from the last step."""

    def read(self: MetaPipeline) -> Any:
        return getattr(self.steps[-1][1], name)

    return property(read, doc=summary)


class MetaPipeline(Pipeline):
    """Pipeline whose last step is a meta-learner.

    ``fit`` learns the preprocessing and meta-trains the last step, as in a
    Pipeline. ``adapt`` keeps the preprocessing as it was fitted, since a handful
    of support rows could not estimate it, and adapts a copy of the last step.
    Therefore ``copy.copy(pipeline).adapt(X, y)`` is an independent predictor that
    shares the fitted steps with the original.

    Parameters
    ----------
    steps : list of tuples
        Pairs (name, estimator). All but the last must have ``transform``; the
        last must have ``adapt`` for the pipeline to have it.
    transform_input : list of str, default=None
        Metadata of ``fit`` that is transformed along with X. Needs metadata
        routing to be enabled.
    memory : str or object with the joblib.Memory interface, default=None
        Cache of the fitted transformers.
    verbose : bool, default=False
        Whether to print the time of each step while it is fitted.

    Attributes
    ----------
    named_steps : Bunch
        The steps by name.
    classes_ : ndarray of shape (n_classes,)
        Classes of the last step: those of the task after ``adapt``.
    dual_gap_ : float
        Duality gap of the last step, if it has one.
    sparsity_ : float
        Share of features that the last step does not use, if it reports it.
    support_features_ : ndarray of shape (n_used,)
        Features that the last step uses, if it reports them.
    history_ : object
        Training history of the last step, if it keeps one.
    n_iter_ : int
        Iterations of the last step, if it counts them.

    See Also
    --------
    make_meta_pipeline : Names the steps by itself.

    Notes
    -----
    Missing values and categories become numbers before the learner, by a
    `ColumnTransformer` of imputers and encoders as the first step. Its output may be
    sparse.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import RidgeClassifier
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skcausalmeta.compose import MetaPipeline
    >>> class Refit(RidgeClassifier):
    ...     def adapt(self, X, y):
    ...         return self.fit(X, y)
    >>> X, y = np.eye(4), np.array(["a", "b", "c", "d"])
    >>> pipeline = MetaPipeline([("scale", StandardScaler()), ("learner", Refit())])
    >>> pipeline.fit(X, y).adapt(X[:2], ["new", "old"]).predict(X[:2])
    array(['new', 'old'], dtype='<U3')
    """

    steps: list[tuple[str, Any]]

    dual_gap_ = _of_final_step("dual_gap_", "Duality gap of the last step.")
    sparsity_ = _of_final_step(
        "sparsity_", "Share of features that the last step does not use."
    )
    support_features_ = _of_final_step(
        "support_features_", "Features that the last step uses."
    )
    history_ = _of_final_step("history_", "Training history of the last step.")
    n_iter_ = _of_final_step("n_iter_", "Iterations of the last step.")

    def __copy__(self) -> Self:
        duplicate = self.__class__.__new__(self.__class__)
        duplicate.__dict__.update(self.__dict__)
        duplicate.steps = list(self.steps)
        return duplicate

    @available_if(_final_step_has("adapt"))
    def adapt(self, X: Any, y: ArrayLike, **params: Any) -> Self:
        """Solve a new task from its support rows.

        Parameters
        ----------
        X : array-like of shape (n_support, ...)
            Support rows, transformed by the fitted steps before the last.
        y : array-like of shape (n_support,)
            Targets of the support rows.
        **params : dict
            Passed to ``adapt`` of the last step.

        Returns
        -------
        self : MetaPipeline
            The pipeline, which now predicts for the new task.

        Raises
        ------
        NotFittedError
            If the pipeline is not fitted.
        """
        self._check_fitted("adapt")
        name, learner = self.steps[-1]
        adapted = copy.copy(learner).adapt(self._transform_rows(X), y, **params)
        self.steps = [*self.steps[:-1], (name, adapted)]
        return self

    @available_if(_final_step_has("adapt_tasks"))
    def adapt_tasks(
        self, X: Any, y: ArrayLike, tasks: ArrayLike, **options: Any
    ) -> SolvedTasks:
        """Solve all tasks of a table, and keep them by their ids.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Support rows of all tasks, transformed by the fitted steps before the last.
        y : array-like of shape (n_samples,)
            Their labels or targets.
        tasks : array-like of shape (n_samples,)
            Task of every row.
        **options : dict
            `batch_size` and `client`, as ``adapt_tasks`` of a learner takes them.

        Returns
        -------
        SolvedTasks
            Asked by id, with rows as the pipeline takes them.

        Raises
        ------
        NotFittedError
            If the pipeline is not fitted.
        """
        self._check_fitted("adapt_tasks")
        return solve_tasks(self, X, y, tasks, **options)

    @property
    def _task_learner(self) -> Any:
        """The learner that solves tasks."""
        last = self.steps[-1][1]
        return getattr(last, "_task_learner", last)

    def _around_task(self, adapted: Any) -> Self:
        """Return a copy of itself around an adapted learner."""
        name, last = self.steps[-1]
        around = getattr(last, "_around_task", None)
        found = copy.copy(self)
        step = adapted if around is None else around(adapted)
        found.steps = [*self.steps[:-1], (name, step)]
        return found

    def _task_rows(self, X: Any) -> Any:
        return self._transform_rows(X)

    @available_if(_final_step_has("predict_episodes"))
    def predict_episodes(
        self,
        X_support: ArrayLike,
        y_support: ArrayLike,
        X_query: ArrayLike,
        *,
        max_memory: int | None = None,
    ) -> Any:
        """Solve many tasks at once and predict their query rows.

        Parameters
        ----------
        X_support : array-like of shape (n_tasks, n_support, ...)
            Support rows of each task; or a list of sparse matrices or data frames, one
            a task.
        y_support : array-like of shape (n_tasks, n_support)
            Their targets.
        X_query : array-like of shape (n_tasks, n_query, ...)
            Query rows of each task, likewise.
        max_memory : int, default=None
            Bytes that the last step may take, as its `predict_episodes` says.

        Returns
        -------
        y_query : ndarray of shape (n_tasks, n_query)
            Predictions, as the last step returns them.

        Raises
        ------
        NotFittedError
            If the pipeline is not fitted.
        InvalidInputError
            If the arrays have no leading task axis.
        """
        bound = {} if max_memory is None else {"max_memory": max_memory}
        return self._ask_episodes(
            "predict_episodes", X_support, y_support, X_query, **bound
        )

    @available_if(_final_step_has("staged_predict_episodes"))
    def staged_predict_episodes(
        self, X_support: ArrayLike, y_support: ArrayLike, X_query: ArrayLike
    ) -> Any:
        """Predictions of `predict_episodes` before and after every inner step.

        Parameters
        ----------
        X_support : array-like of shape (n_tasks, n_support, ...)
            Support rows of each task; or a list of sparse matrices or data frames, one
            a task.
        y_support : array-like of shape (n_tasks, n_support)
            Their targets.
        X_query : array-like of shape (n_tasks, n_query, ...)
            Query rows of each task, likewise.

        Returns
        -------
        y_query : ndarray of shape (n_steps + 1, n_tasks, n_query)
            Predictions, as the last step returns them.

        Raises
        ------
        NotFittedError
            If the pipeline is not fitted.
        InvalidInputError
            If the arrays have no leading task axis.
        """
        return self._ask_episodes(
            "staged_predict_episodes", X_support, y_support, X_query
        )

    def _ask_episodes(
        self,
        method: str,
        X_support: Any,
        y_support: Any,
        X_query: Any,
        **bound: int,
    ) -> Any:
        self._check_fitted(method)
        return getattr(self.steps[-1][1], method)(
            self._transform_episodes(X_support, "X_support", len(y_support)),
            y_support,
            self._transform_episodes(X_query, "X_query", len(y_support)),
            **bound,
        )

    def _check_fitted(self, method: str) -> None:
        try:
            check_is_fitted(self)
        except NotFittedError as error:
            raise NotFittedError(
                f"{method} needs a pipeline that was fitted on the training tasks. "
                f"Got a {type(self).__name__} that is not fitted; call fit first."
            ) from error

    def _transform_rows(self, X: Any) -> Any:
        for _, step in self.steps[:-1]:
            if step is not None and step != "passthrough":
                X = step.transform(X)
        return X

    def _transform_episodes(self, X: Any, name: str, n_tasks: int) -> Any:
        """Return the transformed rows of tasks; a list, one a task, of sparse ones."""
        rows, n_tasks = _all_rows(X, name, n_tasks)
        n_rows = rows.shape[0] // max(1, n_tasks)
        found = self._transform_rows(rows)
        if sparse.issparse(found) and not _takes_sparse(self.steps[-1][1]):
            found = found.toarray()
        if sparse.issparse(found):
            matrix = found.tocsr()
            cuts = range(0, n_tasks * n_rows, n_rows)
            return [matrix[begin : begin + n_rows] for begin in cuts]
        dense = np.asarray(found)
        return dense.reshape(n_tasks, n_rows, *dense.shape[1:])


def _takes_sparse(learner: Any) -> bool:
    return bool(get_tags(learner).input_tags.sparse)


def _all_rows(X: Any, name: str, n_tasks: int) -> tuple[Any, int]:
    """Return the rows of all tasks as a step takes them, and the number of tasks.

    Raises
    ------
    InvalidInputError
        If there is no task axis, or tasks differ in the number of rows.
    """
    if are_sparse_tasks(X) or _are_frames(X):
        sizes = {one.shape[0] for one in X}
        if len(sizes) > 1:
            raise InvalidInputError(
                f"All tasks of {name} must have as many rows. Got "
                f"{sorted(sizes)[:5]}; solve tasks of other sizes by adapt."
            )
        if sparse.issparse(X[0]):
            return sparse.vstack(list(X), format="csr"), len(X)
        # Of pandas or polars, whichever made the frames.
        library = import_module(type(X[0]).__module__.partition(".")[0])
        return library.concat(list(X)), len(X)
    if sparse.issparse(X) and X.ndim == 2:
        if n_tasks < 1 or X.shape[0] % n_tasks:
            raise InvalidInputError(
                f"A sparse {name} holds the rows of the first task, then of the second "
                f"and so on. Got {X.shape[0]} rows for {n_tasks} tasks of y_support; "
                "pass a list of matrices, one a task."
            )
        return X, n_tasks
    episodes = np.asarray(X)
    if episodes.ndim < 3:
        raise InvalidInputError(
            f"{name} must have a task axis, a row axis and at least one feature "
            f"axis. Got shape {episodes.shape}; for a single task pass "
            f"{name}[np.newaxis], or use adapt and predict."
        )
    return episodes.reshape(-1, *episodes.shape[2:]), len(episodes)


def _are_frames(X: Any) -> bool:
    """Tell whether X is a sequence of data frames, one a task."""
    return (
        isinstance(X, list | tuple)
        and len(X) > 0
        and all(hasattr(one, "columns") and hasattr(one, "shape") for one in X)
    )


def make_meta_pipeline(
    *steps: Any,
    memory: Any = None,
    transform_input: list[str] | None = None,
    verbose: bool = False,
) -> MetaPipeline:
    """Make a MetaPipeline whose steps are named after their types.

    Parameters
    ----------
    *steps : estimators
        Transformers, then the meta-learner.
    memory : str or object with the joblib.Memory interface, default=None
        Cache of the fitted transformers.
    transform_input : list of str, default=None
        Metadata of ``fit`` that is transformed along with X.
    verbose : bool, default=False
        Whether to print the time of each step while it is fitted.

    Returns
    -------
    pipeline : MetaPipeline
        Steps are named by the lower-case names of their types.

    See Also
    --------
    MetaPipeline : The class, for steps with names of your own.

    Examples
    --------
    >>> from sklearn.linear_model import RidgeClassifier
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skcausalmeta.compose import make_meta_pipeline
    >>> pipeline = make_meta_pipeline(StandardScaler(), RidgeClassifier())
    >>> print(list(pipeline.named_steps))
    ['standardscaler', 'ridgeclassifier']
    """
    return MetaPipeline(
        make_pipeline(*steps).steps,
        transform_input=transform_input,
        memory=memory,
        verbose=verbose,
    )
