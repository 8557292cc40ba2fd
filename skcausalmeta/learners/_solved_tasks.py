"""Many solved tasks of a learner, asked by id."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.special import softmax
from sklearn.base import is_classifier
from sklearn.cluster import MiniBatchKMeans
from sklearn.metrics import accuracy_score, r2_score
from sklearn.preprocessing import normalize

from ..exceptions import InvalidInputError
from ..training import in_parts
from ..utils import few_of, printable, read_rows, refuse_other_index
from ._checks import check_known_rows
from ._task_blocks import TaskBlock
from ._task_ids import as_ids, checked_ids, names_of
from ._task_index import TaskIndex
from ._task_rows import n_rows_of, take_rows

_NO_TASK = -1
_TASKS_AT_ONCE = 4096


def _directions(deviations: NDArray[Any]) -> NDArray[Any]:
    """Return a row a task; of two classes what the second has more than the first."""
    if deviations.shape[1] == 2:
        deviations = deviations[:, 1:] - deviations[:, :1]
    return deviations.reshape(len(deviations), -1)


class SolvedTasks:
    """Predictors of many tasks that share what a learner has learned.

    What ``learner.adapt_tasks(X, y, tasks)`` returns, and what a store of tasks opens
    to. A task is a few numbers: with a sparse head its weights that are not zero.

    Parameters
    ----------
    learner : estimator
        Fitted; it answers for rows of tasks and stays as it is.
    blocks : list of TaskBlock
        Solved tasks. A task that is in two blocks is that of the later one.
    failed : dict, default=None
        Why other tasks were not solved, by their ids.

    Attributes
    ----------
    ids_ : ndarray of shape (n_tasks,)
        Ids of the solved tasks, sorted.
    failed_ : dict
        Reasons by the ids of tasks that could not be solved.
    n_unknown_ : int
        Rows of unknown ids that the common predictor has answered so far.

    See Also
    --------
    SolvedTask : What `adapt` makes of one task.

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.datasets import make_shared_tasks
    >>> from skcausalmeta.learners import SparseMetaClassifier
    >>> data = make_shared_tasks(n_tasks=12, random_state=0)
    >>> learner = SparseMetaClassifier(
    ...     backbone="identity", max_epochs=1, verbose=0, random_state=0
    ... )
    >>> learner = learner.fit(data.data, data.target, tasks=data.tasks)
    >>> solved = learner.adapt_tasks(data.data, data.target, data.tasks)
    >>> len(solved), solved.predict(data.data[:3], data.tasks[:3]).shape
    (12, (3,))
    """

    def __init__(
        self,
        learner: Any,
        blocks: Sequence[Any],
        failed: dict[Any, str] | None = None,
    ) -> None:
        self.learner = learner
        self.failed_ = dict(failed or {})
        self.n_unknown_ = 0
        self._index = TaskIndex(blocks)

    # -- ids ---------------------------------------------------------------------------

    @property
    def ids_(self) -> NDArray[Any]:
        """Ids of the solved tasks, sorted."""
        return self._index.ids

    def __len__(self) -> int:
        return len(self._index.ids)

    def __iter__(self) -> Iterator[Any]:
        return iter(names_of(self._index.ids))

    def __contains__(self, task: Any) -> bool:
        return bool(self._index.find([task])[0] != _NO_TASK)

    def __getitem__(self, task: Any) -> Any:
        """Return a copy of the learner, adapted to a task.

        Raises
        ------
        KeyError
            If the task is none of these.
        """
        (place,) = self._index.find([task])
        if place == _NO_TASK:
            raise KeyError(
                f"Task {task!r} must be one of the {len(self)} solved ones, such as "
                f"{names_of(self._index.ids[:3])}. Got another id; adapt to it "
                "with update."
            )
        block, position = self._index.place(int(place))
        return self._outer(block.load().adapted(self._inner, position))

    @property
    def _inner(self) -> Any:
        """The learner that solves tasks, where it is wrapped in another."""
        return getattr(self.learner, "_task_learner", self.learner)

    def _outer(self, adapted: Any) -> Any:
        around = getattr(self.learner, "_around_task", None)
        return adapted if around is None else around(adapted)

    def _rows(self, X: ArrayLike) -> Any:
        """Return rows as the learner that solves tasks takes them."""
        change = getattr(self.learner, "_task_rows", None)
        return X if change is None else change(X)

    # -- answers -----------------------------------------------------------------------

    def predict(self, X: ArrayLike, tasks: ArrayLike) -> NDArray[Any]:
        """Predict the label or target of every row by its task.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows of the kind seen in `fit`.
        tasks : array-like of shape (n_samples,)
            Task of every row. An unknown one is answered by what all tasks share, and
            counted in `n_unknown_`.

        Returns
        -------
        ndarray of shape (n_samples,)

        Raises
        ------
        InvalidInputError
            If an id is unknown and the learner has no common predictor.
        """
        refuses = getattr(self._inner, "reject", None) is not None
        found = None if refuses else self._scores(X, tasks)
        if found is None:
            return self._one_by_one("predict", X, tasks)
        if not is_classifier(self._inner):
            return found
        winners: NDArray[Any] = self._inner.training_classes_[found.argmax(axis=1)]
        return winners

    def decision_function(self, X: ArrayLike, tasks: ArrayLike) -> NDArray[Any]:
        """Return the scores of the classes, as that of the learner.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows of the kind seen in `fit`.
        tasks : array-like of shape (n_samples,)
            As in `predict`.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)

        Raises
        ------
        InvalidInputError
            As in `predict`, and if the tasks differ in their number of classes.
        """
        found = self._scores(X, tasks)
        if found is None:
            return self._one_by_one("decision_function", X, tasks)
        return found[:, 1] - found[:, 0] if found.shape[1] == 2 else found

    def predict_proba(self, X: ArrayLike, tasks: ArrayLike) -> NDArray[Any]:
        """Return the probabilities of the classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows of the kind seen in `fit`.
        tasks : array-like of shape (n_samples,)
            As in `predict`.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            In the order of the classes of the learner, or of the task of a row.

        Raises
        ------
        InvalidInputError
            As in `decision_function`.
        """
        found = self._scores(X, tasks)
        if found is None:
            return self._one_by_one("predict_proba", X, tasks)
        learner = self._inner
        logits = learner._scale * found / learner.temperature_
        probabilities: NDArray[Any] = softmax(logits, axis=1)
        return probabilities

    def score(
        self,
        X: ArrayLike,
        y: ArrayLike,
        tasks: ArrayLike,
        sample_weight: ArrayLike | None = None,
    ) -> float:
        """Return the accuracy of `predict`, or of real targets R squared.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows of the kind seen in `fit`.
        y : array-like of shape (n_samples,)
            True labels or targets.
        tasks : array-like of shape (n_samples,)
            As in `predict`.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights.

        Returns
        -------
        float
            Over all rows together.
        """
        refuse_other_index(X=X, y=y, tasks=tasks, sample_weight=sample_weight)
        judge = accuracy_score if is_classifier(self._inner) else r2_score
        return float(judge(y, self.predict(X, tasks), sample_weight=sample_weight))

    def _scores(self, X: ArrayLike, tasks: ArrayLike) -> NDArray[Any] | None:
        """Return scores of all rows in a few products, None where there is no way."""
        learner = self._inner
        if not getattr(learner, "around_common_", False):
            return None
        rows = check_known_rows(learner, self._rows(X))
        refuse_other_index(X=X, tasks=tasks)
        places = self._places(tasks, rows)
        found: NDArray[Any] | None = None
        for block, some, positions in self._index.groups(places):
            own = read_rows(rows, some)
            if block is None:
                part = learner._task_without_labels().scores(learner, own)
            else:
                part = block.load().scores(learner, own, positions)
            if part is None:
                return None
            if found is None:
                found = np.empty((len(places), *part.shape[1:]))
            found[some] = part
        self._count(places)
        return found

    def _one_by_one(self, method: str, X: ArrayLike, tasks: ArrayLike) -> NDArray[Any]:
        places = self._places(tasks, X)
        parts, order = [], []
        rows = self._rows(X)
        for block, some, positions in self._index.groups(places):
            loaded = None if block is None else block.load()
            for position in np.unique(positions):
                own = some[positions == position]
                adapted = (
                    self._common()
                    if loaded is None
                    else loaded.adapted(self._inner, int(position))
                )
                parts.append(np.asarray(getattr(adapted, method)(take_rows(rows, own))))
                order.append(own)
        self._count(places)
        if len({part.shape[1:] for part in parts}) > 1:
            raise InvalidInputError(
                f"{method} of many tasks needs as many classes in each. Got tasks that "
                "differ; ask for them apart, or for predict."
            )
        joined = np.concatenate(parts)
        found = np.empty_like(joined)
        found[np.concatenate(order)] = joined
        return found

    def _places(self, tasks: ArrayLike, X: Any) -> NDArray[np.int64]:
        refuse_other_index(X=X, tasks=tasks)
        ids = checked_ids(tasks, X)
        if not len(ids) or not n_rows_of(X):
            raise InvalidInputError("X must hold a row. Got none.")
        places = self._index.find(ids)
        unknown = np.unique(ids[places == _NO_TASK])
        if len(unknown) and self._without_labels() is None:
            raise InvalidInputError(
                "tasks must be ids of solved tasks, since this "
                f"{type(self.learner).__name__} has no common predictor. Got "
                f"{few_of(names_of(unknown))}; adapt to them with update."
            )
        return places

    def _count(self, places: NDArray[np.int64]) -> None:
        self.n_unknown_ += int(np.count_nonzero(places == _NO_TASK))

    def _without_labels(self) -> Any:
        ask = getattr(self._inner, "_task_without_labels", None)
        return None if ask is None else ask()

    def _common(self) -> Any:
        found = copy.copy(self._inner)
        found.task_ = self._without_labels()
        return found

    # -- facts -------------------------------------------------------------------------

    def to_frame(self, ids: Iterable[Any] | None = None) -> Any:
        """Return a table with a row a task.

        Parameters
        ----------
        ids : sequence, default=None
            Tasks to show. None: all, in the order of `ids_`.

        Returns
        -------
        pandas.DataFrame
            By id: ``classes`` (tuple), ``n_labels``, ``certificate`` (gap of the convex
            problem, NaN of none), ``n_features`` and ``features``: the columns or
            features in which the task differs (or that it uses).

        Raises
        ------
        ImportError
            If pandas is not installed.
        InvalidInputError
            If an id is unknown.
        """
        import pandas

        wanted = self._index.ids if ids is None else self._known(ids, "to_frame")
        parts, order = [], []
        for block, rows, positions in self._index.groups(self._index.find(wanted)):
            some = block.load().select(positions)
            facts = some.facts(self._inner)
            used = [self._named(own) for own in facts["features"]]
            sizes = [np.nan if own is None else len(own) for own in used]
            columns = {
                "classes": facts["classes"],
                "n_labels": some.n_labels,
                "certificate": np.asarray(facts["certificate"], dtype=np.float64),
                "n_features": sizes,
                "features": used,
            }
            index = pandas.Index(some.ids, name="task", tupleize_cols=False)
            parts.append(pandas.DataFrame(columns, index=index))
            order.append(rows)
        if not parts:
            names = ["classes", "n_labels", "certificate", "n_features", "features"]
            return pandas.DataFrame({name: [] for name in names})
        return pandas.concat(parts).iloc[np.argsort(np.concatenate(order))]

    def _known(self, ids: Iterable[Any], method: str) -> NDArray[Any]:
        wanted = as_ids(ids)
        unknown = wanted[self._index.find(wanted) == _NO_TASK]
        if len(unknown):
            raise InvalidInputError(
                f"{method} takes ids of solved tasks. Got {few_of(names_of(unknown))} "
                "unknown; leave them out."
            )
        return wanted

    @property
    def feature_names_(self) -> list[Any] | None:
        """Names of the features, where these are columns that had names in `fit`."""
        names = getattr(self._inner, "feature_names_in_", None)
        width = getattr(self._inner, "n_features_out_", None)
        return None if names is None or width != len(names) else list(names)

    def _named(self, numbers: tuple[int, ...] | None) -> tuple[Any, ...] | None:
        names = self.feature_names_
        if names is None or numbers is None:
            return numbers
        return tuple(names[number] for number in numbers)

    def deviations(self, ids: Iterable[Any] | None = None) -> NDArray[Any]:
        """Return the weights by which tasks differ from what they share.

        Parameters
        ----------
        ids : sequence, default=None
            Tasks to show. None: all, in the order of `ids_`.

        Returns
        -------
        ndarray of shape (n_tasks, n_scores, n_features)
            In the units of the features; dense, so choose few of a million tasks.

        Raises
        ------
        InvalidInputError
            If an id is unknown, or the tasks have no linear deviation.
        """
        wanted = self._index.ids if ids is None else as_ids(ids)
        places = self._index.find(wanted)
        found: NDArray[Any] | None = None
        for block, some, positions in self._index.groups(places):
            loaded: Any = None if block is None else block.load()
            if not hasattr(loaded, "deviations"):
                raise InvalidInputError(
                    "deviations are there for solved tasks of a learner with a linear "
                    f"head. Got {few_of(names_of(wanted[some]))}; name others."
                )
            part = loaded.deviations(self._inner, positions)
            if found is None:
                found = np.empty((len(wanted), *part.shape[1:]))
            found[some] = part
        return np.empty((0, 0, 0)) if found is None else found

    def groups(
        self, n_groups: int = 8, *, random_state: int | None = None
    ) -> NDArray[np.int64]:
        """Group the tasks by what differs in them, whatever how much.

        Parameters
        ----------
        n_groups : int, default=8
            Most groups.
        random_state : int, default=None
            Decides the first guess of `sklearn.cluster.MiniBatchKMeans`.

        Returns
        -------
        ndarray of shape (n_tasks,)
            Number of the group of every task, in the order of `ids_`; the largest group
            is 0. -1: nothing differs.

        Raises
        ------
        InvalidInputError
            If the tasks have no linear deviation.
        """
        parts = [
            sparse.csr_array(_directions(self.deviations(self._index.ids[part])))
            for part in in_parts(len(self), _TASKS_AT_ONCE)
        ]
        found = np.full(len(self), -1, dtype=np.int64)
        if not parts:
            return found
        rows = normalize(sparse.vstack(parts, format="csr"))
        differs = np.flatnonzero(np.diff(rows.indptr))
        n_groups = min(n_groups, len(differs))
        if n_groups:
            model = MiniBatchKMeans(n_groups, random_state=random_state, n_init=3)
            labels = model.fit_predict(rows[differs])
            order = np.argsort(-np.bincount(labels, minlength=n_groups), kind="stable")
            found[differs] = np.argsort(order)[labels]
        return found

    @property
    def largest_gap_(self) -> float:
        """Largest certificate of all tasks, NaN where none has one."""
        gaps = [
            block.load().certificates(self._inner)[positions]
            for block, positions in self._index.blocks()
        ]
        values = np.concatenate(gaps) if gaps else np.empty(0)
        return float(np.nanmax(values)) if np.isfinite(values).any() else float("nan")

    def summary(self) -> str:
        """Tell how many tasks are solved, how exactly, and which failed and why."""
        lines = [f"{len(self)} tasks solved, largest gap {self.largest_gap_:.1e}"]
        if self.failed_:
            lines.append(f"{len(self.failed_)} tasks left out")
        lines += [
            f"  {printable(f'{name}: {why}')}"
            for name, why in list(self.failed_.items())[:10]
        ]
        return "\n".join(lines)

    # -- changes -----------------------------------------------------------------------

    def update(self, X: ArrayLike, y: ArrayLike, tasks: ArrayLike) -> Self:
        """Solve anew the tasks that these rows are of; all others stay.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            All rows of the tasks to solve anew, old and new ones: a solved task keeps
            none. Tasks may be new ones.
        y : array-like of shape (n_samples,)
            Their labels or targets.
        tasks : array-like of shape (n_samples,)
            Their tasks.

        Returns
        -------
        self : SolvedTasks
            Itself. A task that cannot be solved stays as it was, and is in `failed_`.

        Warns
        -----
        UserWarning
            If a task cannot be solved.
        """
        new = self.learner.adapt_tasks(X, y, tasks)
        self._take(new._index.all_blocks, new.failed_)
        return self

    def _take(self, blocks: Sequence[Any], failed: dict[Any, str]) -> None:
        index = self._index.with_blocks(blocks)
        solved = {task for block in blocks for task in names_of(block.ids)}
        kept = {task: why for task, why in self.failed_.items() if task not in solved}
        # In one step, whatever may interrupt it.
        vars(self).update({"_index": index, "failed_": {**kept, **failed}})

    def drop(self, ids: Iterable[Any]) -> Self:
        """Forget tasks.

        Parameters
        ----------
        ids : sequence
            Ids of solved tasks.

        Returns
        -------
        self : SolvedTasks
            Itself; dropped ids are unknown ones.

        Raises
        ------
        InvalidInputError
            If an id is unknown; nothing is dropped then.
        """
        wanted = self._known(ids, "drop")
        self._index = self._index.without(wanted)
        return self

    def blocks(self) -> Iterator[TaskBlock]:
        """Yield the solved tasks in blocks, each task once."""
        for block, positions in self._index.blocks():
            loaded = block.load()
            whole = len(positions) == len(loaded.ids)
            yield loaded if whole else loaded.select(positions)
