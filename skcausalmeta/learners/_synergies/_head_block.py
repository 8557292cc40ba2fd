"""Solved heads of many tasks in a few arrays."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from ...heads import GroupLassoSVC
from .._state_block import pack_states
from .._task_blocks import TaskBlock
from .._task_rows import TaskRows, spans
from ._common_task import CommonTask, shifted
from ._head_task import HeadTask

_ROWS_AT_ONCE = 16384


@dataclass(frozen=True, eq=False, kw_only=True)
class HeadBlock(TaskBlock):
    """Heads of tasks with as many classes: their weights that are not zero.

    Parameters
    ----------
    ids : ndarray of shape (n_tasks,)
        Ids of the tasks.
    n_labels : ndarray of shape (n_tasks,)
        Support rows.
    begins : ndarray of shape (n_tasks + 1,)
        Where the entries of a task begin.
    columns : ndarray of shape (n_entries,)
        Inputs of the head that a task has weights for, ascending.
    values : ndarray of shape (n_entries, n_outputs)
        These weights.
    intercepts : ndarray of shape (n_tasks, n_outputs)
        Intercepts.
    gaps : ndarray of shape (n_tasks,)
        Certificates.
    width : int
        Number of inputs of a head.
    flat : bool
        Whether the weights of a head have one axis, as those of a regressor.
    labels : ndarray of shape (n_tasks, n_classes), default=None
        Classes of every task where these differ; None else.
    amounts, trusts : ndarray of shape (n_tasks,), default=None
        As in `CommonTask`; None without a common predictor.
    codes, centers : ndarray of shape (n_tasks, n), default=None
        As in `HeadTask`.

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.learners import HeadBlock
    >>> block = HeadBlock(
    ...     ids=np.array(["a", "b"]),
    ...     n_labels=np.array([5, 6]),
    ...     begins=np.array([0, 1, 1]),
    ...     columns=np.array([2], dtype=np.int32),
    ...     values=np.array([[-0.5, 0.5]]),
    ...     intercepts=np.zeros((2, 2)),
    ...     gaps=np.zeros(2),
    ...     width=4,
    ...     flat=False,
    ... )
    >>> block.deviations(None, np.array([0]))[0, 1].tolist()
    [0.0, 0.0, 0.5, 0.0]
    """

    kind: ClassVar[str] = "heads"
    ids: NDArray[Any]
    n_labels: NDArray[np.int64]
    begins: NDArray[np.int64]
    columns: NDArray[np.int32]
    values: NDArray[np.float64]
    intercepts: NDArray[np.float64]
    gaps: NDArray[np.float64]
    width: int
    flat: bool
    labels: NDArray[Any] | None = None
    amounts: NDArray[np.float64] | None = None
    trusts: NDArray[np.float64] | None = None
    codes: NDArray[Any] | None = None
    centers: NDArray[Any] | None = None

    def select(self, positions: NDArray[Any]) -> HeadBlock:
        sizes = np.diff(self.begins)[positions]
        entries = spans(self.begins[positions], sizes)

        def some(values: NDArray[Any] | None) -> Any:
            return None if values is None else values[positions]

        return replace(
            self,
            ids=self.ids[positions],
            n_labels=self.n_labels[positions],
            begins=np.concatenate([[0], np.cumsum(sizes)]),
            columns=self.columns[entries],
            values=self.values[entries],
            intercepts=self.intercepts[positions],
            gaps=self.gaps[positions],
            labels=some(self.labels),
            amounts=some(self.amounts),
            trusts=some(self.trusts),
            codes=some(self.codes),
            centers=some(self.centers),
        )

    def task(self, learner: Any, position: int) -> HeadTask:
        """Return a solved task, as `adapt` makes it."""
        classes = None
        if not self.flat:
            own = None if self.labels is None else self.labels[position]
            classes = learner.training_classes_ if own is None else own
        fields = {
            "classes": classes,
            "head": self._head(learner, position, classes),
            "code": None if self.codes is None else self.codes[position],
        }
        if self.amounts is None or self.trusts is None:
            center = None if self.centers is None else self.centers[position]
            return HeadTask(**fields, center=center)
        amount, trust = float(self.amounts[position]), float(self.trusts[position])
        return CommonTask(**fields, amount=amount, trust=trust)

    def _head(self, learner: Any, position: int, classes: NDArray[Any] | None) -> Any:
        own = slice(self.begins[position], self.begins[position + 1])
        coef = np.zeros((self.values.shape[1], self.width))
        coef[:, self.columns[own]] = self.values[own].T
        head = learner._new_head(int(self.n_labels[position]))
        head.n_features_in_ = self.width
        head.coef_ = coef[0] if self.flat else coef
        intercept = self.intercepts[position].copy()
        head.intercept_ = float(intercept[0]) if self.flat else intercept
        head.dual_gap_ = float(self.gaps[position])
        head.support_features_ = np.flatnonzero((coef != 0).any(axis=0))
        head.sparsity_ = 1.0 - len(head.support_features_) / self.width
        if classes is not None:
            around = self.amounts is not None
            head.classes_ = np.arange(len(classes)) if around else classes
        return head

    def adapted(self, learner: Any, position: int) -> Any:
        found = copy.copy(learner)
        found.task_ = self.task(learner, position)
        return found

    # -- facts -------------------------------------------------------------------------

    def n_features(self, learner: Any) -> int:
        """Count the inputs of a head that are features, and no common scores."""
        if self.amounts is None:
            return self.width
        return len(learner.net_.module_.strengths.center)

    def facts(self, learner: Any) -> dict[str, Any]:
        known = getattr(learner, "training_classes_", None)
        classes: list[Any] = [None] * len(self)
        if self.labels is not None:
            classes = [tuple(own) for own in self.labels.tolist()]
        elif not self.flat and known is not None:
            classes = [tuple(known.tolist())] * len(self)
        most = self.n_features(learner)
        parts = np.split(self.columns, self.begins[1:-1])
        used = [tuple(own[own < most].tolist()) for own in parts]
        return {"classes": classes, "certificate": self.gaps, "features": used}

    def certificates(self, learner: Any) -> NDArray[np.float64]:
        return self.gaps

    def deviations(self, learner: Any, positions: NDArray[Any]) -> NDArray[Any]:
        """Return weights in the units of the features, (n, n_outputs, n_features)."""
        some, most = self.select(positions), self.n_features(learner)
        task = np.repeat(np.arange(len(some)), np.diff(some.begins))
        dense = np.zeros((len(some), self.values.shape[1], self.width))
        dense[task, :, some.columns] = some.values
        dense = dense[:, :, :most]
        if some.amounts is None:
            return dense
        strengths = learner.net_.module_.strengths
        with torch.no_grad():
            at = torch.as_tensor(some.amounts, device=strengths.center.device)
            scale = (strengths.scale(at)[:, :most] / strengths.spread).cpu().numpy()
        units = learner.target_scale_ if self.flat else 1.0
        found: NDArray[Any] = dense * scale[:, None] * units
        return found

    # -- scores ------------------------------------------------------------------------

    def scores(
        self, learner: Any, rows: NDArray[Any], positions: NDArray[Any]
    ) -> NDArray[Any] | None:
        """Return scores (n, n_classes), or targets (n,), to rounding those of `task`.

        None where tasks do not share their classes, or are asked by a hook.
        """
        head = learner._head_template()
        ties = isinstance(head, GroupLassoSVC)
        if self.amounts is None or self.codes is not None or ties:
            return None
        features, known = learner._features(rows), learner.common_.scores(rows)
        parts = [
            self._some_scores(learner, features[part], known[part], positions[part])
            for part in _slices(len(positions), _ROWS_AT_ONCE)
        ]
        found = np.concatenate(parts)
        if self.flat:
            in_units: NDArray[Any] = learner._in_units(found[:, 0])
            return in_units
        return shifted(found, learner)

    def _some_scores(
        self,
        learner: Any,
        features: NDArray[Any],
        known: NDArray[Any],
        positions: NDArray[Any],
    ) -> NDArray[Any]:
        assert self.amounts is not None
        assert self.trusts is not None
        strengths = learner.net_.module_.strengths
        device = strengths.center.device
        with torch.no_grad():
            at = torch.as_tensor(self.amounts[positions], device=device)
            scores = torch.as_tensor(np.ascontiguousarray(known), device=device)
            rows = torch.as_tensor(features, device=device)[:, None]
            inputs = strengths.inputs(rows, scores[:, None], at)[:, 0].cpu().numpy()
            offset = strengths.offset(scores[:, None], at)[:, 0].cpu().numpy()
        # (n, most) entries of the task of every row; those beyond its own are 0
        begins, sizes = self.begins[positions], np.diff(self.begins)[positions]
        places = np.arange(max(1, int(sizes.max(initial=0))))
        there = places < sizes[:, None]
        entries = np.where(there, begins[:, None] + places, 0)
        if not len(self.columns):
            own = np.zeros((len(positions), self.values.shape[1]))
        else:
            asked = np.take_along_axis(inputs, self.columns[entries], axis=1)
            asked = np.where(there, asked, 0.0)
            own = (asked[:, None] @ self.values[entries])[:, 0]
        own = own + self.trusts[positions, None] * self.intercepts[positions]
        if own.shape[1] == 2:  # as `answer` shares the difference out
            half = (own[:, 1] - own[:, 0]) / 2
            own = np.stack([-half, half], axis=1)
        return offset + own


def _slices(n: int, size: int) -> list[slice]:
    return [slice(begin, begin + size) for begin in range(0, n, size)] or [slice(0, 0)]


def sparse_entries(
    coef: NDArray[Any],
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float64]]:
    """Return begins, columns and values of weights (n_tasks, n_outputs, width)."""
    on = (coef != 0).any(axis=1)
    task, column = np.nonzero(on)
    begins = np.concatenate([[0], np.cumsum(on.sum(axis=1))])
    return begins, column.astype(np.int32), coef[task, :, column]


def pack_copies(tasks: TaskRows, copies: list[Any]) -> list[TaskBlock]:
    """Pack adapted copies of a learner: their weights, or all of a head that is more.

    Parameters
    ----------
    tasks : TaskRows
    copies : list of estimators
    """
    solved = [one.task_ for one in copies]
    shapes = {
        getattr(getattr(task.head, "coef_", None), "shape", ()) for task in solved
    }
    more = any(task.class_means is not None for task in solved)
    if more or len(shapes) != 1 or not all(_is_linear(task) for task in solved):
        return pack_states(tasks, copies)
    block = _packed(tasks, solved)
    if not _answers_alike(block, copies[0], solved[0]):
        return pack_states(tasks, copies)
    return [block]


def _is_linear(task: HeadTask) -> bool:
    names = {"coef_", "intercept_", "dual_gap_"}
    return all(hasattr(task.head, name) for name in names)


def _packed(tasks: TaskRows, solved: list[Any]) -> HeadBlock:
    first = solved[0]
    coef = np.stack([np.atleast_2d(task.head.coef_) for task in solved])
    begins, columns, values = sparse_entries(coef)
    around = isinstance(first, CommonTask)

    def column(name: str) -> Any:
        found = [getattr(task, name) for task in solved]
        return None if found[0] is None else np.stack(found)

    own = None if around or first.classes is None else column("classes")
    return HeadBlock(
        ids=tasks.ids,
        n_labels=tasks.sizes,
        labels=own,
        begins=begins,
        columns=columns,
        values=values,
        intercepts=np.stack(
            [np.atleast_1d(np.asarray(t.head.intercept_, float)) for t in solved]
        ),
        gaps=np.array([task.head.dual_gap_ for task in solved], dtype=np.float64),
        width=coef.shape[2],
        flat=first.classes is None,
        amounts=np.array([t.amount for t in solved]) if around else None,
        trusts=np.array([t.trust for t in solved]) if around else None,
        codes=column("code"),
        centers=column("center"),
    )


def _answers_alike(block: HeadBlock, learner: Any, task: HeadTask) -> bool:
    """Tell whether a head that is made of its weights answers as it did."""
    trial = np.eye(min(block.width, 8), block.width) - 0.5
    ask = "predict" if block.flat else "decision_function"
    try:
        again = getattr(block.task(learner, 0).head, ask)(trial)
    except AttributeError:
        return False
    return np.array_equal(again, getattr(task.head, ask)(trial))
