"""The same problems on fewer columns."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ._problem import Problem


def pack(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Positions of the True entries of every row, padded to the longest row.

    Parameters
    ----------
    mask : Tensor of shape (n_tasks, n_entries)
        Which entries to list.

    Returns
    -------
    positions : Tensor of shape (n_tasks, width)
        Ascending positions; 0 where padded. The width is at least 1.
    valid : Tensor of shape (n_tasks, width)
        False where padded.
    """
    counts = mask.sum(-1)
    width = max(1, int(counts.max()))
    tasks, entries = mask.nonzero(as_tuple=True)
    slots = (mask.cumsum(-1) - 1)[tasks, entries]
    positions = torch.zeros(
        (len(mask), width), dtype=torch.int64, device=mask.device
    ).index_put_((tasks, slots), entries)
    valid = torch.arange(width, device=mask.device) < counts[:, None]
    return positions, valid


def narrow(problem: Problem, mask: Tensor) -> tuple[Problem, Tensor, Tensor]:
    """The problem on the features of `mask`, every task its own.

    Columns that pad a task are zero: they stay off and cost little. A feature
    that is off at the solution adds nothing to the dual, so the solution on
    the mask is the solution once no feature outside is switched on.

    Parameters
    ----------
    problem : Problem
        The batch of problems; every feature is a group of its own.
    mask : Tensor of shape (n_tasks, n_features)
        Features to keep.

    Returns
    -------
    problem : Problem
        With features of shape (n_tasks, n_samples, width).
    positions : Tensor of shape (n_tasks, width)
        Ascending positions of the kept features; 0 where padded.
    valid : Tensor of shape (n_tasks, width)
        False where padded.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.losses import CrammerSinger
    >>> from skcausalmeta.penalties import GroupLasso
    >>> from skcausalmeta.solvers import Problem, narrow
    >>> penalty = GroupLasso(torch.ones(1), torch.ones(1))
    >>> eye = torch.eye(3)[None]
    >>> problem = Problem(eye, eye, torch.ones(1, 3), CrammerSinger(), penalty)
    >>> part, positions, valid = narrow(problem, torch.tensor([[True, False, True]]))
    >>> part.features.shape, positions.tolist()
    (torch.Size([1, 3, 2]), [[0, 2]])
    """
    positions, valid = pack(mask)
    columns = positions[:, None, :].expand(-1, problem.features.shape[1], -1)
    features = problem.features.gather(2, columns) * valid[:, None, :]
    penalty = problem.penalty.narrow(positions)
    return replace(problem, features=features, penalty=penalty), positions, valid


def triangular(problem: Problem) -> Problem:
    """The problem in n_samples coordinates, where the penalty is a pure ridge.

    Its dual depends on the features through the Gram matrix F F' alone, which
    the triangular factor of F' = Q R keeps: F F' = R'R. Unlike a factor of the
    Gram matrix it does not square the condition number.
    """
    factor = torch.linalg.qr(problem.features.mT, mode="r").R
    penalty = replace(problem.penalty, groups=None, group_weights=None)
    return replace(problem, features=factor.mT.contiguous(), penalty=penalty)
