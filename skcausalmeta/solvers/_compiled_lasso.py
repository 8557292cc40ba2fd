"""Lasso regressions of every task by the compiled kernel, on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ._compiled import kernel
from ._compiled_solver import array_of, check_outcomes, share_out
from ._problem import Problem

# As in lasso.h.
_MOST_FEATURES = 512
# Work of a thread, in entries of features times features.
_WORK_OF_A_THREAD = 100_000
_REFUSED = 3


def compiled_lasso(columns: Problem) -> tuple[Tensor, Tensor] | None:
    """Weights of regressions with one output each, by the compiled kernel.

    Sweeps over the coordinates and exact solutions on the support, in the Gram
    matrix of all features and in double precision. Weights that are not optimal, of
    tasks with dependent features, are returned too: what they are worth is for the
    caller to certify.

    Parameters
    ----------
    columns : Problem
        Problems with loss `Squared`, penalty `Lasso` or `ElasticNet` and one output.

    Returns
    -------
    coef : Tensor of shape (n_tasks, n_features, 1)
        Weights.
    n_iter : Tensor of shape (n_tasks,)
        Exact solutions that were tried.

    None where the kernel was not built or does not apply: on other devices, in other
    precisions, and from 513 features on.

    Raises
    ------
    MemoryError
        If there is no memory for the Gram matrix of a task.
    """
    features, penalty = columns.features, columns.penalty
    if (
        kernel is None
        or features.device.type != "cpu"
        or features.dtype not in (torch.float32, torch.float64)
        or features.numel() == 0
        or features.shape[-1] > _MOST_FEATURES
    ):
        return None
    n_tasks, rows = columns.n_tasks, array_of(features)
    lambda2 = getattr(penalty, "lambda2", torch.zeros(1)).expand(n_tasks)
    inputs = (
        rows,
        array_of(columns.targets[..., 0], rows.dtype),
        array_of(columns.weights, rows.dtype),
        array_of(penalty.lambda1.reshape(-1), np.float64, (n_tasks,)),
        array_of(lambda2, np.float64),
    )
    coef = np.zeros((n_tasks, features.shape[-1]), rows.dtype)
    counts = np.full((n_tasks, 2), -1, np.int32)

    def work(counter: NDArray[np.int64]) -> None:
        kernel.solve_lasso_tasks(*inputs, coef, counts, counter)

    share_out(work, _n_threads(features))
    check_outcomes(counts[:, 0])
    outcome = torch.from_numpy(counts[:, 0])
    if bool((outcome == _REFUSED).any()):
        return None
    return torch.from_numpy(coef)[..., None], torch.from_numpy(counts[:, 1]).long()


def _n_threads(features: Tensor) -> int:
    work: Any = features.numel() * features.shape[-1] // _WORK_OF_A_THREAD
    return max(1, min(torch.get_num_threads(), len(features), work))
