"""Many tasks with heads, solved in batches as one by one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...training import Strengths
from .._checks import check_known_rows
from .._known_labels import number_known_labels
from .._task_blocks import TaskBlock, solve_singly
from .._task_rows import TaskRows, ask_by_task
from ._common_scores import scores_by_task
from ._head_block import HeadBlock, pack_copies, sparse_entries
from ._task_heads import middle_of


def solve_head_tasks(
    learner: Any, tasks: TaskRows
) -> tuple[list[TaskBlock], dict[Any, str]]:
    """Solve tasks whose rows and labels are in order.

    Parameters
    ----------
    learner : estimator
        Fitted classifier or regressor with a head.
    tasks : TaskRows

    Returns
    -------
    list of TaskBlock
    dict
        Why tasks failed, by their ids.
    """
    head = learner._head_template()
    of_classes = hasattr(learner, "training_classes_")
    apart = getattr(learner._new_head(), "solves_apart", False)
    hooked = learner.net_.module_.hooked.is_active
    # Means of classes, by which rows of none of them are refused, are of one task.
    more = getattr(learner, "reject", None) is not None
    if more or not (of_classes and apart and not hooked and hasattr(head, "fit_tasks")):
        return solve_singly(learner, tasks, pack_copies)
    rows = check_known_rows(learner, tasks.X)
    features = ask_by_task(learner._features, rows, tasks.begins)
    solve = _around_common if learner.around_common_ else _by_themselves
    return list(solve(learner, tasks, rows, features)), {}


def _around_common(
    learner: Any, tasks: TaskRows, rows: NDArray[Any], features: NDArray[Any]
) -> Iterator[HeadBlock]:
    classes = learner.training_classes_
    numbers = number_known_labels(tasks.y, classes, learner)
    known = scores_by_task(learner.common_, rows, tasks.begins)
    strengths = learner.net_.module_.strengths
    device = strengths.center.device
    blocks = []
    for some in _alike(tasks.sizes):
        index = tasks.begins[some][:, None] + np.arange(tasks.sizes[some[0]])
        with torch.no_grad():
            given = torch.as_tensor(numbers[index], device=device)
            amount, trust, inputs, offset = _head_inputs(
                strengths,
                torch.as_tensor(features[index], device=device),
                torch.as_tensor(known[index], device=device),
                given,
            )
        block = _solved(
            learner, tasks, some, inputs.cpu(), given.cpu(), len(classes), offset.cpu()
        )
        blocks.append(
            replace(block, amounts=amount.cpu().numpy(), trusts=trust.cpu().numpy())
        )
    yield _joined(blocks)


def _head_inputs(
    strengths: Strengths, features: Tensor, known: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return amounts, trusts, inputs and offsets of tasks of as many rows.

    Exponentials of a vector may round by the place in it: they are taken of one number,
    as for a single task, which all tasks of as many labels share.
    """
    amount, balanced = strengths.amount(targets), strengths.balanced(targets)
    trust = torch.empty_like(amount)
    inputs: Tensor | None = None
    offset = torch.empty_like(known)
    for worth in amount.unique():
        own = (amount == worth).nonzero().squeeze(-1)
        one = amount[own[:1]]
        part = strengths.inputs(features[own], known[own], one)
        if inputs is None:
            inputs = part.new_empty(len(amount), *part.shape[1:])
        inputs[own] = part
        offset[own] = strengths.offset(known[own], one)
        for kind in (False, True):
            same = own[balanced[own] == kind]
            if len(same):
                trust[same] = strengths.trust_of(one, balanced[same[:1]])
    assert inputs is not None
    return amount, trust, inputs, offset


def _by_themselves(
    learner: Any, tasks: TaskRows, rows: NDArray[Any], features: NDArray[Any]
) -> Iterator[HeadBlock]:
    numbers = np.empty(len(tasks.y), dtype=np.int64)
    centers = np.empty((len(tasks.ids), features.shape[1]))
    names = []
    for k in range(len(tasks.ids)):
        own = slice(tasks.begins[k], tasks.begins[k + 1])
        classes, numbers[own] = np.unique(tasks.y[own], return_inverse=True)
        names.append(classes)
        middle = middle_of(features[own][None], tasks.y[own][None])
        centers[k] = middle[0, 0] * learner.center
    ways = np.array([len(classes) for classes in names])
    for way in np.unique(ways):
        blocks, of_way = [], np.flatnonzero(ways == way)
        for part in _alike(tasks.sizes[of_way]):
            some = of_way[part]
            index = tasks.begins[some][:, None] + np.arange(tasks.sizes[some[0]])
            inputs = torch.from_numpy(features[index] - centers[some][:, None])
            given = torch.from_numpy(numbers[index])
            block = _solved(learner, tasks, some, inputs, given, int(way), None)
            labels = np.stack([names[k] for k in some])
            blocks.append(replace(block, labels=labels, centers=centers[some]))
        yield _joined(blocks)


def _alike(sizes: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield positions of tasks with as many rows."""
    for size in np.unique(sizes):
        yield np.flatnonzero(sizes == size)


def _solved(
    learner: Any,
    tasks: TaskRows,
    some: NDArray[Any],
    inputs: Tensor,
    numbers: Tensor,
    n_classes: int,
    offset: Tensor | None,
) -> HeadBlock:
    head = learner._new_head(inputs.shape[1])
    found = head.fit_tasks(inputs, numbers, n_classes, offset=offset)
    begins, columns, values = sparse_entries(found.coef.mT.numpy())
    return HeadBlock(
        ids=tasks.ids[some],
        n_labels=tasks.sizes[some],
        begins=begins,
        columns=columns,
        values=values,
        intercepts=found.intercept.numpy(),
        gaps=found.gap.numpy(),
        width=inputs.shape[2],
        flat=False,
    )


def _joined(blocks: list[HeadBlock]) -> HeadBlock:
    """Join blocks of the same kind to one."""
    names = ("ids", "n_labels", "columns", "values", "intercepts", "gaps")
    maybe = ("labels", "amounts", "trusts", "codes", "centers")
    parts: dict[str, Any] = {}
    for name in (*names, *maybe):
        found = [getattr(block, name) for block in blocks]
        parts[name] = None if found[0] is None else np.concatenate(found)
    sizes = np.concatenate([np.diff(block.begins) for block in blocks])
    begins = np.concatenate([[0], np.cumsum(sizes)])
    return replace(blocks[0], **parts, begins=begins)
